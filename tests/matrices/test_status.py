"""`usbench status`: a cell that runs is never called failed, and one whose process died never runs."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kit.commands import Command
from kit.places import TINY

import usbench
from usbench.cli.main import main
from usbench.errors import UsbenchError
from usbench.matrices.failures import ENDED, Failures
from usbench.matrices.status import changes
from usbench.matrices.summary import listing
from usbench.results import running as module
from usbench.results.running import LOCK, PROGRESS, Progress, lock_is_held, read_progress, running
from usbench.results.usable import named_runs
from usbench.runs.lock import locked_cell
from usbench.runs.prune import find
from usbench.runs.watchers.progress_file import ProgressFile

DOCS = Path(__file__).parents[2] / "docs"
NOW = Progress(platform.node(), os.getpid(), 0.0, 0.0, "training", 3, 14, 0.5, 60.0, 0, 2, "a cell", "7_1")


def write(folder: Path, one: Progress) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROGRESS).write_text(json.dumps(asdict(one)))


@pytest.fixture
def matrix(words: dict[str, Any]) -> dict[str, Any]:
    """One finished cell, and words for a second."""
    words["fusions"] = "early"
    usbench.matrix(**{**words, "folds": "1"})
    return words


def second(words: dict[str, Any]) -> Path:
    """The folder of the cell that is not computed."""
    (cell,) = [one for one in usbench.matrix(**words, dry_run=True).cells if one.result is None]
    assert cell.folder is not None
    return cell.folder


def states(words: dict[str, Any]) -> list[str]:
    return [cell.state for cell in usbench.status(words["runs_dir"]).cells]


def test_every_state_of_a_cell(matrix: dict[str, Any]) -> None:
    """The same folder as its process locks it, dies, fails, and finishes."""
    runs = matrix["runs_dir"].absolute()
    folder = second(matrix)
    (done,) = usbench.status(runs).cells
    assert (done.state, done.task, done.method, done.fusion, done.fold, done.seed) == (
        "done", "msd-prostate", "tiny", "early", 1, 0,
    )  # fmt: skip
    failures = Failures(runs)
    failures.record(failures.key(folder), "the second", ENDED)
    write(folder, replace(NOW, started=time.time(), updated=time.time()))
    with locked_cell(folder):
        first, other = usbench.status(runs).cells
        assert (first.state, first.name, first.epoch, first.epochs) == ("running", "the second", 3, 14)
        assert first.seconds_left == pytest.approx(60, abs=5)
        assert other.state == "done"
        made = usbench.matrix(**matrix, dry_run=True)
        shown = " ".join(listing(made).split())
        assert "running: epoch 3 of 14, loss 0.500, on" in shown
        assert "failed" not in shown
        assert "2 cells: 1 done, 1 running, 0 to do" in shown
    # The process is dead: its file says nothing any more.
    stopped = usbench.status(runs).cells[0]
    assert (stopped.state, stopped.reason) == ("stopped", ENDED)
    failures.clear([failures.key(folder)])
    assert f"process {NOW.pid} on {NOW.host} ended without a word" in usbench.status(runs).cells[0].reason
    failures.record(failures.key(folder), "the second", "no such thing")
    first = usbench.status(runs).cells[0]
    assert (first.state, first.reason) == ("failed", "no such thing")
    usbench.matrix(**matrix)
    found = usbench.status(runs)
    assert [cell.state for cell in found.cells] == ["done", "done"]
    assert found.counts == {"running": 0, "waiting": 0, "stopped": 0, "failed": 0, "done": 2}
    assert not list(runs.rglob(PROGRESS)), "left behind"


def test_a_process_on_another_machine(matrix: dict[str, Any]) -> None:
    """Its lock may not be seen here: then a word of a moment ago counts, and an old one does not."""
    folder = second(matrix)
    away = replace(NOW, host="node7", updated=time.time() - 20)
    write(folder, away)
    assert states(matrix) == ["running", "done"]
    now = running(folder)
    assert now is not None
    assert not now.seen
    told = str(now).replace(str(NOW.pid), "N")
    assert told == "epoch 3 of 14, loss 0.500, on node7 (process N, job 7_1), heard of 20 s ago"
    write(folder, replace(away, updated=time.time() - 4 * module.BEAT - 5))
    assert states(matrix) == ["stopped", "done"]


def test_broken_results_and_tasks_are_failures(matrix: dict[str, Any]) -> None:
    runs = matrix["runs_dir"].absolute()
    (done,) = usbench.status(runs).cells
    Failures(runs).record("some-task", "some-task: its data", "case 7 is cut off")
    text = (done.folder / "result.json").read_text()
    (done.folder / "result.json").write_text(text.replace('"fold": 1', '"fold": 2'))
    first, other = usbench.status(runs).cells
    assert "was edited after the run" in first.reason
    assert (other.state, other.name, other.reason) == ("failed", "some-task: its data", "case 7 is cut off")


def test_the_leaderboard_calls_a_running_cell_running(matrix: dict[str, Any]) -> None:
    folder = second(matrix)
    write(folder, replace(NOW, updated=time.time()))
    (folder / "checkpoint.pt").write_bytes(b"")
    (problem,) = usbench.leaderboard(matrix["runs_dir"]).problems
    assert problem.reason.startswith("not finished; the same")
    with locked_cell(folder):
        (problem,) = usbench.leaderboard(matrix["runs_dir"]).problems
        assert problem.reason.startswith("is running: epoch 3 of 14")
        with pytest.raises(UsbenchError, match=r"is running: epoch 3 of 14.*; wait for it"):
            named_runs([folder])


def test_who_looks_takes_the_lock_from_nobody(tmp_path: Path) -> None:
    """A run that starts in the moment of a look is not told that the cell is busy."""
    lock = tmp_path / LOCK
    assert lock_is_held(lock) is False
    lock.touch()
    assert lock_is_held(lock) is False
    assert lock.exists(), "a look changes nothing"
    looking = os.open(lock, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    import threading

    threading.Timer(0.07, os.close, (looking,)).start()
    with locked_cell(tmp_path):
        assert lock_is_held(lock) is True
    assert lock_is_held(lock) is False


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", "null", "{}", '{"host": 1}', "[" * 9000, "x" * 20_000,
     json.dumps({**asdict(NOW), "pid": "1"}),
     json.dumps({**asdict(NOW), "updated": 1e300}), json.dumps({**asdict(NOW), "left": float("nan")})],
)  # fmt: skip
def test_a_file_that_is_none_decides_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / PROGRESS).write_text(text)
    assert read_progress(tmp_path) is None
    assert running(tmp_path) is None
    with locked_cell(tmp_path):
        assert str(running(tmp_path)) == "another process computes it"


def test_what_others_wrote_is_shown_without_escapes(tmp_path: Path) -> None:
    write(tmp_path, replace(NOW, host="a\x1b[31mb", updated=time.time()))
    one = read_progress(tmp_path)
    assert one is not None
    assert one.host == "a[31mb"


def test_what_a_running_cell_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch and time left, from the epochs of an earlier start on; the file goes with the run."""
    from usbench.contracts.watcher import CellFacts

    monkeypatch.setattr("usbench.runs.watchers.progress_file._QUICKEST", 0.01)
    row = {"epoch": 1.0, "loss": 0.9, "seconds": 2.0}
    one = ProgressFile()
    one.on_start(CellFacts("t", "m", "f", 0, 0, "h", tmp_path, test=("a", "b")), 10)
    first = read_progress(tmp_path)
    assert first is not None
    assert (first.stage, first.epoch, first.pid) == ("preparing", 0, os.getpid())

    def after(stage: str, epoch: int, case: int) -> Progress:
        for _ in range(500):
            found = read_progress(tmp_path)
            if found is not None and (found.stage, found.epoch, found.case) == (stage, epoch, case):
                return found
            time.sleep(0.01)
        pytest.fail("it is not written")

    one.on_training([row, {**row, "epoch": 2.0}])
    assert after("training", 2, 0).left == pytest.approx(16, abs=1)
    one.on_epoch({**row, "epoch": 3.0, "loss": float("nan"), "seconds": 5.0})
    third = after("training", 3, 0)
    assert third.loss is None
    assert third.left == pytest.approx(21, abs=1)
    one.on_case("a", {})
    assert after("scoring", 3, 1).left is None
    one.on_end(None)
    assert not list(tmp_path.iterdir())
    # A folder that is gone, a full disk: nothing is raised.
    two = ProgressFile()
    two.on_start(CellFacts("t", "m", "f", 0, 0, "h", tmp_path / "file" / "x"), 10)
    two.on_end(None)


def test_words_of_the_command(matrix: dict[str, Any]) -> None:
    runs = matrix["runs_dir"]
    folder = second(matrix)
    write(folder, replace(NOW, updated=time.time()))
    call = CliRunner().invoke
    with locked_cell(folder):
        shown = call(main, ["status", "--runs-dir", str(runs)]).output
        told = json.loads(call(main, ["status", "--runs-dir", str(runs), "--json"]).output)
    assert "epoch 3 of 14, loss 0.500, on" in shown
    assert "2 cells: 1 running, 1 done; about 60 s until those that run are trained" in shown
    assert told["counts"] == {"running": 1, "waiting": 0, "stopped": 0, "failed": 0, "done": 1}
    assert told["cells"][0]["host"] == platform.node()
    assert told["cells"][1]["dsc"] == pytest.approx(usbench.status(runs).cells[-1].dsc)
    assert "no cell was begun here" in call(main, ["status", "--runs-dir", str(TINY.parent)]).output
    with pytest.raises(UsbenchError, match="is no folder; name the folder of runs with --runs-dir"):
        usbench.status(TINY)


def test_a_folder_that_is_not_there_yet_has_no_cells(tmp_path: Path) -> None:
    """Who watches from a second shell may be there before the first cell."""
    runs = tmp_path / "runs"
    told = CliRunner().invoke(main, ["status", "--runs-dir", str(runs)])
    assert told.exit_code == 0
    assert told.output == f"{runs}: is not there yet, no cell was begun; another folder: --runs-dir\n"
    told = CliRunner().invoke(main, ["status", "--runs-dir", str(runs), "--json"])
    assert json.loads(told.output)["cells"] == []
    assert not runs.exists(), "a look changes nothing"
    looks = changes(runs, 0.0)
    assert next(looks).cells == ()
    (runs / "task" / "tiny-early" / "0-0-0123456789").mkdir(parents=True)
    assert [cell.state for cell in next(looks).cells] == ["stopped"]


def test_json_has_the_documented_keys_in_every_state(matrix: dict[str, Any]) -> None:
    runs = matrix["runs_dir"].absolute()
    folder = second(matrix)
    write(folder, replace(NOW, updated=time.time()))
    with locked_cell(folder):
        cells = [usbench.status(runs).to_dict()["cells"]]
    Failures(runs).record("some-task", "some-task: its data", "case 7 is cut off")
    cells.append(usbench.status(runs).to_dict()["cells"])
    (row,) = re.findall(r"^\| `status` \|.*$", (DOCS / "commandline.md").read_text(), re.MULTILINE)
    cell_keys = re.findall(r"`(\w+)`", row.split("`cells`: ")[1])
    assert {one["state"] for one in chain(*cells)} == {"running", "done", "stopped", "failed"}
    assert all(sorted(one) == sorted(cell_keys) for one in chain(*cells))
    top = re.findall(r"`(\w+)`", row.split("`cells`: ")[0])[1:]
    assert {*top, "cells"} == set(usbench.status(runs).to_dict())


def test_watching_says_what_changes_until_it_is_interrupted(matrix: dict[str, Any]) -> None:
    runs = matrix["runs_dir"]
    folder = second(matrix)
    folder.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "usbench", "status", "--watch", "--runs-dir", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("stopped: msd-prostate-phantom/tiny-early/0-0-")
    assert process.stdout.readline().startswith("done: msd-prostate tiny early, fold 1, seed 0: DSC ")
    assert process.stdout.readline() == "2 cells: 1 stopped, 1 done\n"
    with locked_cell(folder):
        assert process.stdout.readline().startswith("running: msd-prostate-phantom/tiny-early/0-0-")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_pruning_knows_the_file(matrix: dict[str, Any]) -> None:
    """A cell that was killed while it told how far it was is an unfinished cell, and nothing foreign."""
    from usbench.contracts.pruning import Rules

    write(second(matrix), NOW)
    found = find(matrix["runs_dir"], Rules(unfinished=True))
    assert [one.what for one in found.found] == ["unfinished cell"]
    assert found.left == []


def test_a_folder_made_a_moment_ago_has_time_to_be_locked(tmp_path: Path) -> None:
    """Between the making of a cell's folder and the taking of its lock it is not called stopped."""
    folder = tmp_path / "runs" / "msd-prostate" / "unet-early" / "0-0-0123456789"
    folder.mkdir(parents=True)
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from usbench.runs.lock import locked_cell\n"
        "print(flush=True); time.sleep(0.2)\n"
        "with locked_cell(Path(sys.argv[1])): sys.stdin.read()\n"
    )
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], **pipes) as holder:
        holder.stdout.readline()
        os.utime(folder)
        (cell,) = usbench.status(tmp_path / "runs").cells
        assert cell.state == "running"
        holder.communicate(b"")
    (cell,) = usbench.status(tmp_path / "runs").cells
    assert cell.state == "stopped"


@pytest.mark.slow
def test_a_run_in_another_shell(command: Command, words: dict[str, Any], cache: Path) -> None:
    """From the first moment that its folder is there it is said to run; after SIGKILL it is stopped."""
    runs = words["runs_dir"]
    options = (
        "--methods",
        "unet",
        "--fusions",
        "early",
        "--tasks",
        "msd-prostate",
        "--folds",
        "0",
        "--preset",
        "smoke",
    )
    options += ("--set", "train.epochs=400", "--data-dir", str(words["data_dir"]), "--runs-dir", str(runs))
    process = subprocess.Popen(
        [sys.executable, "-m", "usbench", "matrix", *options, "--workers", "1", "--device", "cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "USBENCH_CACHE": str(cache)},
    )
    deadline, seen = time.monotonic() + 120, set()
    while time.monotonic() < deadline:
        cells = usbench.status(runs).cells if runs.is_dir() else ()
        seen |= {cell.state for cell in cells}
        if any((cell.epoch or 0) > 1 for cell in cells):
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert seen == {"running"}
    (cell,) = usbench.status(runs).cells
    assert (cell.state, cell.epochs, cell.reason) == ("stopped", 400, ENDED)
    assert command("leaderboard", "--runs-dir", runs).returncode == 1
