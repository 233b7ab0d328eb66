"""Claims held against tables whose truth is known: equal rows, and means that are given."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta, norm

from usbench.leaderboards.stats import ALPHA, score_interval, separate

MEAN, SPREAD = 0.89, 0.06


def scores(rng: np.random.Generator, rows: int, patients: int) -> np.ndarray:
    """DSC of equal rows, [rows, patients]: beta distributed, correlated between rows by 0.7."""
    normal = math.sqrt(0.7) * rng.normal(size=patients) + math.sqrt(0.3) * rng.normal(size=(rows, patients))
    size = MEAN * (1 - MEAN) / SPREAD**2 - 1
    found: np.ndarray = beta.ppf(norm.cdf(normal), MEAN * size, (1 - MEAN) * size)
    return found


@pytest.mark.slow
def test_equal_rows_are_seldom_separated() -> None:
    rng = np.random.default_rng(0)
    tables = 400
    wrong = sum(bool((separate(scores(rng, 8, 10)).p <= ALPHA).any()) for _ in range(tables))
    assert wrong / tables <= 0.08


@pytest.mark.slow
def test_intervals_of_four_patients_hold_the_mean() -> None:
    rng = np.random.default_rng(0)
    samples = scores(rng, 1, 4 * 2000).reshape(-1, 4)
    ends = [score_interval(values).ends for values in samples]
    held = [low <= MEAN <= high for low, high in filter(None, ends)]
    assert len(held) == len(samples)
    assert sum(held) / len(held) >= 0.90
