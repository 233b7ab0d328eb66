"""Intervals, the variance between trainings, ranks and other rankings: by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata, ttest_1samp

from usbench.leaderboards.stats import (
    Noise,
    difference_interval,
    mean,
    of_seeds,
    over_tasks,
    ranking_schemes,
    ranks,
    score_interval,
    separate,
    split_half,
)
from usbench.leaderboards.stats.trainings import shrinking, together


def test_interval_of_a_mean_by_hand() -> None:
    # Mean 0.7, SD 0.1154701 over sqrt(4) is 0.057735, over 0.21 on the logit scale; t of 3 degrees.
    found = score_interval([0.6, 0.6, 0.8, 0.8])
    spread = 3.182446 * math.sqrt(0.04 / 3 / 4) / 0.21
    ends = [1 / (1 + math.exp(-(math.log(7 / 3) + side * spread))) for side in (-1, 1)]
    assert found.ends == pytest.approx(ends, abs=1e-6)
    assert found.why == "few patients"
    assert score_interval([0.6, 0.8] * 10).why == ""


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([0.5, 0.6, 0.7], "too few patients"),
        ([], "too few patients"),
        ([0.5] * 6, "no spread"),
        ([0.0] * 6, "no spread"),
        ([1.0] * 6, "no spread"),
    ],
)
def test_where_there_is_no_interval(values: list[float], why: str) -> None:
    found = score_interval(values)
    assert found.ends is None
    assert found.why == why
    assert difference_interval(values).ends is None


def test_an_interval_stays_between_0_and_1() -> None:
    low, high = score_interval([0.0, 0.0, 0.0, 0.0, 0.9]).ends or (-1, 2)
    assert 0 < low < 0.18 < high < 1


@pytest.mark.parametrize("n", [4, 10, 97])
def test_interval_of_a_difference_is_that_of_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(0.02, 0.05, n)
    theirs = ttest_1samp(values, 0).confidence_interval(0.95)
    assert difference_interval(values).ends == pytest.approx((theirs.low, theirs.high))


def test_a_difference_is_cut_off_at_what_it_can_be() -> None:
    assert difference_interval([0.9, 0.9, -0.9, 0.9]).high == 1.0
    assert difference_interval([30.0, 2.0, 1.0, 3.0], limits=(0.0, math.inf)).low == 0.0


def test_variance_from_training_by_hand() -> None:
    # Half of the patients in each fold; the variance over three seeds is 0.01 in one fold and 0 in the other.
    found = of_seeds([[0.5, 0.6, 0.7], [0.5, 0.5, 0.5]], [3, 3])
    assert found == Noise(pytest.approx(0.25 * 0.01 / 3), pytest.approx(2))
    assert of_seeds([[0.5, 0.6], [0.5, 0.5, 0.5]], [3, 3]) is None
    assert of_seeds([], []) is None


def test_satterthwaite_by_hand() -> None:
    assert together([Noise(1.0, 2), Noise(1.0, 2)]) == Noise(2.0, pytest.approx(4))
    # (1 + 3)^2 / (1 / 4 + 9 / 9) = 12.8
    assert together([Noise(1.0, 4), Noise(3.0, 9)]) == Noise(4.0, pytest.approx(12.8))
    assert together([]).variance == 0


def test_intervals_are_wider_where_training_varies() -> None:
    values = np.random.default_rng(0).uniform(0.5, 0.9, 30)
    plain, wide = score_interval(values), score_interval(values, Noise(0.03**2, 4))
    assert plain.ends is not None
    assert wide.ends is not None
    assert wide.ends[1] - wide.ends[0] > 1.3 * (plain.ends[1] - plain.ends[0])


def test_shrinking_keeps_the_p_of_the_full_statistic() -> None:
    from scipy.stats import t as student

    d, n, v = 0.05, 20, 0.01
    a, b = Noise(0.0004, 4), Noise(0.0001, 4)
    factor = shrinking(np.array([d]), np.array([n]), np.array([v]), [a], [b])[0]
    full = together([Noise(v / n, n - 1), a, b])
    alone = d / math.sqrt(v / n)
    assert student.sf(factor * alone, n - 1) == pytest.approx(
        student.sf(d / math.sqrt(full.variance), full.df)
    )
    assert (
        shrinking(np.array([d]), np.array([n]), np.array([v]), [Noise(0, math.inf)], [Noise(0, math.inf)])
        == 1
    )


def test_mean_leaves_out_nan_and_rounds_once() -> None:
    assert mean(np.array([0.1] * 10)) == 0.1
    assert mean(np.array([0.5, np.nan, 0.7])) == 0.6
    assert math.isnan(mean(np.array([np.nan])))


def test_split_half_agreement() -> None:
    rng = np.random.default_rng(0)
    apart = np.array([[0.9], [0.7], [0.5], [0.3]]) + rng.normal(0, 0.01, (4, 20))
    agreement, equal = split_half(apart) or (0.0, None)
    assert agreement == 1.0
    assert equal is not None
    assert equal[0] < 0 < equal[1] < 1
    assert split_half(apart[:, :9]) is None
    assert split_half(apart[:1]) is None
    assert split_half(np.full((3, 12), 0.5)) is None
    same = rng.normal(0.8, 0.05, (6, 40))
    agreement, equal = split_half(same) or (2.0, None)
    assert equal is not None
    assert equal[0] <= agreement <= equal[1]


def test_other_rankings_by_hand() -> None:
    # By mean the first row leads; in two of three patients the second one is ahead of it.
    scores = np.array([[0.9, 0.5, 0.6], [0.4, 0.6, 0.7], [0.3, 0.3, 0.3]])
    found = ranking_schemes(scores, separate(scores))
    assert found is not None
    assert found.by_mean == (1, 2, 3)
    assert found.by_ranks == (2, 1, 3)
    assert found.by_wins is None
    assert found.agreement == {"mean and ranks": pytest.approx(kendalltau([1, 2, 3], [2, 1, 3]).statistic)}


def test_ranking_by_tests() -> None:
    scores = np.array([[0.9], [0.9], [0.5]]) + np.random.default_rng(0).normal(0, 0.01, (3, 12))
    found = ranking_schemes(scores, separate(scores))
    assert found is not None
    assert found.by_wins == (1, 1, 3)


def test_means_over_tasks_by_hand() -> None:
    one = np.array([[0.9, 0.8, 0.7, 0.8], [0.5, 0.6, 0.4, 0.5]])
    two = np.array([[0.5, 0.5, 0.6, 0.4], [0.7, 0.6, 0.8, 0.7]])
    found = over_tasks([one, two])
    assert found.rank.tolist() == [1.5, 1.5]
    assert found.score == pytest.approx([0.65, 0.6])
    # In every draw of patients the first row leads one task and is last in the other.
    assert found.rank_interval == ((1.5, 1.5), (1.5, 1.5))
    v = np.var(one[0], ddof=1) / 4 / 4
    assert np.var(two[0], ddof=1) / 4 / 4 == pytest.approx(v)
    width = 2.446912 * math.sqrt(2 * v)  # Student's quantile on 6 degrees of freedom.
    assert found.score_interval[0].ends == pytest.approx((0.65 - width, 0.65 + width), abs=1e-6)


def test_one_task_has_the_interval_of_scipy_and_few_patients_have_none() -> None:
    scores = np.random.default_rng(0).uniform(0.4, 0.9, (3, 12))
    found = over_tasks([scores])
    theirs = ttest_1samp(scores[1], 0).confidence_interval(0.95)
    assert found.score_interval[1].ends == pytest.approx((theirs.low, theirs.high))
    assert found.rank.tolist() == rankdata(-scores.mean(axis=1)).tolist()
    few = over_tasks([scores, scores[:, :3]])
    assert few.rank_interval is None
    assert few.score_interval[0].ends is None


def test_below_twenty_patients_an_interval_is_marked() -> None:
    values = np.random.default_rng(0).uniform(0.4, 0.9, 20)
    assert score_interval(values).why == ""
    assert score_interval(values[:19]).why == "few patients"
    assert score_interval(values[:4]).ends is not None
    assert score_interval(values[:3]).why == "too few patients"


def test_one_patient_can_be_ranked_and_none_cannot() -> None:
    found = ranking_schemes(np.array([[0.4], [0.9]]))
    assert found is not None
    assert (found.by_mean, found.by_ranks) == ((2, 1), (2, 1))
    assert ranking_schemes(np.empty((2, 0))) is None


def test_halves_agree_by_kendalls_tau_b_of_scipy() -> None:
    scores = np.random.default_rng(1).normal(0.8, 0.05, (5, 10))
    weights = np.eye(2).repeat(5, axis=1) / 5
    tau = kendalltau(*(scores @ half for half in weights)).statistic
    expected = tau if tau < 0 else 2 * tau / (1 + tau)
    assert ranks._agreement(scores, weights[:1], weights[1:]) == pytest.approx(expected)


def test_the_interval_of_a_rank_leaves_out_what_is_rarer_than_one_in_forty() -> None:
    # The first row leads by 1 in eleven patients and is 1.9 behind in one, who must be drawn five times of
    # twelve to turn the order: with a chance of 0.2 %, so that a few of the draws do.
    scores = np.array([[1.0] * 11 + [0.0], [0.0] * 11 + [1.9]])
    assert over_tasks([scores]).rank_interval == ((1.0, 1.0), (2.0, 2.0))
