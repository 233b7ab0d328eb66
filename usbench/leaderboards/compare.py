"""What may be said of the differences within a table: paired tests, tiers, stable ranks, fusions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from usbench.contracts.names import PROTOCOLS
from usbench.leaderboards.rows import Row, entry_key
from usbench.leaderboards.stats import (
    ALPHA,
    SignedRank,
    bootstrap_interval,
    holm,
    mean,
    rank_intervals,
    signed_rank,
    smallest_p,
    split_half_tau,
)
from usbench.results.usable import settings_key

TEST = (
    "two-sided Wilcoxon signed-rank test on per-patient {} (scipy.stats.wilcoxon), over the patients that "
    'both rows have, zero differences dropped (zero_method="wilcox")'
)
CORRECTION = (
    "Holm (1979), over the k(k-1)/2 pairs of k ranked rows, since the leader is picked by the same scores"
)
FUSION_CORRECTION = "Holm (1979), over the pairs of fusions of one method"

_OF_FUSION = ("fusion-code", "fusion-version")


@dataclass(frozen=True)
class Tests:
    """How the ranked rows of a table were tested against its leader; every text is one sentence or two.

    Attributes:
        leader: Name of the best row, None if none is ranked.
        test: The test, in words.
        correction: The correction for several comparisons, in words.
        comparisons: Tests made.
        family: The number of tests that p was corrected for.
        note: What is exact, and whether so few patients can separate anything.
    """

    leader: str | None
    test: str
    correction: str
    comparisons: int
    family: int
    note: str


@dataclass(frozen=True)
class FusionEffect:
    """Fusion `a` less fusion `b` of one method with the same settings otherwise.

    Attributes:
        method: The method.
        a: The first fusion.
        b: The second fusion.
        difference: Mean paired difference of what the table ranks by, over the patients that both have.
        low: Lower end of its 95 % bootstrap interval over patients; None below two patients.
        high: Upper end.
        n: The patients.
        p_raw: Of the signed-rank test.
        p: `p_raw`, corrected over the pairs of fusions of the method.
    """

    method: str
    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    n: int
    p_raw: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """All of it for one table; `rows` are those given, with tier, p and ranks filled in."""

    rows: tuple[Row, ...]
    tests: Tests
    fusion_effects: tuple[FusionEffect, ...]
    split_half_tau: float | None


def compare(rows: Sequence[Row], of: str = "DSC") -> Comparison:
    """Test the ranked rows of a table; others pass through untouched.

    The leader is the first row. Rows whose corrected p against it is 0.05 or more share its tier 1,
    the others are in tier 2. Ranks are over bootstrap samples of the patients that all ranked rows have.

    Args:
        rows: Of a table, sorted by rank.
        of: What the patients' "dsc" is called in the table: what it ranks by.

    Returns:
        The rows with what was found.
    """
    ranked = [row for row in rows if row.rank is not None]
    scores = _matrix(ranked)
    outcomes = [signed_rank(scores[i] - scores[0]) for i in range(1, len(ranked))]
    family = len(ranked) * (len(ranked) - 1) // 2
    # Without common patients nothing is known: as good as a p of 1.
    corrected = holm([1.0 if o.p is None else o.p for o in outcomes], family)
    common = scores[:, ~np.isnan(scores).any(axis=0)]
    intervals = rank_intervals(common)
    done = [
        replace(row, tier=1, rank_interval=intervals[i] if intervals else None)
        for i, row in enumerate(ranked)
    ]
    for i, (outcome, p) in enumerate(zip(outcomes, corrected, strict=True), start=1):
        done[i] = replace(
            done[i],
            tier=1 if p >= ALPHA else 2,
            p_raw=outcome.p,
            p_leader=None if outcome.p is None else p,
        )
    tests = Tests(
        leader=ranked[0].name if ranked else None,
        test=TEST.format(of),
        correction=CORRECTION,
        comparisons=len(outcomes),
        family=family,
        note=_note(outcomes, family),
    )
    return Comparison(
        (*done, *(row for row in rows if row.rank is None)),
        tests,
        tuple(_fusion_effects(ranked)),
        split_half_tau(common),
    )


PAIRED_ROWS = 60
"""A table of more rows has no interval for each pair of them: there would be more numbers than page."""


def paired_intervals(rows: Sequence[Row]) -> list[tuple[float, float] | None] | None:
    """The bootstrap interval of the mean difference of DSC for every pair of rows, the first less the second.

    Args:
        rows: The rows of a table.

    Returns:
        One interval for each pair in the order of `itertools.combinations`, None for a pair with fewer than
        two patients in common; None altogether for more than `PAIRED_ROWS` rows.
    """
    if len(rows) > PAIRED_ROWS:
        return None
    scores = _matrix(rows)
    differences = (scores[i] - scores[j] for i, j in combinations(range(len(rows)), 2))
    return [bootstrap_interval(paired[~np.isnan(paired)]) for paired in differences]


def _matrix(rows: Sequence[Row]) -> np.ndarray:
    """DSC [rows, patients] over all patients of the rows, NaN where a row has no score of one."""
    cases = sorted({case for row in rows for case in row.patients})
    place = {case: i for i, case in enumerate(cases)}
    scores = np.full((len(rows), len(cases)), np.nan)
    for line, row in zip(scores, rows, strict=True):
        line[[place[case] for case in row.patients]] = [one["dsc"] for one in row.patients.values()]
    return scores


def _note(outcomes: Sequence[SignedRank], family: int) -> str:
    if not outcomes:
        return "Fewer than two complete rows: nothing is compared."
    approximate = sum(not outcome.exact for outcome in outcomes)
    if not approximate:
        words = "p is exact."
    elif approximate == len(outcomes):
        words = "p is the normal approximation."
    else:
        exact = len(outcomes) - approximate
        words = f"p is exact in {exact} of {len(outcomes)} tests, else the normal approximation."
    pairs = max(outcome.pairs for outcome in outcomes)
    if words_few := too_few(pairs, family):
        words += f" {words_few}: no row can be separated from the leader."
    return words


def too_few(pairs: int, family: int) -> str:
    """Why so many pairs of patients can separate nothing after correction; "" where they can."""
    least = smallest_p(pairs)
    corrected = min(1.0, least * family)
    if corrected < ALPHA:
        return ""
    after = f", {corrected:.3g} after correction for {family} pairs of rows" if family > 1 else ""
    return f"{pairs} patient{'s' * (pairs != 1)}: the smallest two-sided exact p is {least:.3g}{after}"


def _order(row: Row) -> tuple[Any, ...]:
    """The three protocols in their order, then the fusions of plugins by name and code."""
    known = PROTOCOLS.index(row.fusion) if row.fusion in PROTOCOLS else len(PROTOCOLS)
    return known, row.fusion, *(str(row.settings.get(name, "")) for name in _OF_FUSION)


def _fusion_effects(rows: Sequence[Row]) -> list[FusionEffect]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        # The code of a plugin's fusion is part of the fusion, not a setting that two fusions must share.
        shared = {name: value for name, value in row.settings.items() if name not in _OF_FUSION}
        groups[row.method, row.weights, settings_key(shared), entry_key(row)].append(row)
    effects = []
    for _, members in sorted(groups.items()):
        members.sort(key=_order)
        # The fullest name: a label shows only settings in which rows of one fusion differ.
        method = max((row.label for row in members), key=len, default="")
        scores = _matrix(members)
        found = []
        for i, j in combinations(range(len(members)), 2):
            paired = scores[i] - scores[j]
            paired = paired[~np.isnan(paired)]
            p = signed_rank(paired).p
            if p is not None:
                low, high = bootstrap_interval(paired) or (None, None)
                pair = (members[i].fusion, members[j].fusion)
                found.append(FusionEffect(method, *pair, mean(paired), low, high, len(paired), p, p))
        for effect, p in zip(found, holm([effect.p_raw for effect in found]), strict=True):
            effects.append(replace(effect, p=p))
    return effects
