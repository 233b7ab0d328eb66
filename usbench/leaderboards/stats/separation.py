"""Which rows differ: step-down maxT over pairs of rows by flipping whole patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usbench.leaderboards.stats.average import all_pairs, paired_differences
from usbench.leaderboards.stats.flips import ALPHA, can_rule_out, signs
from usbench.leaderboards.stats.trainings import Noise, shrinking

_CELLS = 2_000_000
"""Statistics held at a time: flips x pairs."""

NEAR = 1e-5
"""Statistics that agree so far, relatively, are equal: they were summed in single precision."""


@dataclass(frozen=True)
class Separation:
    """A family of pairs of rows, tested together.

    Attributes:
        pairs: [pairs, 2], numbers of rows.
        difference: Mean of the first row less the second over the patients that both have, [pairs]; NaN
            without one.
        patients: How many those are, [pairs].
        t: The statistic, [pairs].
        p: Two-sided, corrected over the family, [pairs].
    """

    pairs: np.ndarray
    difference: np.ndarray
    patients: np.ndarray
    t: np.ndarray
    p: np.ndarray

    def better(self) -> np.ndarray:
        """+1 where the first row is separated from the second and above it, -1 below it, else 0; [pairs]."""
        above = np.where(self.p <= ALPHA, np.sign(np.nan_to_num(self.difference)), 0)
        found: np.ndarray = above.astype(int)
        return found


def separate(
    scores: np.ndarray, pairs: np.ndarray | None = None, noise: Sequence[Noise | None] | None = None
) -> Separation:
    """Test pairs of rows by flipping the signs of whole patients, corrected over all of them.

    The step-down maxT procedure of Westfall and Young (1993), Resampling-based multiple testing, with sign
    flips for all rows at once, so that the dependence between rows is kept. The statistic is
    T = |sum d| / sqrt(sum d^2 + n s0^2) of the paired differences d, 0 where they are all 0; s0^2, the lower
    quartile over the pairs of the variance of d, keeps pairs with hardly any spread from the top (as in
    Tusher, Tibshirani and Chu 2001, PNAS 98). The null is that differences are symmetric about 0. The p of
    the pair of j-th largest T is the share of the flips in which the largest T of the pairs from the j-th on
    reaches it, made monotone. So the choice of the leader by the same scores is covered too.

    Args:
        scores: [rows, patients], NaN where a row has no score of a patient.
        pairs: [pairs, 2], every pair of rows by default.
        noise: For each row the variance of its mean from training; T falls by what it takes of the statistic,
            see `usbench.leaderboards.stats.trainings.shrinking`.

    Returns:
        The pairs, in the order given. Where p <= 0.05 the two rows are separated.
    """
    pairs = all_pairs(len(scores)) if pairs is None else np.asarray(pairs, dtype=int).reshape(-1, 2)
    if not len(pairs):
        nothing = np.zeros(0)
        return Separation(pairs, nothing, nothing.astype(int), nothing, nothing)
    found = paired_differences(scores, pairs)
    patients = (~np.isnan(found)).sum(axis=1)
    found = np.nan_to_num(found)
    weights = statistic_weights(found, patients)
    total = found.sum(axis=1)
    t = np.abs(total) * weights
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = total / patients
    if noise is not None and any(noise):
        t = t * _shrinking(found, patients, difference, pairs, noise)
    p = _step_down(found, weights, t)
    return Separation(pairs, difference, patients, t, np.where(patients > 0, p, 1.0))


def statistic_weights(found: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """1 / sqrt(sum d^2 + n s0^2) of differences [pairs, patients] with 0 for absent ones; 0 where d is 0."""
    squares = (found * found).sum(axis=1)
    enough = patients > 1
    floor = (
        np.quantile(_variances(found, patients)[enough], 0.25, method="inverted_cdf") if enough.any() else 0.0
    )
    below = np.sqrt(squares + patients * floor)
    weights: np.ndarray = np.divide(1.0, below, out=np.zeros(len(found)), where=squares > 0)
    return weights


def _variances(found: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Of differences [pairs, patients] with 0 for absent ones; n - 1 in the denominator."""
    n = np.maximum(patients, 2)
    squares = (found * found).sum(axis=1) - found.sum(axis=1) ** 2 / np.maximum(patients, 1)
    spread: np.ndarray = np.maximum(squares, 0.0) / (n - 1)
    return spread


def _shrinking(
    found: np.ndarray, patients: np.ndarray, difference: np.ndarray, pairs: np.ndarray,
    noise: Sequence[Noise | None],
) -> np.ndarray:  # fmt: skip
    known = [one or Noise(0.0, np.inf) for one in noise]
    first, second = ([known[i] for i in column] for column in pairs.T.tolist())
    return shrinking(np.nan_to_num(difference), patients, _variances(found, patients), first, second)


def _step_down(found: np.ndarray, weights: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Corrected p of each pair, see `separate`."""
    order = np.argsort(-t, kind="stable")
    scaled = np.ascontiguousarray((found * weights[:, None])[order].T.astype(np.float32))
    reach = (t[order] * (1 - NEAR)).astype(np.float32)
    patterns = signs(found.shape[1])
    counts = np.zeros(len(order), dtype=np.int64)
    step = max(1, _CELLS // len(order))
    for start in range(0, len(patterns), step):
        flipped = np.abs(patterns[start : start + step] @ scaled)[:, ::-1]
        largest = np.maximum.accumulate(flipped, axis=1, out=flipped)[:, ::-1]
        counts += (largest >= reach).sum(axis=0)
    # Where nothing differs there is nothing to be found.
    share = np.where(t[order] > 0, counts / len(patterns), 1.0)
    p = np.empty(len(order))
    p[order] = np.minimum(np.maximum.accumulate(share), 1.0)
    return p


def ruled_out(scores: np.ndarray, noise: Sequence[Noise | None] | None = None) -> np.ndarray:
    """Which rows are not the best: some other row is above each of them by more than chance.

    Multiple comparisons with the best (Hsu 1984, The Annals of Statistics 12), by the flips of `separate`:
    for each row, the largest signed T of another row over it against the same under every flip, one-sided at
    0.05. The best row is left out with a chance of at most 0.05, whichever it is; so no correction over rows
    is needed, and the set says more than separation from the leader does.

    Args:
        scores: [rows, patients], none NaN.
        noise: As in `separate`.

    Returns:
        [rows], False for all below five patients, which cannot rule out anything.
    """
    rows, n = scores.shape
    out = np.zeros(rows, dtype=bool)
    if rows < 2 or not can_rule_out(n):
        return out
    pairs = all_pairs(rows)
    found = paired_differences(scores, pairs)
    patients = np.full(len(pairs), n)
    weights = statistic_weights(found, patients)
    over = found.sum(axis=1) * weights
    shown = over
    if noise is not None and any(noise):
        shown = over * _shrinking(found, patients, found.mean(axis=1), pairs, noise)
    place = np.zeros((rows, rows), dtype=int)
    place[pairs[:, 0], pairs[:, 1]] = place[pairs[:, 1], pairs[:, 0]] = np.arange(len(pairs))
    scaled = np.ascontiguousarray((found * weights[:, None]).T.astype(np.float32))
    patterns = signs(n)
    counts = np.zeros(rows, dtype=np.int64)
    others = [np.delete(np.arange(rows), i) for i in range(rows)]
    # Of a pair the first row is over the second where the statistic is above 0.
    sides = [np.where(others[i] < i, 1.0, -1.0).astype(np.float32) for i in range(rows)]
    worst = np.array([(shown[place[i, others[i]]] * sides[i]).max() for i in range(rows)])
    step = max(1, _CELLS // len(pairs))
    for start in range(0, len(patterns), step):
        flipped = patterns[start : start + step] @ scaled
        for i in range(rows):
            over_it = flipped[:, place[i, others[i]]] * sides[i]
            reach = worst[i] - abs(worst[i]) * NEAR
            # The opposite pattern turns every sign.
            counts[i] += (over_it.max(axis=1) >= reach).sum() + (-over_it.min(axis=1) >= reach).sum()
    out = (worst > 0) & (counts / (2 * len(patterns)) <= ALPHA)
    return out
