"""What is written down of a cell that may take the process of its matrix with it."""

from __future__ import annotations

from usbench.contracts.watcher import CellFacts, Watcher
from usbench.matrices.failures import ENDED, Failures


class Begun(Watcher):
    """Writes that a cell ended without a word as soon as its computation holds the lock.

    Not earlier: whoever finds the row and a free lock then knows that the process is gone.

    Args:
        failures: the table.
        key: of the cell there.
        name: the cell in words.
        command: that computes it alone.
    """

    def __init__(self, failures: Failures, key: str, name: str, command: str) -> None:
        self._failures, self._row = failures, (key, name, command)

    def write(self) -> None:
        """Write the row now."""
        key, name, command = self._row
        self._failures.record(key, name, ENDED, "", command)

    def on_start(self, facts: CellFacts, epochs: int) -> None:
        self.write()
