"""What sees a run while it is computed: progress bars, logs, experiment trackers, and your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CellFacts:
    """What is known of a cell before it is computed.

    Attributes:
        task: name of the task.
        method: name of the method.
        fusion: name of the fusion.
        fold: the test fold, from 0.
        seed: of every random draw.
        hash: digest of everything that changes the outcome.
        folder: where the result is written.
        device: name of the device, for people.
        modalities: names of the modalities, in order.
        classes: names of the foreground classes, in order.
        train: ids of the training cases.
        test: ids of the test cases.
        settings: the effective configuration, by section: data, train, fusion, method.
    """

    task: str
    method: str
    fusion: str
    fold: int
    seed: int
    hash: str
    folder: Path
    device: str = ""
    modalities: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The cell in one line."""
        return f"{self.task} {self.method} {self.fusion} fold {self.fold} seed {self.seed}"


class Watcher:
    """Sees a run while it is computed. Derive from it and write the methods that you need.

    For every cell that is computed they are called in this order, in the process that writes the result:
    `on_start`, `on_training`, `on_epoch` for each epoch, `on_case` for each test case, `on_result`, `on_end`.
    A cell that was finished before is not computed, and nothing is called. One object may watch several
    cells, one after the other.

    A watcher changes nothing: what it is given are copies. One that raises is named in one line and gets
    only `on_end` from then on; the run goes on.
    """

    def on_start(self, facts: CellFacts, epochs: int) -> None:
        """A cell is about to be computed.

        Args:
            facts: what is known of it.
            epochs: how many it is trained at most.
        """

    def on_training(self, history: Sequence[Mapping[str, float]]) -> None:
        """Training begins.

        Args:
            history: the epochs that an earlier start of the same run finished, each as `on_epoch` gets it.
        """

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is finished; its checkpoint is written where that was due.

        Args:
            row: its row of history.csv: epoch (from 1), loss, dice_loss, bce_loss, lr, slices, seconds.
        """

    def on_case(self, case_id: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
        """A test case is predicted and scored.

        Args:
            case_id: its id.
            scores: by class, every score by its name; NaN where it is undefined.
        """

    def on_result(self, result: Any) -> None:
        """The cell is finished and written.

        Args:
            result: as `usbench.load_result` gives it.
        """

    def on_end(self, error: BaseException | None) -> None:
        """Nothing more is called for this cell: let go of what is open.

        Args:
            error: what ended the run, None where it finished.
        """
