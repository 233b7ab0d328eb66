"""What a person sees of a run: a progress bar on a terminal, a line now and then where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from usbench.contracts.watcher import CellFacts, Watcher
from usbench.runtime.console import console, count, duration, progress_bar, shows_bars

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINES = 20  # about so many a run
_SECONDS = 600  # and one as often as this, whatever an epoch takes


class Epochs:
    """The lines on the epochs of a run: which epochs have one, and what it says."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.every = max(1, epochs // _LINES)
        self._seconds: list[float] = []
        self._silent = 0.0

    def line(self, row: Mapping[str, float]) -> str | None:
        """The line on an epoch: its loss and the time that is left; None where this epoch has none.

        Args:
            row: a row of history.csv.
        """
        self._seconds.append(row["seconds"])
        self._silent += row["seconds"]
        epoch = int(row["epoch"])
        if epoch % self.every and epoch not in (1, self.epochs) and self._silent < _SECONDS:
            return None
        self._silent = 0.0
        left = sum(self._seconds) / len(self._seconds) * (self.epochs - epoch)
        # Of an outside pipeline neither the loss nor the number of epochs need be known.
        loss = "" if math.isnan(row["loss"]) else f", loss {row['loss']:.4f}"
        words = f"epoch {epoch}{f' of {self.epochs}' if self.epochs else ''}{loss}"
        known = epoch < self.epochs and not math.isnan(left)
        return f"{words}, about {duration(left)} left" if known else words


class Lines(Watcher):
    """A line every so many epochs on standard error, and one on the scores."""

    def on_start(self, facts: CellFacts, epochs: int) -> None:
        self._title = facts.title
        self._epochs = Epochs(epochs)

    def on_epoch(self, row: Mapping[str, float]) -> None:
        if (line := self._epochs.line(row)) is not None:
            self._print(line)

    def on_result(self, result: Any) -> None:
        dsc = result.scores["dsc"]
        scored = "no score" if dsc is None else f"DSC {dsc:.3f}"
        self._print(f"{count(result.data['split']['test'], 'test case')} scored, {scored}")

    def _print(self, line: str) -> None:
        # Not `say`: the log of the run has lines of its own.
        console().print(f"{self._title}: {line}", markup=False)


class Bar(Watcher):
    """A progress bar for the epochs, and one for the test cases."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def on_start(self, facts: CellFacts, epochs: int) -> None:
        self._facts, self._epochs, self._cases = facts, epochs, 0
        self._scoring: TaskID | None = None

    def on_training(self, history: Sequence[Mapping[str, float]]) -> None:
        # Not earlier: features have a bar of their own, and a terminal shows one at a time.
        self._bar = progress_bar()
        self._bar.start()
        words = f"{self._facts.title}: training"
        self._training = self._bar.add_task(words, total=self._epochs or None, completed=len(history))

    def on_epoch(self, row: Mapping[str, float]) -> None:
        assert self._bar is not None
        words = f"{self._facts.title}: training, loss {row['loss']:.3f}"
        self._bar.update(self._training, completed=int(row["epoch"]), description=words)

    def on_case(self, case_id: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
        assert self._bar is not None
        if self._scoring is None:
            # One bar after the other: where the cursor does not go up, two at once would flood the output.
            self._bar.stop()
            self._bar = progress_bar()
            self._bar.start()
            self._scoring = self._bar.add_task("predicting and scoring", total=len(self._facts.test))
        self._cases += 1
        self._bar.update(self._scoring, completed=self._cases)

    def on_end(self, error: BaseException | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def terminal_watcher() -> Watcher:
    """What fits where standard error goes."""
    return Bar() if shows_bars() else Lines()
