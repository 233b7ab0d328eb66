"""Computing what is missing of a matrix: jobs out, outcomes in, failures written down."""

from __future__ import annotations

import json
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
from usbench.matrices.worker import Job, Outcome
from usbench.runtime.console import say
from usbench.storage.files import cache_dir

if TYPE_CHECKING:
    from usbench.matrices.layout import Entry, Layout
    from usbench.matrices.resources import Place
    from usbench.matrices.words import Words

_LOOK_AGAIN = 1.0  # seconds between two looks at cells that other processes compute
_PATIENCE = 60.0  # seconds in which a shared file system has to show here what a node wrote


def compute_all(stack: ExitStack, layout: Layout, words: Words, place: Place) -> int:
    """Compute what is missing, and say how many cells were computed; entries learn their results.

    stack: Ray, where it is started here, ends with it. What fails is written down, and stops nothing else.
    A cell that another process computes is waited for, and computed if that process gives it up.
    Raises `KeyboardInterrupt`, when everything is stopped, where the user interrupts.
    """
    failures = Failures(words.runs_dir)
    todo = [entry for entry in layout.entries if entry.result is None and not entry.reason]
    _settle_failures(layout, failures, words)
    if not todo:
        return 0
    known = failures.read()
    # What failed last time may fail again, or take this process with it: it comes last.
    todo.sort(key=lambda entry: _key(failures, entry) in known)
    before = sum(entry.result is not None for entry in layout.entries)
    drive = _Drive(failures, words, place)
    if place.parallel:
        drive.ray = place.ray or pool.start_here(place.workers * place.cpus)
        if place.ray is None:
            stack.callback(drive.ray.shutdown)
    elif place.workers > 1:
        say("Ray is not installed: cells are computed one after another; pip install 'usbench[cluster]'")
    workers = place.workers if place.parallel else 1
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

    def __init__(self, failures: Failures, words: Words, place: Place) -> None:
        self.failures, self.words, self.place = failures, words, place
        self.computed = 0
        self.ray = place.ray

    def all(self, todo: Sequence[Entry]) -> None:
        from usbench.runs.compute import is_busy

        busy = [entry for entry in todo if is_busy(_folder(entry))]
        ready = [entry for entry in todo if entry not in busy]
        while ready or busy:
            with closing(self.outcomes(ready)) as outcomes:
                for entry, outcome in outcomes:
                    if outcome.kind == "elsewhere":
                        busy.append(entry)
                    else:
                        self.end(entry, outcome)
            ready, busy = self.look_again(busy)

    def outcomes(self, entries: Sequence[Entry]) -> Generator[tuple[Entry, Outcome]]:
        jobs = [_job(entry, self.words, self.place) for entry in entries]
        if self.ray is None:
            found = pool.in_this_process(jobs, self.failures, [entry.name for entry in entries])
        else:
            place = self.place
            most = place.workers if place.bound else None
            found = pool.on_ray(self.ray, jobs, place.cpus, place.gpus, most)
        with closing(found):
            for number, outcome in found:
                yield entries[number], outcome

    def end(self, entry: Entry, outcome: Outcome) -> None:
        """Read the result of a cell, or write down why there is none."""
        if outcome.kind != "failed":
            try:
                if not self.seen(entry):
                    reason = f"{entry.folder}: a node wrote the result, but it is not here; "
                    outcome = Outcome("failed", reason=reason + "keep --runs-dir on a shared file system")
            except UsbenchError as error:
                outcome = Outcome("failed", reason=str(error))
        key = _key(self.failures, entry)
        if outcome.kind == "failed":
            entry.reason = outcome.reason
            self.failures.record(key, entry.name, outcome.reason, outcome.traceback)
        else:
            self.failures.clear([key])
            self.computed += outcome.kind == "computed"
        self.view.ended(entry, outcome)

    def seen(self, entry: Entry) -> bool:
        deadline = time.monotonic() + (_PATIENCE if self.place.ray is not None else 0)
        while not entry.look():
            if time.monotonic() >= deadline:
                return False
            os.listdir(_folder(entry).parent)  # Makes a network file system look at the folder again.
            time.sleep(_LOOK_AGAIN)
        return True

    def look_again(self, busy: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Wait for cells that other processes compute: those that are given up, and those still computed."""
        from usbench.runs.compute import is_busy

        self.view.waits(busy)
        while busy:
            free, still = [], []
            for entry in busy:
                if is_busy(_folder(entry)):
                    still.append(entry)
                elif (_folder(entry) / "result.json").exists():
                    self.end(entry, Outcome("before"))
                else:
                    free.append(entry)
            if free or not still:
                return free, still
            busy = still
            time.sleep(_LOOK_AGAIN)
        return [], []


def _settle_failures(layout: Layout, failures: Failures, words: Words) -> None:
    """Forget the failures of what is fine now, write down what was found broken."""
    fine = {entry.plan.task.name for entry in layout.entries}
    fine |= {_key(failures, entry) for entry in layout.entries if entry.result is not None}
    failures.clear(fine)
    for task, reason in layout.broken.items():
        failures.record(task, f"{task}: its data", reason)
    for entry in layout.entries:
        if entry.reason:
            failures.record(_key(failures, entry), entry.name, entry.reason)


def _folder(entry: Entry) -> Path:
    assert entry.folder is not None
    return entry.folder


def _key(failures: Failures, entry: Entry) -> str:
    return failures.key(_folder(entry))


def _job(entry: Entry, words: Words, place: Place) -> Job:
    assert entry.cell is not None
    cell = entry.cell
    found = replace(cell.found, path=cell.found.path.absolute() if cell.found.path else None)
    store = replace(cell.store, path=cell.store.path.absolute())
    own = {name: value for name, value in os.environ.items() if name.startswith("USBENCH_")}
    return Job(
        cell=replace(cell, found=found, store=store),
        device=place.device,
        cache_gb=words.cache_gb,
        threads=place.threads,
        command=_command(entry, words, place.device),
        folder=os.getcwd(),
        environment={**own, "USBENCH_CACHE": str(cache_dir().absolute())},
    )


def _command(entry: Entry, words: Words, device: str) -> tuple[str, ...]:
    """The words of `usbench run` for this cell alone."""
    plan = entry.plan
    settings = words.overrides_for(plan.method)
    options: list[tuple[str, object]] = [
        ("--method", plan.method.name),
        ("--fusion", plan.fusion),
        ("--task-dir", entry.task_dir) if entry.task_dir else ("--task", plan.task.name),
        ("--folds", entry.fold),
        ("--seed", entry.seed),
        ("--preset", plan.config.preset),
        ("--data", words.data),
        ("--device", device),
        ("--devices", words.devices),
        ("--precision", words.precision),
        ("--runs-dir", words.runs_dir),
        ("--cache-gb", words.cache_gb),
        *(("--set", f"{key}={json.dumps(value)}") for key, value in settings.items()),
        *(("--plugin", plugin.absolute()) for plugin in words.plugins),
    ]
    given = {
        "--data-dir": words.data_dir,
        "--merge-labels": words.merge_labels,
        "--modalities": ",".join(words.modalities) if words.modalities else None,
        "--limit": words.limit,
    }
    options += [(option, value) for option, value in given.items() if value is not None]
    return tuple(str(word) for pair in options for word in pair)
