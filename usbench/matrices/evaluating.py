"""The tracks of a matrix: the network of every finished cell is tested, whatever becomes of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import replace
from sys import stderr
from typing import TYPE_CHECKING

from usbench.matrices import pool
from usbench.matrices.drive import job_of
from usbench.matrices.failures import Failures
from usbench.runtime.console import duration, say

if TYPE_CHECKING:
    from usbench.matrices.plan import PlannedCell
    from usbench.matrices.request import MatrixRequest
    from usbench.matrices.resources import Place


def evaluate_all(
    stack: ExitStack, cells: Sequence[PlannedCell], request: MatrixRequest, place: Place
) -> tuple[int, dict[str, str]]:
    """Test the networks of the finished cells on the tracks that are asked for; finished tracks stay.

    Args:
        stack: Where Ray is started here, it is shut down when this closes.
        cells: Of the matrix, those that have no result left out here.
        request: What was asked for.
        place: Where cells are computed; tracks are computed there too.

    Returns:
        How many tracks were computed now, and by name of cell and track why others failed.

    Raises:
        KeyboardInterrupt: Where the user interrupts; the same command goes on.
    """
    failures = Failures(request.shared.runs_dir)
    finished = [planned for planned in cells if planned.result is not None]
    networks = [planned for planned in finished if planned.plan.method.pipeline is None]
    for planned in finished:
        if planned.plan.method.pipeline is not None:
            say(f"{planned.name}: an outside pipeline has no network to test on tracks; it is passed over")
    asked = [(planned, track) for track in request.tracks for planned in networks]
    names = [f"{planned.name}, {track}" for planned, track in asked]
    jobs = [
        replace(job_of(planned, place), track=track, external=request.external, labels=request.labels)
        for planned, track in asked
    ]
    if place.queue is not None:
        from usbench.matrices.slurm import on_queue

        reports = on_queue(place.queue, jobs, names, failures)
    elif place.parallel:
        ray = place.ray or pool.started_here(place.workers * place.cpus)
        if place.ray is None:
            stack.callback(ray.shutdown)
        reports = pool.on_ray(ray, jobs, place.cpus, place.gpus, place.workers if place.bound else None)
    else:
        reports = pool.in_this_process(jobs, failures, names)
    computed, lost = 0, dict[str, str]()
    with closing(reports), redirect_stdout(stderr):
        for done, (number, report) in enumerate(reports, start=1):
            key = failures.key(jobs[number].place)
            if report.kind == "failed":
                lost[names[number]] = report.reason
                failures.record(key, names[number], report.reason, report.traceback)
            else:
                failures.clear([key])
                computed += report.kind == "computed"
            said = {
                "computed": f"computed in {duration(report.seconds)}",
                "failed": f"failed: {report.reason}",
            }
            say(f"[{done}/{len(jobs)}] {names[number]}: {said.get(report.kind, 'finished before')}")
    return computed, lost
