"""Names of half-written files, who writes them, and what becomes of those whose writer is dead.

A half-written file lies beside the file that it becomes and is called `.NAME.usbRANDOM.part`, with the ending
of the file. Its writer holds it by a lock of the operating system (flock) that ends with the process, however
that ends, and that the other machines of a shared folder see. So whoever gets the lock knows that the writer
is dead. A folder is held by a file beside it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

try:
    import fcntl
except ImportError:  # Windows: nobody can be asked, so only age counts.
    fcntl = None  # type: ignore[assignment]

_FORM = re.compile(r"\..+\.usb[0-9a-f]{16}\.part(\.[^/]*)?", re.DOTALL)
_HOLDER = ".lock"  # after the name of a folder
_OLD_SECONDS = 86_400.0
"""Where nobody can be asked (no locks, or a folder without its file), a writer of yesterday is dead."""

_swept: set[Path] = set()


def _name(path: Path, suffix: str) -> Path:
    # 255 bytes are the most that file systems allow.
    stem = os.fsencode(path.name)[:160].decode("utf-8", "ignore")
    return path.with_name(f".{stem}.usb{secrets.token_hex(8)}.part{suffix}")


def _lock(handle: int) -> Literal["mine", "another's", "unknown"]:
    """Try to take the lock of an open file; "unknown" where the file system has no locks."""
    if fcntl is None:
        return "unknown"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return "another's" if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else "unknown"
    return "mine"


def _new_file(path: Path) -> int:
    """Make a file that was not there, with the rights that the process gives to new files."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)


@contextmanager
def fresh_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path` that no other process touches; what is left of it in the end goes.

    Args:
        path: What it is to become. Its folder is there. The last two endings of the name are kept, since
            libraries choose a format by them.
    """
    sweep(path.parent, once=True)
    temporary, handle = _held_file(path, "".join(path.suffixes[-2:])[:40])
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that no other process touches; what is left of it in the end goes.

    Args:
        path: What it is to become; the folder around it is there.
    """
    sweep(path.parent, once=True)
    holder, handle = _held_file(path, _HOLDER)
    temporary = holder.with_name(holder.name.removesuffix(_HOLDER))
    try:
        os.mkdir(temporary, 0o777)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        holder.unlink(missing_ok=True)
        os.close(handle)


def _held_file(path: Path, suffix: str) -> tuple[Path, int]:
    """Make an empty file beside `path` whose lock this process has; gives it with its open handle."""
    while True:
        temporary = _name(path, suffix)
        handle = _new_file(temporary)
        # Somebody who sweeps may have come between the two.
        if _lock(handle) != "another's" and _is_at(handle, temporary):
            return temporary, handle
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        there, mine = os.stat(path, follow_symlinks=False), os.fstat(handle)
    except OSError:
        return False
    return (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that usbench has not finished."""
    return _FORM.fullmatch(name) is not None


def sweep(folder: Path, once: bool = False) -> list[Path]:
    """Remove the half-written files and folders in a folder whose writers are dead.

    Files of living writers, in other processes and on other machines, stay, and so does everything that has
    another name. What cannot be removed stays without a word.

    Args:
        folder: Where to look; not below it.
        once: Not where this process has looked before.

    Returns:
        What was removed.
    """
    if once:
        place = folder.absolute()
        if place in _swept:
            return []
        _swept.add(place)
    gone = []
    with suppress(OSError), os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if is_temporary(entry.name)]
        for path in found:
            with suppress(OSError):
                if _remove_dead(path):
                    gone.append(path)
    return gone


def _remove_dead(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        # Its file says whether somebody writes; where that is gone, age does.
        if path.with_name(path.name + _HOLDER).exists() or not _is_old(path):
            return False
        shutil.rmtree(path)
        return True
    handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        lock = _lock(handle)
        if lock == "another's" or (lock == "unknown" and not _is_old(path)):
            return False
        if path.name.endswith(f".part{_HOLDER}"):
            shutil.rmtree(path.with_name(path.name.removesuffix(_HOLDER)), ignore_errors=True)
        path.unlink()
        return True
    finally:
        os.close(handle)


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _OLD_SECONDS
