"""The statistics of the leaderboard, on plain arrays. Every random draw has a fixed seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RESAMPLES = 1000
"""Bootstrap resamples of patients behind an interval."""

HALVES = 100
"""Random halves of the patients behind the split-half agreement."""

ALPHA = 0.05
"""A corrected p below it separates two rows."""

_DECIMALS = 12  # Differences and means that agree so far are equal: the rest is rounding.


@dataclass(frozen=True)
class SignedRank:
    """A paired test.

    Attributes:
        p: Two-sided; None without a pair.
        pairs: The number of pairs, those without a difference too.
        exact: Whether p is from the exact distribution, not from the normal approximation.
    """

    p: float | None
    pairs: int
    exact: bool


def mean(values: np.ndarray) -> float:
    """The mean of values [N] without the NaN, rounded once; NaN if nothing is left."""
    known = values[~np.isnan(values)].tolist()
    return math.fsum(known) / len(known) if known else math.nan


@lru_cache(maxsize=8)
def resample_counts(n: int) -> np.ndarray:
    """How often each of `n` patients is drawn in each bootstrap resample: [RESAMPLES, n], rows sum to n."""
    draws = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    places = draws + n * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(places.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n).astype(float)
    counts.setflags(write=False)
    return counts


def bootstrap_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """95 % percentile interval of the mean over patients (Efron 1979), None below two patients.

    Args:
        values: One number a patient, or a paired difference a patient, [N], none NaN. The draws depend on the
            number of patients alone, so a table never changes without its data.
    """
    n = len(values)
    if n < 2:
        return None
    low, high = np.percentile(resample_counts(n) @ np.asarray(values, dtype=float) / n, (2.5, 97.5))
    return float(low), float(high)


def signed_rank(differences: np.ndarray) -> SignedRank:
    """Two-sided Wilcoxon signed-rank test of paired differences.

    By `scipy.stats.wilcoxon`, zero differences dropped (zero_method "wilcox"; Wilcoxon 1945). With up
    to 50 differences and no ties among their sizes p is exact; with ties up to 13 are permuted
    exhaustively, which is exact too; all else is the normal approximation with its correction for ties.
    Where nothing differs, p is 1. Differences are rounded to 12 decimals, so that rounding makes no
    zero look like a difference and no tie like an order.

    Args:
        differences: One a patient, [N], NaN where one of a pair is absent.
    """
    from scipy.stats import permutation_test, rankdata, wilcoxon

    rounded = np.round(differences[~np.isnan(differences)], _DECIMALS)
    nonzero = rounded[rounded != 0]
    pairs = len(rounded)
    if not len(nonzero):
        return SignedRank(1.0 if pairs else None, pairs, True)
    sizes = np.abs(nonzero)
    tied = len(np.unique(sizes)) < len(nonzero)
    if tied and len(nonzero) <= 13:
        # What `wilcoxon` does by itself here, but vectorised: 2 ** 13 sums in 12 ms, not in 500.
        ranks = np.sign(nonzero) * rankdata(sizes)
        test = permutation_test(
            (ranks,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
    else:
        test = wilcoxon(nonzero, zero_method="wilcox", alternative="two-sided", method="auto")
    return SignedRank(min(float(test.pvalue), 1.0), pairs, len(nonzero) <= (13 if tied else 50))


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p that an exact signed-rank test of so many pairs can give: 2 / 2^pairs."""
    return min(1.0, 2.0 ** (1 - pairs))


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Holm's step-down correction.

    With p sorted upwards, the i-th (from 1) of m becomes max over j <= i of (m - j + 1) p_j, at most 1.
    Source: Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6.

    Args:
        p_values: One a hypothesis that was tested.
        family: m, where the family has more hypotheses than were tested (by default as many as given); those
            count as never rejected, which is never less strict than testing them.

    Returns:
        Adjusted p in the order given.
    """
    size = len(p_values) if family is None else max(family, len(p_values))
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, (size - place) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


def rank_intervals(scores: np.ndarray) -> list[tuple[int, int, int]] | None:
    """Median and 95 % percentile interval of each row's rank over bootstrap samples of patients.

    Rank 1 is the best mean; equal means share the better rank. The quantiles are ranks that occur
    (inverted distribution function).

    Args:
        scores: [rows, patients], higher is better, none NaN.

    Returns:
        (median, low, high) of each row; None below two rows or two patients.
    """
    rows, n = scores.shape
    if rows < 2 or n < 2:
        return None
    from scipy.stats import rankdata

    means = np.round(scores @ resample_counts(n).T / n, _DECIMALS)
    ranks = rankdata(-means, method="min", axis=0)
    low, median, high = np.percentile(ranks, (2.5, 50, 97.5), axis=1, method="inverted_cdf").astype(int)
    return [(int(m), int(a), int(b)) for m, a, b in zip(median, low, high, strict=True)]


def split_half_tau(scores: np.ndarray) -> float | None:
    """Mean Kendall's tau-b between the rows' mean scores in two random halves of the patients.

    Of an odd number of patients one half has one more.

    Args:
        scores: [rows, patients], none NaN.

    Returns:
        1: either half gives the same order; 0: they have nothing in common. None below two rows or four
        patients, or where the rows are equal in every half.
    """
    rows, n = scores.shape
    if rows < 2 or n < 4:
        return None
    from scipy.stats import kendalltau

    rng = np.random.default_rng(0)
    taus = []
    for _ in range(HALVES):
        order = rng.permutation(n)
        halves = (order[: n // 2], order[n // 2 :])
        first, second = (np.round(scores[:, half].mean(axis=1), _DECIMALS) for half in halves)
        # Without any difference in one half there is no order to agree with.
        if np.ptp(first) > 0 and np.ptp(second) > 0:
            taus.append(float(kendalltau(first, second).statistic))
    return math.fsum(taus) / len(taus) if taus else None
