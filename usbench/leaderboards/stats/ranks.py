"""What may be said of the places of rows: sets of ranks, and whether other patients give the same order."""

from __future__ import annotations

import numpy as np

from usbench.leaderboards.stats.average import DECIMALS
from usbench.leaderboards.stats.separation import Separation

HALVES = 50
"""Random splits of the patients behind the split-half agreement."""

EQUAL = 99
"""Tables of equal rows behind the range of the split-half agreement."""

LEAST = 10
"""Below so many patients halves are too small to say anything."""

MANY = 60
"""Above so many rows the range of the agreement for equal rows is not computed."""


def rank_sets(separation: Separation, rows: int) -> list[tuple[int, int]]:
    """The ranks that each row may have: from 1 + the rows separated above it to k - the rows below it.

    All true ranks are within their sets at once with a chance of at least 95 %, since the tests are corrected
    over all pairs (as in Mohamad, Goeman and van Zwet 2022, Statistics in Medicine 41).

    Args:
        separation: Of every pair of the rows.
        rows: k, how many there are.

    Returns:
        (first, last) of each row.
    """
    above, below = np.zeros(rows, dtype=int), np.zeros(rows, dtype=int)
    sign = separation.better()
    first, second = separation.pairs.T if len(separation.pairs) else (np.zeros(0, int), np.zeros(0, int))
    np.add.at(below, first[sign > 0], 1)
    np.add.at(above, second[sign > 0], 1)
    np.add.at(below, second[sign < 0], 1)
    np.add.at(above, first[sign < 0], 1)
    return [(1 + int(a), rows - int(b)) for a, b in zip(above, below, strict=True)]


def split_half(scores: np.ndarray) -> tuple[float, tuple[float, float] | None] | None:
    """How well the order of rows by mean score agrees between other patients: 2 tau / (1 + tau).

    tau is the mean Kendall's tau-b of the orders in two random halves of the patients, over `HALVES` splits;
    the formula of Spearman (1910) and Brown (1910) takes it from half of the patients to all of them. Below
    0, where the formula has no meaning, it is tau itself.

    Args:
        scores: [rows, patients], none NaN.

    Returns:
        The agreement, and the range (95 %) that it has where rows are equal and each patient's scores fall
        to the rows at random; no range above `MANY` rows. None below two rows or `LEAST` patients, and where
        halves show no difference at all.
    """
    rows, n = scores.shape
    if rows < 2 or n < LEAST:
        return None
    rng = np.random.default_rng(0)
    first, second = np.zeros((HALVES, n)), np.zeros((HALVES, n))
    for i in range(HALVES):
        order = rng.permutation(n)
        first[i, order[: n // 2]] = 1 / (n // 2)
        second[i, order[n // 2 :]] = 1 / (n - n // 2)
    found = _agreement(scores, first, second)
    if found is None:
        return None
    if rows > MANY:
        return found, None
    equal = [_agreement(rng.permuted(scores, axis=0), first, second) for _ in range(EQUAL)]
    known = [one for one in equal if one is not None]
    low, high = np.quantile(known, (0.025, 0.975)) if known else (np.nan, np.nan)
    return found, (float(low), float(high)) if known else None


def _agreement(scores: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | None:
    from scipy.stats import kendalltau

    one, two = (np.round(scores @ weights.T, DECIMALS).T for weights in (first, second))
    if len(scores) > MANY:
        taus = [float(kendalltau(a, b).statistic) for a, b in zip(one, two, strict=True)]
    else:
        upper = np.triu_indices(len(scores), 1)
        signs = [np.sign(half[:, upper[0]] - half[:, upper[1]]) for half in (one, two)]
        with np.errstate(invalid="ignore"):
            below = np.sqrt((signs[0] ** 2).sum(axis=1) * (signs[1] ** 2).sum(axis=1))
            taus = ((signs[0] * signs[1]).sum(axis=1) / below).tolist()
    known = [tau for tau in taus if not np.isnan(tau)]
    if not known:
        return None
    tau = float(np.mean(known))
    return tau if tau < 0 else 2 * tau / (1 + tau)
