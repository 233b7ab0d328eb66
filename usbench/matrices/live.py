"""What a person sees while a matrix is computed: a live view, or plain lines where there is no terminal.

What runs, and how far it is, is read from the cells' folders: the lock that a computation holds and the
progress that it writes. So it does not matter which process or machine computes a cell.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from usbench.results.running import running
from usbench.runtime.console import count, duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from usbench.matrices.plan import PlannedCell
    from usbench.matrices.worker import JobReport

_SHOWN = 16
_EVERY = 1.0  # seconds between two looks at the folders


class View:
    """Shows how far a matrix is; a context manager, shown between its start and its end.

    Args:
        cells: the cells that are to be computed.
        before: how many other cells of the matrix are finished.
        workers: how many cells are computed at once, for the estimate of the time left.
    """

    def __init__(self, cells: Sequence[PlannedCell], before: int, workers: int) -> None:
        self.left = {planned.name: planned for planned in cells}
        self.total = before + len(cells)
        self.done = before
        self.failed = 0
        self.workers = workers
        self.seconds: list[float] = []
        self.waiting = 0
        self._live: Live | None = None
        self._looked = 0.0
        self._running: list[str] = []

    def __enter__(self) -> View:
        from rich.live import Live

        console = _console()
        if console.is_terminal:
            # Called for every refresh, so that what runs is looked up again.
            self._live = Live(
                get_renderable=self._render, console=console, refresh_per_second=2, transient=True
            )
            self._live.start()
        else:
            self._line(f"matrix: {self.done} of {self.total} cells are done, {len(self.left)} to compute")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def ended(self, planned: PlannedCell, report: JobReport) -> None:
        """Count a cell that has a result now or failed, and print a line on it.

        Args:
            planned: the cell, with its result if it has one.
            report: how its computation went.
        """
        self.left.pop(planned.name, None)
        if report.kind == "computed":
            self.seconds.append(report.seconds)
        if report.kind == "failed":
            self.failed += 1
            said = f"failed: {report.reason}"
        else:
            self.done += 1
            before = "computed by another process"
            said = f"computed in {duration(report.seconds)}" if report.kind == "computed" else before
            if planned.result is not None and (dsc := planned.result.scores["dsc"]) is not None:
                said += f", DSC {dsc:.3f}"
        self._line(f"[{self.done + self.failed}/{self.total}] {planned.name}: {said}{self._remaining()}")

    def waits(self, cells: Sequence[PlannedCell]) -> None:
        """Say that all cells that are left are computed by other processes.

        Args:
            cells: those cells; nothing is printed while their number stays the same.
        """
        if cells and len(cells) != self.waiting:
            folder = cells[0].folder
            are = count(cells, "cell is", "cells are")
            self._line(f"{are} computed by other processes, the first: {folder}; waiting")
        self.waiting = len(cells)

    def time_left(self) -> float | None:
        """Seconds until all is done, from the mean of the cells computed so far; None before the first."""
        if not self.seconds or not self.left:
            return None
        return sum(self.seconds) / len(self.seconds) * len(self.left) / min(self.workers, len(self.left))

    def _remaining(self) -> str:
        left = self.time_left()
        return "" if left is None else f"; about {duration(left)} left"

    def _line(self, text: str) -> None:
        (self._live.console if self._live is not None else _console()).print(
            text, markup=False, soft_wrap=True
        )

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if time.monotonic() - self._looked > _EVERY:
            self._looked = time.monotonic()
            self._running = [line for planned in list(self.left.values()) if (line := _state(planned))]
        counts = f"{self.done} of {self.total} cells done, {len(self._running)} running"
        counts += f", {self.failed} failed" if self.failed else ""
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, self.total), completed=self.done + self.failed, width=24)
        head.add_row(bar, Text(counts + self._remaining()))
        lines = [Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in self._running[:_SHOWN]]
        if len(self._running) > _SHOWN:
            lines.append(Text(f"  and {len(self._running) - _SHOWN} more"))
        return Group(head, *lines)


def _console() -> Console:
    from usbench.runtime.safe_console import SafeConsole

    return SafeConsole(stderr=True, highlight=False)


def _state(planned: PlannedCell) -> str:
    """A line on a cell that some process computes now, "" for another."""
    now = None if planned.folder is None else running(planned.folder)
    if now is None:
        return ""
    left = None if now.progress is None else now.progress.seconds_left()
    return f"{planned.name}: {now}" + ("" if left is None else f", about {duration(left)} left")
