"""Running a program for hours: its output is kept, what it takes is measured, and it ends with the run."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from usbench.errors import UsbenchError
from usbench.runtime import leftovers
from usbench.runtime.stopping import terminable

SILENT_MINUTES = 60.0
"""A program that says nothing for so long is taken to hang."""

GRACE_SECONDS = 10.0
"""So long a program may take to end after it was asked to."""

_LAST = 3  # lines of its output in an error
_LOOK_SECONDS = 0.5  # between two looks at the memory and the clock
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True)
class ProgramRun:
    """What a program took.

    Attributes:
        seconds: From its start to its end.
        peak_memory_mb: Resident memory (MB of 2^20 bytes) at its peak, its own and that of the processes that
            it started and that ran at the same time, looked at twice a second; None where the machine does
            not tell (only Linux does). What several processes share counts for each.
    """

    seconds: float
    peak_memory_mb: float | None


def interpreter(settings: Mapping[str, Any]) -> str:
    """The Python that a program is run by: the setting `python`, or the one that runs usbench.

    Args:
        settings: Those of the method, with `python`; "" for the one that runs usbench.

    Raises:
        UsbenchError: Where there is no such program.
    """
    chosen = str(settings["python"])
    if not chosen:
        return sys.executable
    found = shutil.which(chosen)
    if found is None:
        raise UsbenchError(
            f"method.python={chosen}: no program that can be run; give the path of a Python interpreter"
        )
    return found


def run_program(
    command: Sequence[str | Path],
    log: Path,
    on_line: Callable[[str], None] | None = None,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    silent_minutes: float = SILENT_MINUTES,
) -> ProgramRun:
    """Run a program to its end.

    It gets a process group of its own, nothing on standard input, and no variable that tells where the data
    of usbench lies. When the run ends by an error or a signal, it and what it started are asked to end
    (SIGTERM), and ended (SIGKILL) after ten seconds. When the process of usbench is killed, a small process
    beside it does the same within seconds. What is found of it is its process group and, on Linux, every
    process that has its environment.

    Args:
        command: The program and its arguments.
        log: The file that its output, both kinds as one, is appended to, line by line.
        on_line: Called with each line, without its end; an error that it raises ends the program.
        folder: Its working directory; by default the folder of the log.
        environment: Variables beside those of this process.
        silent_minutes: It is ended where it says nothing for so long.

    Returns:
        The time and the memory that it took.

    Raises:
        UsbenchError: Where it is not there, ends with an error (with the last lines that it said) or says
            nothing for too long.
    """
    words = [str(part) for part in command]
    name = Path(words[0]).name
    if not silent_minutes > 0:
        raise UsbenchError(f"method.silent_minutes: {silent_minutes} is no time; choose more than 0 minutes")
    start = time.monotonic()
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    last: deque[str] = deque(maxlen=_LAST)
    with _open(log) as kept:
        kept.write(f"$ {' '.join(words)}\n")
        kept.flush()
        word = secrets.token_hex(16)
        program = _start(words, folder or log.parent, {**(environment or {}), leftovers.MARK: word})
        peak = heard = 0.0
        reader = threading.Thread(target=_read, args=(program, lines), daemon=True)
        with _ended(program, word):
            reader.start()
            heard = looked = time.monotonic()
            while True:
                with contextlib.suppress(queue.Empty):
                    line = lines.get(timeout=_LOOK_SECONDS)
                    if line is None:
                        break
                    heard = time.monotonic()
                    kept.write(f"{line}\n")
                    kept.flush()
                    if line.strip():
                        last.append(line.strip())
                    if on_line is not None:
                        on_line(line)
                now = time.monotonic()
                if now - looked >= _LOOK_SECONDS or not peak:
                    peak, looked = max(peak, _memory_mb(program.pid)), now
                if now - heard > 60 * silent_minutes:
                    raise UsbenchError(
                        f"{name} has said nothing for {silent_minutes:g} minutes and was ended; see {log}, "
                        "and give it longer with --set method.silent_minutes=N where it needs that"
                    )
                if now - heard > GRACE_SECONDS and program.poll() is not None:
                    break  # Only something that it left behind still holds the pipe.
            code = program.wait()
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        said = " | ".join(last) or "it said nothing"
        raise UsbenchError(f"{name} {how}: {said}; its whole output is in {log}")
    return ProgramRun(time.monotonic() - start, peak or None)


def without_places(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what tells where usbench keeps data, and where it was started."""
    hidden = ("PWD", "OLDPWD")
    return {k: v for k, v in environment.items() if not k.startswith("USBENCH_") and k not in hidden}


def _open(log: Path) -> TextIO:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return open(log, "a", encoding="utf-8")
    except OSError as error:
        raise UsbenchError(f"{log}: cannot write the output of a program ({error.strerror})") from error


def _start(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**without_places(os.environ), "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
            preexec_fn=ending_with_this(),
        )
    except OSError as error:
        raise UsbenchError(
            f"{words[0]}: cannot be started ({error.strerror or error}); install it, or name another program"
        ) from error
    except ValueError as error:
        raise UsbenchError(f"{words[0]}: cannot be started ({error}); correct its arguments") from error


def ending_with_this() -> Callable[[], None] | None:
    """For `subprocess`, as `preexec_fn`: what lets a child be killed with this process; None but on Linux.

    The system does it (prctl(2)) when the thread ends that starts the child: let one do it that waits.
    """
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    prctl, parent = getattr(ctypes.CDLL(None), "prctl", None), os.getpid()

    def settle() -> None:
        if prctl is not None:
            prctl(_END_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # It was killed before the line above.
            os._exit(1)

    return settle


def _read(program: subprocess.Popen[bytes], lines: queue.SimpleQueue[str | None]) -> None:
    assert program.stdout is not None
    with contextlib.suppress(ValueError, OSError):
        for line in program.stdout:
            # A progress bar draws over its line: what it showed in the end is kept.
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            lines.put(text.rpartition("\r")[2])
    lines.put(None)


@contextlib.contextmanager
def _ended(program: subprocess.Popen[bytes], word: str) -> Iterator[None]:
    """See to it that a program and what it started have ended, also where this process is ended or killed."""
    watch = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(leftovers.__file__)), str(program.pid), word],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with terminable():
            yield
    finally:
        _end(program, word)
        assert watch.stdin is not None
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            watch.stdin.write(b".")
            watch.stdin.close()
            watch.wait(GRACE_SECONDS)


def _end(program: subprocess.Popen[bytes], word: str) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        leftovers.send(program.pid, word, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(GRACE_SECONDS)
    if program.stdout is not None:
        program.stdout.close()


def _memory_mb(session: int) -> float:
    """Resident memory of all processes of a session, in MB; 0 where the machine does not tell."""
    total = 0
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name of a program may hold blanks; what follows the last bracket is numbers (proc(5)).
            facts = place.read_text().rpartition(")")[2].split()
            if int(facts[3]) == session:
                total += int(facts[21])
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20
