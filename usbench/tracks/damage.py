"""The scans of a patient with missing, damaged or noisy modalities: a function of case and condition."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from usbench.scores.robustness import Condition

MISSING = 0.0
"""What a missing voxel holds, after normalisation: under "zscore" the mean of the foreground."""


@dataclass(frozen=True, eq=False)
class Scans:
    """The prepared scans of a case, and what they become under a condition.

    A modality is damaged alike wherever it is damaged in one way: the draws depend on the case, the kind,
    the level and the modality alone. So they are the same for every method, run and machine.

    Attributes:
        case_id: The patient.
        images: float32 [Z, M, S, S], prepared.
        names: Of the modalities.
        normalise: As in `DataSettings.normalise`.
    """

    case_id: str
    images: np.ndarray
    names: tuple[str, ...]
    normalise: str

    def modality(self, index: int, condition: Condition) -> np.ndarray:
        """One modality under a condition, float32 [Z, S, S], a new array where it is damaged.

        The share of damaged voxels is exact, to the nearest whole voxel; of salt and pepper one half, rounded
        down, gets the highest value of the prepared scan and the other the lowest.

        Args:
            index: Of the modality.
            condition: Of which only kind and level count: the modality is taken to be damaged.
        """
        clean: np.ndarray = self.images[:, index]
        if condition.kind == "clean":
            return clean
        if condition.kind == "missing":
            return np.full_like(clean, MISSING)
        assert condition.level is not None
        random = self._generator(index, condition)
        if condition.kind == "gaussian":
            noise = random.standard_normal(clean.shape, dtype=np.float32)
            return np.asarray(clean + np.float32(condition.level * self.deviation(index)) * noise)
        drawn = random.random(clean.shape)
        count = round(condition.level * clean.size)
        chosen = lowest(drawn, count)
        if condition.kind == "random":
            return np.where(chosen, np.float32(MISSING), clean)
        damaged = np.where(chosen, clean.min(), clean)
        return np.where(lowest(drawn, count // 2), clean.max(), damaged)

    def deviation(self, index: int) -> float:
        """The standard deviation of a modality's foreground in the prepared scan.

        Under "zscore" it is 1 by construction. Else it is that of all voxels above the lowest value, which is
        what the air around a patient and the padding hold.
        """
        if self.normalise == "zscore":
            return 1.0
        values = self.images[:, index]
        inside = values[values > values.min()]
        return float(inside.std(dtype=np.float64)) if inside.size else 0.0

    def _generator(self, index: int, condition: Condition) -> np.random.Generator:
        words = f"{self.case_id}\n{condition.kind}\n{condition.level:g}\n{self.names[index]}"
        key = int.from_bytes(hashlib.sha256(words.encode()).digest()[:16], "big")
        return np.random.Generator(np.random.Philox(key=key))


def lowest(values: np.ndarray, count: int) -> np.ndarray:
    """Marks exactly `count` entries, the lowest; of equal ones those that come first, on every machine.

    Args:
        values: Of any shape.
        count: From 0 to their number.

    Returns:
        bool, of the same shape.
    """
    if not count:
        return np.zeros(values.shape, dtype=bool)
    bound = np.partition(values, count - 1, axis=None)[count - 1]
    marked: np.ndarray = values < bound
    equal = np.flatnonzero(values == bound)[: count - int(marked.sum())]
    marked.reshape(-1)[equal] = True
    return marked


def variant(condition: Condition) -> Condition:
    """A condition without its modalities: what is done to each of those."""
    return Condition(condition.kind, (), condition.level)
