"""What a score is: its name and meaning for people, and the function that computes it of one class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

DIAGONAL: Literal["diagonal"] = "diagonal"
"""`Score.worst` of a distance: the diagonal of the whole volume in mm, which no distance exceeds."""


@dataclass(frozen=True)
class MeasuredClass:
    """One class of one case, measured: all that a score may look at.

    Attributes:
        tp: Voxels of the class in prediction and truth.
        fp: Voxels of the class in the prediction alone.
        fn: Voxels of the class in the truth alone.
        tn: The other voxels of the volume.
        spacing: Voxel size along X, Y, Z in mm.
        diagonal_mm: Diagonal of the whole volume in mm.
        tolerance_mm: Largest distance in mm at which a surface voxel counts as found.
        edge: "" for an ordinary class, else "both-empty", "truth-empty", "prediction-empty" or "missing".
        measure: Computes `distances`; called at most once, and only where both masks hold something.
    """

    tp: int
    fp: int
    fn: int
    tn: int
    spacing: tuple[float, float, float]
    diagonal_mm: float
    tolerance_mm: float
    edge: str
    measure: Callable[[], tuple[np.ndarray, np.ndarray]] = field(repr=False)

    @property
    def predicted(self) -> int:
        """Number of predicted voxels."""
        return self.tp + self.fp

    @property
    def true(self) -> int:
        """Number of true voxels."""
        return self.tp + self.fn

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in cubic mm."""
        return math.prod(self.spacing)

    @cached_property
    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances in mm: of each predicted surface voxel to the true surface, and the other way round.

        Two arrays [number of surface voxels], not sorted. Only for scores with `Score.needs_both`.
        """
        return self.measure()


@dataclass(frozen=True)
class Score:
    """A score of one class of one case, with all that tables, pages and documents say of it.

    Attributes:
        name: Its column in `cases.csv` and its key in JSON.
        label: Its name for people.
        unit: "mm" or "" for a number without a unit.
        direction: Which values are better: "higher", "lower", or "neither".
        digits: Decimals that tables print.
        sentence: What it is, for people; P is the set of predicted voxels, T that of true ones.
        function: Computes it of a class with a voxel in P or T; NaN where it is undefined.
        worst: What a missing prediction gets: a number, `DIAGONAL`, or None where there is no worst value and
            it counts as an empty prediction.
        needs_both: Whether it needs a voxel in P and one in T; it is `worst` where one of them is empty.
        mean: Name and label of its mean over classes, where those are others.
        in_leaderboard: Whether tables of leaderboards show it; their CSV and JSON hold every score.
        in_summary: Whether the table that `usbench run` prints shows it.
        of_empty_truth: Whether it is of classes that the truth does not have, which no other score counts.
        added: Version of usbench that brought it, "" for those that every result has. A result without it
            is read as NaN.
    """

    name: str
    label: str
    unit: Literal["mm", "ml", ""]
    direction: Literal["higher", "lower", "neither"]
    digits: int
    sentence: str
    function: Callable[[MeasuredClass], float]
    worst: float | Literal["diagonal"] | None = None
    needs_both: bool = False
    mean: tuple[str, str] | None = None
    in_leaderboard: bool = True
    in_summary: bool = False
    of_empty_truth: bool = False
    added: str = ""

    def of(self, measured: MeasuredClass) -> float:
        """The score of a measured class, with the rules for empty and missing masks.

        Args:
            measured: One class of one case.

        Returns:
            The score in `unit`; NaN where it is undefined.
        """
        if measured.edge == "both-empty":
            return math.nan
        one_empty = self.needs_both and not (measured.predicted and measured.true)
        if self.worst is not None and (one_empty or measured.edge == "missing"):
            return measured.diagonal_mm if self.worst == DIAGONAL else float(self.worst)
        return float(self.function(measured))

    @property
    def heading(self) -> str:
        """The label with its unit, as the head of a column."""
        return f"{self.label} {self.unit}".rstrip()

    @property
    def mean_name(self) -> str:
        """The name of its mean in the "scores" of a result and in leaderboards."""
        return self.mean[0] if self.mean else self.name

    @property
    def mean_heading(self) -> str:
        """The label of its mean with its unit."""
        return f"{self.mean[1] if self.mean else self.label} {self.unit}".rstrip()
