"""`usbench matrix --slurm`, through submitit, on a Slurm of one machine that a test kit plays.

The executor, the arrays, the queueing anew and the signals are submitit's and ours; what Slurm's programs
answer is played (`kit.fake_slurm`). The last word on a real cluster is not said here.
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

import pytest
from kit import fake_slurm
from kit.commands import Command
from kit.places import TINY

import usbench
from usbench.errors import UsbenchError
from usbench.matrices.failures import NAME
from usbench.matrices.slurm import read_table
from usbench.matrices.slurm_words import MINUTES, SlurmAsked, parse_slurm

pytest.importorskip("submitit")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("default", SlurmAsked()),
        ("local", SlurmAsked(local=True)),
        ("partition=gpu", SlurmAsked(options={"partition": "gpu"})),
        ("gpus=2,time=90", SlurmAsked(gpus="2", minutes=90)),
        ("gpus=a100:4", SlurmAsked(gpus="a100:4")),
        ("exclude=n1,n2,account=me", SlurmAsked(options={"exclude": "n1,n2", "account": "me"})),
        ("time=12:00:00", SlurmAsked(minutes=720)),
        ("time=10:30", SlurmAsked(minutes=11)),
        ("time=2-12", SlurmAsked(minutes=3600)),
        ("time=1-01:30", SlurmAsked(minutes=1530)),
        ("time=1-01:30:00", SlurmAsked(minutes=1530)),
    ],
)
def test_words_of_slurm(text: str, asked: SlurmAsked) -> None:
    assert parse_slurm(text) == asked
    assert asked.minutes == MINUTES or "time" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no KEY=VALUE; write --slurm partition="),
        ("gpu", "'gpu' is no KEY=VALUE"),
        ("local,gpus=1", "'local' is no KEY=VALUE"),
        ("partition=", "'partition=' is no KEY=VALUE"),
        ("partition=a b", "is no KEY=VALUE"),
        ("partition=a\n#SBATCH --x", "is no KEY=VALUE"),
        ("Partition=a", "is no KEY=VALUE"),
        ("gpus=two", "gpus=two is no number of GPUs"),
        ("gpus=-1", "gpus=-1 is no number of GPUs"),
        ("time=soon", "time=soon is no time of Slurm"),
        ("time=0", "time=0 is out of range"),
        ("time=1:2:3:4", "is no time of Slurm"),
        ("time=١٢", "is no time of Slurm"),
        ("array=0-9", "array: usbench sets that by itself"),
        ("time=1,time=2", "time stands there twice"),
    ],
)
def test_words_that_are_wrong(text: str, message: str) -> None:
    with pytest.raises(UsbenchError) as told:
        usbench.matrix(methods="unet", slurm=text)
    assert message in str(told.value)
    assert "\n" not in message


def test_two_clusters_and_no_cluster(words: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsbenchError, match="two clusters; give one of them"):
        usbench.matrix(**words, slurm="default", address="auto")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsbenchError, match=r"there is no sbatch and srun here; .* --slurm local"):
        usbench.matrix(**words, slurm="default")


class Cluster:
    """The played Slurm, and matrices on it."""

    def __init__(self, folder: Path, words: dict[str, Any], cache: Path) -> None:
        self.folder, self.runs = folder, words["runs_dir"]
        path = fake_slurm.install(folder)
        self.environment = {
            **os.environ,
            "USBENCH_CACHE": str(cache),
            "FAKE_SLURM": str(folder),
            "PATH": f"{path}:{os.environ['PATH']}",
        }
        self.words = [
            *("--fusions", "early", "--tasks", "msd-prostate", "--folds", "0,1", "--preset", "smoke"),
            *("--data-dir", str(words["data_dir"]), "--device", "cpu", "--runs-dir", str(self.runs)),
            *("--plugin", str(TINY), "--cpus-per-run", "1"),
        ]

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "usbench", "matrix", *self.words, *words],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def finish(self, *words: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=900)
        return process.returncode, out, err

    def tasks(self) -> dict[str, dict[str, Any]]:
        return fake_slurm.tasks(self.folder)

    def until(self, condition: Callable[[], Any], driver: subprocess.Popen[str] | None = None) -> Any:
        """Wait for something that a driver does; where that one ends before, what it said is the reason."""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            ended = driver is not None and driver.poll() is not None
            if found := condition():
                return found
            if driver is not None and ended:
                pytest.fail(f"the driver ended: {driver.communicate()}")
            time.sleep(0.05)
        pytest.fail("nothing happened for ten minutes")

    def epochs(self, fold: int) -> int:
        files = list(self.runs.glob(f"*/*/{fold}-*/history.csv"))
        return max(0, len(files[0].read_text().splitlines()) - 1) if files else 0

    def task_of(self, fold: int) -> str:
        rows = json.loads((self.runs / ".slurm" / "jobs.json").read_text())["jobs"]
        return next(row["job"] for row in rows.values() if f"fold {fold}" in row["name"])


@pytest.fixture
def cluster(words: dict[str, Any], cache: Path, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "slurm", words, cache)
    yield made
    for name, row in made.tasks().items():
        if row["state"] in ("PENDING", "RUNNING"):
            fake_slurm.change(made.folder, name, state="CANCELLED")
            fake_slurm.kill(made.folder, name, signal.SIGKILL)


SLURM = ("--slurm", "partition=gpu,time=2:00:00,account=us,exclude=n1,n2,nice=7")
LONG = ("--methods", "unet", "--set", "train.epochs=14", "--set", "data.size=32")


@pytest.mark.slow
def test_an_array_of_cells(cluster: Cluster) -> None:
    """One array, its options, a failure with its reason; what is done is not submitted again."""
    code, out, err = cluster.finish("--methods", "tiny,fragile", *SLURM, "--workers", "3", FRAGILE="raise")
    assert code == 1, err
    assert "4 cells are in the queue now, as job 100" in err
    assert "4 cells: 2 computed, 0 finished before, 2 failed" in out
    script = (cluster.folder / "100.sbatch").read_text()
    for line in ("--array=0-3%3", "--partition=gpu", "--time=120", "--account=us", "--exclude=n1,n2"):
        assert f"#SBATCH {line}\n" in script
    for line in ("--nice=7", "--requeue", "--cpus-per-task=1", "--signal=USR2@90", "--job-name=usbench"):
        assert f"#SBATCH {line}\n" in script
    assert "gpus" not in script
    rows = json.loads((cluster.runs / NAME).read_text())["failures"]
    assert {row["name"].split()[1] for row in rows.values()} == {"fragile"}
    assert not list((cluster.runs / ".slurm" / "jobs").glob("*.pkl")), "left behind"
    code, out, err = cluster.finish("--methods", "tiny,fragile", *SLURM)
    assert code == 0, err
    assert "4 cells: 2 computed, 2 finished before, 0 failed" in out
    assert len(cluster.tasks()) == 6
    assert not (cluster.runs / ".slurm").exists()
    assert not (cluster.runs / NAME).exists()


@pytest.mark.slow
def test_preempted_killed_and_left(
    cluster: Cluster, tmp_path: Path, words: dict[str, Any], command: Command
) -> None:
    """TERM and USR2 end a cell with one line, and it goes on; Ctrl-C leaves the queue alone; same scores."""
    driver = cluster.start(*LONG, *SLURM)
    cluster.until(lambda: cluster.epochs(0) >= 2 and cluster.epochs(1) >= 2, driver)
    assert {cell.state for cell in usbench.status(cluster.runs).cells} == {"running"}
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=300)
    assert driver.returncode == 130
    assert "2 cells go on in the queue, job 100; the same command waits for them" in err
    first, second = cluster.task_of(0), cluster.task_of(1)
    assert {cluster.tasks()[name]["state"] for name in (first, second)} == {"RUNNING"}
    fake_slurm.preempt(cluster.folder, first, grace=300)
    fake_slurm.kill(cluster.folder, second, signal.SIGUSR2)
    cluster.until(lambda: all(cluster.tasks()[name]["starts"] == 2 for name in (first, second)))
    log = (cluster.runs / ".slurm" / "jobs" / f"{first}_0_log.err").read_text()
    assert "fold 0, seed 0: stopped by SIGTERM; it is queued again and goes on from its last" in log
    assert "Traceback" not in log
    code, out, err = cluster.finish(*LONG, *SLURM)
    assert code == 0, err
    assert "2 cells are in the queue already; that is waited for" in err
    assert "2 cells: 2 computed" in out
    assert len(cluster.tasks()) == 2, "submitted twice"
    assert not (cluster.runs / ".slurm").exists()
    # A task has one CPU, and the number of threads decides the last bits of a training.
    done = command(
        *("run", "--method", "unet", "--fusion", "early", "--task", "msd-prostate", "--folds", "0,1"),
        *("--preset", "smoke", *LONG[2:], "--data-dir", words["data_dir"], "--device", "cpu"),
        *("--runs-dir", tmp_path / "alone"),
        timeout=600,
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stderr
    alone = sorted((tmp_path / "alone").rglob("result.json"))
    files = sorted(cluster.runs.rglob("result.json"))
    for one, file in zip(alone, files, strict=True):
        assert file.parent.name == one.parent.name
        assert (file.parent / "cases.csv").read_text() == (one.parent / "cases.csv").read_text()
        going_on = (file.parent / "log.txt").read_text()
        assert "going on after epoch" in going_on


@pytest.mark.slow
def test_cancelled_jobs_are_named_and_not_queued_again(cluster: Cluster) -> None:
    driver = cluster.start(*LONG, *SLURM)
    cluster.until(lambda: cluster.epochs(0) >= 2 and cluster.epochs(1) >= 2, driver)
    subprocess.run(["scancel", "100"], env=cluster.environment, check=True)
    out, err = driver.communicate(timeout=300)
    assert driver.returncode == 1, err
    assert "Slurm ended its job (CANCELLED)" in out
    assert {row["starts"] for row in cluster.tasks().values()} == {1}
    assert [cell.state for cell in usbench.status(cluster.runs).cells] == ["failed", "failed"]


@pytest.mark.slow
def test_what_waits_in_the_queue_is_waiting(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = cluster.start("--methods", "tiny", *SLURM, FAKE_SLURM_HOLD="yes")
    cluster.until(lambda: len(cluster.tasks()) == 2, driver)
    cluster.until(lambda: len(read_table(cluster.runs)) == 2, driver)
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
    monkeypatch.setenv("FAKE_SLURM", str(cluster.folder))
    found = usbench.status(cluster.runs)
    assert [(cell.state, cell.job) for cell in found.cells] == [("waiting", "100_0"), ("waiting", "100_1")]
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=300)
    assert driver.returncode == 130


@pytest.mark.slow
def test_a_queue_that_refuses(cluster: Cluster) -> None:
    code, _, err = cluster.finish("--methods", "tiny", "--slurm", "partition=none")
    assert code == 1
    assert "invalid partition specified: none" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_trial_on_this_machine(cluster: Cluster) -> None:
    """submitit's local executor: the same jobs without Slurm."""
    code, out, err = cluster.finish("--methods", "tiny", "--slurm", "local")
    assert code == 0, err
    assert "2 cells: 2 computed, 0 finished before, 0 failed" in out
    assert not (cluster.runs / ".slurm").exists()
