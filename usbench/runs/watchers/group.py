"""Several watchers as one, of which none can stop the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from usbench.contracts.watcher import CellFacts, Watcher
from usbench.errors import UsbenchError
from usbench.runtime.console import say


def require_watchers(watchers: Sequence[Any]) -> None:
    """Raise `UsbenchError` for what is no watcher, before anything is computed."""
    for one in watchers:
        if not isinstance(one, Watcher):
            raise UsbenchError(
                f"watchers: {one!r} is a {type(one).__name__}, not a usbench.Watcher; derive it from that"
            )


class Watchers(Watcher):
    """Passes what happens on to several watchers; as a context it ends them, whatever happens.

    One that raises is named, and gets nothing more but `on_end`.
    """

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._all = list(watchers)
        self._active = list(watchers)

    def __enter__(self) -> Watchers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.on_end(error)

    def on_start(self, facts: CellFacts, epochs: int) -> None:
        self._tell(lambda one: one.on_start(facts, epochs))

    def on_training(self, history: Sequence[Mapping[str, float]]) -> None:
        self._tell(lambda one: one.on_training([dict(row) for row in history]))

    def on_epoch(self, row: Mapping[str, float]) -> None:
        self._tell(lambda one: one.on_epoch(dict(row)))

    def on_case(self, case_id: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
        self._tell(lambda one: one.on_case(case_id, {name: dict(row) for name, row in scores.items()}))

    def on_result(self, result: Any) -> None:
        self._tell(lambda one: one.on_result(result))

    def on_end(self, error: BaseException | None) -> None:
        # The last one first: the log, which is the first, then holds what the others say.
        for one in reversed(self._all):
            if one in self._active:
                self._try(one, lambda one: one.on_end(error))
            else:
                with contextlib.suppress(Exception):  # It was named already.
                    one.on_end(error)

    def _tell(self, call: Callable[[Watcher], None]) -> None:
        for one in list(self._active):
            self._try(one, call)

    def _try(self, one: Watcher, call: Callable[[Watcher], None]) -> None:
        try:
            call(one)
        except Exception as error:
            self._active.remove(one)
            words = " ".join(str(error).split()) or "no message"
            what = f"watcher {type(one).__name__} failed ({type(error).__name__}: {words})"
            say(f"{what}; the run goes on without it")
