"""Computing what is missing of a matrix: jobs out, reports in, failures written down."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.errors import UsbenchError
from usbench.matrices import pool
from usbench.matrices.failures import Failures
from usbench.matrices.live import View
from usbench.matrices.slurm import read_table
from usbench.matrices.worker import Job, JobReport
from usbench.runtime.console import say
from usbench.storage.files import cache_dir

if TYPE_CHECKING:
    from usbench.matrices.plan import PlannedCell, PlannedMatrix
    from usbench.matrices.resources import Place

_LOOK_AGAIN = 1.0  # seconds between two looks at cells that other processes compute
_PATIENCE = 60.0  # seconds in which a shared file system has to show here what a node wrote


def compute_all(stack: ExitStack, matrix: PlannedMatrix, runs_dir: Path, place: Place) -> int:
    """Compute the missing cells of a matrix.

    A cell that fails is written down in matrix-failures.json and stops nothing else. A cell that another
    process computes is waited for, and computed here if that process gives it up.

    Args:
        stack: where Ray is started here, it is shut down when this closes.
        matrix: the cells; each of those computed gets its `result`, or the `reason` why it failed.
        runs_dir: the folder below which results and the table of failures are written.
        place: the device, how many cells to compute at once, and the Ray cluster if there is one.

    Returns:
        How many cells were computed by this call.

    Raises:
        UsbenchError: where Ray does not start, or no node of it has room for a cell.
        KeyboardInterrupt: where the user interrupts; everything is stopped first.
    """
    failures = Failures(runs_dir)
    todo = [planned for planned in matrix.cells if planned.result is None and not planned.reason]
    _settle_failures(matrix, failures)
    if not todo:
        return 0
    known = failures.read()
    # What failed last time may fail again, or take this process with it: it comes last.
    todo.sort(key=lambda planned: _key(failures, planned) in known)
    before = sum(planned.result is not None for planned in matrix.cells)
    drive = _Drive(failures, place)
    if place.parallel:
        drive.ray = place.ray or pool.start_here(place.workers * place.cpus)
        if place.ray is None:
            stack.callback(drive.ray.shutdown)
    elif place.workers > 1 and place.queue is None:
        say("Ray is not installed: cells are computed one after another; pip install 'usbench[cluster]'")
    workers = place.workers if place.parallel or place.queue else 1
    with View(todo, before, workers) as drive.view:
        try:
            # Ray says on standard output when a worker dies; that is for results.
            with redirect_stdout(sys.stderr):
                drive.all(todo)
        except KeyboardInterrupt:
            say(
                f"stopped: {drive.view.done} of {drive.view.total} cells are done, {drive.view.failed} failed"
            )
            raise
    return drive.computed


class _Drive:
    """The state of a matrix that is being computed."""

    view: View

    def __init__(self, failures: Failures, place: Place) -> None:
        self.failures, self.place = failures, place
        self.computed = 0
        self.ray = place.ray

    def all(self, todo: Sequence[PlannedCell]) -> None:
        from usbench.runs.lock import is_busy

        # What this queue computes is waited for there, where it also says why it ends.
        queued = read_table(self.failures.runs_dir) if self.place.queue is not None else {}
        others = [planned for planned in todo if _key(self.failures, planned) not in queued]
        busy = [planned for planned in others if is_busy(_folder(planned))]
        ready = [planned for planned in todo if planned not in busy]
        while ready or busy:
            with closing(self.reports(ready)) as reports:
                for planned, report in reports:
                    if report.kind == "elsewhere":
                        busy.append(planned)
                    else:
                        self.end(planned, report)
            ready, busy = self.look_again(busy)

    def reports(self, cells: Sequence[PlannedCell]) -> Generator[tuple[PlannedCell, JobReport]]:
        jobs = [job_of(planned, self.place) for planned in cells]
        if self.place.queue is not None:
            from usbench.matrices.slurm import on_queue

            found = on_queue(self.place.queue, jobs, [planned.name for planned in cells], self.failures)
        elif self.ray is None:
            found = pool.in_this_process(jobs, self.failures, [planned.name for planned in cells])
        else:
            place = self.place
            most = place.workers if place.bound else None
            found = pool.on_ray(self.ray, jobs, place.cpus, place.gpus, most)
        with closing(found):
            for number, report in found:
                yield cells[number], report

    def end(self, planned: PlannedCell, report: JobReport) -> None:
        """Read the result of a cell, or write down why there is none."""
        if report.kind != "failed":
            try:
                if not self.seen(planned):
                    reason = f"{planned.folder}: a node wrote the result, but it is not here; "
                    report = JobReport("failed", reason=reason + "keep --runs-dir on a shared file system")
            except UsbenchError as error:
                report = JobReport("failed", reason=str(error))
        key = _key(self.failures, planned)
        if report.kind == "failed":
            planned.reason = report.reason
            self.failures.record(key, planned.name, report.reason, report.traceback, planned.command)
        else:
            self.failures.clear([key])
            self.computed += report.kind == "computed"
        self.view.ended(planned, report)

    def seen(self, planned: PlannedCell) -> bool:
        deadline = time.monotonic() + (_PATIENCE if self.place.ray or self.place.queue else 0)
        while not planned.look():
            if time.monotonic() >= deadline:
                return False
            os.listdir(_folder(planned).parent)  # Makes a network file system look at the folder again.
            time.sleep(_LOOK_AGAIN)
        return True

    def look_again(self, busy: Sequence[PlannedCell]) -> tuple[list[PlannedCell], list[PlannedCell]]:
        """Wait for cells that other processes compute: those that are given up, and those still computed."""
        from usbench.runs.lock import is_busy

        self.view.waits(busy)
        while busy:
            free, still = [], []
            for planned in busy:
                if is_busy(_folder(planned)):
                    still.append(planned)
                elif (_folder(planned) / "result.json").exists():
                    self.end(planned, JobReport("before"))
                else:
                    free.append(planned)
            if free or not still:
                return free, still
            busy = still
            time.sleep(_LOOK_AGAIN)
        return [], []


def _settle_failures(matrix: PlannedMatrix, failures: Failures) -> None:
    """Forget the failures of what is fine now, write down what was found broken."""
    fine = {planned.plan.task.name for planned in matrix.cells}
    fine |= {_key(failures, planned) for planned in matrix.cells if planned.result is not None}
    failures.clear(fine)
    for task, reason in matrix.broken.items():
        failures.record(task, f"{task}: its data", reason)
    for planned in matrix.cells:
        if planned.reason:
            failures.record(_key(failures, planned), planned.name, planned.reason, "", planned.command)


def _folder(planned: PlannedCell) -> Path:
    assert planned.folder is not None
    return planned.folder


def _key(failures: Failures, planned: PlannedCell) -> str:
    return failures.key(_folder(planned))


def job_of(planned: PlannedCell, place: Place) -> Job:
    """The job that computes a cell, with absolute paths."""
    assert planned.cell is not None
    cell = planned.cell
    found = replace(cell.found, path=cell.found.path.absolute() if cell.found.path else None)
    store = replace(cell.store, path=cell.store.path.absolute())
    asked = cell.request
    # Whoever started the matrix was asked; a `usbench run` that it starts has nobody to ask.
    request = asked.with_(
        yes=True,
        plugins=tuple(plugin.absolute() for plugin in asked.plugins),
        task_dir=asked.task_dir.absolute() if asked.task_dir else None,
        task=str(Path(asked.task).absolute()) if cell.task.files and asked.task else asked.task,
    )
    own = {name: value for name, value in os.environ.items() if name.startswith("USBENCH_")}
    return Job(
        cell=replace(cell, request=request, found=found, store=store),
        threads=place.threads,
        folder=os.getcwd(),
        environment={**own, "USBENCH_CACHE": str(cache_dir().absolute())},
    )
