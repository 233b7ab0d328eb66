"""How much of a mean would be another if the networks were trained again: the variance between seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SEEDS = 3
"""Fewer seeds than this say too little of the variance between trainings to enter a test."""


@dataclass(frozen=True)
class Noise:
    """A variance that was estimated, with the degrees of freedom of the estimate.

    Attributes:
        variance: Of a mean, in squared units of the score.
        df: Degrees of freedom; infinite for a variance that is known.
    """

    variance: float
    df: float


def of_seeds(folds: Sequence[Sequence[float]], patients: Sequence[int]) -> Noise | None:
    """The variance of a row's mean score that comes from training, were each fold trained anew.

    The mean over all patients is the sum of w_f m_f, w_f a fold's share of the patients and m_f its mean over
    patients and S seeds; its variance from training is the sum over folds of w_f^2 s_f^2 / S, s_f^2 the
    variance over the seeds of the fold's mean. As in Bouthillier et al. (2021), Accounting for variance in
    machine learning benchmarks, MLSys 3, what differs between trainings is counted as a source of its own.

    Args:
        folds: For each fold the mean score of each of its seeds.
        patients: The patients of each fold.

    Returns:
        The variance of the mean; None where a fold has fewer than `SEEDS` seeds.
    """
    if not folds or min(map(len, folds)) < SEEDS or not sum(patients):
        return None
    total = sum(patients)
    return together(
        Noise((n / total) ** 2 * float(np.var(seeds, ddof=1)) / len(seeds), len(seeds) - 1)
        for seeds, n in zip(folds, patients, strict=True)
    )


def together(parts: Iterable[Noise]) -> Noise:
    """The sum of independent variances, with the degrees of freedom of Satterthwaite (1946), Biometrics 2.

    df = (sum v)^2 / sum (v^2 / df).
    """
    known = [part for part in parts if part.variance > 0]
    total = math.fsum(part.variance for part in known)
    if not known:
        return Noise(0.0, math.inf)
    return Noise(total, total**2 / math.fsum(part.variance**2 / part.df for part in known))


def shrinking(
    difference: np.ndarray, patients: np.ndarray, variance: np.ndarray, first: Sequence[Noise],
    second: Sequence[Noise],
) -> np.ndarray:  # fmt: skip
    """By what factor the statistic of a pair falls when the variance between trainings is counted too.

    With the variance over patients alone the difference is t = d / sqrt(v / n) on n - 1 degrees of freedom.
    Counted in full it is d / sqrt(v / n + u_a + u_b), on the degrees of freedom of `together`. The factor
    takes the first t to the value that is as improbable, two-sided, on n - 1 degrees of freedom as the
    second is on its own.

    Args:
        difference: Mean paired difference of each pair, [pairs].
        patients: Behind it, [pairs].
        variance: Of the differences over patients, n - 1 in the denominator, [pairs].
        first: The noise of the first row of each pair.
        second: That of the second.

    Returns:
        [pairs], between 0 and 1; 1 where neither row has any.
    """
    from scipy.stats import t as student

    factors = np.ones(len(difference))
    extra = np.array([a.variance + b.variance for a, b in zip(first, second, strict=True)])
    for i in np.flatnonzero((extra > 0) & (difference != 0) & (patients > 1)).tolist():
        over_patients = Noise(float(variance[i]) / int(patients[i]), float(patients[i] - 1))
        full = together((over_patients, first[i], second[i]))
        found = abs(float(difference[i])) / math.sqrt(full.variance)
        if over_patients.variance == 0:
            factors[i] = 0.0 if found < student.ppf(0.975, full.df) else 1.0
            continue
        alone = abs(float(difference[i])) / math.sqrt(over_patients.variance)
        factors[i] = min(1.0, student.isf(student.sf(found, full.df), over_patients.df) / alone)
    return factors
