"""A matrix that is killed, interrupted, or loses workers and nodes ends with the scores of one that is not.

The cells of the undisturbed matrix are computed one after another in one process, so that what Ray computes
is held against what was computed without it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from kit.places import TINY

from usbench.leaderboards.board import build
from usbench.leaderboards.formats import as_dict
from usbench.matrices.failures import NAME
from usbench.results.io import load_result

PLUGIN = TINY


class Matrices:
    """Starts matrices of four cells of U-Net as processes, each into a folder of its own."""

    def __init__(self, data: Path, cache: Path, folder: Path) -> None:
        self.data, self.cache, self.folder = data, cache, folder

    def start(self, runs: str, *more: str, **environment: str) -> subprocess.Popen[str]:
        words = [
            *("--methods", "unet", "--fusions", "early,hybrid", "--tasks", "msd-prostate", "--folds", "0,1"),
            *(
                "--preset",
                "smoke",
                "--set",
                "train.epochs=4",
                "--data-dir",
                str(self.data),
                "--device",
                "cpu",
            ),
            *("--cpus-per-run", "1", "--runs-dir", str(self.folder / runs)),
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "usbench", "matrix", *words, *more],
            env={**os.environ, "USBENCH_CACHE": str(self.cache), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A test run in the background of a shell ignores Ctrl-C, and hands that on.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def finish(self, runs: str, *more: str, **environment: str) -> str:
        process = self.start(runs, *more, **environment)
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
        return out

    def finished(self, runs: str) -> dict[str, tuple[int, str]]:
        """What is there: by cell, the time and the digest of its result."""
        found = {}
        for file in (self.folder / runs).glob("*/*/*/result.json"):
            found[str(file.parent.relative_to(self.folder / runs))] = (
                file.stat().st_mtime_ns,
                load_result(file).data["digest"],
            )
        return found

    def epochs(self, runs: str) -> int:
        """Epochs of all cells together."""
        files = (self.folder / runs).glob("*/*/*/history.csv")
        return sum(max(0, len(file.read_text().splitlines()) - 1) for file in files)

    def until(self, condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            if found := condition():
                return found
            if process is not None and process.poll() is not None:
                pytest.fail(f"ended too early: {process.communicate()}")
            time.sleep(0.02)
        pytest.fail("nothing happened for ten minutes")

    def disturbed(self, runs: str, process: subprocess.Popen[str]) -> dict[str, tuple[int, str]]:
        """Wait for the middle: a cell is finished, and another has a checkpoint."""

        def middle() -> bool:
            done = self.finished(runs)
            return bool(done) and self.epochs(runs) > 4 * len(done)

        self.until(middle, process)
        return self.finished(runs)


def scores(runs: Path) -> Any:
    """All that a leaderboard and its cells say, but for what a clock or a meter measured."""
    board = as_dict(build(runs))
    assert not board["problems"]
    for table in board["tables"]:
        for row in table["rows"]:
            for measured in ("ms_per_slice", "memory_mb", "train_seconds", "runs"):
                del row[measured]
    cases = {str(file.parent.relative_to(runs)): file.read_text() for file in sorted(runs.rglob("cases.csv"))}
    losses = {
        str(file.parent.relative_to(runs)): [line.split(",")[1] for line in file.read_text().splitlines()]
        for file in sorted(runs.rglob("history.csv"))
    }
    return board["tables"], cases, losses


@pytest.fixture(scope="module")
def matrices(small_prostate: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Matrices:
    return Matrices(small_prostate, cache, tmp_path_factory.mktemp("matrices"))


@pytest.fixture(scope="module")
def undisturbed(matrices: Matrices) -> Any:
    out = matrices.finish("undisturbed", "--workers", "1")
    assert "4 cells: 4 computed, 0 finished before, 0 failed" in out
    return scores(matrices.folder / "undisturbed")


def check(matrices: Matrices, runs: str, before: dict[str, tuple[int, str]], undisturbed: Any) -> None:
    after = matrices.finished(runs)
    assert len(after) == 4
    assert 1 <= len(before) < 4, "disturbed too late to prove anything"
    assert {cell: after[cell] for cell in before} == before, "a finished cell was computed again"
    folder = matrices.folder / runs
    assert scores(folder) == undisturbed
    assert not list(folder.rglob("checkpoint.pt"))
    assert not list(folder.rglob("*.part*"))
    assert not (folder / NAME).exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_driver(matrices: Matrices, undisturbed: Any, workers: str) -> None:
    """SIGKILL of the process that was started, and the same words again, at once."""
    runs = f"killed-{workers}"
    process = matrices.start(runs, "--workers", workers)
    matrices.disturbed(runs, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = matrices.finished(runs)
    out = matrices.finish(runs, "--workers", workers)
    assert "0 failed" in out
    check(matrices, runs, before, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupted(matrices: Matrices, undisturbed: Any, workers: str) -> None:
    """Ctrl-C: it says what is done, ends with 130, and no process goes on computing."""
    runs = f"interrupted-{workers}"
    process = matrices.start(runs, "--workers", workers)
    matrices.disturbed(runs, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "of 4 cells are done, 0 failed" in err
    assert "Traceback" not in err
    assert psutil.wait_procs(children, timeout=30)[1] == []
    before = matrices.finished(runs)
    for file in (matrices.folder / runs).rglob("result.json"):
        load_result(file)
    matrices.finish(runs, "--workers", workers)
    check(matrices, runs, before, undisturbed)


def workers_of(driver: int) -> list[psutil.Process]:
    """The processes of Ray that compute cells for a driver."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::usbench"):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_killed_worker(matrices: Matrices, undisturbed: Any) -> None:
    """SIGKILL of a process that computes a cell: Ray starts another, which goes on from the checkpoint."""
    process = matrices.start("worker", "--workers", "2")
    before = matrices.disturbed("worker", process)

    def computing() -> list[psutil.Process]:
        """Not those that have written their result, and are about to end."""
        folder = matrices.folder / "worker" / "msd-prostate-phantom"
        found = workers_of(process.pid)
        return [w for w in found if not (folder / w.cmdline()[0].split()[1] / "result.json").exists()]

    victim = matrices.until(computing, process)[0]
    victim.send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert out.splitlines()[0] == "4 cells: 4 computed, 0 finished before, 0 failed"
    check(matrices, "worker", before, undisturbed)


@pytest.mark.slow
def test_two_matrices_on_one_folder(matrices: Matrices, undisturbed: Any) -> None:
    """Each cell is computed once, by one of them; both end with the whole table."""
    both = [matrices.start("both", "--workers", "1") for _ in range(2)]
    said = [process.communicate(timeout=900) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    counts = []
    for out, err in said:
        line = next(line for line in out.splitlines() if line.startswith("4 cells: "))
        counts.append(int(line.split()[2]))
        assert "0 failed" in line, err
    assert sum(counts) == 4
    assert scores(matrices.folder / "both") == undisturbed


@pytest.mark.slow
def test_a_worker_that_runs_out_of_memory_is_named(matrices: Matrices) -> None:
    """A process that is gone without a word is started again twice, then its cell has failed."""
    more = ("--methods", "fragile,tiny", "--fusions", "early", "--folds", "0", "--plugin", str(PLUGIN))
    process = matrices.start("memory", *more, "--workers", "2", FRAGILE="exit")
    out, err = process.communicate(timeout=900)
    assert process.returncode == 1, err
    assert "its process died 3 times" in out
    assert "2 cells: 1 computed, 0 finished before, 1 failed" in out
    (row,) = json.loads((matrices.folder / "memory" / NAME).read_text())["failures"].values()
    assert row["name"] == "msd-prostate fragile early, fold 0, seed 0"
    out = matrices.finish("memory", *more, "--workers", "2")
    assert "2 cells: 1 computed, 1 finished before, 0 failed" in out
    assert not (matrices.folder / "memory" / NAME).exists()


@pytest.fixture
def cluster(matrices: Matrices, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of two nodes with one core each, on this machine."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("USBENCH_CACHE", str(matrices.cache))
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    yield made
    made.shutdown()


@pytest.mark.slow
def test_lost_node(matrices: Matrices, undisturbed: Any, cluster: Any) -> None:
    """A node is taken away while it computes: its cell goes on, from its checkpoint, on the other."""
    lost = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    cluster.wait_for_nodes()
    process = matrices.start("cluster", "--address", cluster.address, RAY_AUTH_MODE="disabled")
    before = matrices.disturbed("cluster", process)

    def computing() -> bool:
        raylet = lost.all_processes["raylet"][0].process.pid
        return bool(workers_of(raylet))

    matrices.until(computing, process)
    before = matrices.finished("cluster")
    cluster.remove_node(lost, allow_graceful=False)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert "4 cells: 4 computed, 0 finished before, 0 failed" in out
    check(matrices, "cluster", before, undisturbed)
