"""Means that do not depend on the order of the values, and when two numbers are equal."""

from __future__ import annotations

import math

import numpy as np

DECIMALS = 12
"""Differences and means that agree so far are equal: the rest is rounding."""


def mean(values: np.ndarray) -> float:
    """The mean of values [N] without the NaN, rounded once; NaN if nothing is left."""
    known = values[~np.isnan(values)].tolist()
    return math.fsum(known) / len(known) if known else math.nan


def paired_differences(scores: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The first row less the second of each pair, [pairs, patients], rounded to `DECIMALS`.

    Args:
        scores: [rows, patients], NaN where a row has no score of a patient.
        pairs: [pairs, 2], numbers of rows.

    Returns:
        NaN where one of the two rows has no score of the patient.
    """
    found: np.ndarray = np.round(scores[pairs[:, 0]] - scores[pairs[:, 1]], DECIMALS)
    return found


def all_pairs(rows: int) -> np.ndarray:
    """Every pair of `rows` rows once, [pairs, 2], in the order of `itertools.combinations`."""
    return np.stack(np.triu_indices(rows, 1), axis=1)
