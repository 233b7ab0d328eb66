"""The cells of a matrix as arrays of Slurm, through submitit. Slurm is the scheduler; usbench has none.

What is in the queue stands in `.slurm/jobs.json` in the folder of the runs, so that whoever starts the same
matrix later waits for it instead of submitting it again.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError
from usbench.matrices.slurm_task import REPORT, QueueTask
from usbench.matrices.slurm_words import SlurmAsked
from usbench.runtime.console import count, say
from usbench.storage.files import locked, write_json
from usbench.storage.texts import read_json

if TYPE_CHECKING:
    from usbench.matrices.failures import Failures
    from usbench.matrices.worker import Job, JobReport

FOLDER = ".slurm"
"""In the folder of the runs: the table of jobs, what submitit hands to them, and their logs."""

_TABLE, _FILES = "jobs.json", "jobs"
_SCHEMA = 1
_LOOK = 1.0  # seconds between two looks at the results
_ASK = 10.0  # seconds between two questions to the queue
_GONE = 3  # so many answers in a row without a job say that it ended
_TIMEOUTS = 50  # so often a cell goes on after its time was over

Table = dict[str, dict[str, str]]


@dataclass
class Queue:
    """A queue, and what is asked of it for every cell.

    Attributes:
        asked: the words of `--slurm`.
        runs_dir: the folder of the runs, which all machines see.
        cpus: cores of a cell.
        workers: how many cells at once; 0 for as many as the queue lets.
    """

    asked: SlurmAsked
    runs_dir: Path
    cpus: int
    workers: int
    _local: dict[str, Any] = field(default_factory=dict)
    _missed: dict[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the table and the files of the jobs are."""
        return self.runs_dir / FOLDER

    def executor(self) -> Any:
        """The executor of submitit.

        Raises:
            UsbenchError: where submitit is not installed or this is no machine of a Slurm cluster.
        """
        require_queue(self.asked)
        import submitit

        files = self.folder / _FILES
        if self.asked.local:
            local = submitit.LocalExecutor(files, max_num_timeout=_TIMEOUTS)
            local.update_parameters(timeout_min=60 * 24 * 30)
            return local
        slurm = submitit.SlurmExecutor(files, max_num_timeout=_TIMEOUTS)
        most = {"array_parallelism": self.workers} if self.workers else {}
        slurm.update_parameters(
            job_name="usbench", cpus_per_task=self.cpus, **most, **self.asked.parameters()
        )
        return slurm

    def submit(self, tasks: Sequence[Any]) -> list[str]:
        """Put tasks into the queue, as one array.

        Returns:
            The names of their jobs.

        Raises:
            UsbenchError: where the queue does not take them, in its words.
        """
        try:
            executor = self.executor()
            jobs = [executor.submit(task) for task in tasks] if self.asked.local else None
            if jobs is None:
                jobs = self._array(executor, tasks)
        except UsbenchError:
            raise
        except Exception as error:
            words = " ".join(str(error).split())[-300:]
            raise UsbenchError(f"--slurm: the queue does not take the cells ({words}); {_CHECK}") from error
        if self.asked.local:
            self._local |= {job.job_id: job for job in jobs}
        return [str(job.job_id) for job in jobs]

    def _array(self, executor: Any, tasks: Sequence[Any]) -> list[Any]:
        with executor.batch():
            return [executor.submit(task) for task in tasks]

    def outcome(self, job: str) -> JobReport | None:
        """How a job went, None while it goes on. What submitit pickled is not read: a pickle runs code."""
        from usbench.matrices.worker import JobReport

        files = self.folder / _FILES
        if not (files / f"{job}_0_result.pkl").exists():
            return None
        failed = JobReport("failed", reason=f"its job failed; its log: {files / f'{job}_0_log.err'}")
        if not (path := files / f"{job}{REPORT}").exists():
            return failed
        try:
            row = read_json(path, "the report of a job", "compute the cell again")
            if row["kind"] not in ("computed", "before", "elsewhere", "failed"):
                return failed
            return JobReport(row["kind"], float(row["seconds"]), str(row["reason"]), str(row["traceback"]))
        except (UsbenchError, KeyError, TypeError, ValueError):
            return failed

    def states(self) -> dict[str, str] | None:
        """By job of this user the state that the queue has it in; None where it does not answer."""
        if self.asked.local:
            return {name: "RUNNING" for name, job in self._local.items() if not job.done()}
        return queue_states()

    def ended(self, job: str, states: dict[str, str] | None) -> str:
        """Why a job that left nothing has ended, "" while it has not, as far as the queue says."""
        if states is None or job in states:
            self._missed.pop(job, None)
            return ""
        self._missed[job] = self._missed.get(job, 0) + 1
        if self._missed[job] < _GONE:
            return ""
        return _last_state(job) if not self.asked.local else "its process ended"

    def forget(self, job: str, keep_log: bool) -> None:
        """Remove the files of a job that ended, but for the logs of one that failed."""
        for path in (self.folder / _FILES).glob(f"{job}_*"):
            if not (keep_log and path.suffix in (".out", ".err")):
                with contextlib.suppress(OSError):
                    path.unlink()
        self._local.pop(job, None)

    def stop_local(self) -> None:
        """End the trial processes of this machine; those of Slurm go on."""
        for job in self._local.values():
            job.cancel()
        for job in self._local.values():
            with contextlib.suppress(Exception):
                job._process.wait(timeout=30)


_CHECK = "check the words of --slurm, as in partition=gpu,gpus=1,time=12:00:00"


def require_queue(asked: SlurmAsked) -> None:
    """Raise `UsbenchError` where submitit or the programs of Slurm are not here."""
    if importlib.util.find_spec("submitit") is None:
        raise UsbenchError("--slurm: submitit is not installed; pip install 'usbench[slurm]'")
    if not asked.local and (shutil.which("sbatch") is None or shutil.which("srun") is None):
        raise UsbenchError(
            "--slurm: there is no sbatch and srun here; start this on a login node of the cluster, or try it "
            "here with --slurm local"
        )


def queue_states() -> dict[str, str] | None:
    """By job of this user the state in Slurm's queue, arrays task by task; None where squeue fails."""
    words = ["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    pairs = (line.strip().partition("|") for line in done.stdout.splitlines() if "|" in line)
    return {job: state for job, _, state in pairs}


def _last_state(job: str) -> str:
    """The state in which a job ended, by Slurm's accounting where there is one."""
    words = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=State"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        state = done.stdout.strip().splitlines()[-1].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        state = ""
    return f"Slurm ended its job ({state})" if state else "its job is not in the queue any more"


def read_table(runs_dir: Path) -> Table:
    """The jobs that were submitted for cells in a folder of runs and have not been seen to end.

    Returns:
        By key of a cell its "job" and "name"; empty without a sound table: it decides only what is asked.
    """
    path = runs_dir / FOLDER / _TABLE
    if not path.is_file():
        return {}
    try:
        content = read_json(path, "the table of jobs", "remove it")
        rows = content["jobs"] if content["schema"] == _SCHEMA else {}
        return {str(key): {name: str(row[name]) for name in ("job", "name")} for key, row in rows.items()}
    except (UsbenchError, KeyError, TypeError, AttributeError):
        return {}


@contextlib.contextmanager
def _changed(queue: Queue) -> Generator[Table]:
    """The table, to be changed; nobody else changes it meanwhile."""
    waiting = f"{queue.folder / _TABLE}: another matrix is submitting; waiting"
    with locked(queue.folder / ".lock", waiting):
        table = read_table(queue.runs_dir)
        try:
            yield table
        finally:
            write_json(queue.folder / _TABLE, {"schema": _SCHEMA, "jobs": dict(sorted(table.items()))})


def on_queue(
    queue: Queue, jobs: Sequence[Job], names: Sequence[str], failures: Failures
) -> Generator[tuple[int, JobReport]]:
    """Compute jobs in a queue.

    Cells that an earlier call put there are waited for. When this is left, what waits or runs goes on.

    Args:
        queue: the queue.
        jobs: the cells to compute.
        names: the cells in words, one a job.
        failures: gives the keys of the cells.

    Yields:
        The number of a job, from 0, and its report, in the order in which they end.

    Raises:
        UsbenchError: where the queue does not take them.
    """
    keys = [failures.key(job.place) for job in jobs]
    left = list(range(len(jobs)))
    running: dict[int, str] = {}
    try:
        while left or running:
            room = len(left)
            if queue.asked.local and queue.workers:
                room = min(room, queue.workers - len(running))
            if room:
                running |= _begin(queue, left[:room], jobs, names, keys)
                del left[:room]
            for number, report in _ends(queue, running):
                job = running.pop(number)
                with _changed(queue) as table:
                    table.pop(keys[number], None)
                queue.forget(job, report.kind == "failed")
                yield number, report
    finally:
        _leave(queue, running)
        if not running and not failures.read() and not read_table(queue.runs_dir):
            shutil.rmtree(queue.folder, ignore_errors=True)  # No log in there is of use any more.


def _begin(
    queue: Queue, numbers: Sequence[int], jobs: Sequence[Job], names: Sequence[str], keys: Sequence[str]
) -> dict[int, str]:
    """The jobs of some cells: those that are in the queue already, and new ones."""
    states = queue.states()
    with _changed(queue) as table:
        found = {}
        for number in numbers:
            job = table.get(keys[number], {}).get("job", "")
            if job and (states is None or job in states):
                found[number] = job
        if found:
            say(f"{count(found, 'cell is', 'cells are')} in the queue already; that is waited for")
        new = [number for number in numbers if number not in found]
        tasks = [
            QueueTask(pickle.dumps(jobs[i]), jobs[i].folder, dict(jobs[i].environment), names[i]) for i in new
        ]
        made = dict(zip(new, queue.submit(tasks) if tasks else [], strict=True))
        table |= {keys[number]: {"job": job, "name": names[number]} for number, job in made.items()}
    if made and not queue.asked.local:
        say(f"{count(made, 'cell is', 'cells are')} in the queue now, as {_told(list(made.values()))}")
    return found | made


def _ends(queue: Queue, running: dict[int, str]) -> list[tuple[int, JobReport]]:
    """Wait until some of the jobs have ended."""
    from usbench.matrices.worker import JobReport

    asked = 0.0
    while True:
        ends: list[tuple[int, JobReport]] = []
        states: dict[str, str] | None = None
        look = time.monotonic() - asked >= (_LOOK if queue.asked.local else _ASK)
        if look:
            asked, states = time.monotonic(), queue.states()
        with contextlib.suppress(OSError):
            os.listdir(queue.folder / _FILES)  # Makes a network file system look at the folder again.
        for number, job in running.items():
            if (outcome := queue.outcome(job)) is not None:
                ends.append((number, outcome))
            elif look and (why := queue.ended(job, states)):
                log = queue.folder / _FILES / f"{job}_0_log.err"
                ends.append((number, JobReport("failed", reason=f"{why}; its log: {log}")))
        if ends:
            return ends
        time.sleep(_LOOK)


def _leave(queue: Queue, running: dict[int, str]) -> None:
    """Say what goes on without this process."""
    if running and queue.asked.local:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            queue.stop_local()
        finally:
            signal.signal(signal.SIGINT, before)
    elif running:
        jobs = _told(list(running.values()))
        say(
            f"{count(running, 'cell goes', 'cells go')} on in the queue, {jobs}; the same command waits for "
            f"them, usbench status --runs-dir {queue.runs_dir} says how far they are, scancel ends them"
        )


def _told(jobs: Sequence[str]) -> str:
    """Jobs in words, arrays by their own number: "jobs 17, 21"."""
    arrays = list(dict.fromkeys(job.partition("_")[0] for job in jobs))
    return f"job{'' if len(arrays) == 1 else 's'} {', '.join(arrays)}"


def waiting_cells(runs_dir: Path) -> dict[Path, tuple[str, str]]:
    """The cells that were submitted and whose jobs are in the queue: by folder the name and the job."""
    table = read_table(runs_dir)
    states = queue_states() if table else None
    return {
        runs_dir / key: (row["name"], row["job"])
        for key, row in table.items()
        if states is not None and row["job"] in states
    }
