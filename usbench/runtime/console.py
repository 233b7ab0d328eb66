"""What a person sees while usbench works: messages and progress bars, all on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")


@cache
def console() -> Console:
    """The console on standard error; rich is imported on first use."""
    from importlib.util import find_spec

    from rich.console import Console

    # Without ipywidgets rich shows no bar in a notebook and warns of each; this way it redraws a line.
    notebook = None if find_spec("ipywidgets") else False
    return Console(stderr=True, highlight=False, soft_wrap=True, force_jupyter=notebook)


def say(message: str) -> None:
    """Print one plain line on standard error (no markup is interpreted)."""
    console().print(message, markup=False)


@contextmanager
def muted() -> Iterator[None]:
    """Let messages and bars go nowhere; for a caller that shows what happens in its own way."""
    before = console().quiet
    console().quiet = True
    try:
        yield
    finally:
        console().quiet = before


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display; add tasks with `add_task(description, total=n)`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console()) as bar:
        yield bar


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Iterate over `items` with a progress bar of `total` steps."""
    with progress() as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)
