"""Does the order of rows depend on how they are ranked? Other schemes beside the mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from usbench.leaderboards.stats.average import DECIMALS
from usbench.leaderboards.stats.flips import can_separate
from usbench.leaderboards.stats.separation import Separation


@dataclass(frozen=True)
class Schemes:
    """The ranks of rows by several schemes; equal rows share the better rank.

    Attributes:
        by_mean: Of the mean score.
        by_ranks: Of the mean over patients of the rank within a patient.
        by_wins: Of the rows that a row is separated from and above, less those above it; None where the
            patients cannot separate anything.
        agreement: Kendall's tau-b between each two schemes, by "mean and ranks" and so on.
    """

    by_mean: tuple[int, ...]
    by_ranks: tuple[int, ...]
    by_wins: tuple[int, ...] | None
    agreement: dict[str, float]


def ranking_schemes(scores: np.ndarray, separation: Separation | None = None) -> Schemes | None:
    """Ranks of rows by mean, by mean of ranks, and by test, and how well they agree.

    The question of challengeR (Wiesenfarth et al. 2021, Scientific Reports 11): does the order depend on the
    scheme? Aggregate then rank, rank then aggregate, and test based.

    Args:
        scores: [rows, patients], none NaN.
        separation: Of every pair of the rows, for the third scheme.

    Returns:
        The ranks; None below two rows and without a patient.
    """
    from scipy.stats import rankdata

    rows, n = scores.shape
    if rows < 2 or n < 1:
        return None
    keys = {"mean": np.round(scores.mean(axis=1), DECIMALS)}
    within = rankdata(-np.round(scores, DECIMALS), axis=0)
    keys["ranks"] = -np.round(within.mean(axis=1), DECIMALS)
    if separation is not None and can_separate(n):
        sign = separation.better()
        wins = np.zeros(rows)
        np.add.at(wins, separation.pairs[:, 0], sign)
        np.add.at(wins, separation.pairs[:, 1], -sign)
        keys["wins"] = wins
    ranks = {name: rankdata(-key, method="min").astype(int) for name, key in keys.items()}
    found = {name: tuple(values.tolist()) for name, values in ranks.items()}
    return Schemes(found["mean"], found["ranks"], found.get("wins"), _agreement(keys))


def _agreement(keys: dict[str, np.ndarray]) -> dict[str, float]:
    from scipy.stats import kendalltau

    names = list(keys)
    taus = {
        f"{a} and {b}": float(kendalltau(keys[a], keys[b]).statistic)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }
    # Without any difference under a scheme there is no order to agree with.
    return {name: tau for name, tau in taus.items() if not np.isnan(tau)}
