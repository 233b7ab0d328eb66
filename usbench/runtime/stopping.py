"""Being asked to end (SIGTERM): by a person, a scheduler that preempts, a machine that shuts down."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

CODE = 128 + signal.SIGTERM
_LOOK_SECONDS = 0.5  # between two looks whether the parent is still there
_watching: list[int] = []


class Terminated(SystemExit, KeyboardInterrupt):
    """This process was asked to end by SIGTERM: what is half-written goes, and children end.

    It is an interruption for whoever treats those, and exit code 143 where nobody does.
    """

    def __init__(
        self, message: str = "ended by SIGTERM; nothing finished is lost, the same command goes on"
    ) -> None:
        super().__init__(CODE)
        self.message = message

    def __str__(self) -> str:
        return self.message


def ending(stop: BaseException) -> tuple[str, int]:
    """The line and the exit code of a command that was interrupted, or asked to end.

    Args:
        stop: What came out of the command; click wraps the interruption.
    """
    for error in (stop, stop.__cause__):
        if isinstance(error, Terminated):
            return error.message, CODE
    return "interrupted; nothing finished is lost, the same command goes on", 130


def _raise(number: int, frame: object) -> None:
    raise Terminated


def end_on_term() -> None:
    """Let SIGTERM raise `Terminated` in this process from now on, where nobody else wants that signal."""
    if _is_ours():
        signal.signal(signal.SIGTERM, _raise)


def _is_ours() -> bool:
    """Whether this thread may decide on SIGTERM: it is the main one, and no other program has decided."""
    return threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) in (
        signal.SIG_DFL,
        _raise,
    )


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` meanwhile, where nobody else wants that signal."""
    with _on_term(_raise):
        yield


@contextlib.contextmanager
def _on_term(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give SIGTERM a handler meanwhile, where nobody else wants that signal."""
    before = signal.getsignal(signal.SIGTERM)
    ours = _is_ours()
    if ours:
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)


@dataclass
class Asked:
    """Whether this process was asked to end."""

    yes: bool = False


@contextlib.contextmanager
def ending_later(worth_waiting: Callable[[], bool]) -> Iterator[Asked]:
    """Let SIGTERM wait for the end of a piece of work, where that is near.

    Args:
        worth_waiting: Asked when the signal comes; where it says no, and when the signal comes again,
            `Terminated` is raised at once.

    Yields:
        What says that the signal came; whoever sees it finishes and raises `Terminated`.
    """
    asked = Asked()

    def on_term(number: int, frame: object) -> None:
        if asked.yes or not worth_waiting():
            raise Terminated
        asked.yes = True

    with _on_term(on_term):
        yield asked


@contextlib.contextmanager
def interrupts_noted() -> Iterator[Asked]:
    """Tell an interruption by the user from one that foreign code raises of itself; both are raised.

    Yields:
        What says that SIGINT came. Only the main thread gets it: in another nothing is ever noted.
    """
    asked = Asked()
    before = signal.getsignal(signal.SIGINT)

    def on_int(number: int, frame: FrameType | None) -> Any:
        asked.yes = True
        return before(number, frame) if callable(before) else None

    ours = callable(before) and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, on_int)
    try:
        yield asked
    finally:
        # Foreign code may have taken the signal for itself.
        if ours and signal.getsignal(signal.SIGINT) is on_int:
            signal.signal(signal.SIGINT, before)


def end_with(parent: int) -> None:
    """End this process soon after its parent has ended, however that ends; call it in the child.

    A thread looks twice a second who the parent is, which works on Linux and macOS alike. (Linux could send a
    signal, but does so when the thread ends that started this process.)

    Args:
        parent: The process id of the parent, as the parent knows it.
    """
    if parent in _watching:
        return
    _watching.append(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(CODE)

    threading.Thread(target=watch, daemon=True, name="ends with its parent").start()
