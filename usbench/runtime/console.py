"""What a person sees while usbench works: messages and progress bars, all on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeVar

from usbench.runtime.terminal_text import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")

Loudness = Literal["quiet", "usual", "verbose"]

_loudness: list[Loudness] = ["usual"]
_listeners: ContextVar[tuple[Callable[[str], None], ...]] = ContextVar("listeners", default=())


@cache
def console() -> Console:
    """The console on standard error; rich is imported on first use."""
    from importlib.util import find_spec

    from usbench.runtime.safe_console import SafeConsole

    # Without ipywidgets rich shows no bar in a notebook and warns of each; this way it redraws a line.
    notebook = None if find_spec("ipywidgets") else False
    quiet = _loudness[0] == "quiet"
    return SafeConsole(stderr=True, highlight=False, soft_wrap=True, force_jupyter=notebook, quiet=quiet)


def set_loudness(loudness: Loudness) -> None:
    """Choose how much this process says from now on.

    Args:
        loudness: "quiet": no messages and no bars; errors are no messages. "verbose": details too.
    """
    _loudness[0] = loudness
    if console.cache_info().currsize:
        console().quiet = loudness == "quiet"


def say(message: str) -> None:
    """Print one plain line on standard error (no markup is interpreted), and tell who is `listening`."""
    console().print(message, markup=False)
    note(message)


def note(message: str) -> None:
    """Tell one line to who is `listening`, without printing it."""
    for hear in _listeners.get():
        hear(shown(message))


def detail(message: str) -> None:
    """Print one plain line on standard error where the user asked for details; logs do not get it."""
    if _loudness[0] == "verbose":
        console().print(message, markup=False)


@contextmanager
def listening(hear: Callable[[str], None]) -> Iterator[None]:
    """Call `hear` with every message that this thread says, whether it is shown or not."""
    token = _listeners.set((*_listeners.get(), hear))
    try:
        yield
    finally:
        _listeners.reset(token)


def count(of: int | Sized, word: str, several: str = "") -> str:
    """A number with its word: "1 case", "2 cases", "1,000 cases".

    Args:
        of: The number, or what is counted.
        word: For one.
        several: For none and for several; by default the word with an s.
    """
    number = of if isinstance(of, int) else len(of)
    return f"{number:,} {word if number == 1 else several or word + 's'}"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: 34 s, 14 min, 2.3 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def shows_bars() -> bool:
    """Whether a progress bar can move where messages go: on a terminal, or in a notebook."""
    from importlib.util import find_spec

    here = console()
    if here.quiet:
        return False
    return here.is_terminal or (here.is_jupyter and find_spec("ipywidgets") is not None)


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
    """A progress display; add tasks with `add_task(description, total=n)` and `advance` them.

    Once a minute it also says how far it is, to the log, and where no bar can move on standard error.
    """
    with progress_bar(lines=True) as bar:
        yield bar


def progress_bar(lines: bool = False) -> Progress:
    """A progress display that is not shown yet; `start` and `stop` do that. `lines`: as `progress`."""
    from usbench.runtime.progress import bar_on

    return bar_on(console(), _tell_progress if lines else None)


def _tell_progress(words: str, left: float | None) -> None:
    line = words if left is None else f"{words}, about {duration(left)} left"
    (note if shows_bars() else say)(line)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Iterate over `items` with a progress bar of `total` steps."""
    with progress() as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)


def told(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Iterate over `items`, `total` of them, without a bar: a line a minute, as `progress` says it."""
    from usbench.runtime.progress import Minutes

    minutes = Minutes(_tell_progress)
    for done, item in enumerate(items):
        minutes.reached(description, done, total)
        yield item
