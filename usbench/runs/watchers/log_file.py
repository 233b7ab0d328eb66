"""`log.txt` in the folder of a run: what was said while it was computed, with times."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from usbench.contracts.watcher import CellFacts, Watcher
from usbench.errors import LOGGED
from usbench.results.io import LOG
from usbench.runs.watchers.terminal import Epochs
from usbench.runtime.console import count, detail, duration, listening
from usbench.runtime.machine import provenance
from usbench.runtime.terminal_text import shown


class LogFile(Watcher):
    """Appends to `log.txt`, line by line: a run that is killed leaves what it said so far.

    Besides what a run tells its watchers, the file holds what usbench says on standard error and what
    Python warns of, while the cell is computed.
    """

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._stream: TextIO | None = None

    def on_start(self, facts: CellFacts, epochs: int) -> None:
        from usbench import __version__

        self._start, self._epochs = time.monotonic(), Epochs(epochs)
        path = facts.folder / LOG
        self._stream = self._open.enter_context(open(path, "a", encoding="utf-8"))  # noqa: SIM115
        self._open.enter_context(listening(self._hear))
        self._open.enter_context(_warnings_to(self._hear))
        machine = provenance()
        packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        self._write(f"start: {facts.title}, cell {facts.hash}")
        self._write(f"usbench {__version__}, commit {machine['commit'] or 'unknown'}")
        self._write(f"python {machine['python']}, {packages}, on {machine['platform']}")
        self._write(f"device: {facts.device}")
        self._write(f"modalities: {', '.join(facts.modalities)}; classes: {', '.join(facts.classes)}")
        for name, section in facts.settings.items():
            self._write(f"settings of {name}: {json.dumps(section, ensure_ascii=False, default=str)}")
        self._write(
            f"{count(facts.train, 'case')} to train on, {len(facts.test)} to test: {', '.join(facts.test)}"
        )

    def on_training(self, history: Sequence[Mapping[str, float]]) -> None:
        before = f", going on after epoch {len(history)}" if history else ""
        most = f", {self._epochs.epochs} epochs at most" if self._epochs.epochs else ""
        self._write(f"training{most}{before}")

    def on_epoch(self, row: Mapping[str, float]) -> None:
        if (line := self._epochs.line(row)) is not None:
            self._log(line)

    def on_case(self, case_id: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
        classes = ", ".join(f"{name} {row['dsc']:.4f}" for name, row in scores.items())
        self._write(f"case {case_id}: DSC {classes}")

    def on_result(self, result: Any) -> None:
        dsc = result.scores["dsc"]
        self._write(f"mean DSC {'undefined' if dsc is None else format(dsc, '.4f')}, written: {result.path}")

    def on_end(self, error: BaseException | None) -> None:
        took = duration(time.monotonic() - self._start)
        try:
            if error is None:
                self._write(f"end, after {took}")
            else:
                # The traceback comes from `failure_logged`, which also knows of what fails before the start.
                self._write(f"stopped by an error, after {took}")
        finally:
            self._stream = None
            self._open.close()

    def _write(self, text: str) -> None:
        """Log what the terminal shows too where the user asked for details."""
        for line in text.splitlines():
            detail(line)
        self._log(text)

    def _log(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(_dated(text))
            self._stream.flush()

    def _hear(self, message: str) -> None:
        # Whoever speaks must not fail because the log cannot be written.
        with contextlib.suppress(OSError, ValueError):
            self._log(message)


def _dated(text: str) -> str:
    """The lines of a text with the time before each."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return "".join(f"{now} {line}\n" for line in shown(text).splitlines())


@contextlib.contextmanager
def failure_logged(folder: Path) -> Iterator[None]:
    """Append the traceback of whatever is raised within to the log of a run, and note that on the error.

    Args:
        folder: of the run; where its log cannot be written, the error stays as it is.
    """
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            with open(folder / LOG, "a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(_dated("".join(traceback.format_exception(error)).rstrip()))
            error.add_note(f"{LOGGED}{folder / LOG}")
        raise


@contextlib.contextmanager
def _warnings_to(hear: Any) -> Iterator[None]:
    """Pass Python's warnings to `hear` too."""
    shown = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, *rest: Any, **named: Any) -> None:
        hear(f"warning: {category.__name__}: {message} ({Path(filename).name}, line {lineno})")
        shown(message, category, filename, lineno, *rest, **named)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown
