"""A progress bar that leaves a trace where bars do not move: a line a minute, in logs and files of output."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Tell = Callable[[str, float | None], None]
"""Takes how far something is, in words, and the seconds that it is likely to take from then on, if known."""

EVERY = 60.0
"""Seconds between two lines."""


def bar_on(console: Console, tell: Tell | None) -> Progress:
    """A progress display that is not shown yet.

    Args:
        console: Where it is drawn.
        tell: Called once a minute with how far it is; None for a bar alone.

    Returns:
        It; `add_task(description, total=n)` adds a line.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return TimedProgress(tell, *columns, console=console) if tell else Progress(*columns, console=console)


class Minutes:
    """Says once a minute how far something is.

    Args:
        tell: What is called with it.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._begun = self._said = time.monotonic()

    def reached(self, description: str, done: float, total: float | None) -> None:
        """Say that `done` of `total` steps are done, where the last line is a minute old."""
        now = time.monotonic()
        if now - self._said < EVERY or (total is not None and done >= total):
            return
        self._said = now
        words, left = f"{description}: {done:.0f}", None
        if total:
            words += f" of {total:.0f}"
            if done:
                left = (now - self._begun) / done * (total - done)
        self._tell(words, left)


class TimedProgress(Progress):
    """A progress display that says once a minute how far each of its tasks is."""

    def __init__(self, tell: Tell, *columns: Any, **settings: Any) -> None:
        super().__init__(*columns, **settings)
        self._tell = tell
        self._minutes: dict[TaskID, Minutes] = {}

    def add_task(self, *args: Any, **named: Any) -> TaskID:
        """Add a task, as `rich.progress.Progress.add_task`."""
        task = super().add_task(*args, **named)
        self._minutes[task] = Minutes(self._tell)
        return task

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Go `advance` steps on, as `rich.progress.Progress.advance`."""
        super().advance(task_id, advance)
        task = self.tasks[self.task_ids.index(task_id)]
        self._minutes[task_id].reached(task.description, task.completed, task.total)
