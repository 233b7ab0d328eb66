"""The lock of a cell: one process at a time computes it, or removes files of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from usbench.errors import UsbenchError
from usbench.storage.files import locked

LOCK = ".lock"
"""The lock of a cell, in its folder."""


class CellBusy(UsbenchError):
    """Another process is computing the cell."""


def is_busy(folder: Path) -> bool:
    """Whether a process is computing the cell of that folder; a lock that nobody holds is removed."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked_cell(folder):
            return False
    except CellBusy:
        return True


def locked_cell(folder: Path, remove: bool = True) -> AbstractContextManager[None]:
    """Hold the cell: a second process that wants it is told so, by `CellBusy`.

    Args:
        folder: of the cell.
        remove: whether the file of the lock is removed in the end; not where the folder itself is moved away.
    """
    busy = f"{folder}: another process is computing this cell; wait for it or choose another --runs-dir"
    return locked(folder / LOCK, busy=CellBusy(busy), remove=remove)
