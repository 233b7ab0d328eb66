"""Submissions: packed from runs, verified by their masks, and what is refused before anything is written."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from kit.places import TINY
from kit.synthetic import write_msd
from kit.tampering import (
    CARD,
    EXAMPLE,
    change_result,
    folder_of_fold,
    lay_out,
    put_together,
    taken_apart,
)

import usbench
from usbench.cli.main import main
from usbench.errors import UsbenchError
from usbench.leaderboards.board import build
from usbench.submissions.archive import is_member_name, member_name, name_of_member, opened, set_problem
from usbench.submissions.card import KEYS, dump_card, load_card, write_template
from usbench.submissions.content import read_submission
from usbench.submissions.pack import Incomplete, results_of, submit
from usbench.submissions.verify import RECORD_SCHEMA, read_record, record_path, verify, write_record


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return lay_out(taken_apart(), tmp_path / "work")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.yaml"
    path.write_bytes(dump_card(CARD))
    return path


def reasons(*words: Any) -> list[str]:
    with pytest.raises(Incomplete) as caught:
        submit(*words)
    return caught.value.reasons


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder in MSD layout of which one patient lacks a class and one has an empty mask, and its runs.

    Once with everything, once with one modality of the two and all labels merged; by `usbench run`.
    """
    folder = tmp_path_factory.mktemp("own")
    data = write_msd(folder / "Gland", ("case_1", "case_2", "case_10"))
    for case, keep in (("case_2", 1), ("case_10", 0)):
        path = data / "labelsTr" / f"{case}.nii.gz"
        image = nibabel.load(path)
        labels = np.asarray(image.dataobj)
        nibabel.save(
            nibabel.Nifti1Image(np.where(labels <= keep, labels, 0).astype(np.uint8), image.affine), path
        )
    words: dict[str, Any] = {
        "task_dir": data,
        "plugins": [TINY],
        "preset": "smoke",
        "folds": "all",
        "device": "cpu",
        "runs_dir": folder / "runs",
    }
    usbench.run("tiny", "early", **words)
    usbench.run("tiny", "late", modalities=["adc"], merge_labels="gland", **words)
    return data, folder / "runs"


@pytest.mark.slow
def test_runs_of_a_plugin_on_data_of_ones_own_verify(
    own: tuple[Path, Path], card: Path, tmp_path: Path
) -> None:
    data, runs = own
    made = submit([runs], card, tmp_path / "own.zip")
    with pytest.raises(UsbenchError, match=r"on task 'gland', which is not built in; give .* --task-dir"):
        verify(made)
    found = verify(made, task_dirs=[data])
    assert (found.runs, found.predictions) == (6, 6)
    assert found.largest_difference <= 1e-9
    assert found.notes == ()
    results = results_of([runs])
    assert found.fingerprints == {"gland (sample)": results[-1]["data"]["fingerprint"]}
    edges = {row["edge"] for path in runs.rglob("result.json") for row in usbench.load_result(path).rows}
    assert "both-empty" in edges  # undefined scores were among what was compared
    assert "prediction-empty" in edges or "truth-empty" in edges


@pytest.mark.slow
def test_other_data_than_that_of_the_runs_is_refused(
    own: tuple[Path, Path], card: Path, tmp_path: Path
) -> None:
    data, runs = own
    made = submit([runs], card, tmp_path / "own.zip")
    other = Path(shutil.copytree(data, tmp_path / "Gland"))
    image = nibabel.load(other / "imagesTr" / "case_1.nii.gz")
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0, 0] += 1
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine), other / "imagesTr" / "case_1.nii.gz")
    with pytest.raises(UsbenchError, match=r"has fingerprint .*: other data"):
        verify(made, task_dirs=[other])


def test_one_submission_may_hold_several_tasks(own: tuple[Path, Path], tmp_path: Path, card: Path) -> None:
    """The example's runs renamed to the plugin's method, beside those of the plugin."""
    data, runs = own
    members = taken_apart()

    def rename(result: dict[str, Any]) -> None:
        result["cell"]["method"] = "tiny"
        result["method"].update(name="tiny", origin="file tiny_methods.py", version="")

    change_result(members, rename, fold=None)
    both = lay_out(members, tmp_path / "work")
    made = submit([runs, both], card, tmp_path / "both.zip")
    found = verify(made, task_dirs=[data])
    assert (found.runs, found.predictions) == (11, 16)
    assert set(found.fingerprints) == {"gland (sample)", "msd-prostate (phantom)"}


def test_several_seeds_are_each_held_to_all_folds(tmp_path: Path, card: Path) -> None:
    members, second = taken_apart(), taken_apart()
    change_result(second, lambda data: data["cell"].update(seed=1), fold=None)
    made = submit(
        [lay_out(members, tmp_path / "a"), lay_out(second, tmp_path / "b")], card, tmp_path / "a.zip"
    )
    found = verify(made)
    assert (found.runs, found.predictions) == (10, 20)
    shutil.rmtree(tmp_path / "b" / folder_of_fold(second, 4))
    (problem,) = reasons([tmp_path / "a", tmp_path / "b"], card, tmp_path / "b.zip")
    assert "seed 1: lacks fold 4 of 5" in problem


def test_the_same_runs_make_the_same_bytes(runs: Path, card: Path, tmp_path: Path) -> None:
    first = submit([runs], card, tmp_path / "a.zip").read_bytes()
    (runs / "msd-prostate-phantom" / "notes.txt").write_text("not part of a run")
    folders = sorted((path.parent for path in runs.rglob("result.json")), reverse=True)
    assert submit([*folders, runs, runs], card, tmp_path / "b.zip").read_bytes() == first
    assert verify(tmp_path / "b.zip").predictions == 10


def test_no_code_no_weights_no_images_are_packed(runs: Path, card: Path, tmp_path: Path) -> None:
    folder = next(runs.rglob("result.json")).parent
    for name in ("weights.pt", "figures/cases.png", "method.py", "notes.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    with zipfile.ZipFile(submit([runs], card, tmp_path / "a.zip")) as archive:
        names = archive.namelist()
        assert all(map(is_member_name, names))
        kinds = {name.rpartition("/")[2].partition(".")[2] for name in names}
        assert kinds == {"json", "yaml", "csv", "nii.gz"}
        assert archive.namelist()[0] == "manifest.json"
        # Regular files that their owner may write and all may read.
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}


def test_everything_that_is_missing_is_said_at_once(tmp_path: Path, card: Path, command: Any) -> None:
    members = taken_apart()
    change_result(members, lambda data: data["data"].update(limit=8), fold=2)
    folder = folder_of_fold(members, 1)
    first = json.loads(members[f"{folder}/result.json"])["split"]["test"][0]
    runs = lay_out(members, tmp_path / "work")
    (tmp_path / "work" / folder / "predictions" / f"{first}.nii.gz").write_bytes(b"another")
    (tmp_path / "work" / folder / "history.csv").unlink()
    edited = tmp_path / "work" / folder_of_fold(members, 3) / "cases.csv"
    edited.write_text(edited.read_text().replace("0.9", "0.99", 1))
    (runs / "stopped").mkdir()
    (runs / "stopped" / "checkpoint.pt").write_bytes(b"")
    card.write_bytes(dump_card({**CARD, "hours": "many", "notes": "x"}).replace(b"notes", b"note"))
    out = tmp_path / "out.zip"
    found = "\n".join(reasons([runs, tmp_path / "nowhere"], card, out))
    for words in (
        "nowhere: no such folder of runs",
        "stopped: is not finished",
        f"the mask predictions/{first}.nii.gz is not what the run wrote",
        "history.csv is absent",
        "was computed with --limit 8",
        "cases.csv: was edited after the run",
        "'hours' is not a number of hours",
        "unknown key 'note', did you mean 'notes'?",
        "lacks fold 1, 2, 3 of 5",
    ):
        assert words in found
    assert not out.exists()
    done = command("submit", runs, "--card", card, "--out", out)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"Error: {out}: not written, ")
    assert "Traceback" not in done.stderr


def test_runs_are_found_beside_folders_that_hold_none(runs: Path, tmp_path: Path) -> None:
    assert len(results_of([runs, tmp_path / "nowhere"])) == 5
    assert results_of([]) == []
    with pytest.raises(Incomplete, match="nowhere: no such folder of runs"):
        results_of([tmp_path / "nowhere"])


def test_two_unlike_runs_of_one_cell_are_refused(tmp_path: Path, card: Path) -> None:
    runs = lay_out(taken_apart(), tmp_path / "a")
    members = taken_apart()
    change_result(members, lambda data: data["cost"].update(seconds=1.0), fold=0)
    other = lay_out(members, tmp_path / "b")
    (problem,) = reasons([runs, other], card, tmp_path / "out.zip")
    assert "is the same cell as" in problem


def test_what_verify_would_not_read_is_not_packed() -> None:
    assert set_problem({"card.yaml": 1, "runs/a/b/c/result.json": 1 << 20}) == ""
    assert "67,108,864" in set_problem({f"runs/a/b/{i}/result.json": 1 << 20 for i in range(70)})
    assert "at most 60,000" in set_problem({f"runs/a/b/{i}/cases.csv": 1 for i in range(60_000)})
    assert "bytes, at most" in set_problem(
        {f"runs/a/b/c/predictions/{i}.nii.gz": 64 << 20 for i in range(32)}
    )
    assert "differ in case alone" in set_problem({"runs/a/b/c/cases.csv": 1, "runs/A/b/c/cases.csv": 1})


def test_weights_must_be_named_where_the_runs_name_them(tmp_path: Path, card: Path) -> None:
    members = taken_apart()
    change_result(members, lambda data: data["method"].update(weights="imagenet"), fold=None)
    (problem,) = reasons([lay_out(members, tmp_path / "a")], card, tmp_path / "out.zip")
    assert "the card says weights: none, but runs started from imagenet" in problem


def test_the_template_explains_every_key_and_knows_what_the_runs_know(
    runs: Path, tmp_path: Path, command: Any
) -> None:
    path = tmp_path / "new.yaml"
    done = command("submit", "--template", path, runs)
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    for key, meaning in KEYS.items():
        assert f"# {meaning}\n{key}:" in text
    found, problems = load_card(path)
    assert found is not None
    assert found["entry"] == "unext-small, hybrid"
    assert found["commit"] == "4462aafaad71e2baf90dcbf77609e765b33f9c2f"
    assert 0 < found["hours"] < 1
    assert [line.split("'")[1] for line in problems] == ["authors", "contact"]
    filled = text.replace("authors: []", "authors: [A. Author]").replace("contact:", "contact: a@example.org")
    path.write_text(filled)
    assert load_card(path)[1] == []
    assert verify(submit([runs], path, tmp_path / "a.zip")).entry == "unext-small, hybrid"
    done = command("submit", "--template", path)
    assert done.returncode == 1
    assert "is there already" in done.stderr
    write_template(tmp_path / "bare.yaml", [])
    empty = [line.split("'")[1] for line in load_card(tmp_path / "bare.yaml")[1]]
    assert empty == [key for key in KEYS if key not in ("schema", "notes", "parameters")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"authors": "A. Author"}, "'authors' is not a list of names"),
        ({"authors": []}, "'authors' is missing"),
        ({"entry": "x" * 61}, "'entry' is longer than 60 characters"),
        ({"entry": "[x] y"}, "'entry' has one of"),
        ({"contact": "a\nb"}, "'contact' has control characters"),
        ({"hours": -1}, "'hours' is not a number of hours"),
        ({"hours": float("nan")}, "'.nan' is not a finite number"),
        ({"schema": 2}, "'schema' is 2"),
        ({"commit": 1234567}, "'commit' is read as a number"),
        ({"paper": {"title": "x"}}, "'paper' is not text"),
    ],
)
def test_cards_are_held_to_their_schema(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_bytes(dump_card({**CARD, **change}))
    assert any(words in line for line in load_card(path)[1])


@pytest.mark.parametrize(("size", "read"), [(16 << 10, True), ((16 << 10) + 1, False)])
def test_cards_of_up_to_16_kib_are_read(size: int, read: bool, tmp_path: Path) -> None:
    content = dump_card(CARD)
    path = tmp_path / "card.yaml"
    path.write_bytes(content + b"#" * (size - len(content)))
    card, problems = load_card(path)
    assert (card is not None) == read
    assert any("16,384 are read" in line for line in problems) != read


@pytest.mark.parametrize(("brackets", "read"), [(200, True), (201, False)])
def test_cards_of_up_to_200_brackets_are_read(brackets: int, read: bool, tmp_path: Path) -> None:
    content = dump_card(CARD)
    path = tmp_path / "card.yaml"
    path.write_bytes(content + b"# " + b"[" * (brackets - content.count(b"[") - content.count(b"{")))
    card, problems = load_card(path)
    assert (card is not None) == read
    assert any("more than 200 brackets" in line for line in problems) != read


def test_names_of_members_begin_with_no_sign() -> None:
    # 0x2E is the full stop, 0x2D the minus, 0x3D the equals sign, 0x20 the space.
    names = {".a": "%2Ea", "-a/=b c": "%2Da/%3Db%20c", "a.b-c": "a.b-c"}
    assert {name: member_name(name) for name in names} == names
    assert {name_of_member(member): member for member in names.values()} == names


def test_several_reasons_are_told_by_the_first_and_their_number() -> None:
    assert str(Incomplete(["a is absent", "b is absent", "c is absent"])) == "a is absent (and 2 more)"
    assert str(Incomplete(["a is absent"])) == "a is absent"


def test_a_card_that_is_no_yaml_says_where_and_briefly_why(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_bytes(b"a: 1\na: 2\n")
    (problem,) = load_card(tmp_path / "card.yaml")[1]
    assert "is not plain YAML in line 2: the key 'a' is there twice; " in problem


def test_a_card_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    for content in (b"a: [", b"\xff\xfe", b"- a", b"", b"[" * 5000):
        path.write_bytes(content)
        card, problems = load_card(path)
        assert card is None
        (problem,) = problems
        assert str(path) in problem


def test_verify_says_what_it_did_and_writes_a_record(tmp_path: Path) -> None:
    path = Path(shutil.copy(EXAMPLE, tmp_path / "entry.zip"))
    (tmp_path / "bad.zip").write_bytes(path.read_bytes()[:-40])
    runner = CliRunner()
    done = runner.invoke(main, ["verify", str(path), str(tmp_path / "bad.zip"), "--record", "--json"])
    assert done.exit_code == 1
    assert str(done.exception).startswith(f"{tmp_path / 'bad.zip'}: is cut off")
    report, refused = json.loads(done.stdout)
    assert report["verified"] is True
    assert (report["runs"], report["predictions"], report["largest_difference"]) == (5, 10, 0.0)
    assert refused == {"path": f"{tmp_path / 'bad.zip'}", "verified": False, "reason": str(done.exception)}
    record = json.loads((tmp_path / "entry.verified.json").read_text())
    assert set(record) == set(RECORD_SCHEMA)
    assert record == read_record(path)
    assert record["sha256"] == report["sha256"]
    assert record["fingerprints"] == report["fingerprints"]
    assert not (tmp_path / "bad.verified.json").exists()
    done = runner.invoke(main, ["verify", str(path)])
    assert done.exit_code == 0
    assert "10 masks of 5 runs scored anew" in done.stdout
    assert "costs are claims" in done.stdout


def test_what_another_machine_does_otherwise_is_noted_not_refused(tmp_path: Path) -> None:
    members = taken_apart()

    def elsewhere(data: dict[str, Any]) -> None:
        data["data"]["fingerprint"] = "0123456789abcdef" * 4
        data["method"]["source_hash"] = "1" * 64

    change_result(members, elsewhere, fold=None)
    path = put_together(tmp_path / "elsewhere.zip", members)
    found = verify(path)
    assert found.predictions == 10
    assert "other code of this method" in found.notes[0]
    assert "its phantom has another fingerprint" in found.notes[1]
    record = json.loads(write_record(found).read_text())
    assert record["notes"] == list(found.notes)
    # The fingerprint of the data here, not the claimed one.
    assert record["fingerprints"] == verify(EXAMPLE).fingerprints
    # And so another fingerprint gets nobody a table of their own.
    shutil.copy(EXAMPLE, tmp_path)
    shutil.copy(record_path(EXAMPLE), tmp_path)
    (table,) = build(tmp_path / "none", submissions=tmp_path).tables
    assert [row.rank for row in table.rows] == [1]
    assert table.rows[0].also == () or table.rows[0].also[0].why == "the same scores"


def test_names_in_any_alphabet_go_into_a_submission_and_come_back(
    own: tuple[Path, Path], card: Path, tmp_path: Path
) -> None:
    names = ("patient 1", "患者_2")
    data = write_msd(tmp_path / "Größe", names)
    words: dict[str, Any] = {"plugins": [TINY], "preset": "smoke"}
    usbench.run("tiny", "early", task_dir=data, folds="all", runs_dir=tmp_path / "runs", **words)
    packed = submit([tmp_path / "runs"], card, tmp_path / "out.zip")
    with zipfile.ZipFile(packed) as archive:
        members = [name for name in archive.namelist() if name.endswith(".nii.gz")]
    assert sorted(Path(name).name for name in members) == [
        "%E6%82%A3%E8%80%85_2.nii.gz",
        "patient%201.nii.gz",
    ]
    assert all(name.isascii() for name in members)
    with opened(packed) as archive:
        found = read_submission(archive)
        for one in found.runs:
            for case_id in one.data["split"]["test"]:
                assert archive.read(f"{one.folder}/predictions/{case_id}.nii.gz")[:2] == b"\x1f\x8b"
    assert sorted(case_id for one in found.runs for case_id in one.data["split"]["test"]) == sorted(names)


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("a/b_c.nii.gz", "a/b_c.nii.gz"),
        ("a b~/100%/é", "a%20b%7E/100%25/%C3%A9"),
        (".x/-y/=z", "%2Ex/%2Dy/%3Dz"),
        ("A+1=2", "A+1=2"),
    ],
)
def test_names_of_members(name: str, member: str) -> None:
    assert member_name(name) == member
    assert name_of_member(member) == name


@pytest.mark.parametrize(
    "inner",
    ["a%2Fb", "a%2fb", "%61", "%2E%2E", "%FF", "a%", "a%2", "%ED%B2%80", "a b", "é", ".a", "%7e"],
)
def test_names_that_are_written_in_another_way_are_refused(inner: str) -> None:
    assert is_member_name("runs/t/m-early/0-0-x/predictions/a%20b.nii.gz")
    assert not is_member_name(f"runs/t/m-early/0-0-x/predictions/{inner}.nii.gz")
    assert not is_member_name("runs/%2E./m-early/0-0-x/result.json")


def test_the_committed_example_is_what_it_says() -> None:
    assert EXAMPLE.stat().st_size < 1_000_000
    record = read_record(EXAMPLE)
    assert record is not None
    found = verify(EXAMPLE)
    for key in ("sha256", "entry", "method", "runs", "predictions"):
        assert record[key] == found.as_dict()[key]
    assert record_path(EXAMPLE).name == "unext-small.verified.json"
    beside = yaml.safe_load(EXAMPLE.with_suffix(".card.yaml").read_text())
    assert yaml.safe_load(taken_apart()["card.yaml"]) == beside
