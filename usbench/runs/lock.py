"""The lock of a cell: one process at a time computes it, or removes files of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from usbench.errors import UsbenchError
from usbench.results.running import LOCK, lock_is_held
from usbench.storage.files import locked

__all__ = ["LOCK", "CellBusy", "is_busy", "locked_cell"]

_TRIES, _BETWEEN = 4, 0.05
# Who looks whether a lock is held has it for a moment (`lock_is_held`): that is no computation.


class CellBusy(UsbenchError):
    """Another process is computing the cell."""


def is_busy(folder: Path) -> bool:
    """Whether a process is computing the cell of that folder."""
    held = lock_is_held(folder / LOCK)
    if held is not None:
        return held
    try:
        with locked_cell(folder):
            return False
    except CellBusy:
        return True


@contextmanager
def locked_cell(folder: Path, remove: bool = True) -> Iterator[None]:
    """Hold the cell: a second process that wants it is told so, by `CellBusy`.

    Args:
        folder: of the cell.
        remove: whether the file of the lock is removed in the end; not where the folder itself is moved away.

    Raises:
        CellBusy: where another process holds it.
        UsbenchError: where the lock cannot be written.
    """
    busy = CellBusy(
        f"{folder}: another process is computing this cell; wait for it or choose another --runs-dir"
    )
    with ExitStack() as stack:
        for last in range(_TRIES)[::-1]:
            try:
                stack.enter_context(locked(folder / LOCK, busy=busy, remove=remove))
                break
            except CellBusy:
                if not last:
                    raise
                time.sleep(_BETWEEN)
        yield
