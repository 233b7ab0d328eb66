"""`usbench prune` removes what its rules name and nothing else; killed or raced, no run is left half."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kit.handmade import write_run
from kit.places import TINY

import usbench
from usbench.cli.main import main
from usbench.contracts.pruning import Rules
from usbench.errors import UsbenchError
from usbench.pages.run_page import html
from usbench.results.io import load_result
from usbench.runs.network import FILE, load_network
from usbench.runs.prune import find, remove

DSC = {"p1": {"liver": 0.9}, "p2": {"liver": 0.7}}
KEPT = {FILE: b"n" * 4000, "predictions/p1.nii.gz": b"mask", "log.txt": b"log\n"}
NAME = "0-0-0123456789"


def finished(runs: Path, method: str = "unet", fusion: str = "late", name: str = NAME, **facts: Any) -> Path:
    """A finished run of 2026-01-02 with a network of 4,000 bytes."""
    usual = {"provenance": {"finished": "2026-01-02T03:04:05Z"}, "cell__task": "chaos"}
    folder = runs / "chaos-phantom" / f"{method}-{fusion}" / name
    return write_run(folder, DSC, method, fusion, files=KEPT, **{**usual, **facts})


def started(
    runs: Path, task: str = "chaos", method: str = "unet", fusion: str = "late", fold: int = 1
) -> Path:
    """A run that was killed in its training, as one leaves it."""
    folder = runs / f"{task}-phantom" / f"{method}-{fusion}" / f"{fold}-0-0123456789"
    folder.mkdir(parents=True)
    title = f"{task} {method} {fusion} fold {fold} seed 0, cell 0123456789abcdef"
    (folder / "log.txt").write_text(
        f"2026-01-02T03:04:05Z start: {title}\n2026-01-02T03:04:05Z device: CPU\n"
    )
    (folder / "checkpoint.pt").write_bytes(b"c" * 7000)
    (folder / "history.csv").write_text("epoch,loss\n1,0.5\n")
    (folder / ".checkpoint.pt.abc.part.pt").write_bytes(b"h" * 10)
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    """All files below a folder with what is in them."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_networks_go_and_results_stay_as_they_are(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    one, other = finished(runs), finished(runs, "zeus")
    before = everything(runs)
    found = usbench.prune(runs, networks=True)
    assert {(each.path, each.bytes) for each in found.found} == {(one / FILE, 4000), (other / FILE, 4000)}
    assert found.removed == []
    assert everything(runs) == before, "without yes nothing is removed"
    done = usbench.prune([runs, one, runs / "chaos-phantom"], networks=True, yes=True)
    assert (len(done.removed), done.bytes, done.runs, done.left, done.failed) == (2, 8000, 2, [], [])
    assert everything(runs) == {name: held for name, held in before.items() if not name.endswith(FILE)}
    result = load_result(one)
    with pytest.raises(
        UsbenchError, match=r"safetensors: was removed since the run \(usbench prune does that\)"
    ):
        load_network(result)
    page = html(result)
    assert '<p id="digest" class="good">' in page
    assert (
        "3 of 3 files of the run are unchanged. The trained network was removed; no score needs it." in page
    )
    assert "removed, not needed for the scores" in page
    (one / FILE).write_bytes(b"another")
    assert f"Changed or missing, and therefore not shown: {FILE}" in html(result)


def test_what_was_never_finished_goes_whole(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    kept, gone = finished(runs), started(runs)
    empty = runs / "chaos-phantom" / "unet-late" / "2-0-0123456789"
    empty.mkdir()
    before = everything(kept)
    done = usbench.prune(runs, unfinished=True, yes=True)
    assert {one.path for one in done.removed} == {gone, empty}
    assert not gone.exists()
    assert everything(kept) == before
    assert sorted(path.name for path in kept.parent.iterdir()) == [kept.name]


def test_checkpoints_left_over_are_those_of_no_use(tmp_path: Path) -> None:
    """A finished run needs no checkpoint; one that was stopped goes on from it."""
    runs = tmp_path / "runs"
    done, stopped = finished(runs), started(runs)
    (done / "checkpoint.pt").write_bytes(b"c" * 9)
    usbench.prune(runs, checkpoints=True, yes=True)
    assert not (done / "checkpoint.pt").exists()
    assert not (stopped / ".checkpoint.pt.abc.part.pt").exists()
    assert (stopped / "checkpoint.pt").exists()
    assert (done / FILE).exists()


def test_masks_of_tracks_go_and_those_of_the_run_stay(tmp_path: Path) -> None:
    run = finished(tmp_path)
    for name, last in (("robustness", "track.json"), ("external-b", ".parts")):
        folder = run / "tracks" / name
        (folder / "predictions" / "missing-t1").mkdir(parents=True)
        (folder / "predictions" / "missing-t1" / "p1.nii.gz").write_bytes(b"m" * 50)
        (folder / "cases.csv").write_text("case\n")
        (folder / last).write_text("{}")
    done = usbench.prune(tmp_path, tracks_masks=True, yes=True)
    assert [(one.path, one.bytes) for one in done.removed] == [(run / "tracks/robustness/predictions", 50)]
    assert sorted(everything(run / "tracks" / "robustness")) == ["cases.csv", "track.json"]
    assert (run / "tracks/external-b/predictions/missing-t1/p1.nii.gz").exists(), "that track is not finished"
    assert (run / "predictions/p1.nii.gz").exists()


def test_rules_by_age_task_method_and_fusion(tmp_path: Path) -> None:
    """unet-classic is another method than unet, whatever the folders look like."""
    runs = tmp_path / "runs"
    now = {"provenance": {"finished": "2999-01-01T00:00:00Z"}}
    new, old, long = finished(runs, "unet", "early", **now), finished(runs), finished(runs, "unet-classic")
    old_start, other = started(runs), started(runs, method="unet-classic")
    brain = started(runs, "msd-brain", fold=0)
    os.utime(old_start / "log.txt", (0, 0))

    def names(**rules: Any) -> set[Path]:
        return {one.run for one in usbench.prune(runs, **rules).found}

    assert names(networks=True, older_than=1) == {old, long}
    assert names(networks=True, method="unet") == {new, old}
    assert names(networks=True, method=["unet"], fusion="early") == {new}
    assert names(unfinished=True, method="unet") == {old_start, brain}
    assert names(unfinished=True, method="unet-classic") == {other}
    assert names(unfinished=True, task="msd-brain") == {brain}
    assert names(unfinished=True, older_than=1) == set(), "the newest file counts"
    for file in old_start.iterdir():
        os.utime(file, (1e9, 1e9))
    assert names(unfinished=True, older_than=1) == {old_start}
    with pytest.raises(UsbenchError, match="unknown method of these runs 'unett', did you mean 'unet'"):
        names(networks=True, method="unett")


def test_what_another_process_computes_is_left_alone(tmp_path: Path) -> None:
    run, other = started(tmp_path), started(tmp_path, fold=2)
    found = find(tmp_path, Rules(unfinished=True))
    with open(run / ".lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = remove(found)
        assert [one.run for one in done.removed] == [other]
        assert done.left == [f"{run}: another process is computing this cell; left alone"]
        assert usbench.prune(tmp_path, unfinished=True, yes=True).removed == []
        assert len(everything(run)) == 5
    assert [one.run for one in usbench.prune(tmp_path, unfinished=True, yes=True).removed] == [run]


def test_what_changed_since_it_was_listed_is_left_alone(tmp_path: Path) -> None:
    grown, done, gone = (started(tmp_path, fold=fold) for fold in (1, 2, 3))
    network = finished(tmp_path) / FILE
    found = find(tmp_path, Rules(unfinished=True, networks=True))
    os.utime(grown / "history.csv", (4e9, 4e9))
    os.utime(network, (4e9, 4e9))
    (done / "result.json").write_text("{}")
    usbench.prune(gone, unfinished=True, yes=True)
    words = {line.split(": ")[1].removesuffix("; left alone") for line in remove(found).left}
    assert found.removed == []
    assert words == {
        "it was written to since it was listed",
        "it was finished since it was listed",
        "it is not there any more",
    }
    assert network.exists()
    assert not list(tmp_path.rglob(".lock"))
    assert not gone.exists(), "a lock does not bring the folder back"


def test_only_runs_are_touched_and_no_link_is_followed(tmp_path: Path) -> None:
    """Folders of other people that look like runs, and links out of the folder."""
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    own = finished(elsewhere)
    pair = runs / "chaos-phantom" / "unet-late"
    pair.mkdir(parents=True)
    (pair / "5-0-0123456789").symlink_to(own, target_is_directory=True)
    (pair / "notes").mkdir()
    (pair / "notes" / FILE).write_bytes(b"mine")
    (pair / "notes" / "checkpoint.pt").write_bytes(b"mine")
    foreign = runs / "web"
    foreign.mkdir()
    (foreign / "result.json").write_text('{"answer": 42}')
    (foreign / FILE).write_bytes(b"mine")
    with_notes = started(runs, fold=2)
    (with_notes / "thesis.tex").write_text("mine")
    no_log = started(runs, fold=3)
    (no_log / "log.txt").write_text("mine\n")
    other_cell = started(runs, fold=4)
    text = (other_cell / "log.txt").read_text()
    (other_cell / "log.txt").write_text(text.replace("0123456789abcdef", "fedcba9876543210"))
    linked = finished(runs, "zeus")
    (linked / FILE).unlink()
    (linked / FILE).symlink_to(own / FILE)
    never_kept = write_run(runs / "chaos-phantom" / "resunet-late" / NAME, DSC, "resunet")
    (never_kept / FILE).write_bytes(b"mine")
    (never_kept / "checkpoint.pt").symlink_to(own / "log.txt")
    before = everything(tmp_path)
    done = usbench.prune(runs, networks=True, checkpoints=True, unfinished=True, tracks_masks=True, yes=True)
    assert done.removed == []
    assert everything(tmp_path) == before
    assert {line.split(": ")[1] for line in done.left} == {
        "its result.json is no result of usbench; left alone",
        "holds thesis.tex, which no unfinished run does; left alone",
        "has no log.txt that says which cell it is of; left alone",
    }
    # A link that the user names is a folder of runs like any other.
    (tmp_path / "link").symlink_to(elsewhere, target_is_directory=True)
    assert len(usbench.prune(tmp_path / "link", networks=True).found) == 1


KILL = """
import os, shutil, sys
import usbench

def half(folder, *rest, **named):
    os.unlink(sorted(file.path for file in os.scandir(folder) if file.is_file())[0])
    os._exit(9)

unlink = os.unlink
def after_one(path, *rest, **named):
    unlink(path, *rest, **named)
    if str(path).endswith('.safetensors'):
        os._exit(9)

if sys.argv[2] == 'unfinished':
    shutil.rmtree = half
else:
    os.unlink = after_one
usbench.prune(sys.argv[1], **{sys.argv[2]: True}, yes=True)
"""


@pytest.mark.parametrize("rule", ["unfinished", "networks"])
def test_killed_in_the_middle_leaves_each_run_whole_or_gone(tmp_path: Path, rule: str) -> None:
    runs = tmp_path / "runs"
    first, second = started(runs, fold=1), started(runs, fold=2)
    one, other = finished(runs), finished(runs, "zeus")
    before = everything(runs)
    done = subprocess.run([sys.executable, "-c", KILL, runs, rule], timeout=120)
    assert done.returncode == 9
    for folder in (one, other):
        load_result(folder)
    if rule == "networks":
        assert not (one / FILE).exists()
        assert (other / FILE).exists()
    else:
        assert not first.exists()
        rest = first.parent / f".{first.name}.pruned"
        assert rest.is_dir()
        assert everything(second) == {
            name.removeprefix(f"{second.relative_to(runs)}/"): content
            for name, content in before.items()
            if name.startswith(f"{second.relative_to(runs)}/")
        }
    again = usbench.prune(runs, **{rule: True}, yes=True)
    assert again.failed == []
    assert usbench.prune(runs, **{rule: True}).found == []
    if rule == "unfinished":
        assert sorted(path.name for path in first.parent.iterdir()) == [one.name]


def test_a_real_run_that_was_stopped_is_known_and_starts_anew(small_prostate: Path, tmp_path: Path) -> None:
    class Stop(usbench.Watcher):
        def on_epoch(self, row: Any) -> None:
            raise KeyboardInterrupt

    words: dict[str, Any] = {"task": "msd-prostate", "preset": "smoke", "device": "cpu", "plugins": [TINY]}
    words |= {
        "data_dir": small_prostate,
        "runs_dir": tmp_path,
        "settings": {"data.size": 32, "train.epochs": 2},
    }
    with pytest.raises(KeyboardInterrupt):
        usbench.run("tiny", "early", **words, watchers=[Stop()])
    found = usbench.prune(tmp_path, unfinished=True, task="msd-prostate", method="tiny", fusion="early")
    (one,) = found.found
    assert (one.path / "checkpoint.pt").exists()
    assert one.bytes == sum(len(content) for content in everything(one.path).values())
    assert len(remove(found).removed) == 1
    assert not one.path.exists()
    result = usbench.run("tiny", "early", **words)[0]
    assert result.path == one.path
    assert usbench.prune(tmp_path, unfinished=True, checkpoints=True).found == []
    assert [each.path for each in usbench.prune(tmp_path, networks=True).found] == [one.path / FILE]


def call(*words: object) -> Any:
    return CliRunner().invoke(main, ["prune", *map(str, words)])


def test_the_command_lists_asks_and_removes(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run = finished(runs)
    listed = call(runs, "--networks", "--dry-run")
    assert listed.exit_code == 0
    assert f"    0.0 MB  network: {run / FILE}" in listed.stdout
    assert "0.0 MB in all: 1 x network" in listed.stdout
    assert "dry run: nothing was removed" in listed.stdout
    refused = call(runs, "--networks")
    assert refused.exit_code == 1
    assert "nobody is there to be asked: add --yes to remove them" in str(refused.exception)
    assert (run / FILE).exists()
    done = call(runs, "--networks", "--yes")
    assert done.exit_code == 0, done.output
    assert "removed: 0.0 MB, 1 x network" in done.stdout
    assert not (run / FILE).exists()
    assert "nothing to remove: 1 run looked at" in call(runs, "--networks", "--yes").stdout


def test_days_are_a_number(tmp_path: Path) -> None:
    with pytest.raises(UsbenchError, match="--older-than nan is out of range"):
        usbench.prune(finished(tmp_path), networks=True, older_than=float("nan"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "name what is to be removed: --networks, --checkpoints, --unfinished or --tracks-masks"),
        (["--networks", "--older-than", "-1"], "--older-than -1 is out of range; choose 0 or more days"),
        (["--networks", "--task", "kaos"], "unknown task of these runs 'kaos', did you mean 'chaos'?"),
    ],
)
def test_wrong_words_are_one_line(tmp_path: Path, words: list[str], line: str) -> None:
    finished(tmp_path)
    before = everything(tmp_path)
    done = call(tmp_path, *words, "--yes")
    assert done.exit_code == 1
    assert line in str(done.exception)
    assert "\n" not in str(done.exception)
    assert everything(tmp_path) == before
    absent = call(tmp_path / "nowhere", "--networks", "--yes")
    assert f"{tmp_path / 'nowhere'}: is no folder; name a folder of runs" in str(absent.exception)
