"""One cell as a job of Slurm: what submitit calls there, and what a signal of Slurm does to it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from usbench.runtime.console import say
from usbench.runtime.stopping import Terminated, end_on_term
from usbench.storage.files import write_json

if TYPE_CHECKING:
    from usbench.matrices.worker import JobReport

REPORT = "_report.json"
"""What follows the name of a job in the name of the file that says how it went."""


@dataclass(frozen=True)
class QueueTask:
    """Computes a cell where the queue starts it.

    Attributes:
        packed: a pickled `usbench.matrices.worker.Job`.
        folder: its working directory.
        environment: its variables.
        name: the cell in words.
    """

    packed: bytes
    folder: str
    environment: Mapping[str, str]
    name: str

    def __call__(self) -> JobReport:
        """Compute the cell, until it is finished or a signal comes.

        TERM (somebody else needs the machine, or `scancel`) and USR2 (the time is nearly over) end the run
        with one line; it is queued anew unless it was cancelled, and goes on from its last checkpoint.
        """
        from usbench.matrices.worker import compute_packed

        # Fabric would take the job for one that Slurm's srun started once for each device.
        os.environ["SLURM_JOB_NAME"] = "interactive"
        requeue = signal.getsignal(signal.SIGUSR2)
        caught: list[int] = []

        def over(number: int, frame: FrameType | None) -> None:
            caught.append(number)
            os.kill(os.getpid(), signal.SIGTERM)  # Ends the run in the way that TERM does.

        signal.signal(signal.SIGUSR2, over)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit passes it over.
        end_on_term()
        say(f"{self.name}: begins")
        try:
            report = compute_packed(self.packed, self.folder, self.environment)
        except Terminated:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Queueing anew brings another.
            self._end(caught[0] if caught else signal.SIGTERM, requeue)
            raise
        say(f"{self.name}: {report.kind}{f', {report.reason}' if report.reason else ''}")
        _leave(report)
        return report

    def checkpoint(self) -> Any:
        """What submitit puts into the queue anew: the same, since checkpoints lie in the cell's folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _end(self, number: int, requeue: Any) -> None:
        name = signal.Signals(number).name
        again = number == signal.SIGUSR2 or not _cancelled()
        what = "is queued again and goes on from its last checkpoint" if again else "is not queued again"
        say(f"{self.name}: stopped by {name}; it {what}")
        if again and callable(requeue):
            call: Callable[[int, FrameType | None], Any] = requeue
            call(number, None)  # It ends the process.


def _leave(report: JobReport) -> None:
    """Write how the job went beside its log, for whoever waits for it."""
    from submitit import JobEnvironment

    write_json(Path(os.environ["SUBMITIT_FOLDER"]) / f"{JobEnvironment().job_id}{REPORT}", asdict(report))


def _cancelled() -> bool:
    """Whether somebody cancelled the job: TERM says that too. Where nobody can tell, it is taken for so."""
    job = os.environ.get("SLURM_JOB_ID")
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or job is None:
        return False
    try:
        done = subprocess.run(
            ["scontrol", "show", "job", job], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return True
    return "JobState=RUNNING" not in done.stdout
