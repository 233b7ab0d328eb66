"""Running a program for hours: its output is kept, what it takes is measured, and it ends with the run."""

from __future__ import annotations

import contextlib
import os
import queue
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
    (SIGTERM), and ended (SIGKILL) after ten seconds. On Linux it also ends when the process of usbench is
    killed, though not what it started by itself; elsewhere it goes on until it writes into the closed pipe.

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
        program = _start(words, folder or log.parent, environment)
        peak = heard = 0.0
        reader = threading.Thread(target=_read, args=(program, lines), daemon=True)
        with _ended(program):
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


def _start(
    words: Sequence[str], folder: Path, environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**without_places(os.environ), "PYTHONUNBUFFERED": "1", **(environment or {})},
            start_new_session=True,
            preexec_fn=_ending_with(os.getpid()) if sys.platform.startswith("linux") else None,
        )
    except OSError as error:
        raise UsbenchError(
            f"{words[0]}: cannot be started ({error.strerror or error}); install it, or name another program"
        ) from error
    except ValueError as error:
        raise UsbenchError(f"{words[0]}: cannot be started ({error}); correct its arguments") from error


def _ending_with(parent: int) -> Callable[[], None]:
    """What the new process does first: ask the system to be killed with its parent (prctl(2))."""
    import ctypes

    prctl = getattr(ctypes.CDLL(None), "prctl", None)

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
def _ended(program: subprocess.Popen[bytes]) -> Iterator[None]:
    """See to it that a program and what it started have ended, also where SIGTERM ends this process."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if main and before is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        _end(program)
        if main and before is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(program: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, number)
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
