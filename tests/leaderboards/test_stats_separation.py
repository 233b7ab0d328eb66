"""Separation of rows: by hand, against a plain enumeration, against scipy, and the cases that misled."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import permutation_test

from usbench.leaderboards.stats import (
    Noise,
    can_separate,
    large,
    rank_sets,
    ruled_out,
    separate,
    separate_many,
    smallest_p,
)
from usbench.leaderboards.stats.flips import signs


def pair(differences: list[float]) -> np.ndarray:
    """Two rows with these differences."""
    found = np.array(differences)
    return np.array([0.5 + found / 2, 0.5 - found / 2])


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        # The sums of the four patterns of signs are 0.6, 0, 0.2 and 0.4.
        ([0.1, 0.2, 0.3], 1 / 4),
        # Of the 16 sums of four signs 2 are of size 4 and 8 of size 2; the observed is of size 2.
        ([0.1, 0.1, 0.1, -0.1], 10 / 16),
        ([0.1, 0.2, 0.4, 0.8], 1 / 8),
        ([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], 1 / 32),
        # 0.6 of 0.8 is reached by all six positive, and where one of the four of 0.1 is turned.
        ([-0.1, 0.1, 0.1, 0.1, 0.2, 0.2], 5 / 32),
        # Zeros stay, and turning them changes nothing.
        ([0.0, 0.0, 0.0, 0.1, 0.2, 0.3], 1 / 4),
        ([0.0, 0.0, 0.0], 1.0),
    ],
)
def test_two_rows_by_hand(differences: list[float], p: float) -> None:
    assert separate(pair(differences)).p.tolist() == pytest.approx([p])


def enumerated(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T and step-down p of all pairs, by every pattern of signs, as the definition has it."""
    rows, n = scores.shape
    pairs = [(a, b) for a in range(rows) for b in range(a + 1, rows)]
    found = [np.round(scores[a] - scores[b], 12) for a, b in pairs]
    floor = np.quantile([np.var(d, ddof=1) for d in found], 0.25, method="inverted_cdf")

    def statistic(pattern: tuple[int, ...]) -> list[float]:
        turned = [np.array(pattern) * d for d in found]
        return [abs(d.sum()) / np.sqrt((d * d).sum() + n * floor) for d in turned]

    t = statistic((1,) * n)
    order = sorted(range(len(pairs)), key=lambda i: -t[i])
    reached = np.zeros(len(pairs))
    for pattern in product((1, -1), repeat=n):
        flipped = statistic(pattern)
        for place in range(len(order)):
            largest = max(flipped[i] for i in order[place:])
            reached[place] += largest >= t[order[place]] - 1e-9
    p = np.empty(len(pairs))
    p[order] = np.maximum.accumulate(reached / 2**n)
    return np.array(t), p


@pytest.mark.parametrize("seed", range(4))
def test_several_rows_against_an_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0.8, 0.05, (4, 7)) - np.array([0, 0.02, 0.1, 0.02])[:, None]
    t, p = enumerated(scores)
    found = separate(scores)
    assert found.t == pytest.approx(t)
    assert found.p == pytest.approx(p)


def test_up_to_twelve_patients_every_pattern_of_signs_is_taken() -> None:
    # A pattern and its opposite are one: 2^(n-1) of them, the observed one first.
    twelve = signs(12)
    assert twelve.shape == (2**11, 12)
    assert len({tuple(pattern) for pattern in twelve}) == 2**11
    assert twelve[0].tolist() == [1.0] * 12
    # Of more, 9,999 are drawn besides the observed one.
    assert signs(13).shape == (10_000, 13)
    assert signs(13)[0].tolist() == [1.0] * 13
    assert abs(float(signs(13)[1:].mean())) < 0.01
    assert [smallest_p(n) for n in (1, 2, 6)] == [1.0, 0.5, 1 / 32]
    assert [can_separate(n) for n in (5, 6)] == [False, True]


@pytest.mark.parametrize("n", [6, 8, 12])
def test_one_pair_is_the_permutation_test_of_scipy(n: int) -> None:
    found = np.random.default_rng(n).normal(0.02, 0.05, n)
    theirs = permutation_test(
        (found,), lambda x, axis: np.abs(x.mean(axis=axis)), permutation_type="samples", vectorized=True,
        n_resamples=np.inf, alternative="greater",
    )  # fmt: skip
    assert separate(pair(found.tolist())).p[0] == pytest.approx(theirs.pvalue)


def test_random_flips_agree_with_all_of_them() -> None:
    found = np.random.default_rng(3).normal(0.02, 0.05, 14)
    theirs = permutation_test(
        (found,), lambda x, axis: np.abs(x.mean(axis=axis)), permutation_type="samples", vectorized=True,
        n_resamples=np.inf, alternative="greater",
    )  # fmt: skip
    assert len(signs(14)) == 10_000
    assert signs(14)[0].tolist() == [1] * 14
    assert separate(pair(found.tolist())).p[0] == pytest.approx(theirs.pvalue, abs=0.015)


def test_a_row_that_is_better_in_31_of_32_patients_is_not_below_the_leader() -> None:
    rng = np.random.default_rng(0)
    a = np.clip(rng.normal(0.888, 0.05, 32), 0, 1)
    b = a + 0.008
    b[5] = 0.0  # One failure takes the mean below that of a.
    assert a.mean() > b.mean()
    assert (b > a).sum() == 31
    assert separate(np.array([a, b])).p[0] > 0.3


def test_a_row_of_zeros_is_separated_from_one_of_087() -> None:
    rng = np.random.default_rng(1)
    scores = np.clip(rng.normal(0.875, 0.03, (30, 10)), 0, 1)
    scores[-1] = 0.0
    found = separate(scores)
    last = found.pairs[:, 1] == 29
    assert (found.p[last] <= 0.05).all()
    assert (found.p[~last] > 0.05).mean() > 0.98
    assert ruled_out(scores)[-1]


def test_what_few_patients_can_show() -> None:
    assert [smallest_p(n) for n in (1, 3, 4, 6)] == [1.0, 0.25, 0.125, 0.03125]
    assert [can_separate(n) for n in (4, 5, 6)] == [False, False, True]
    apart = np.array([[0.9] * 5, [0.1] * 5]) + np.arange(5) / 1000
    assert separate(apart).p[0] == 2 ** (1 - 5)
    # One-sided, five patients are enough to rule a row out, and four are not.
    assert ruled_out(apart).tolist() == [False, True]
    assert ruled_out(apart[:, :4]).tolist() == [False, False]


def test_absent_scores_leave_out_the_patient_for_the_pair() -> None:
    scores = np.array([[0.9, 0.8, 0.7, np.nan], [0.8, 0.6, 0.4, 0.9], [np.nan, np.nan, np.nan, 0.5]])
    found = separate(scores)
    assert found.patients.tolist() == [3, 0, 1]
    assert found.p[1] == 1.0
    assert np.isnan(found.difference[1])
    assert found.difference[0] == pytest.approx(0.2)


def test_noise_of_training_can_take_a_separation_back() -> None:
    scores = pair([0.03, 0.02, 0.04, 0.03, 0.02, 0.03, 0.04, 0.03])
    assert separate(scores).p[0] == pytest.approx(1 / 128)
    assert separate(scores, noise=[Noise(1e-12, 4)] * 2).p[0] == pytest.approx(1 / 128)
    assert separate(scores, noise=[Noise(0.02**2, 4), Noise(0.02**2, 4)]).p[0] > 0.2


def test_rank_sets_by_hand() -> None:
    rng = np.random.default_rng(2)
    scores = np.array([[0.9], [0.9], [0.5], [0.5]]) + rng.normal(0, 0.02, (4, 12))
    found = separate(scores)
    below = {(a, b) for (a, b), p in zip(found.pairs.tolist(), found.p, strict=True) if p <= 0.05}
    assert {(0, 2), (0, 3), (1, 2), (1, 3)} <= below
    sets = rank_sets(found, 4)
    assert [low for low, _ in sets][2:] == [3, 3]
    assert [high for _, high in sets][:2] == [2, 2]


def test_many_rows_are_held_against_the_largest_statistic_of_all() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(0.8, 0.05, (40, 30))
    scores[7] -= 0.2
    found = separate_many(scores[[0, *range(1, 40)]])
    step = separate(scores)
    assert found.out.tolist() == [i == 7 for i in range(40)]
    assert found.above[7] == 39
    assert (found.below == 1).sum() == 39
    # One step with 999 flips is about what 9,999 flips of the step-down procedure give for the first pair.
    assert found.p[7] == pytest.approx(step.p[6], abs=0.01)
    assert found.p[0] == 1.0


def test_the_largest_statistic_is_found_without_looking_at_all_pairs() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(0.8, 0.05, (350, 20))
    scores[:20] = scores[20:40] + rng.normal(0, 0.001, (20, 20))  # Rows of hardly any difference.
    centred = scores - scores.mean(axis=0)
    weights, _ = large._weights(centred)
    for flip in signs(20, 30):
        sums = (flip @ centred.T).astype(np.float32)
        plain = (np.abs(sums[:, None] - sums) * weights).max()
        assert large._largest(sums, weights, weights.max(axis=1)) == pytest.approx(plain, rel=1e-6)


def test_a_row_is_ruled_out_by_the_share_of_patterns_that_reach_it() -> None:
    # Worse in all of five patients: one of 32 patterns. Equal in one of them, whose sign is free: two.
    assert ruled_out(pair([0.1, 0.2, 0.3, 0.4, 0.5])).tolist() == [False, True]
    assert ruled_out(pair([0.1, 0.2, 0.3, 0.4, 0.0])).tolist() == [False, False]


def test_noise_takes_its_share_in_large_tables_as_in_small_ones() -> None:
    rng = np.random.default_rng(6)
    scores = rng.normal(0.8, 0.05, (4, 9))
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    centred = scores - scores.mean(axis=0)
    weights, floor = large._weights(centred)
    means = centred.sum(axis=1)
    extra = np.full((4, 4), 1e-4)
    found = large._shrinking(means[None, :] - means[:, None], weights, floor, extra, 9)
    for a, b in pairs:
        patients = np.var(scores[a] - scores[b], ddof=1) / 9
        assert found[a, b] == pytest.approx(np.sqrt(patients / (patients + 1e-4)), rel=1e-4)


def test_patterns_are_shared_and_nobody_changes_them() -> None:
    with pytest.raises(ValueError, match="read-only"):
        signs(4)[0, 0] = -1.0
