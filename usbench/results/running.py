"""What says that a cell is being computed now: its lock, and what its process writes beside it.

The lock decides, since it ends with the process that holds it, however it ends. What the process writes says
how far it is and where it runs, so that any other shell on the same folder can tell.
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

LOCK = ".lock"
"""The lock of a cell, in its folder."""

PROGRESS = ".progress.json"
"""How far a cell is that is being computed, in its folder. Its name begins with a point: it is no part of the
result."""

BEAT = 30.0
"""Seconds after which a process writes anew how far it is, whether something happened or not."""

_SILENT = 4 * BEAT
"""Seconds without a word after which a process on another machine, whose lock is not to be seen here, is
taken to be gone."""

_MOST = 10_000
"""Bytes that no such file has; a larger one is none."""


@dataclass(frozen=True)
class Progress:
    """How far a cell is, as its process wrote it.

    Attributes:
        host: name of the machine.
        pid: number of the process there.
        started: when the computation began, in seconds since 1970.
        updated: when this was written, likewise.
        stage: "preparing", "training" or "scoring".
        epoch: how many epochs are finished.
        epochs: how many there are at most; 0 where nobody knows.
        loss: of the last epoch; None where there is none.
        left: seconds of training that are left after `updated`; None where that is not known.
        case: how many test cases are scored.
        cases: how many there are.
        title: the cell in words: task, method, fusion, fold and seed.
        job: the job of a queue that it is, "" without one.
    """

    host: str
    pid: int
    started: float
    updated: float
    stage: str = "preparing"
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    left: float | None = None
    case: int = 0
    cases: int = 0
    title: str = ""
    job: str = ""

    def seconds_left(self, now: float | None = None) -> float | None:
        """Seconds of training left now, by what was known when this was written."""
        if self.left is None:
            return None
        return max(0.0, self.left - ((time.time() if now is None else now) - self.updated))


@dataclass(frozen=True)
class Running:
    """A cell that is being computed now.

    Attributes:
        progress: how far it is; None where its process has not said so (yet).
        seen: whether the lock is seen to be held; False where it cannot be tested, or is one of another
            machine that this file system does not show, and the process was heard of a moment ago.
    """

    progress: Progress | None
    seen: bool

    def __str__(self) -> str:
        """Where and how far, in one line: "epoch 3 of 14, loss 0.412, on node7 (process 4711)"."""
        one = self.progress
        if one is None:
            return "another process computes it"
        parts = []
        if one.stage == "scoring":
            parts.append(f"scoring, case {one.case} of {one.cases}")
        elif one.stage == "training":
            parts.append(f"epoch {one.epoch}{f' of {one.epochs}' if one.epochs else ''}")
        else:
            parts.append("preparing")
        if one.loss is not None:
            parts.append(f"loss {one.loss:.3f}")
        job = f", job {one.job}" if one.job else ""
        parts.append(f"on {one.host} (process {one.pid}{job})")
        if not self.seen:
            parts.append(f"heard of {max(0, time.time() - one.updated):.0f} s ago")
        return ", ".join(parts)


def lock_is_held(path: Path) -> bool | None:
    """Whether a process holds a lock file. Nothing is changed, and who wants the lock at that moment gets it.

    Returns:
        None where that cannot be told: the file cannot be opened, or its file system has no locks.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - no POSIX
        return None if path.exists() else False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        # A shared lock for a moment: two who look at once do not see each other.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES) else None
    finally:
        os.close(handle)
    return False


def running(folder: Path) -> Running | None:
    """Whether the cell of a folder is being computed now, and how far it is.

    Where its lock is free, and the last word is of this machine, the process is dead. Where it is of another
    machine, the file system may not show locks of others: then a word of the last two minutes counts.

    Args:
        folder: of the cell.

    Returns:
        None where nobody computes it.
    """
    held = lock_is_held(folder / LOCK)
    if held is False and not (folder / PROGRESS).exists():
        return None
    progress = read_progress(folder)
    if held:
        return Running(progress, True)
    if progress is None or (held is False and progress.host == platform.node()):
        return None
    return Running(progress, False) if abs(time.time() - progress.updated) < _SILENT else None


def read_progress(folder: Path) -> Progress | None:
    """What the last process wrote of a cell, whether it lives or not; None without a sound file."""
    try:
        with open(folder / PROGRESS, encoding="utf-8") as stream:
            content = json.loads(stream.read(_MOST))
        return Progress(**{one.name: _typed(one.name, content[one.name]) for one in fields(Progress)})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # It decides nothing: a lock does.


_KINDS: dict[str, Any] = {"host": str, "stage": str, "title": str, "job": str, "loss": float, "left": float}
_KINDS |= {"started": float, "updated": float}


def _typed(name: str, value: Any) -> Any:
    if value is None and name in ("loss", "left"):
        return None
    kind = _KINDS.get(name, int)
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise TypeError(name)
    if kind is str:
        # It is shown on terminals, and others can write it.
        return "".join(letter for letter in str(value) if letter.isprintable())[:200]
    if not math.isfinite(value) or abs(value) > 1e15:
        raise ValueError(name)
    return kind(value)
