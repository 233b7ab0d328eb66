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


class TimedProgress(Progress):
    """A progress display that says once a minute how far each of its tasks is."""

    def __init__(self, tell: Tell, *columns: Any, **settings: Any) -> None:
        super().__init__(*columns, **settings)
        self._tell = tell
        self._said: dict[TaskID, float] = {}

    def add_task(self, *args: Any, **named: Any) -> TaskID:
        """Add a task, as `rich.progress.Progress.add_task`."""
        task = super().add_task(*args, **named)
        self._said[task] = time.monotonic()
        return task

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Go `advance` steps on, as `rich.progress.Progress.advance`."""
        super().advance(task_id, advance)
        now = time.monotonic()
        task = self.tasks[self.task_ids.index(task_id)]
        if now - self._said[task_id] < EVERY or task.finished:
            return
        self._said[task_id] = now
        words, left = f"{task.description}: {task.completed:.0f}", None
        if task.total:
            words += f" of {task.total:.0f}"
            if task.elapsed and task.completed:
                left = task.elapsed / task.completed * (task.total - task.completed)
        self._tell(words, left)
