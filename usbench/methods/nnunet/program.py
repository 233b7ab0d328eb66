"""Starts a program, keeps its output in a log, and ends it with the run. Stands in for `usbench.tools`."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from usbench import UsbenchError


def run_program(
    command: Sequence[str],
    log: Path,
    on_line: Callable[[str], None] | None = None,
    silent_minutes: float = 30,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> int:
    """Runs it to its end and returns its exit code; each line of output goes to the log and to `on_line`."""
    last = [time.monotonic()]
    with (
        log.open("a") as kept,
        subprocess.Popen(
            list(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env={**os.environ, **(environment or {})},
            cwd=folder,
        ) as program,
    ):
        assert program.stdout is not None
        silent = threading.Event()

        def watch() -> None:
            while program.poll() is None:
                time.sleep(1)
                if time.monotonic() - last[0] > 60 * silent_minutes:
                    silent.set()
                    program.kill()

        threading.Thread(target=watch, daemon=True).start()
        try:
            for line in program.stdout:
                last[0] = time.monotonic()
                kept.write(line)
                kept.flush()
                if on_line is not None:
                    on_line(line.rstrip("\n"))
            code = program.wait()
        except BaseException:
            program.kill()
            raise
    if silent.is_set():
        raise UsbenchError(f"{command[0]}: silent for {silent_minutes} minutes; its output is in {log}")
    return code
