"""Writing files so that nobody ever sees half of one, and knowing what is in them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.storage.regular import open_regular
from usbench.storage.temporary import fresh_file, fresh_folder


@contextmanager
def os_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an operating-system error while `doing` something with `path` into one clear line."""
    try:
        yield
    except OSError as error:
        raise describe_os_error(error, path, doing) from error


def describe_os_error(error: OSError, path: Path, doing: str) -> UsbenchError:
    """The one line for an `OSError` met while `doing` something with `path`."""
    remedy = {
        errno.ENOSPC: "free some space or choose another folder",
        errno.EDQUOT: "free some space or choose another folder",
        errno.EACCES: "make it writable or choose another folder",
        errno.EPERM: "make it writable or choose another folder",
        errno.EROFS: "the file system is read-only, choose another folder",
        errno.EEXIST: "a file stands where a folder is needed, choose another folder",
        errno.ENOTDIR: "a file stands where a folder is needed, choose another folder",
        errno.EISDIR: "a folder stands where a file is needed, remove it or choose another",
        errno.ENOENT: "check the path",
    }.get(error.errno or 0, "check the path and the disk")
    return UsbenchError(f"{path}: cannot {doing} ({error.strerror or error}); {remedy}")


@contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is gone.

    Parent folders are made. The temporary name keeps the suffix of `path`, since libraries choose
    a format by it. Errors of the operating system come out as `UsbenchError` naming `path`. Half-written
    files that dead processes left in that folder are removed.

    Args:
        path: The file.
        durable: Whether it is to be on the disk when this ends, so that a power cut takes neither the old
            nor the new file. That takes some milliseconds: not for what is checked and made again when it is
            read, and not for a file of a run, which `flush_folder` brings to the disk with all others.
    """
    path = Path(path)
    with os_errors(path, "write"):
        made = _make_folder(path.parent)
        with fresh_file(path) as temporary:
            yield temporary
            if durable:
                _flush(temporary)
            os.replace(temporary, path)
        if durable:
            for folder in (path.parent, *made):
                _flush(folder)


@contextmanager
def atomic_folder(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`, on failure it is gone.

    Args:
        path: The folder.
        durable: As for `atomic_path`, for all that is in it. Most folders are caches, which are checked.
    """
    path = Path(path)
    with os_errors(path, "write"):
        made = _make_folder(path.parent)
        with fresh_folder(path) as temporary:
            yield temporary
            if durable:
                flush_folder(temporary)
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
        if durable:
            for folder in (path.parent, *made):
                _flush(folder)


def flush_folder(folder: Path, above: int = 0) -> None:
    """Bring the files in and below a folder to the disk, but hidden ones: a power cut then takes none.

    Args:
        folder: The folder.
        above: How many of the folders above it were perhaps made with it.
    """
    with os_errors(folder, "write"):
        for place, below, names in os.walk(folder):
            below[:] = [name for name in below if not name.startswith(".")]
            for name in names:
                if not name.startswith(".") and not os.path.islink(os.path.join(place, name)):
                    _flush(Path(place, name))
            _flush(Path(place))
        for parent in list(folder.absolute().parents)[:above]:
            _flush(parent)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; gives the folders that got a new entry."""
    absent = []
    place = folder
    while not place.exists() and place != place.parent:
        absent.append(place.parent)
        place = place.parent
    folder.mkdir(parents=True, exist_ok=True)
    return absent


def _flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError, FileNotFoundError):
        return  # Not ours to read, or gone meanwhile; a folder cannot be opened on Windows.
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot do it for folders; a full disk may show here first.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS):
            raise
    finally:
        os.close(handle)


@contextmanager
def locked(
    path: Path, waiting: str = "", *, busy: UsbenchError | None = None, remove: bool = False
) -> Iterator[None]:
    """Hold the lock file `path` alone; its folder is made where there is none.

    Args:
        path: the lock file. Locks end with the process that holds them, however it ends.
        waiting: what is said where another process holds it; then it is waited for.
        busy: raised where another process holds it, instead of waiting.
        remove: whether the file is removed in the end.

    Raises:
        UsbenchError: `busy`, or where the file cannot be written.
    """
    from filelock import FileLock, Timeout

    with os_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=1 if busy is None else 0)
        except Timeout:
            if busy is not None:
                raise busy from None
            from usbench.runtime.console import say

            say(waiting)
            lock.acquire()
    try:
        yield
    finally:
        if remove:
            # While it is held: after the release the file might be another process's by then.
            with suppress(OSError):
                path.unlink()
        lock.release()


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write `text` to `path` atomically, as UTF-8; `durable` as for `atomic_path`."""
    with atomic_path(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write `value` to `path` atomically as indented JSON; NaN is refused, use None.

    `durable` as for `atomic_path`.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", durable)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256, in hex, of a JSON-like value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def cache_dir() -> Path:
    """The folder for prepared data, phantoms and weights: `USBENCH_CACHE`, else the user's cache."""
    import platformdirs

    return Path(os.environ.get("USBENCH_CACHE") or platformdirs.user_cache_dir("usbench")).expanduser()


def at_home(path: str | Path) -> Path:
    """`path` with a leading "~" replaced by the user's home folder.

    Args:
        path: as a user gives it, in a command, a file or a variable of the environment.

    Returns:
        The path, otherwise unchanged: relative paths stay relative.

    Raises:
        UsbenchError: for "~NAME" where the machine knows no user of that name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsbenchError(f"{path}: there is no user of that name here; write the whole path") from error


def require_writable(folder: Path) -> None:
    """Fail before hours of training where results cannot be written."""
    with os_errors(folder, "write results into"):
        folder.mkdir(parents=True, exist_ok=True)
        with fresh_file(folder / "usbench"):
            pass
