"""One cell of a matrix, computed in whatever process it was sent to: a job goes in, an report comes out."""

from __future__ import annotations

import os
import pickle
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from usbench.errors import UsbenchError, log_note
from usbench.results.tracks import FOLDER

if TYPE_CHECKING:
    from usbench.contracts.watcher import Watcher
    from usbench.runs.cell import Cell


@dataclass(frozen=True)
class Job:
    """A cell to compute, as it is sent to another process. Paths in it are absolute.

    Attributes:
        cell: the cell; its request says all that is not said here.
        threads: of torch; None for as many as it takes by itself.
        folder: the working directory of the sender.
        environment: the USBENCH_ variables of the sender.
        track: the track that the finished network is to be tested on; "" for none.
        external: other data for the track external, as `MatrixRequest.external`.
        labels: for it, as `MatrixRequest.labels`.
    """

    cell: Cell
    threads: int | None
    folder: str
    environment: Mapping[str, str]
    track: str = ""
    external: str | None = None
    labels: str | None = None

    @property
    def place(self) -> Path:
        """The folder whose name stands in the table of failures."""
        return self.cell.folder / FOLDER / self.track if self.track else self.cell.folder


@dataclass(frozen=True)
class JobReport:
    """How a job went.

    Attributes:
        kind: "computed" by this job; "before" where the cell was finished already; "elsewhere" where another
            process computes it; "failed".
        seconds: how long this job took.
        reason: where it failed, why: one line.
        traceback: of the error, at most its last 4000 characters; "" where the reason says it all.
    """

    kind: Literal["computed", "before", "elsewhere", "failed"]
    seconds: float = 0.0
    reason: str = ""
    traceback: str = ""


def compute_job(job: Job, watchers: Sequence[Watcher] = ()) -> JobReport:
    """Compute a cell.

    Args:
        job: the cell.
        watchers: see it, where it is computed in this process.

    Returns:
        How it went. An error is a report of the kind "failed".

    Raises:
        KeyboardInterrupt: where the user interrupts, or SIGTERM ends the process; nothing else is raised.
    """
    start = time.perf_counter()
    try:
        if job.track:
            kind = _evaluate(job)
        else:
            kind = _by_run(job) if job.cell.devices > 1 else _here(job, watchers)
    except KeyboardInterrupt:  # Also `Terminated`, which is a SystemExit too.
        raise
    except (Exception, SystemExit) as error:
        _let_go()
        return _failed(error, time.perf_counter() - start)
    return JobReport(kind, time.perf_counter() - start)


def compute_packed(packed: bytes, folder: str, environment: Mapping[str, str]) -> JobReport:
    """`compute_job` in a process that does nothing else, perhaps on another machine.

    Args:
        packed: a pickled `Job`.
        folder: the working directory to go to, if this machine has it.
        environment: variables to set.

    Returns:
        How it went. It is "failed" too where this machine does not see the folders of the cell or has other
        code of its method or fusion.
    """
    from usbench.runtime.process import settle

    start = time.perf_counter()
    settle()  # Before torch comes with the job.
    try:
        os.environ.update(environment)
        if Path(folder).is_dir():
            os.chdir(folder)
        job: Job = pickle.loads(packed)
        _require_shared(job.cell)
    except KeyboardInterrupt:
        raise
    except (Exception, SystemExit) as error:
        return _failed(error, time.perf_counter() - start)
    return compute_job(job)


def _here(job: Job, watchers: Sequence[Watcher]) -> Literal["computed", "before", "elsewhere"]:
    import torch

    from usbench.runs.compute import compute
    from usbench.runs.lock import CellBusy
    from usbench.runtime.devices import make_fabric

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    request = job.cell.request
    fabric = make_fabric(request.device, 1, request.precision)
    try:
        _, new = compute(job.cell, fabric, watchers)
    except CellBusy:
        return "elsewhere"
    return "computed" if new else "before"


def _evaluate(job: Job) -> Literal["computed", "before", "elsewhere"]:
    """Test the network of a finished cell on a track."""
    import torch

    from usbench.results.io import load_result
    from usbench.tracks.data import data_named
    from usbench.tracks.evaluate import evaluate_run
    from usbench.tracks.external import parse_labels

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    request = job.cell.request
    _, new = evaluate_run(
        load_result(job.cell.folder),
        job.track,
        data_named(job.external, request),
        labels=parse_labels(job.labels),
        device=request.device,
        cache_gb=request.cache_gb,
        store=job.cell.store,
    )
    return "computed" if new else "before"


def _by_run(job: Job) -> Literal["computed", "before", "elsewhere"]:
    """Several devices: Fabric starts the program anew for each, so that has to be `usbench run`."""
    from usbench.runs.lock import is_busy
    from usbench.runtime.programs import ending_with_this

    if job.cell.finished() is not None:
        return "before"
    if is_busy(job.cell.folder):
        return "elsewhere"
    environment = dict(os.environ)
    if job.threads is not None:
        environment["OMP_NUM_THREADS"] = str(max(1, job.threads // job.cell.devices))
    words = [sys.executable, "-m", "usbench", "run", *job.cell.request.command()]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        preexec_fn=ending_with_this(),
    )
    if job.cell.finished() is not None:
        return "computed"
    if is_busy(job.cell.folder):
        return "elsewhere"
    last = ([line for line in done.stderr.splitlines() if line.strip()] or ["no message"])[-1]
    raise UsbenchError(f"usbench run ended with code {done.returncode}: {last.removeprefix('Error: ')}")


def _require_shared(cell: Cell) -> None:
    """A node that does not see the folders would say something misleading."""
    from usbench.fusions.registry import source_hash as fusion_hash
    from usbench.methods.registry import source_hash

    for what, path in (("runs", cell.runs_dir), ("prepared data", cell.store.path)):
        if not path.is_dir():
            raise UsbenchError(
                f"{path}: node {platform.node()} does not see this folder ({what}); keep --runs-dir and "
                "USBENCH_CACHE on a file system that all nodes share"
            )
    codes = [(f"method '{cell.method.name}'", source_hash(cell.method), cell.source_hash)]
    if code := cell.found_fusion.source_hash:
        codes.append((f"fusion '{cell.fusion}'", fusion_hash(cell.found_fusion.fusion), code))
    for what, here, there in codes:
        if here != there:
            raise UsbenchError(
                f"{what}: its code on node {platform.node()} is not that of the machine "
                "that started the matrix; install the same on all nodes"
            )


def _failed(error: BaseException, seconds: float) -> JobReport:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        words = " ".join(str(error).split()) or type(error).__name__
        reason = f"out of memory ({words}); compute fewer at once (--workers, --gpus-per-run), or lower "
        reason += f"train.batch or data.size{log_note(error)}"
        return JobReport("failed", seconds, reason, _trace(error))
    if isinstance(error, UsbenchError):
        return JobReport("failed", seconds, f"{error}{log_note(error)}")
    words = " ".join(str(error).split()) or "no message"
    reason = f"{type(error).__name__}: {words}{log_note(error)}"
    return JobReport("failed", seconds, reason, _trace(error))


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-4000:]


def _let_go() -> None:
    """Give back what a failed cell held, for the next one in this process."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
