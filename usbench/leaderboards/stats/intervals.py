"""Intervals of means over patients: one place for tables, pages and plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usbench.leaderboards.stats.trainings import Noise, together

LEAST = 4
"""Below so many patients there is no interval."""

FEW = 20
"""Below so many patients an interval is marked: it may cover less than it says."""

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a mean over patients, or why there is none.

    Attributes:
        low: Lower end; None without an interval.
        high: Upper end.
        patients: How many the mean is over.
        why: "too few patients" or "no spread" where there is no interval, "few patients" below `FEW`, or "".
    """

    low: float | None
    high: float | None
    patients: int
    why: str = ""

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends; None without an interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def score_interval(values: Sequence[float] | np.ndarray, noise: Noise | None = None) -> Interval:
    """95 % interval of the mean of scores between 0 and 1, on the logit scale.

    With m the mean, SD the standard deviation and n the patients, logit(m) +- t s with
    s = SD / sqrt(n) / (m (1 - m)) (delta method) and t the quantile of Student's distribution on n - 1
    degrees of freedom, mapped back; so it never leaves 0 to 1. On simulated patients it covers 94 to 95 %
    from n = 4 on, 91 to 94 % where scores are skewed by failures; a percentile bootstrap covers 74 to 79 % of
    n = 4 (`benchmarks/separation.py`).

    Args:
        values: One a patient, [N], none NaN, each between 0 and 1.
        noise: Variance of the mean from training, see `usbench.leaderboards.stats.trainings`.

    Returns:
        The interval; none below `LEAST` patients, without any spread, and where the mean is 0 or 1.
    """
    found = np.asarray(values, dtype=float)
    n = len(found)
    if n < LEAST:
        return Interval(None, None, n, "too few patients")
    middle, spread = math.fsum(found) / n, float(np.std(found, ddof=1))
    if spread < 1e-12 or not 0 < middle < 1:
        return Interval(None, None, n, "no spread")
    width = _half_width(spread, n, noise) / (middle * (1 - middle))
    centre = math.log(middle / (1 - middle))
    low, high = (1 / (1 + math.exp(-(centre + side * width))) for side in (-1, 1))
    return Interval(low, high, n, "few patients" if n < FEW else "")


def difference_interval(
    values: Sequence[float] | np.ndarray,
    noise: Noise | None = None,
    limits: tuple[float, float] = (-1.0, 1.0),
) -> Interval:
    """95 % interval of the mean of paired differences of scores between 0 and 1: m +- t SD / sqrt(n).

    Args:
        values: One difference a patient, [N], none NaN.
        noise: Variance of the mean difference from training.
        limits: What no value can be below or above; the interval is cut off there.

    Returns:
        The interval; none below `LEAST` patients and without any spread.
    """
    found = np.asarray(values, dtype=float)
    n = len(found)
    if n < LEAST:
        return Interval(None, None, n, "too few patients")
    middle, spread = math.fsum(found) / n, float(np.std(found, ddof=1))
    if spread < 1e-12:
        return Interval(None, None, n, "no spread")
    width = _half_width(spread, n, noise)
    low, high = max(limits[0], middle - width), min(limits[1], middle + width)
    return Interval(low, high, n, "few patients" if n < FEW else "")


def _half_width(spread: float, n: int, noise: Noise | None) -> float:
    """t times the standard error, over patients and, where it is known, over trainings."""
    from scipy.stats import t as student

    over = [Noise(spread**2 / n, n - 1)]
    full = together(over if noise is None else [*over, noise])
    return float(student.ppf((1 + LEVEL) / 2, full.df)) * math.sqrt(full.variance)
