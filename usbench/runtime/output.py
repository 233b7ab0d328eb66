"""Standard output and standard error: any text goes through, and a full device is told in one line."""

from __future__ import annotations

import errno
import io
import os
import sys

from usbench.errors import UsbenchError


class OutputLost(UsbenchError):
    """Standard output could not be written."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(
            f"standard output: cannot be written ({cause.strerror or cause}); free the device, or redirect "
            "the output to another place"
        )


def take_any_text() -> None:
    """Write characters that the encoding of an output lacks as escapes (\\u60a3) and not as an error.

    So names in any alphabet pass where output is redirected to a file in a national encoding.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write what is still held of standard output.

    Raises:
        OutputLost: where that fails, as on a full device; Python then has nothing left to write at its end.
        BrokenPipeError: where the reader of a pipe is gone, which is no error of anybody's.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop()
        raise OutputLost(error) from error


def is_of_output(error: OSError) -> bool:
    """Whether an error of the system is one of writing to standard output, which has no file's name."""
    full = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    if full:
        _drop()
    return full


def _drop() -> None:
    """Send what standard output still holds nowhere, or Python fails once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        return
    finally:
        os.close(nowhere)
