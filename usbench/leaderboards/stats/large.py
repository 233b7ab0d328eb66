"""The same tests for tables of hundreds and thousands of rows: one step, in blocks, in single precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usbench.leaderboards.stats.flips import ALPHA, signs
from usbench.leaderboards.stats.separation import NEAR
from usbench.leaderboards.stats.trainings import Noise

MANY = 300
"""Above so many rows a table is tested in one step."""

FLIPS = 999
_EXTREMES = 48
_BLOCK = 256


@dataclass(frozen=True)
class Large:
    """What is known of each row of a large table.

    Attributes:
        p: Corrected p of each row against the first, [rows]; 1 for the first.
        above: How many rows are separated from a row and above it, [rows].
        below: How many are separated from it and below it, [rows].
        out: Whether some row is above it by more than chance, [rows].
    """

    p: np.ndarray
    above: np.ndarray
    below: np.ndarray
    out: np.ndarray


def separate_many(scores: np.ndarray, noise: Sequence[Noise | None] | None = None) -> Large:
    """Single-step maxT over all pairs of many rows (Westfall and Young 1993), see `separate`.

    Each pair is held against the largest statistic of all pairs under a flip, which is never less strict than
    the step-down procedure. What a row is ruled out by is held against it too. 999 flips.

    Args:
        scores: [rows, patients], the leader first, none NaN.
        noise: As in `separate`; the degrees of freedom are not counted here.

    Returns:
        What is known of each row; about 9 bytes x rows^2 of memory.
    """
    rows, n = scores.shape
    # Taking the mean of the rows from every patient changes no difference, and keeps the products small.
    centred = scores - scores.mean(axis=0)
    weights, floor = _weights(centred)
    tops = weights.max(axis=1)
    patterns = signs(n, FLIPS)
    flipped = (patterns @ centred.T.astype(np.float32)).astype(np.float32)
    maxima = np.sort([_largest(one, weights, tops) for one in flipped])
    critical = maxima[int(np.ceil((1 - ALPHA) * len(maxima))) - 1] if len(maxima) > 1 else np.inf
    means = centred.sum(axis=1)
    extra = np.array([one.variance if one else 0.0 for one in noise or [None] * rows])
    above, below = np.zeros(rows, dtype=int), np.zeros(rows, dtype=int)
    p = np.ones(rows)
    for start in range(0, rows, _BLOCK):
        block = slice(start, start + _BLOCK)
        over = means[None, :] - means[block, None]  # Of each other row over those of the block.
        t = over * weights[block]
        if extra.any():
            t *= _shrinking(over, weights[block], floor, extra[block, None] + extra[None, :], n)
        # As many maxima as reach T are counted by the place that T has among them.
        significant = np.abs(t) * (1 - NEAR) > critical
        above[block] = (significant & (t > 0)).sum(axis=1)
        below[block] = (significant & (t < 0)).sum(axis=1)
        reach = np.abs(t[:, 0]) * (1 - NEAR)
        p[block] = 1 - np.searchsorted(maxima, reach, side="left") / len(maxima)
    p[0] = 1.0
    return Large(np.maximum(p, 1 / len(maxima)), above, below, above > 0)


def _weights(centred: np.ndarray) -> tuple[np.ndarray, float]:
    """1 / sqrt(sum d^2 + n s0^2) of every pair of rows, [rows, rows], 0 where they are equal; and s0^2."""
    rows, n = centred.shape
    squares = centred @ centred.T
    norms = np.diag(squares).copy()
    squares *= -2
    squares += norms[:, None]
    squares += norms[None, :]
    np.maximum(squares, 0, out=squares)
    squares[squares < 1e-9] = 0.0
    drawn = np.random.default_rng(0).integers(rows, size=(2, 100_000))
    first, second = drawn[:, drawn[0] != drawn[1]]
    totals = centred.sum(axis=1)
    spread = (squares[first, second] - (totals[first] - totals[second]) ** 2 / n) / (n - 1)
    floor = float(np.quantile(np.maximum(spread, 0), 0.25))
    equal = squares == 0
    squares += n * floor
    np.sqrt(squares, out=squares)
    squares[equal] = np.inf
    return np.reciprocal(squares, out=squares).astype(np.float32), floor


def _shrinking(over: np.ndarray, weights: np.ndarray, floor: float, extra: np.ndarray, n: int) -> np.ndarray:
    """The root of the share of the variance of a mean difference that is over patients."""
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = 1.0 / weights.astype(float) ** 2 - n * floor
        over_patients = np.maximum(squares - over**2 / n, 0) / (n - 1) / n
        share = over_patients / (over_patients + extra)
    found: np.ndarray = np.sqrt(np.nan_to_num(share, nan=1.0))
    return found


def _largest(sums: np.ndarray, weights: np.ndarray, tops: np.ndarray) -> float:
    """The largest |sum_a - sum_b| x weight_ab over all pairs of rows.

    Args:
        sums: Of one flip, [rows].
        weights: [rows, rows].
        tops: The largest weight of each row, [rows].

    Only pairs that can reach the largest statistic of the extreme rows are looked at: a pair's is at most
    its difference times the smaller of the two rows' largest weights.
    """
    order = np.argsort(sums)
    low, high = order[:_EXTREMES], order[-_EXTREMES:]
    best = float(((sums[high][:, None] - sums[low]) * weights[np.ix_(high, low)]).max())
    lows = np.flatnonzero((sums[order[-1]] - sums) * tops > best)
    highs = np.flatnonzero((sums - sums[order[0]]) * tops > best)
    if not len(lows) or not len(highs):
        return best
    lows, highs = lows[np.argsort(sums[lows])], highs[np.argsort(-sums[highs])]
    # Row by row from the highest on, against as many of the lowest as can still reach it.
    for start in range(0, len(highs), 16):
        some = highs[start : start + 16]
        near = sums[some[0]] - sums[lows]
        near = lows[near * np.minimum(tops[lows], tops[some].max()) > best]
        if len(near):
            best = max(best, float(((sums[some][:, None] - sums[near]) * weights[np.ix_(some, near)]).max()))
    return best
