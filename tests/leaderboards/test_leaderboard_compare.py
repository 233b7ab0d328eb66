"""What the leaderboard says of differences: tests, standings, ranks, fusions, and tasks."""

from __future__ import annotations

import math
import statistics
import warnings

import numpy as np
import pytest
import scipy.stats
from kit.handmade import TASKS, add_row, add_tasks

from usbench.errors import UsbenchError
from usbench.leaderboards.board import build

CHAOS = {
    "task__modalities": ["t1-in", "t1-out", "t2-spir"],
    "task__classes": ["liver", "right-kidney", "left-kidney", "spleen"],
}


def the_table(runs):
    (table,) = build(runs).tables
    return table, {row.method: row for row in table.rows}


def test_each_row_is_tested_against_the_leader(tmp_path):
    rng = np.random.default_rng(0)
    best = rng.uniform(0.6, 0.8, 20)
    near, far = best + rng.normal(-0.002, 0.02, 20), best + rng.normal(-0.06, 0.02, 20)
    for method, dsc in (("far", far), ("best", best), ("near", near)):
        add_row(tmp_path, method, dsc.tolist(), folds=5)
    add_row(tmp_path, "half", (best - 0.5).tolist(), folds=5, done=(0, 1))
    table, rows = the_table(tmp_path)
    assert [row.method for row in table.rows] == ["best", "near", "far", "half"]
    assert [row.standing for row in table.rows] == ["leader", "not separated", "below the leader", ""]
    assert [row.best for row in table.rows] == [True, True, False, None]
    assert [row.rank_set for row in table.rows] == [(1, 2), (1, 2), (3, 3), None]
    assert rows["far"].p_leader <= 0.001
    assert rows["near"].p_leader > 0.05
    assert rows["best"].p_leader is None
    tests = table.tests
    assert (tests.leader, tests.family, tests.patients, tests.flips) == ("best, late", 3, 20, 10_000)
    assert "maxT" in tests.correction
    assert "another seed may reverse" in tests.seeds
    assert table.split_half.agreement > 0.3
    assert table.schemes.by_mean == (1, 2, 3)
    # Every pair of ranked rows, in order; that of the best and the far one is what scipy says of its mean.
    assert [(one.a, one.b) for one in table.pairs] == [
        ("best, late", "near, late"),
        ("best, late", "far, late"),
        ("near, late", "far, late"),
    ]
    theirs = scipy.stats.ttest_1samp(best - far, 0)
    assert table.pairs[1].difference == pytest.approx((best - far).mean())
    interval = theirs.confidence_interval(0.95)
    assert (table.pairs[1].low, table.pairs[1].high) == pytest.approx((interval.low, interval.high))


def test_few_patients_cannot_separate_anything(tmp_path):
    add_row(tmp_path, "one", [0.9, 0.91, 0.92, 0.93])
    add_row(tmp_path, "two", [0.1, 0.12, 0.13, 0.14])
    table, rows = the_table(tmp_path)
    assert [row.standing for row in table.rows] == ["not testable"] * 2
    assert [row.best for row in table.rows] == [None, None]
    assert rows["two"].p_leader == 0.125
    assert table.tests.note.startswith("Not testable (n = 4: smallest p 0.125)")
    assert not table.tests.testable
    assert table.split_half is None


def test_six_patients_can(tmp_path):
    add_row(tmp_path, "one", [0.9, 0.91, 0.92, 0.93, 0.94, 0.95])
    add_row(tmp_path, "two", [0.1, 0.12, 0.13, 0.14, 0.15, 0.16])
    table, rows = the_table(tmp_path)
    assert rows["two"].p_leader == 1 / 32
    assert [row.standing for row in table.rows] == ["leader", "below the leader"]
    assert table.tests.note == "p is exact: all 32 patterns of signs of 6 patients."


def test_a_row_that_is_better_in_most_patients_is_never_below_the_leader(tmp_path):
    better = np.random.default_rng(0).normal(0.85, 0.03, 32)
    worse = better - 0.008
    better[3] = 0.0
    add_row(tmp_path, "mostly-better", better.tolist(), folds=2)
    add_row(tmp_path, "leads", worse.tolist(), folds=2)
    table, _ = the_table(tmp_path)
    assert [(row.method, row.standing) for row in table.rows] == [
        ("leads", "leader"),
        ("mostly-better", "not separated"),
    ]


def test_one_patient(tmp_path):
    add_row(tmp_path, "one", [0.9], folds=1)
    add_row(tmp_path, "two", [0.5], folds=1)
    table, rows = the_table(tmp_path)
    assert rows["one"].interval is None
    assert rows["one"].interval_note == "too few patients"
    assert [row.standing for row in table.rows] == ["not testable"] * 2


def test_one_row_and_no_ranked_row(tmp_path):
    add_row(tmp_path, "one", [0.9, 0.8, 0.7, 0.6])
    table, rows = the_table(tmp_path)
    assert (rows["one"].standing, rows["one"].p_leader, rows["one"].rank_set) == ("", None, None)
    assert (table.tests.leader, table.tests.family) == ("one, late", 0)
    assert "nothing is compared" in table.tests.note
    assert table.pairs == ()
    other = tmp_path / "other"
    add_row(other, "one", [0.9, 0.8, 0.7, 0.6], folds=2, done=[0])
    table, rows = the_table(other)
    assert (rows["one"].standing, table.tests.leader, table.split_half) == ("", None, None)


def test_patients_without_a_score_are_no_pairs(tmp_path):
    nan = math.nan
    one = [0.9, nan, 0.8, 0.7, 0.85, 0.95, 0.6, 0.7]
    two = [0.5, 0.4, nan, 0.3, 0.45, 0.55, 0.2, 0.4]
    add_row(tmp_path, "one", one)
    add_row(tmp_path, "two", two)
    table, rows = the_table(tmp_path)
    # Six patients have both, and all six are better.
    assert table.tests.patients == table.pairs[0].n == 6
    assert rows["two"].p_leader == 1 / 32
    assert rows["one"].cases == 7


def test_rows_without_a_common_patient(tmp_path):
    nan = math.nan
    add_row(tmp_path, "one", [0.9, 0.8, nan, nan])
    add_row(tmp_path, "two", [nan, nan, 0.3, 0.2])
    table, rows = the_table(tmp_path)
    assert (rows["two"].p_leader, rows["two"].standing) == (1.0, "not testable")
    assert table.pairs[0].difference is None
    assert "n = 0" in table.tests.note


def test_equal_rows_share_everything(tmp_path):
    dsc = np.random.default_rng(2).uniform(0.5, 0.9, 8).tolist()
    for method in ("one", "two"):
        for fusion in ("early", "late"):
            add_row(tmp_path, method, dsc, fusion, folds=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table, _ = the_table(tmp_path)
    assert [row.rank for row in table.rows] == [1] * 4
    assert [row.standing for row in table.rows] == ["leader", *["not separated"] * 3]
    assert [row.p_leader for row in table.rows] == [None, 1, 1, 1]
    assert [row.rank_set for row in table.rows] == [(1, 4)] * 4
    assert table.split_half is None
    assert [(e.method, e.difference, e.low, e.high, e.p) for e in table.fusion_effects] == [
        ("one", 0, None, None, 1),
        ("two", 0, None, None, 1),
    ]


def test_fusion_effects_by_hand(tmp_path):
    early, hybrid = [0.5, 0.6, 0.7, 0.8, 0.9, 0.4], [0.6, 0.7, 0.8, 0.9, 0.95, 0.45]
    late = [0.9, 0.1, 0.9, 0.1, 0.9, 0.1]
    for fusion, dsc in (("late", late), ("early", early), ("hybrid", hybrid)):
        add_row(tmp_path, "one", dsc, fusion, folds=2)
    add_row(tmp_path, "two", late, "late")
    add_row(tmp_path, "two", late, "early", config__method={"encoder": "other"})
    add_row(tmp_path, "three", early, "early", folds=2)
    add_row(tmp_path, "three", late, "late", folds=2, done=[0])
    effects = build(tmp_path).tables[0].fusion_effects
    # "three" has one complete fusion alone.
    assert [(e.method, e.a, e.b, e.n) for e in effects] == [
        ("one", "early", "hybrid", 6),
        ("one", "early", "late", 6),
        ("one", "hybrid", "late", 6),
    ]
    first, second, third = effects
    assert first.difference == pytest.approx(-0.5 / 6)
    interval = scipy.stats.ttest_1samp(np.subtract(early, hybrid), 0).confidence_interval(0.95)
    assert (first.low, first.high) == pytest.approx((interval.low, interval.high))
    # All six patients agree, and no other pair comes near: one pattern of 32.
    assert first.p == pytest.approx(1 / 32)
    assert second.difference == pytest.approx(0.9 / 6)
    assert min(second.p, third.p) > 0.25


def test_fusion_effects_are_corrected_over_the_whole_table(tmp_path):
    rng = np.random.default_rng(5)
    base = rng.uniform(0.5, 0.9, 12)
    for method in range(8):
        for fusion in ("early", "late"):
            add_row(tmp_path, f"m{method}", (base + rng.normal(0, 0.03, 12)).tolist(), fusion, folds=2)
    many = build(tmp_path).tables[0].fusion_effects
    alone = [
        scipy.stats.permutation_test(
            (np.array(one),), lambda x, axis: np.abs(x.mean(axis=axis)), permutation_type="samples",
            vectorized=True, alternative="greater", n_resamples=np.inf,
        ).pvalue
        for one in _paired(tmp_path)
    ]  # fmt: skip
    assert len(many) == len(alone) == 8
    assert all(e.p >= p - 1e-9 for e, p in zip(many, alone, strict=True))
    assert min(e.p for e in many) > 1.5 * min(alone)


def _paired(runs):
    """Early less late of each method, in order."""
    _, table = None, build(runs).tables[0]
    by = {(row.method, row.fusion): [one["dsc"] for one in row.patients.values()] for row in table.rows}
    return [np.subtract(by[f"m{i}", "early"], by[f"m{i}", "late"]) for i in range(8)]


def test_seeds_enter_every_claim(tmp_path):
    rng = np.random.default_rng(7)
    base = rng.uniform(0.6, 0.8, 20)
    for seed, shift in enumerate((-0.03, 0.0, 0.03)):
        add_row(tmp_path, "a", (base + shift + rng.normal(0, 0.01, 20)).tolist(), folds=2, seed=seed)
        add_row(tmp_path, "b", (base - 0.015 - shift + rng.normal(0, 0.01, 20)).tolist(), folds=2, seed=seed)
    table, rows = the_table(tmp_path)
    assert rows["a"].noise is not None
    assert rows["b"].standing == "not separated"
    assert "counted in every claim" in table.tests.seeds
    # The interval of the difference holds what another three seeds may bring.
    assert table.pairs[0].low < 0 < table.pairs[0].high
    # The averaged scores alone, as if they were of one training, would be separated.
    averaged = tmp_path / "averaged"
    for name in ("a", "b"):
        dsc = [one["dsc"] for one in rows[name].patients.values()]
        add_row(averaged, name, dsc, folds=2)
    assert the_table(averaged)[1]["b"].standing == "below the leader"


def test_a_named_comparator(tmp_path):
    rng = np.random.default_rng(3)
    base = rng.uniform(0.6, 0.8, 12)
    for method, shift in (("a", 0.1), ("b", 0.0), ("c", -0.1)):
        add_row(tmp_path, method, (base + shift + rng.normal(0, 0.01, 12)).tolist(), folds=2)
    (table,) = build(tmp_path, baseline="b-late").tables
    assert [(one.a, one.b) for one in table.baseline] == [("a, late", "b, late"), ("c, late", "b, late")]
    assert [round(one.difference, 1) for one in table.baseline] == [0.1, -0.1]
    assert all(one.p <= 0.05 for one in table.baseline)
    assert build(tmp_path).tables[0].baseline == ()
    with pytest.raises(UsbenchError, match=r"unknown baseline 'z-late'.*METHOD-FUSION"):
        build(tmp_path, baseline="z-late")


def test_hundreds_of_rows_are_tested_in_one_step(tmp_path):
    rng = np.random.default_rng(4)
    base = rng.uniform(0.6, 0.8, 12)
    for i in range(302):
        shift = -0.3 if i == 7 else 0.0
        add_row(tmp_path, f"m{i}", (base + shift + rng.normal(0, 0.01, 12)).tolist(), folds=1)
    table, rows = the_table(tmp_path)
    assert "single-step" in table.tests.correction
    assert rows["m7"].standing == "below the leader"
    assert rows["m7"].best is False
    assert rows["m7"].rank_set == (302, 302)
    assert table.pairs is None


def test_settings_that_differ_are_no_fusion_effect(tmp_path):
    dsc = [0.5, 0.6, 0.7, 0.8]
    add_row(tmp_path, "one", dsc, "early")
    add_row(tmp_path, "one", dsc, "late", config__method={"encoder": "other"})
    add_row(tmp_path, "one", dsc, "hybrid", method__weights="imagenet")
    table, _ = the_table(tmp_path)
    assert len(table.rows) == 3
    assert table.fusion_effects == ()


def test_spread_over_seeds(tmp_path):
    # Seeds 0, 1, 2 have both folds and means 0.6, 0.7 and 0.8; seed 3 has one fold and does not count.
    for seed, dsc in enumerate(([0.5, 0.7], [0.6, 0.8], [0.7, 0.9])):
        add_row(tmp_path, "one", dsc, folds=2, seed=seed)
    add_row(tmp_path, "one", [0.1, 0.1], folds=2, seed=3, done=[0])
    add_row(tmp_path, "two", [0.3, 0.3], folds=2, seed=7)
    _, rows = the_table(tmp_path)
    assert rows["one"].seed_sd == pytest.approx(statistics.stdev([0.6, 0.7, 0.8]))
    assert rows["one"].seeds == (3, 4)
    assert rows["two"].seed_sd is None


def test_costs_and_origins_of_a_row(tmp_path):
    for fold, (ms, seconds, memory, flops, commit) in enumerate(
        [(10.0, 60.0, 500.0, 1.5, "aaa"), (30.0, 90.0, 700.0, 1.5, "bbb"), (20.0, 600.0, 600.0, 1.7, None)]
    ):
        add_row(
            tmp_path,
            "one",
            [0.5, 0.6, 0.7],
            folds=3,
            done=[fold],
            cost__ms_per_slice=ms,
            cost__train_seconds=seconds,
            cost__peak_memory_mb=memory,
            cost__memory_since="cell",
            cost__gflops_per_slice=flops,
            cost__frozen_elsewhere=7,
            cost__device=f"GPU {fold % 2}",
            provenance={"commit": commit},
        )
    _, rows = the_table(tmp_path)
    row = rows["one"]
    assert (row.ms_per_slice, row.train_seconds, row.memory_mb, row.gflops) == (20, 90, 700, 1.5)
    assert (row.frozen_elsewhere, row.device) == (7, "GPU 0; GPU 1")
    assert [(run["fold"], run["seed"], run["commit"], run["device"]) for run in row.runs] == [
        (0, 0, "aaa", "GPU 0"),
        (1, 0, "bbb", "GPU 1"),
        (2, 0, None, "GPU 0"),
    ]
    for run in row.runs:
        assert run["fingerprint"] == "a" * 64
        assert run["hash"] == "f00"
        assert (tmp_path / run["path"] / "result.json").is_file()


def test_older_results_lack_costs(tmp_path):
    cost = {
        "parameters": 5,
        "trainable": 5,
        "gflops_per_slice": None,
        "ms_per_slice": 1.0,
        "peak_memory_mb": 900.0,
        "train_seconds": 2.0,
        "epochs": 1,
        "device": "",
        "devices": 1,
        "precision": "32",
    }
    add_row(tmp_path, "old", [0.5, 0.6], cost=cost, provenance={})
    # Of a process that may have computed other cells before: not this one's.
    add_row(tmp_path, "whole", [0.5, 0.6], cost={**cost, "memory_since": "process"})
    _, rows = the_table(tmp_path)
    assert len(rows) == 2
    for row in rows.values():
        assert (row.gflops, row.memory_mb, row.frozen_elsewhere) == (None,) * 3
        assert row.train_seconds == 2.0
        assert row.device == ""
        assert row.runs[0]["commit"] is None


def test_a_new_protocol_shows_in_the_title(tmp_path):
    add_row(tmp_path, "one", [0.5, 0.6])
    add_row(tmp_path, "one", [0.5, 0.6], protocol="beef")
    titles = [table.title for table in build(tmp_path).tables]
    assert titles == [
        "chaos (phantom), preset quick, protocol beef",
        "chaos (phantom), preset quick, protocol cafe00112233",
    ]


def test_mirroring_follows_the_task_and_parts_no_tasks(tmp_path):
    # As usbench trains by default: tumour and prostate may be mirrored, an abdomen may not.
    for task, mirror in zip(TASKS, (False, True, True), strict=True):
        add_row(tmp_path, "a", [0.5, 0.7], cell__task=task, config__train={"epochs": 5, "mirror": mirror})
    (group,) = build(tmp_path).overall
    assert (group.tasks, group.train) == (TASKS, {"epochs": 5})
    assert group.rows[0].mean_dsc == pytest.approx(0.6)


def test_ranks_across_tasks_by_hand(tmp_path):
    # Ranks: a 1, 2, 2.5; b 2, 1, 1; c 3, 3, 2.5 (equal to a there). Means: a 5.5/3, b 4/3, c 8.5/3.
    add_tasks(tmp_path, "a", (0.9, 0.7, 0.5))
    add_tasks(tmp_path, "b", (0.8, 0.8, 0.6))
    add_tasks(tmp_path, "c", (0.1, 0.1, 0.5))
    # Best on two tasks, absent from the third: in no rank of the others.
    add_tasks(tmp_path, "d", (0.99, 0.99, None))
    # Other training, other data: groups of their own.
    add_tasks(tmp_path, "a", (0.2, 0.3, None), config__train={"epochs": 5}, protocol="beef")
    add_tasks(tmp_path, "b", (0.2, None, None), data__kind="real")
    board = build(tmp_path)
    short, whole = sorted(board.overall, key=lambda group: group.train["epochs"])
    assert whole.tasks == TASKS
    assert (whole.kind, whole.preset, whole.size) == ("phantom", "quick", 96)
    assert [(row.rank, row.label, row.fusion) for row in whole.rows] == [
        (1, "b", "late"),
        (2, "a", "late"),
        (3, "c", "late"),
    ]
    assert [row.mean_rank for row in whole.rows] == pytest.approx([4 / 3, 5.5 / 3, 8.5 / 3])
    assert [row.mean_dsc for row in whole.rows] == pytest.approx([2.2 / 3, 2.1 / 3, 0.7 / 3])
    assert whole.rows[1].ranks == {"chaos": 1, "msd-brain": 2, "msd-prostate": 2.5}
    assert whole.left_out == ("d, late",)
    assert [title.split(",")[0] for title in whole.tables] == [f"{task} (phantom)" for task in TASKS]
    assert (short.tasks, [row.label for row in short.rows]) == (TASKS[:2], ["a"])


def test_rows_across_tasks_share_settings_and_completeness(tmp_path):
    add_tasks(tmp_path, "a", (0.9, 0.7, 0.5))
    add_tasks(tmp_path, "b", (0.8, 0.8, None))
    add_row(tmp_path, "b", [0.9, 0.9], cell__task="msd-prostate", config__method={"encoder": "other"})
    add_tasks(tmp_path, "c", (0.8, 0.8, None))
    add_row(tmp_path, "c", [0.9, 0.9], folds=2, done=[0], cell__task="msd-prostate")
    (group,) = build(tmp_path).overall
    assert [row.label for row in group.rows] == ["a"]
    assert build(tmp_path, "chaos").overall == ()
