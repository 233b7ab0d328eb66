"""Files of others, opened without trust: regular ones alone, and no more of them than is expected."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

MOST_BYTES = 16 << 20
"""Bytes of a text of which nothing else is known; a result.json has some ten thousand."""

_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))

_KINDS = (
    (stat.S_ISDIR, "is a folder, not a file"),
    (stat.S_ISFIFO, "is a named pipe, not a file"),
    (stat.S_ISCHR, "is a device, not a file"),
    (stat.S_ISBLK, "is a device, not a file"),
    (stat.S_ISSOCK, "is a socket, not a file"),
)


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file for reading, or a link to one.

    A pipe would be waited for without end, and a device such as /dev/zero read without end.

    Args:
        path: Of the file.

    Raises:
        OSError: Where it is not there, may not be read, or is no regular file; `strerror` says which.
    """
    return open(_handle(path)[0], "rb")


def _handle(path: str | Path) -> tuple[int, int]:
    """A descriptor of a regular file, and its size."""
    _require_regular(os.stat(path), path)
    handle = os.open(path, _FLAGS)
    try:
        found = os.fstat(handle)
        _require_regular(found, path)  # another file may stand there by now
    except BaseException:
        os.close(handle)
        raise
    return handle, found.st_size


def require_regular(path: str | Path) -> None:
    """Raise `OSError` where a file is none that `open_regular` opens, before a library opens it by name."""
    _require_regular(os.stat(path), path)


def _require_regular(found: os.stat_result, path: str | Path) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    why = next((why for is_kind, why in _KINDS if is_kind(found.st_mode)), "is no regular file")
    number = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
    raise OSError(number, why, str(path))


def read_bounded(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        OSError: As `open_regular`, and where the file is larger.
    """
    handle, size = _handle(path)
    try:
        parts: list[bytes] = []
        left = most + 1 if size <= most else 0
        # What the system says of a size is a guess: a file may grow meanwhile.
        while left > 0 and (part := os.read(handle, min(left, max(size + 1, 1 << 16)))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(handle)
    if left <= 0:
        has = f"{size:,}" if size > most else "more"
        raise OSError(errno.EFBIG, f"has {has} bytes, at most {most:,} are read", str(path))
    return b"".join(parts)


def read_text(path: str | Path, most: int = MOST_BYTES, undecoded: str = "strict") -> str:
    """The text of a regular file, UTF-8 with or without a byte order mark.

    Args:
        path: Of the file.
        most: Bytes that it may have.
        undecoded: "replace" for files of other programs, whose free text may be in another encoding.

    Raises:
        OSError: As `read_bounded`.
        UnicodeDecodeError: Where it is no UTF-8.
    """
    return read_bounded(path, most).decode("utf-8-sig", errors=undecoded)
