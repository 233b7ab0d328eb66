"""What a pipeline says of its epochs, for the watchers of the run and for history.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from usbench.contracts.pipeline import PipelineWatcher
from usbench.contracts.watcher import Watcher
from usbench.errors import UsbenchError
from usbench.results.io import history_csv
from usbench.runtime.console import say
from usbench.storage.files import write_text
from usbench.storage.sealed import read_sealed, write_sealed

Row = dict[str, float]

_COLUMNS = ("epoch", "loss", "lr", "seconds")


class EpochRows(PipelineWatcher):
    """Passes epochs on; one object sees all calls of a cell, whose epochs are counted through.

    Rows are kept beside the calls, so that those of an earlier start are there again.

    Args:
        folder: Of the cell.
        kept: The file that rows are kept in between two starts.
        watching: Who is told.
    """

    def __init__(self, folder: Path, kept: Path, watching: Watcher) -> None:
        self._csv, self._kept, self._watching = folder / "history.csv", kept, watching
        self.rows: list[Row] = _read(kept)
        self._before, self._told = 0, False

    def begin(self, calls: int) -> None:
        """A call begins; rows that it left at an earlier start stay until it says those epochs anew.

        Args:
            calls: How many calls are finished before it.
        """
        self._call = calls
        self._before = max((int(row["epoch"]) for row in self.rows if row["call"] < calls), default=0)

    def begin_training(self) -> None:
        """Tell the watchers that training begins, once."""
        if not self._told:
            self._told = True
            self._watching.on_training([_shown(row) for row in self.rows])

    def on_start(self, epochs: int) -> None:
        self.begin_training()

    def on_epoch(self, row: Mapping[str, float]) -> None:
        self.begin_training()
        epoch = self._before + int(row["epoch"])
        self.rows = [one for one in self.rows if one["epoch"] < epoch]
        numbers = {name: float(row.get(name, math.nan)) for name in _COLUMNS}
        self.rows.append({**numbers, "epoch": epoch, "call": self._call})
        rows = [{n: None if math.isnan(v) else v for n, v in one.items()} for one in self.rows]
        write_sealed(self._kept, {"rows": rows}, durable=False)
        write_text(self._csv, history_csv([{n: one[n] for n in _COLUMNS} for one in self.rows]), False)
        self._watching.on_epoch(_shown(self.rows[-1]))

    def say(self, text: str) -> None:
        say(" ".join(str(text).split()))


def _shown(row: Row) -> Row:
    """The row as watchers know it: losses of parts and slices are none of a pipeline's."""
    return {"dice_loss": math.nan, "bce_loss": math.nan, "slices": math.nan} | {n: row[n] for n in _COLUMNS}


def _read(kept: Path) -> list[Row]:
    if not kept.exists():
        return []
    try:
        rows = read_sealed(kept, "the epochs of an earlier start", "their rows are lost, no training is")[
            "rows"
        ]
    except UsbenchError as error:
        say(str(error))
        return []
    return [{name: math.nan if value is None else value for name, value in row.items()} for row in rows]
