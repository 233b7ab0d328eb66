"""The averages of the robustness track, worked by hand."""

from __future__ import annotations

import math

import pytest

from usbench.scores.robustness import AVERAGES, averages, conditions_of, subsets


def test_how_many_conditions_there_are() -> None:
    # Of four modalities: 14 proper subsets, 15 subsets at 3 shares, 5 places of noise at 3 levels of 2 kinds.
    names = ["flair", "t1", "t1gd", "t2"]
    found = conditions_of(names)
    assert len(found) == 1 + 14 + 45 + 30
    assert len({one.name for one in found}) == len(found)
    assert [one.name for one in conditions_of(["a", "b"])][:7] == [
        "clean", "missing-a", "missing-b", "random-0.25-a", "random-0.25-b", "random-0.25-a+b",
        "random-0.5-a",
    ]  # fmt: skip
    # Of one modality none can be missing, and noise on all is noise on it.
    assert [one.name for one in conditions_of(["a"])] == [
        "clean", "random-0.25-a", "random-0.5-a", "random-0.75-a", "gaussian-0.1-a", "gaussian-0.2-a",
        "gaussian-0.5-a", "salt-pepper-0.05-a", "salt-pepper-0.1-a", "salt-pepper-0.2-a",
    ]  # fmt: skip
    assert subsets(["a", "b", "c"], proper=True)[-1] == ("b", "c")


def test_averages_by_hand() -> None:
    scores = dict.fromkeys((one.name for one in conditions_of(["a", "b"])), 0.5)
    scores |= {"clean": 0.9, "missing-a": 0.6, "missing-b": 0.2}
    scores |= {"random-0.25-a": 0.8, "random-0.5-a": 0.7, "random-0.75-a": 0.6}
    found = averages(scores, ["a", "b"])
    assert set(found) == set(AVERAGES)
    assert found["emm_avg"] == pytest.approx(0.4)
    # Weights .8 * .8 = .64 for none, .2 * .8 = .16 for each alone, over .96.
    assert found["emm_e20"] == pytest.approx((0.64 * 0.9 + 0.16 * 0.6 + 0.16 * 0.2) / 0.96)
    assert found["emm_e05"] == pytest.approx((0.9025 * 0.9 + 0.0475 * 0.8) / 0.9975)
    # Damaged voxels: a alone .7 over the shares, b and both .5; both may be damaged at once.
    assert found["rmm_avg"] == pytest.approx((0.7 + 0.5 + 0.5) / 3)
    assert found["rmm_e10"] == pytest.approx(0.81 * 0.9 + 0.09 * 0.7 + 0.09 * 0.5 + 0.01 * 0.5)
    assert found["nm_gaussian"] == found["nm_pepper"] == 0.5


def test_what_is_undefined_is_left_out() -> None:
    scores = dict.fromkeys((one.name for one in conditions_of(["a"])), 0.5)
    found = averages(scores, ["a"])
    assert math.isnan(found["emm_avg"])
    assert math.isnan(found["emm_e20"])
    assert found["rmm_e20"] == 0.5
    nothing = averages(dict.fromkeys(scores, math.nan), ["a"])
    assert all(math.isnan(value) for value in nothing.values())
