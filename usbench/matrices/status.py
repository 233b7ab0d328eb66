"""`usbench.status`: what became of every cell in a folder of runs, and what is being computed now."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from usbench.errors import UsbenchError
from usbench.matrices.failures import ENDED, NAME, Failures
from usbench.matrices.slurm import waiting_cells
from usbench.results.io import load_result
from usbench.results.result import Result
from usbench.results.running import LOCK, Running, read_progress, running
from usbench.results.tracks import FOLDER
from usbench.runs.prune_find import facts_of_unfinished

State = Literal["done", "running", "waiting", "stopped", "failed"]
STATES: tuple[State, ...] = ("running", "waiting", "stopped", "failed", "done")
"""The states of a cell, in the order in which they are shown."""

_OF_A_PROCESS = ("host", "pid", "stage", "loss", "started", "updated", "case", "cases")
"""What JSON has of the process that computes a cell."""

_NEW = 1.0  # seconds
_LOOK_AGAIN = 0.02  # seconds

_FOLDER = re.compile(r"(\d+)-(\d+)-[0-9a-f]{10}")


@dataclass(frozen=True)
class CellStatus:
    """What is known of one cell.

    Attributes:
        folder: of the cell; of a task whose data is broken, the folder of the runs.
        state: "done": it has a sound result. "running": a process computes it now. "waiting": it stands in
            the queue of Slurm. "stopped": it was begun, nobody computes it, and the same command goes on with
            it. "failed": a matrix wrote down why, or its result cannot be read.
        name: the cell in words.
        reason: why it failed, or what is known of why it stopped; "" else.
        task, method, fusion: their names, "" where the folder does not say.
        fold, seed: None where the folder does not say.
        running: where it is computed and how far it is; None where it is not.
        epoch: how many epochs are finished; None of a finished cell.
        epochs: how many there are at most; None where nobody knows.
        dsc: mean DSC of a finished cell, None where it is undefined.
        seconds: what a finished cell took.
        job: the job of Slurm that waits, "" for none.
    """

    folder: Path
    state: State
    name: str
    reason: str = ""
    task: str = ""
    method: str = ""
    fusion: str = ""
    fold: int | None = None
    seed: int | None = None
    running: Running | None = None
    epoch: int | None = None
    epochs: int | None = None
    dsc: float | None = None
    seconds: float | None = None
    job: str = ""

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training left of a running cell, None where that is not known."""
        one = None if self.running is None else self.running.progress
        return None if one is None else one.seconds_left()

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON has it: every key in every state, None where nothing is known."""
        one = None if self.running is None else self.running.progress
        found: dict[str, Any] = {
            name: value for name, value in self.__dict__.items() if name not in ("folder", "running")
        }
        found |= {"folder": str(self.folder), "seconds_left": self.seconds_left, "lock": None}
        if self.running is not None:
            found["lock"] = "held" if self.running.seen else "not seen"
        found |= {name: None if one is None else getattr(one, name) for name in _OF_A_PROCESS}
        if one is not None:
            found["job"] = self.job or one.job
        return found


@dataclass(frozen=True)
class Status:
    """What became of the cells in a folder of runs.

    Attributes:
        runs_dir: the folder.
        cells: those that run first, then those that wait, stopped, failed, and are done.
    """

    runs_dir: Path
    cells: tuple[CellStatus, ...]

    @property
    def counts(self) -> dict[State, int]:
        """How many cells are in each state."""
        found = Counter(cell.state for cell in self.cells)
        return {state: found[state] for state in STATES}

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last of the running cells is trained; None where that is not known of any."""
        return max((left for cell in self.cells if (left := cell.seconds_left) is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "runs_dir": str(self.runs_dir),
            "counts": self.counts,
            "seconds_left": self.seconds_left,
            "cells": [cell.to_dict() for cell in self.cells],
        }


_Read = tuple[Result | None, str]
_Seen = dict[Path, tuple[tuple[int, int], _Read]]


def status(runs_dir: str | Path = "runs") -> Status:
    """What became of every cell in a folder of runs; nothing is changed.

    Args:
        runs_dir: the folder; runs of several folders below it are found too.

    Returns:
        A row for each cell that was begun, that waits in a queue or failed before it had a folder; none where
        the folder is not there yet.

    Raises:
        UsbenchError: where it is a file.
    """
    return look(Path(runs_dir), {})


def look(runs_dir: Path, seen: _Seen) -> Status:
    """`status` for whoever looks again and again: finished results are read once.

    Args:
        runs_dir: the folder.
        seen: what an earlier look read, by folder; is added to.
    """
    runs_dir = runs_dir.expanduser()
    if not runs_dir.exists():
        return Status(runs_dir, ())  # Who watches may be there before the first cell is.
    if not runs_dir.is_dir():
        raise UsbenchError(f"{runs_dir}: is no folder; name the folder of runs with --runs-dir")
    folders, tables = _walk(runs_dir)
    failed = {
        table.parent / key: row for table in tables for key, row in Failures(table.parent).read().items()
    }
    waiting = waiting_cells(runs_dir)
    rows = [_cell(runs_dir, folder, failed, waiting, seen) for folder in folders]
    known = set(folders)
    rows += [_without_folder(where, row) for where, row in failed.items() if where not in known]
    rows += [
        CellStatus(folder, "waiting", name, job=job)
        for folder, (name, job) in waiting.items()
        if folder not in known and folder not in failed
    ]
    order = {state: number for number, state in enumerate(STATES)}
    return Status(runs_dir, tuple(sorted(rows, key=lambda row: (order[row.state], row.name))))


def _walk(runs_dir: Path) -> tuple[list[Path], list[Path]]:
    """The folders of cells, and the tables of failures."""
    folders, tables = [], []
    for place, inner, files in os.walk(runs_dir):
        folder = Path(place)
        if NAME in files:
            tables.append(folder / NAME)
        if "result.json" in files or _FOLDER.fullmatch(folder.name):
            inner.clear()
            folders.append(folder)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
    return folders, tables


def _running(folder: Path) -> Running | None:
    """As `running`, but a folder that was made a moment ago has the time to be locked by who made it."""
    now = running(folder)
    while now is None and _is_new(folder):
        time.sleep(_LOOK_AGAIN)
        now = running(folder)
    return now


def _is_new(folder: Path) -> bool:
    """Whether a folder was made within a second, and has nothing in it but perhaps a lock."""
    try:
        empty = not set(os.listdir(folder)) - {LOCK}
        return empty and 0 <= time.time() - folder.stat().st_mtime < _NEW
    except OSError:  # It is gone by now.
        return False


def _cell(
    runs_dir: Path,
    folder: Path,
    failed: Mapping[Path, Mapping[str, Any]],
    waiting: Mapping[Path, tuple[str, str]],
    seen: _Seen,
) -> CellStatus:
    now = _running(folder)  # First: a cell that ends in this moment is then seen as done.
    result, broken = _result(folder, seen)
    facts = _facts(runs_dir, folder, result)
    row = failed.get(folder)
    if row is not None and not facts["name"]:
        facts["name"] = str(row.get("name", ""))
    facts["name"] = facts["name"] or folder.relative_to(runs_dir).as_posix()
    if result is not None and now is None:
        cost = result.data["cost"].get("seconds")
        return CellStatus(folder, "done", dsc=result.scores["dsc"], seconds=cost, **facts)
    if now is not None:
        one = now.progress
        epochs = (one.epoch, one.epochs or None) if one else (_epochs(folder), None)
        return CellStatus(folder, "running", running=now, epoch=epochs[0], epochs=epochs[1], **facts)
    if broken:
        return CellStatus(folder, "failed", reason=broken, **facts)
    last = read_progress(folder)
    stopped: dict[str, Any] = {
        "epoch": _epochs(folder),
        "epochs": (last.epochs or None) if last else None,
    }
    if folder in waiting:
        return CellStatus(folder, "waiting", job=waiting[folder][1], **stopped, **facts)
    reason = str(row.get("reason", "")) if row is not None else ""
    if row is not None and reason != ENDED:
        return CellStatus(folder, "failed", reason=reason, **stopped, **facts)
    if not reason and last is not None:
        reason = f"its process {last.pid} on {last.host} ended without a word"
    return CellStatus(folder, "stopped", reason=reason, **stopped, **facts)


def _result(folder: Path, seen: _Seen) -> _Read:
    """The result of a folder, or why it cannot be read; neither where there is none."""
    try:
        stat = (folder / "result.json").stat()
    except OSError:
        return None, ""
    stamp = (stat.st_mtime_ns, stat.st_size)
    if folder not in seen or seen[folder][0] != stamp:
        try:
            read: _Read = load_result(folder), ""
        except UsbenchError as error:
            read = None, str(error)
        seen[folder] = stamp, read
    return seen[folder][1]


def _facts(runs_dir: Path, folder: Path, result: Result | None) -> dict[str, Any]:
    """Which cell a folder is of, as far as that is known."""
    found: dict[str, Any] = {"task": "", "method": "", "fusion": "", "fold": None, "seed": None}
    if (name := _FOLDER.fullmatch(folder.name)) is not None:
        found |= {"fold": int(name[1]), "seed": int(name[2])}
    if result is not None:
        found |= {key: result.data["cell"][key] for key in found}
    elif (facts := facts_of_unfinished(folder, folder.name)) is not None:
        found |= dict(zip(("task", "method", "fusion"), facts, strict=True))
    words = " ".join(found[key] for key in ("task", "method", "fusion"))
    return {**found, "name": f"{words}, fold {found['fold']}, seed {found['seed']}" if found["task"] else ""}


def _without_folder(where: Path, row: Mapping[str, Any]) -> CellStatus:
    """What failed before it had a folder, is no cell (a task), or is a track of one."""
    now = running(where) if where.parent.name == FOLDER else None
    name, reason = str(row.get("name", where.name)), str(row.get("reason", ""))
    if now is not None:
        return CellStatus(where, "running", name, running=now)
    return CellStatus(where, "stopped" if reason == ENDED else "failed", name, reason)


def _epochs(folder: Path) -> int:
    try:
        return max(0, len((folder / "history.csv").read_text(encoding="utf-8").splitlines()) - 1)
    except (OSError, ValueError):
        return 0


def changes(runs_dir: Path, every: float) -> Iterator[Status]:
    """Look again and again, for ever.

    Args:
        runs_dir: the folder.
        every: seconds between two looks.
    """
    seen: _Seen = {}
    while True:
        yield look(runs_dir, seen)
        time.sleep(every)
