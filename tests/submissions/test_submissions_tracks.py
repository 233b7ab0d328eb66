"""Submissions that bring tracks: packed, read, every mask scored anew, and tampered ones found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kit.made_tracks import edit_track
from kit.synthetic import write_msd
from kit.tampered_tracks import FOLDER, change_track, put_track, store, track_data, with_tracks
from kit.tampering import EXAMPLE, Members, change_record, folder_of_fold, lay_out, put_together

from usbench.cli.main import main
from usbench.errors import UsbenchError
from usbench.leaderboards.board import build
from usbench.results.io import load_result
from usbench.results.track_scores import check_rows
from usbench.results.tracks import load_track, parse_tracks_csv
from usbench.scores.case import score_case
from usbench.submissions import track_data as data_of_tracks
from usbench.submissions.pack import Incomplete, submit
from usbench.submissions.track_data import task_of_own
from usbench.submissions.verify import read_record, verify, write_record

CARD = EXAMPLE.with_suffix(".card.yaml")


@pytest.fixture(scope="module")
def made(cache: Path) -> Members:
    """The example with a robustness track on every fold."""
    return with_tracks(store())


@pytest.fixture
def members(made: Members) -> Members:
    return dict(made)


@pytest.mark.slow
def test_every_mask_of_every_condition_is_scored_anew(members, tmp_path):
    path = put_together(tmp_path / "entry.zip", members)
    found = verify(path)
    # Ten cases: a mask each of the run, and of 30 conditions.
    assert (found.runs, found.predictions) == (5, 10 + 300)
    assert found.largest_difference < 1e-6
    assert [name.rpartition("/")[2] for name in found.tracks] == ["robustness"] * 5
    assert found.not_rescored == ()
    record = write_record(found)
    said = read_record(path)
    assert said is not None
    assert (said["schema"], list(said["tracks"])) == (3, list(found.tracks))
    assert record.name == "entry.verified.json"


def test_verified_tracks_are_rows_of_their_own(members, tmp_path):
    submissions = tmp_path / "submissions"
    submissions.mkdir()
    path = put_together(submissions / "entry.zip", members)
    assert build(tmp_path, submissions=submissions).tracks == ()
    write_record(verify(path))
    runs = lay_out(members, tmp_path / "own")
    board = build(runs, submissions=submissions)
    # The same networks as one's own runs are one row, that of one's own.
    ((ours,),) = (table.rows for table in board.tracks)
    assert (ours.standing.label, ours.standing.entry) == ("unext-small", None)
    assert [(one.name, one.why) for one in ours.standing.also] == [
        ("submission unext-small, worked example", "the same scores")
    ]
    ((theirs,),) = (table.rows for table in build(tmp_path / "none", submissions=submissions).tracks)
    assert theirs.standing.label == "unext-small, worked example: unext-small"
    assert theirs.standing.entry is not None
    assert ours.means == theirs.means
    # A record that does not name the tracks makes them claims.
    change_record(path, lambda record: record["tracks"].clear())
    (table,) = build(runs, submissions=submissions).tracks
    assert [row.standing.entry for row in table.rows] == [None]
    shown = CliRunner().invoke(
        main,
        ["leaderboard", "--runs-dir", str(runs), "--submissions", str(submissions), "--track", "robustness"],
    )
    assert shown.exit_code == 0


def test_old_archives_and_their_records_are_what_they_were(cache):
    found = verify(EXAMPLE)
    assert (found.predictions, found.tracks, found.not_rescored) == (10, (), ())
    record = read_record(EXAMPLE)
    assert record is not None
    assert record["tracks"] == {}


def boast(data: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    rows[-1].update(dsc=0.99)


def better_counts(data: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """All numbers of a row are those of a better mask."""
    row = rows[-1]
    row["tp"], row["fn"] = row["tp"] + row["fn"], 0
    row["dsc"] = 2 * row["tp"] / (2 * row["tp"] + row["fp"])
    row["iou"] = row["tp"] / (row["tp"] + row["fp"])


def without_noise(data: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    data["conditions"] = [one for one in data["conditions"] if one["kind"] != "gaussian"]
    rows[:] = [row for row in rows if not row["condition"].startswith("gaussian")]


def swapped(members: Members, folder: str) -> None:
    """The masks of two conditions change places."""
    for name in [name for name in members if name.startswith(f"{folder}/missing-t2/")]:
        other = name.replace("/missing-t2/", "/salt-pepper-0.2-t2/")
        members[name], members[other] = members[other], members[name]


def clean_everywhere(members: Members, folder: str) -> None:
    """Every condition shows the masks of the undamaged scans."""
    for name in [name for name in members if name.startswith(f"{folder}/missing-t2/")]:
        members[name] = members[name.replace("/missing-t2/", "/clean/")]


def emptied(members: Members, folder: str) -> None:
    members.pop(next(name for name in members if name.startswith(f"{folder}/missing-t2/")))


TAMPERED: dict[str, tuple[Callable[[Members], object], str]] = {
    "a number": (lambda m: change_track(m, boast), "is claimed as 0.99, its mask gives"),
    "all numbers of a row": (lambda m: change_track(m, better_counts), "is claimed as"),
    "an infinite score": (
        lambda m: change_track(m, lambda data, rows: rows[-1].update(dsc=float("inf")), fit=False),
        "'dsc' holds 'inf', which is no plain number",
    ),
    "a mean": (
        lambda m: change_track(m, lambda data, rows: data["scores"].update(emm_avg=0.99), fit=False),
        "its mean emm_avg is 0.99, its rows give",
    ),
    "masks swapped between conditions": (
        lambda m: change_track(m, masks=swapped),
        "condition missing-t2, class",
    ),
    "clean masks as damaged ones": (
        lambda m: change_track(m, masks=clean_everywhere),
        "condition missing-t2",
    ),
    "a condition left out": (lambda m: change_track(m, without_noise), "conditions are not the 30"),
    "a mask left out": (lambda m: change_track(m, masks=emptied), "the mask predictions/missing-t2/"),
    "a row left out": (
        lambda m: change_track(m, lambda data, rows: rows.pop(), fit=False),
        "cases.csv: lacks case",
    ),
    "a row twice": (lambda m: change_track(m, lambda data, rows: rows.append(rows[0])), "has a row too many"),
    "a case left out": (
        lambda m: change_track(m, lambda data, rows: data["data"]["cases"].pop()),
        "its cases are not those of the test fold",
    ),
    "of another run": (
        lambda m: change_track(m, lambda data, rows: data.update(of="0" * 64)),
        "is of another result than the run beside it",
    ),
    "another cell": (
        lambda m: change_track(m, lambda data, rows: data["cell"].update(seed=7)),
        "is of another result than the run beside it",
    ),
    "another protocol": (
        lambda m: change_track(m, lambda data, rows: data.update(protocol="f" * 12)),
        "its protocol is not that of its run",
    ),
    "another name": (
        lambda m: change_track(m, lambda data, rows: data.update(name="external-x")),
        "is called external-x in its track.json",
    ),
    "other modalities": (
        lambda m: change_track(m, lambda data, rows: data.update(modalities=["t2"]), fit=False),
        "its modalities are not those of its run",
    ),
    "a link": (
        lambda m: change_track(m, lambda data, rows: data["cost"].update(device="[x](http://y)")),
        "control characters or a link",
    ),
    "a mask exchanged": (
        lambda m: m.update({next(n for n in m if "/clean/" in n): b"\x1f\x8b"}),
        "is not what the evaluation wrote",
    ),
    "one more file": (
        lambda m: m.update({f"{folder_of_fold(m)}/{FOLDER}/predictions/clean/other.nii.gz": b""}),
        "predictions/clean/other.nii.gz is no file of this track",
    ),
    "a picture": (
        lambda m: m.update({f"{folder_of_fold(m)}/{FOLDER}/figure.png": b""}),
        "is no file of a submission",
    ),
    "no track.json": (
        lambda m: m.pop(f"{folder_of_fold(m)}/{FOLDER}/track.json"),
        "holds no track.json",
    ),
    "the track of a fold left out": (
        lambda m: [m.pop(n) for n in list(m) if n.startswith(f"{folder_of_fold(m)}/tracks/")],
        "lacks the robustness track, which other runs of its row have",
    ),
    "NaN": (
        lambda m: m.update(
            {
                (n := f"{folder_of_fold(m)}/{FOLDER}/track.json"): m[n].replace(
                    b'"seconds": 2.0', b'"seconds": NaN'
                )
            }
        ),
        "NaN is not a number",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_track_is_refused_in_one_line(members, name, tmp_path):
    change, words = TAMPERED[name]
    change(members)
    path = put_together(tmp_path / "entry.zip", members)
    with pytest.raises(UsbenchError) as caught:
        verify(path)
    message = str(caught.value)
    assert words in message
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 1000


@pytest.fixture(scope="module")
def runs(made: Members, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(made, tmp_path_factory.mktemp("laid"))


def test_packed_tracks_are_what_was_written(runs, members, tmp_path):
    path = submit([runs], CARD, tmp_path / "with.zip", ["robustness"])
    again = submit([runs], CARD, tmp_path / "again.zip", ["robustness"])
    assert path.read_bytes() == again.read_bytes()
    assert verify(path).predictions == 310
    # Without asking nothing of a track goes along.
    alone = verify(submit([runs], CARD, tmp_path / "without.zip"))
    assert (alone.predictions, alone.tracks) == (10, ())


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "masks not kept": (
        lambda track: shutil.rmtree(track / "predictions"),
        "60 of its 60 masks were not kept, so nobody could score them anew",
    ),
    "a mask not kept": (
        lambda track: next(track.glob("predictions/missing-t2/*")).unlink(),
        "1 of its 60 masks were not kept",
    ),
    "a mask edited": (
        lambda track: next(track.glob("predictions/clean/*")).write_bytes(b"x"),
        "is not what the evaluation wrote",
    ),
    "edited": (
        lambda track: edit_track(track, lambda d: d["scores"].update(clean=1.0), seal=False),
        "was edited",
    ),
    "not there": (
        lambda track: shutil.rmtree(track),
        "has no finished robustness track; make it with: usbench",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_track_that_cannot_go_is_said_in_one_line(runs, name, tmp_path):
    change, words = UNFIT[name]
    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    change(sorted(copy.rglob("tracks/robustness"))[0])
    with pytest.raises(Incomplete) as caught:
        submit([copy], CARD, tmp_path / "entry.zip", ["robustness"])
    # What else is said is that the row then lacks a fold.
    assert words in caught.value.reasons[0]
    assert not any("\n" in reason for reason in caught.value.reasons)
    assert not (tmp_path / "entry.zip").exists()


def test_the_commands(runs, tmp_path):
    out = tmp_path / "entry.zip"
    args = ["submit", str(runs), "--card", str(CARD), "--out", str(out)]
    bad = CliRunner().invoke(main, [*args, "--tracks", "robust"])
    assert "unknown track 'robust'" in str(bad.exception)
    lacking = CliRunner().invoke(main, [*args, "--tracks", "robustness,external"])
    assert "not written, 5 problems" in str(lacking.exception)
    assert "has no finished external track" in lacking.stderr
    assert not out.exists()
    assert CliRunner().invoke(main, [*args, "--tracks", "robustness"]).exit_code == 0
    shown = CliRunner().invoke(main, ["verify", str(out)])
    assert "310 masks of 5 runs scored anew" in shown.output
    assert "5 tracks scored anew" in shown.output


def external(members: Members, kind: str = "phantom") -> Members:
    """The example with an external track on every fold, on the phantom itself: only the path is tested."""
    prepared = store()
    for name in [name for name in members if "/tracks/" in name]:
        members.pop(name)
    for fold in range(5):
        run = folder_of_fold(members, fold)
        result = json.loads(members[f"{run}/result.json"])
        cases = result["split"]["test"]
        rows = []
        for row in parse_tracks_csv(_as_track(members[f"{run}/cases.csv"].decode()), "cases.csv"):
            content = members[f"{run}/predictions/{row['case']}.nii.gz"]
            members[f"{run}/tracks/external-twin/predictions/clean/{row['case']}.nii.gz"] = content
            rows.append(row)
        data = track_data(result, "external", prepared.fingerprint, "twin", cases=cases)
        data["data"]["kind"] = kind
        put_track(members, run, rows, data)
    return members


def _as_track(text: str) -> str:
    head, *lines = text.splitlines()
    return "\n".join([f"condition,{head}", *(f"clean,{line}" for line in lines)]) + "\n"


def test_external_tracks_are_scored_where_their_data_is_given(members, tmp_path):
    path = put_together(tmp_path / "entry.zip", external(members, "sample"))
    without = verify(path)
    assert (without.tracks, len(without.not_rescored), without.predictions) == ((), 5, 10)
    shown = CliRunner().invoke(main, ["verify", str(path)])
    assert "not scored anew, its data is not given (--external-data DIR)" in shown.output
    record = write_record(without)
    assert json.loads(record.read_text())["tracks"] == {}
    from usbench.datasets.resolve import find_data
    from usbench.datasets.tasks import get_task

    root = find_data(get_task("msd-prostate"), None, "phantom").root
    found = verify(path, external_data=[root])
    assert (len(found.tracks), found.not_rescored, found.predictions) == (5, (), 20)
    assert found.largest_difference < 1e-6
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsbenchError, match=r"entry\.zip"):
        verify(path, external_data=[tmp_path / "empty"])


def test_an_external_track_on_phantoms_is_scored_without_being_told_where(members, tmp_path):
    found = verify(put_together(tmp_path / "entry.zip", external(members)))
    assert (len(found.tracks), found.not_rescored, found.predictions) == (5, (), 20)


def test_external_data_goes_with_the_tasks_of_that_name(tmp_path):
    """Of the folders that describe tasks those of the name count, and each reads the folder that is given."""
    described, other, given = (write_msd(tmp_path / name) for name in ("Gland", "Fat", "new/Gland"))
    name = task_of_own(described)[0].name
    found = data_of_tracks._candidates(name, [given], [other, described], [])
    assert [(task.name, root) for task, root in found] == [(name, given), (name, given)]
    assert found[0][0] == task_of_own(described)[0]


def test_overlaps_alone_are_those_of_all_scores():
    import numpy as np

    rng = np.random.default_rng(0)
    mask, truth = rng.integers(0, 3, (2, 6, 7, 8)).astype(np.uint8)
    whole = score_case(mask, truth, ["a", "b"], (1, 1, 1), 1.0)
    part = score_case(mask, truth, ["a", "b"], (1, 1, 1), 1.0, only=("dsc", "iou"))
    for one, other in zip(whole, part, strict=True):
        assert dict(other.scores) == {name: one.scores[name] for name in ("dsc", "iou")}
        assert (one.tp, one.fp, one.fn, one.tn, one.edge) == (
            other.tp,
            other.fp,
            other.fn,
            other.tn,
            other.edge,
        )


def test_a_run_laid_out_loads_its_track(runs):
    for folder in runs.rglob("tracks/robustness"):
        assert load_track(folder).data["track"] == "robustness"


def test_rows_that_are_infinite_are_named(runs):
    """Whatever gave the rows: the files of a track are read without such numbers."""
    folder = next(runs.rglob("tracks/robustness"))
    track, result = load_track(folder), load_result(folder.parents[1])
    check_rows(track, result.data)
    rows = [*track.rows[:-1], {**track.rows[-1], "iou": float("-inf")}]
    with pytest.raises(UsbenchError, match=f"iou of case {rows[-1]['case']} is infinite"):
        check_rows(replace(track, rows=rows), result.data)
