"""Writing files so that nobody ever sees half of one, and knowing what is in them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.storage.texts import read_json as read_json


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
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is gone.

    Parent folders are made. The temporary name keeps the suffix of `path`, since libraries choose
    a format by it. Errors of the operating system come out as `UsbenchError` naming `path`.
    """
    path = Path(path)
    with os_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = "".join(path.suffixes[-2:])
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".part{suffix}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`, on failure it is gone."""
    path = Path(path)
    with os_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        os.chmod(temporary, 0o755)
        try:
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically as indented JSON; NaN is refused, use None."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with open(path, "rb") as stream:
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
        probe = folder / f".usbench-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
