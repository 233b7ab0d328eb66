"""What the leaderboard says of differences: tests, tiers, ranks, fusions, and tasks."""

from __future__ import annotations

import math
import statistics
import warnings

import numpy as np
import pytest
import scipy.stats
from kit.handmade import TASKS, add_row, add_tasks

from usbench.leaderboards.board import build
from usbench.leaderboards.stats import bootstrap_interval

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
    raw = {name: scipy.stats.wilcoxon(values, best).pvalue for name, values in (("near", near), ("far", far))}
    assert raw["far"] < 0.05 / 3 < raw["near"]
    assert {name: rows[name].p_raw for name in raw} == pytest.approx(raw, rel=1e-9)
    # Three ranked rows are three pairs: the smaller p times 3, the larger times 2.
    assert rows["far"].p_leader == pytest.approx(3 * raw["far"])
    assert rows["near"].p_leader == pytest.approx(min(1, max(2 * raw["near"], 3 * raw["far"])))
    assert [row.tier for row in table.rows] == [1, 1, 2, None]
    assert (rows["best"].p_raw, rows["best"].p_leader) == (None, None)
    # A row that lacks a fold is in no test, no family and no rank.
    assert (rows["half"].p_raw, rows["half"].rank_interval) == (None, None)
    tests = table.tests
    assert (tests.leader, tests.comparisons, tests.family) == ("best, late", 2, 3)
    assert tests.note == "p is exact."
    assert "Wilcoxon" in tests.test
    assert 'zero_method="wilcox"' in tests.test
    assert "Holm (1979)" in tests.correction
    assert rows["far"].rank_interval == (3, 3, 3)
    assert rows["best"].rank_interval[0] == 1
    assert 0.3 < table.split_half_tau <= 1


def test_more_patients_than_exact_tests_take(tmp_path):
    rng = np.random.default_rng(1)
    first = rng.uniform(0.5, 0.9, 60)
    add_row(tmp_path, "one", first.tolist())
    add_row(tmp_path, "two", (first - 0.01).tolist())
    table, _ = the_table(tmp_path)
    assert table.tests.note == "p is the normal approximation."
    # A constant difference of 0.01 ties all sizes: sixty signs of one kind.
    assert table.rows[1].tier == 2


def test_few_patients_cannot_separate_anything(tmp_path):
    add_row(tmp_path, "one", [0.9, 0.8, 0.9, 0.85, 0.88])
    add_row(tmp_path, "two", [0.1, 0.2, 0.15, 0.3, 0.22])
    table, rows = the_table(tmp_path)
    assert rows["two"].p_leader == 0.0625
    assert rows["two"].tier == 1
    assert "5 patients: the smallest two-sided exact p is 0.0625: no row can be separated" in table.tests.note
    add_row(tmp_path, "three", [0.1, 0.2, 0.15, 0.3, 0.21])
    table, _ = the_table(tmp_path)
    assert "0.0625, 0.188 after correction for 3 pairs of rows" in table.tests.note


def test_one_patient(tmp_path):
    add_row(tmp_path, "one", [0.9])
    add_row(tmp_path, "two", [0.1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table, rows = the_table(tmp_path)
    assert (rows["two"].p_leader, rows["two"].tier, rows["two"].interval) == (1, 1, None)
    assert rows["two"].rank_interval is None
    assert table.split_half_tau is None
    assert "1 patient: the smallest" in table.tests.note


def test_one_row_and_no_ranked_row(tmp_path):
    add_row(tmp_path, "one", [0.9, 0.8, 0.7, 0.6])
    table, rows = the_table(tmp_path)
    assert (rows["one"].tier, rows["one"].p_leader, rows["one"].rank_interval) == (1, None, None)
    assert (table.tests.leader, table.tests.comparisons) == ("one, late", 0)
    assert "nothing is compared" in table.tests.note
    other = tmp_path / "other"
    add_row(other, "one", [0.9, 0.8, 0.7, 0.6], folds=2, done=[0])
    table, rows = the_table(other)
    assert (rows["one"].tier, table.tests.leader, table.split_half_tau) == (None, None, None)


def test_patients_without_a_score_are_no_pairs(tmp_path):
    nan = math.nan
    one = [0.9, nan, 0.8, 0.7, 0.85, 0.95, 0.6]
    two = [0.5, 0.4, nan, 0.3, 0.45, 0.55, 0.2]
    add_row(tmp_path, "one", one)
    add_row(tmp_path, "two", two)
    table, rows = the_table(tmp_path)
    pairs = [a - b for a, b in zip(one, two, strict=True) if not math.isnan(a - b)]
    assert len(pairs) == 5
    assert rows["two"].p_raw == pytest.approx(scipy.stats.wilcoxon(np.round(pairs, 12)).pvalue)
    assert rows["one"].cases == 6
    assert rows["one"].rank_interval == (1, 1, 1)
    assert table.split_half_tau == 1


def test_rows_without_a_common_patient(tmp_path):
    nan = math.nan
    add_row(tmp_path, "one", [0.9, 0.8, nan, nan])
    add_row(tmp_path, "two", [nan, nan, 0.3, 0.2])
    table, rows = the_table(tmp_path)
    assert (rows["two"].p_raw, rows["two"].p_leader, rows["two"].tier) == (None, None, 1)
    assert rows["two"].rank_interval is None
    assert "0 patients" in table.tests.note


def test_identical_rows_share_everything(tmp_path):
    dsc = np.random.default_rng(2).uniform(0.5, 0.9, 8).tolist()
    for method in ("one", "two"):
        for fusion in ("early", "late"):
            add_row(tmp_path, method, dsc, fusion, folds=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table, _ = the_table(tmp_path)
    assert [row.rank for row in table.rows] == [1] * 4
    assert [row.tier for row in table.rows] == [1] * 4
    assert [row.p_leader for row in table.rows] == [None, 1, 1, 1]
    assert [row.rank_interval for row in table.rows] == [(1, 1, 1)] * 4
    assert table.split_half_tau is None
    assert [(e.method, e.difference, e.low, e.high, e.p) for e in table.fusion_effects] == [
        ("one", 0, 0, 0, 1),
        ("two", 0, 0, 0, 1),
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
    assert (first.low, first.high) == pytest.approx(
        bootstrap_interval([a - b for a, b in zip(early, hybrid, strict=True)])
    )
    # All six patients agree: 2 / 2^6, the smallest of three p, times three.
    assert first.p_raw == pytest.approx(2 / 64)
    assert first.p == pytest.approx(3 * 2 / 64)
    assert second.difference == pytest.approx(0.9 / 6)
    raw = [scipy.stats.wilcoxon(np.round(np.subtract(a, late), 12)).pvalue for a in (early, hybrid)]
    assert [second.p_raw, third.p_raw] == pytest.approx(raw)
    assert second.p == third.p == pytest.approx(min(1, max(2 * min(raw), max(raw))))


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
