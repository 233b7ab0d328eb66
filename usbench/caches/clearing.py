"""Clearing the cache: entry by entry, never one that a process uses, never anything outside the cache."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from usbench.caches.contents import ANEW, Entry, contents
from usbench.errors import UsbenchError
from usbench.storage.files import cache_dir, locked, os_errors
from usbench.storage.in_use import alone
from usbench.weights.store import weights_dir

_REST = ".cleared"


@dataclass
class Clearing:
    """What `usbench cache clear` found, and removed.

    Attributes:
        found: What was asked for.
        removed: What was removed.
        left: What was left alone, with the reason, a line each.
        failed: What could not be removed, with the reason, a line each.
    """

    found: list[Entry] = field(default_factory=list)
    removed: list[Entry] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of all that was found."""
        return sum(entry.bytes for entry in self.found)


def find(
    kinds: Sequence[str] = (), task: tuple[str, ...] | None = None, older_than: float | None = None
) -> Clearing:
    """What would be cleared; nothing is removed.

    Args:
        kinds: Parts of the cache; by default all that is made again by itself.
        task: Of these tasks alone.
        older_than: Only what was not used for so many days.

    Raises:
        UsbenchError: For a part or a task that there is not.
    """
    chosen = contents(tuple(kinds) or ANEW, task, known=True)
    limit = None if older_than is None else time.time() - 86400 * older_than
    clearing = Clearing()
    for entry in chosen:
        if entry.path.is_symlink():
            clearing.left.append(f"{entry.path}: is a link to somewhere else; left alone")
        elif limit is None or entry.used < limit:
            clearing.found.append(entry)
    return clearing


def clear(clearing: Clearing) -> Clearing:
    """Remove what was found, but for what a process uses by now.

    A folder is moved aside before it is emptied: whenever this is killed, an entry is whole or gone, and the
    next clearing removes what lies aside.
    """
    _sweep()
    for entry in clearing.found:
        try:
            with os_errors(entry.path, "remove"):
                why = _remove(entry)
        except UsbenchError as error:
            clearing.failed.append(str(error))
            continue
        if why:
            clearing.left.append(f"{entry.path}: {why}; left alone")
        else:
            clearing.removed.append(entry)
    return clearing


def _remove(entry: Entry) -> str:
    """Remove one entry; the words say why it stays, "" where it is gone."""
    place = entry.path
    homes = (cache_dir().resolve(), weights_dir().resolve())
    if not any(home in place.resolve().parents for home in homes):
        return "is not in the cache"
    with ExitStack() as held:
        if not held.enter_context(alone(place)):
            return "a process uses it"
        for lock in _locks(entry):
            busy = UsbenchError(f"{place}: busy")
            try:
                held.enter_context(locked(lock, busy=busy))
            except UsbenchError as error:
                if error is busy:
                    return "a process is writing to it"
                raise
        if not place.exists():
            return "it is not there any more"
        if place.is_dir():
            rest = place.with_name(f".{place.name}{_REST}")
            shutil.rmtree(rest, ignore_errors=True)
            os.replace(place, rest)
            shutil.rmtree(rest)
        else:
            place.unlink()
    return ""


def _locks(entry: Entry) -> list[Path]:
    """The locks that processes hold while they write to an entry: in it, or beside it."""
    place = entry.path
    if entry.kind == "weights":
        # What is being fetched has another name than what it becomes.
        return sorted(place.parent.glob(".*.lock"))
    return [lock for lock in (place / ".lock", place.with_name(f".{place.name}.lock")) if lock.exists()]


def _sweep() -> None:
    """Remove what a killed clearing left aside."""
    for home in (cache_dir(), weights_dir()):
        for rest in (*home.glob(f".*{_REST}"), *home.glob(f"*/.*{_REST}")):
            shutil.rmtree(rest, ignore_errors=True)
