"""The statistics of the leaderboard: against scipy, against cases worked by hand, and in simulations."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from usbench.leaderboards.stats import (
    ALPHA,
    bootstrap_interval,
    holm,
    mean,
    rank_intervals,
    resample_counts,
    signed_rank,
    smallest_p,
    split_half_tau,
)


def signed_rank_by_hand(differences):
    """Two-sided p of the signed-rank sum over every assignment of signs, from the definition."""
    differences = [d for d in differences if d]
    ranks = scipy.stats.rankdata(np.abs(differences))
    centre = ranks.sum() / 2
    observed = abs(sum(r for r, d in zip(ranks, differences, strict=True) if d > 0) - centre)
    sums = [sum(chosen) for k in range(len(ranks) + 1) for chosen in itertools.combinations(ranks, k)]
    return sum(abs(s - centre) >= observed - 1e-9 for s in sums) / len(sums)


def test_signed_rank_is_exact_for_few_patients():
    rng = np.random.default_rng(0)
    for n in range(1, 12):
        free = rng.normal(0.01, 0.05, n)
        assert signed_rank(free).p == pytest.approx(signed_rank_by_hand(free))
        tied = rng.integers(-3, 4, n) / 10
        assert signed_rank(tied).p == pytest.approx(signed_rank_by_hand(tied)), tied
        assert signed_rank(tied).pairs == n
    assert signed_rank(rng.normal(size=11)).exact


@pytest.mark.parametrize("n", [5, 13, 30, 50, 51, 200])
def test_signed_rank_is_what_scipy_says(n):
    rng = np.random.default_rng(n)
    differences = rng.normal(0.02, 0.1, n)
    ours, theirs = signed_rank(differences), scipy.stats.wilcoxon(differences)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert (ours.pairs, ours.exact) == (n, n <= 50)
    tied = np.round(differences, 1)
    nonzero = tied[tied != 0]
    ours, theirs = signed_rank(tied), scipy.stats.wilcoxon(nonzero)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.pairs == n
    assert ours.exact == (len(nonzero) <= 13)


def test_signed_rank_of_a_known_example():
    # Darwin's maize, crossed less self-fertilised, eighths of an inch (Fisher, The Design of Experiments):
    # the ranks of the two negative differences are 14 and 10.
    differences = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
    ranks = scipy.stats.rankdata(np.abs(differences))
    assert ranks[differences < 0].sum() == 24
    # The number of subsets of 1..15 with a sum of at most 24, over 2 ** 15, twice.
    few = [1] + [0] * 24
    for rank in range(1, 16):
        few = [few[s] + (few[s - rank] if s >= rank else 0) for s in range(25)]
    assert signed_rank(differences).p == pytest.approx(2 * sum(few) / 2**15)


def test_signed_rank_at_its_edges():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert signed_rank(np.zeros(6)).p == 1
        assert signed_rank(np.zeros(6)).pairs == 6
        assert signed_rank(np.array([])).p is None
        assert signed_rank(np.array([math.nan, math.nan])).p is None
        assert signed_rank(np.array([0.3])).p == 1
        # Rounding of 0.1 + 0.2 - 0.3 is no difference, and 0.9 - 0.8 and 0.8 - 0.7 are tied.
        assert signed_rank(np.array([0.1 + 0.2 - 0.3, 0.2, 0.3])) == replace(
            signed_rank(np.array([0.2, 0.3])), pairs=3
        )
        assert signed_rank(np.array([0.9 - 0.8, 0.7 - 0.8, 0.3])).p == pytest.approx(
            signed_rank_by_hand([0.1, -0.1, 0.3])
        )
        with_nan = signed_rank(np.array([0.1, math.nan, 0.2, 0.4, 0.3, 0.5]))
    assert (with_nan.p, with_nan.pairs) == (0.0625, 5)
    assert smallest_p(5) == 0.0625
    assert [smallest_p(n) for n in (0, 1, 2, 10)] == [1, 1, 0.5, 2 / 1024]


def test_holm_by_hand():
    # Four hypotheses, given out of order: 0.005 x 4 = 0.02; 0.01 x 3 = 0.03; 0.03 x 2 = 0.06; and
    # 0.04 x 1 = 0.04 is below the one before it, so it becomes 0.06 too.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    assert holm([0.5, 0.9, 0.5]) == [1, 1, 1]
    # Ties: 0.01 x 3 = 0.03, and 0.01 x 2 may not be below it.
    assert holm([0.01, 0.01, 0.5]) == pytest.approx([0.03, 0.03, 0.5])
    # A larger family: 10 hypotheses, of which two were tested: 0.001 x 10, 0.004 x 9.
    assert holm([0.004, 0.001], family=10) == pytest.approx([0.036, 0.01])


def test_holm_rejects_what_the_step_down_procedure_rejects():
    # Holm (1979), as a procedure: go up the sorted p while p_(i) <= alpha / (m - i + 1).
    rng = np.random.default_rng(3)
    for _ in range(200):
        p = rng.random(8) ** 4
        rejected = set()
        for i, index in enumerate(np.argsort(p)):
            if p[index] > ALPHA / (8 - i):
                break
            rejected.add(int(index))
        assert {i for i, q in enumerate(holm(p.tolist())) if q <= ALPHA} == rejected


def test_holm_of_a_part_of_a_family_is_never_less_strict():
    rng = np.random.default_rng(4)
    for _ in range(200):
        p = (rng.random(12) ** 3).tolist()
        whole, part = holm(p)[:5], holm(p[:5], family=12)
        assert all(a <= b + 1e-12 for a, b in zip(whole, part, strict=True))


def test_bootstrap_counts_are_draws_with_replacement():
    counts = resample_counts(7)
    assert counts.shape == (1000, 7)
    assert set(counts.sum(axis=1)) == {7}
    assert counts.mean() == 1
    # The variance of a binomial count (7, 1/7) is 6/7; its standard error over 7,000 counts is 0.02.
    assert counts.var() == pytest.approx(6 / 7, abs=0.06)
    with pytest.raises(ValueError, match="read-only"):
        counts[0, 0] = 3


def test_paired_interval_is_that_of_scipy():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.8, 0.1, 40), rng.normal(0.78, 0.1, 40)
    theirs = scipy.stats.bootstrap(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), paired=True, vectorized=True, n_resamples=9999,
        method="percentile", rng=0,
    ).confidence_interval  # fmt: skip
    assert bootstrap_interval(a - b) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_mean_leaves_out_nan_and_rounds_once():
    assert mean(np.array([0.1] * 10 + [math.nan])) == 0.1
    assert math.isnan(mean(np.array([math.nan])))
    assert math.isnan(mean(np.array([])))


def test_ranks_of_two_patients_by_hand():
    # Row 0 wins on patient 0, row 1 on patient 1. A resample is (0, 0), (0, 1) or (1, 1) with 1/4, 1/2,
    # 1/4: row 0 leads unless both are patient 1. Row 2 is last always.
    scores = np.array([[0.9, 0.5], [0.6, 0.7], [0.1, 0.1]])
    assert rank_intervals(scores) == [(1, 1, 2), (2, 1, 2), (3, 3, 3)]
    assert rank_intervals(scores[:1]) is None
    assert rank_intervals(scores[:, :1]) is None
    # Equal rows share the better rank in every resample, whatever the rounding of their sums.
    same = np.tile(np.random.default_rng(0).random(9), (3, 1))
    assert rank_intervals(same) == [(1, 1, 1)] * 3


def test_ranks_agree_with_a_plain_bootstrap():
    rng = np.random.default_rng(6)
    scores = rng.normal(0.8, 0.02, (6, 1)) + rng.normal(0, 0.06, (6, 25))
    ranks = []
    for _ in range(2000):
        sample = scores[:, rng.integers(25, size=25)].mean(axis=1)
        ranks.append(scipy.stats.rankdata(-sample, method="min"))
    for ours, theirs in zip(rank_intervals(scores), np.array(ranks).T, strict=True):
        low, median, high = np.percentile(theirs, (2.5, 50, 97.5))
        assert abs(ours[0] - median) <= 1
        assert abs(ours[1] - low) <= 1
        assert abs(ours[2] - high) <= 1


def test_split_half_agreement():
    rng = np.random.default_rng(7)
    ordered = np.linspace(0.5, 0.9, 5)[:, None] + rng.normal(0, 1e-3, (5, 10))
    assert split_half_tau(ordered) == pytest.approx(1)
    # Pure noise has nothing in common; 100 splits of the same patients are not independent.
    noise = [split_half_tau(rng.normal(size=(12, 40))) for _ in range(20)]
    assert abs(np.mean(noise)) < 0.1
    # Each patient prefers one of two rows by the same amount, two of four each: a half with both of one
    # kind faces one with both of the other (tau -1, in one of three splits), else the halves are tied.
    assert split_half_tau(np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]])) == -1
    noise_again = rng.normal(size=(5, 9))
    assert split_half_tau(np.ones((3, 8))) is None
    assert split_half_tau(ordered[:1]) is None
    assert split_half_tau(ordered[:, :3]) is None
    assert split_half_tau(noise_again) == split_half_tau(noise_again.copy())


def separated(scores):
    """How many rows are separated from the leader, as a table would say."""
    order = np.argsort(-scores.mean(axis=1))
    p = [signed_rank(scores[i] - scores[order[0]]).p for i in order[1:]]
    return sum(q < ALPHA for q in holm(p, family=len(scores) * (len(scores) - 1) // 2))


def test_equal_methods_are_seldom_separated_and_unequal_ones_mostly_are():
    rng = np.random.default_rng(8)
    tables = 100
    patients = rng.normal(0.8, 0.08, (tables, 1, 20))
    equal = patients + rng.normal(0, 0.04, (tables, 6, 20))
    wrong = sum(separated(scores) > 0 for scores in equal) / tables
    # At most 5 % of tables, give or take three standard errors.
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / tables)
    pairs = patients + rng.normal(0, 0.04, (tables, 2, 20))
    assert sum(separated(scores) for scores in pairs) / tables <= 0.1
    pairs[:, 1] -= 0.06
    assert sum(separated(scores) for scores in pairs) / tables >= 0.95
