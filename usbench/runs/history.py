"""What happened in training, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class History:
    """What happened in training, epoch by epoch.

    Attributes:
        rows: An epoch each: "epoch" (from 1), "loss", "dice_loss", "bce_loss" (means over its batches), "lr",
            "slices" (how many were seen) and "seconds".
        best: The lowest loss so far.
        stale: How many epochs there were since then.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    best: float = math.inf
    stale: int = 0

    @property
    def epochs(self) -> int:
        """How many epochs were trained."""
        return len(self.rows)

    @property
    def seconds(self) -> float:
        """How long all epochs took together, in seconds."""
        return sum(row["seconds"] for row in self.rows)

    def add(self, row: dict[str, float]) -> None:
        """Take in the next epoch."""
        self.rows.append(row)
        self.stale = 0 if row["loss"] < self.best else self.stale + 1
        self.best = min(row["loss"], self.best)
