"""Which folders of the cache are in use: a process says so for as long as it lives, and nobody clears them.

A file `.NAME.used` beside a folder carries a lock that its users share (flock), and the time when it was last
taken. The lock ends with the process, however that ends. Where a system or a disk has no such locks, or the
cache cannot be written to, folders are used all the same, and clearing trusts the locks of those that write.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: dict[str, tuple[int, int]] = {}
"""By path, the process that holds it and its open file."""


def mark_of(place: Path) -> Path:
    """The file that says who uses a folder or a file of the cache, and when it was last used."""
    return place.with_name(f".{place.name}.used")


def use(place: Path) -> None:
    """Say that this process uses a folder or a file of the cache, until it ends.

    It waits where another process is clearing it; then it is gone, and made again by whoever needs it.

    Args:
        place: It need not be there yet.
    """
    mark = mark_of(place)
    key = os.path.abspath(mark)
    with suppress(OSError):
        if _held.get(key, (0, 0))[0] == os.getpid():
            os.utime(mark)
            return
        mark.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = _opened(mark)
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH)
            if _is_still(file, mark):
                break
            os.close(file)  # It was cleared while this waited.
        os.utime(mark)
        _held[key] = os.getpid(), file


@contextmanager
def alone(place: Path) -> Iterator[bool]:
    """Whether no process uses a folder or a file of the cache; while this is held, none begins to.

    Args:
        place: Of the cache. Its mark is removed in the end where the place is gone.
    """
    mark = mark_of(place)
    file = None
    try:
        file = _opened(mark)
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file) if file is not None else None
        yield False
        return
    except OSError:  # A disk without locks, or one that cannot be written to: then removing fails by itself.
        pass
    try:
        yield True
    finally:
        if file is not None:
            if not place.exists():
                mark.unlink(missing_ok=True)
            os.close(file)


def _opened(mark: Path) -> int:
    return os.open(mark, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)


def _is_still(file: int, mark: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(mark))
    except FileNotFoundError:
        return False
