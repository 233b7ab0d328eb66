"""What may be said of the differences within a table: who leads, who is separated, the effect of fusion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from usbench.contracts.names import PROTOCOLS
from usbench.errors import unknown
from usbench.leaderboards.rows import Row, entry_key
from usbench.leaderboards.standing import (
    FUSION_CORRECTION,
    Tests,
    standing_word,
    words_of_tests,
)
from usbench.leaderboards.stats import (
    MANY,
    Noise,
    Schemes,
    Separation,
    can_rule_out,
    difference_interval,
    rank_sets,
    ranking_schemes,
    ruled_out,
    separate,
    separate_many,
    split_half,
)
from usbench.leaderboards.stats.trainings import together
from usbench.results.usable import settings_key

__all__ = ["FUSION_CORRECTION", "Comparison", "Difference", "FusionEffect", "SplitHalf", "Tests", "compare"]

_OF_FUSION = ("fusion-code", "fusion-version")

PAIRED_ROWS = 60
"""A table of more rows has no entry for each pair of them: there would be more numbers than page."""


@dataclass(frozen=True)
class Difference:
    """One row less another, paired over the patients that both have.

    Attributes:
        a: Name of the first row.
        b: Name of the second.
        difference: Mean of what the table ranks by, the first less the second; None without a patient.
        low: Lower end of its 95 % interval; None without one.
        high: Upper end.
        n: The patients.
        p: Corrected over the family that it is of.
    """

    a: str
    b: str
    difference: float | None
    low: float | None
    high: float | None
    n: int
    p: float


@dataclass(frozen=True)
class FusionEffect:
    """Fusion `a` less fusion `b` of one method with the same settings otherwise.

    Attributes:
        method: The method.
        a: The first fusion.
        b: The second fusion.
        difference: Mean paired difference of what the table ranks by, over the patients that both have.
        low: Lower end of its 95 % interval; None without one.
        high: Upper end.
        n: The patients.
        p: Corrected over all pairs of fusions of the table.
    """

    method: str
    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    n: int
    p: float


@dataclass(frozen=True)
class SplitHalf:
    """Whether other patients would give the same order, see `usbench.leaderboards.stats.split_half`.

    Attributes:
        agreement: 1: the same order, 0: none in common.
        low: Lower end of the range (95 %) that it has where all rows are equal; None where it was not
            computed.
        high: Upper end.
    """

    agreement: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """All of it for one table.

    Attributes:
        rows: Those given, with standing and ranks filled in.
        tests: How they were tested.
        fusion_effects: Between the fusions of a method.
        split_half: Whether other patients would give the same order.
        schemes: Whether another way of ranking would; of the ranked rows in order.
        pairs: Every pair of ranked rows in the order of `itertools.combinations`; None above `PAIRED_ROWS`.
        baseline: Each other ranked row less a named one; empty without one.
    """

    rows: tuple[Row, ...]
    tests: Tests
    fusion_effects: tuple[FusionEffect, ...]
    split_half: SplitHalf | None
    schemes: Schemes | None
    pairs: tuple[Difference, ...] | None
    baseline: tuple[Difference, ...] = ()


def compare(rows: Sequence[Row], of: str = "DSC", baseline: str | None = None) -> Comparison:
    """Test the ranked rows of a table; others pass through untouched.

    The leader is the first row. A row is below it where the test of `usbench.leaderboards.stats.separate`
    separates the two, corrected over all pairs of ranked rows.

    Args:
        rows: Of a table, sorted by rank.
        of: What the patients' "dsc" is called in the table: what it ranks by.
        baseline: METHOD-FUSION or the name of a ranked row that each other one is held against; a table that
            lacks it has no such comparison.

    Returns:
        The rows with what was found.
    """
    ranked = [row for row in rows if row.rank is not None]
    scores = score_matrix(ranked)
    common = scores[:, ~np.isnan(scores).any(axis=0)]
    noise = [row.noise for row in ranked]
    few = len(ranked) <= MANY
    separation = separate(scores, noise=noise) if few else None
    if separation is not None:
        p = [1.0, *separation.p[: max(len(ranked) - 1, 0)].tolist()]
        sets = rank_sets(separation, len(ranked))
        out = ruled_out(common, noise)
    else:
        large = separate_many(common, noise)
        p, out = large.p.tolist(), large.out
        sets = [
            (1 + a, len(ranked) - b) for a, b in zip(large.above.tolist(), large.below.tolist(), strict=True)
        ]
    patients = common.shape[1]
    done = [
        replace(
            row,
            standing=standing_word(i, p[i], _shared(scores, i), _mean_gap(scores, i), len(ranked)),
            p_leader=None if i == 0 or len(ranked) < 2 else p[i],
            rank_set=sets[i] if len(ranked) > 1 else None,
            best=not out[i] if len(ranked) > 1 and can_rule_out(patients) else None,
        )
        for i, row in enumerate(ranked)
    ]
    halves = split_half(common)
    return Comparison(
        (*done, *(row for row in rows if row.rank is None)),
        words_of_tests(ranked, patients, of, few),
        tuple(_fusion_effects(ranked)),
        None if halves is None else SplitHalf(halves[0], *(halves[1] or (None, None))),
        ranking_schemes(common, separation),
        _pairs(ranked, scores, separation),
        _against(ranked, scores, baseline),
    )


def check_baseline(names: Sequence[str], baseline: str | None) -> None:
    """Refuse a baseline that no table has.

    Args:
        names: Of the ranked rows of all tables, as `usbench.leaderboards.rows.Row.short_name` and `name`.
        baseline: As asked for.

    Raises:
        UsbenchError: Where it is not among them.
    """
    if baseline is not None and baseline not in names:
        raise unknown("baseline", baseline, sorted(set(names)), "give METHOD-FUSION of a ranked row")


def score_matrix(rows: Sequence[Row]) -> np.ndarray:
    """DSC [rows, patients] over all patients of the rows, NaN where a row has no score of one."""
    cases = sorted({case for row in rows for case in row.patients})
    place = {case: i for i, case in enumerate(cases)}
    scores = np.full((len(rows), len(cases)), np.nan)
    for line, row in zip(scores, rows, strict=True):
        line[[place[case] for case in row.patients]] = [one["dsc"] for one in row.patients.values()]
    # A patient whom no row has a score of (the truth is empty) is no patient of the table.
    return scores[:, ~np.isnan(scores).all(axis=0)] if len(rows) else scores


def _shared(scores: np.ndarray, i: int) -> int:
    return int((~np.isnan(scores[0]) & ~np.isnan(scores[i])).sum())


def _mean_gap(scores: np.ndarray, i: int) -> float:
    """The leader's mean less that of a row, over the patients that both have."""
    paired = scores[0] - scores[i]
    paired = paired[~np.isnan(paired)]
    return float(paired.mean()) if len(paired) else 0.0


def _between(
    ranked: Sequence[Row], scores: np.ndarray, separation: Separation, names: Sequence[str]
) -> list[Difference]:
    """Every pair of a family, with its interval."""
    found = []
    for index, (i, j) in enumerate(separation.pairs.tolist()):
        n = int(separation.patients[index])
        low, high = _ends(scores[i] - scores[j], ranked[i], ranked[j])
        value = float(separation.difference[index]) if n else None
        found.append(Difference(names[i], names[j], value, low, high, n, float(separation.p[index])))
    return found


def _ends(paired: np.ndarray, a: Row, b: Row) -> tuple[float | None, float | None]:
    """The ends of the interval of a mean paired difference, trainings counted where their spread is known."""
    noise: Noise | None = (
        together([one.noise for one in (a, b) if one.noise]) if a.noise and b.noise else None
    )
    interval = difference_interval(paired[~np.isnan(paired)], noise)
    return interval.low, interval.high


def _pairs(
    ranked: Sequence[Row], scores: np.ndarray, separation: Separation | None
) -> tuple[Difference, ...] | None:
    if separation is None or len(ranked) > PAIRED_ROWS:
        return None
    return tuple(_between(ranked, scores, separation, [row.name for row in ranked]))


def _against(ranked: Sequence[Row], scores: np.ndarray, baseline: str | None) -> tuple[Difference, ...]:
    """Each other row less the baseline: k - 1 pairs, corrected over these alone."""
    place = next((i for i, row in enumerate(ranked) if baseline in (row.name, row.short_name)), None)
    if baseline is None or place is None:
        return ()
    others = [i for i in range(len(ranked)) if i != place]
    pairs = np.array([(i, place) for i in others], dtype=int).reshape(-1, 2)
    separation = separate(scores, pairs, [row.noise for row in ranked])
    return tuple(_between(ranked, scores, separation, [row.name for row in ranked]))


def _order(row: Row) -> tuple[Any, ...]:
    """The three protocols in their order, then the fusions of plugins by name and code."""
    known = PROTOCOLS.index(row.fusion) if row.fusion in PROTOCOLS else len(PROTOCOLS)
    return known, row.fusion, *(str(row.settings.get(name, "")) for name in _OF_FUSION)


def _fusion_effects(rows: Sequence[Row]) -> list[FusionEffect]:
    """Every pair of fusions of one method, corrected over all of them in the table."""
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        # The code of a plugin's fusion is part of the fusion, not a setting that two fusions must share.
        shared = {name: value for name, value in row.settings.items() if name not in _OF_FUSION}
        groups[row.method, row.weights, settings_key(shared), entry_key(row)].append(i)
    pairs: list[tuple[int, int]] = []
    methods: list[str] = []
    for _, members in sorted(groups.items()):
        members.sort(key=lambda i: _order(rows[i]))
        found = list(combinations(members, 2))
        # The fullest name: a label shows only settings in which rows of one fusion differ.
        methods += [max((rows[i].label for i in members), key=len)] * len(found)
        pairs += found
    if not pairs:
        return []
    scores = score_matrix(rows)
    separation = separate(scores, np.array(pairs), [row.noise for row in rows])
    between = _between(rows, scores, separation, [row.fusion for row in rows])
    return [
        FusionEffect(method, one.a, one.b, one.difference, one.low, one.high, one.n, one.p)
        for method, one in zip(methods, between, strict=True)
        if one.difference is not None
    ]
