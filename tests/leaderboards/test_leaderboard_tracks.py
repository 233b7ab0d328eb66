"""Tables of tracks, on tracks made by hand."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
from kit.handmade import make_run, rewrite
from kit.intervals import of_scores
from kit.made_tracks import edit_track, make_track

import usbench
from usbench.errors import UsbenchError
from usbench.leaderboards import build
from usbench.scores.robustness import averages, conditions_of

MODALITIES = ("t1-in", "t2-spir")


def damaged(clean, t1=0.2, t2=0.1, other=0.05):
    """DSC by condition: what is lost without each modality, and under anything else."""
    lost = {"clean": 0.0, "missing-t1-in": t1, "missing-t2-spir": t2}
    return lambda condition, case, label: clean[case] - lost.get(condition, other)


def two_folds(
    folder, method="unet", fusion="late", clean=(0.8, 0.7, 0.6, 0.9), seed=0, tracked=(0, 1), **lost
):
    """A row of two folds with a robustness track on each."""
    patients = dict(zip(("p1", "p2", "p3", "p4"), clean, strict=True))
    for fold, names in enumerate((("p1", "p2"), ("p3", "p4"))):
        run = make_run(folder, method, fusion, fold, seed, {name: (patients[name],) * 2 for name in names})
        if fold in tracked:
            make_track(run, damaged(patients, **lost))


def test_means_over_folds_and_seeds_by_hand(tmp_path):
    # Clean DSC of seed 0: 0.8, 0.7, 0.6, 0.9, of seed 1: 0.6, 0.7, 0.8, 0.9; over seeds 0.7, 0.7, 0.7, 0.9.
    # Without t1-in seed 0 loses 0.2 and seed 1 0.4, so 0.3; without t2-spir 0.1 and 0.1.
    two_folds(tmp_path, seed=0)
    two_folds(tmp_path, seed=1, clean=(0.6, 0.7, 0.8, 0.9), t1=0.4)
    board = build(tmp_path)
    (table,) = board.tracks
    (row,) = table.rows
    assert table.title == "Robustness: chaos (phantom), preset quick"
    assert (table.ranked_by, table.ranked_as, table.cases, table.folds) == ("emm_avg", "EMM avg", 4, 2)
    assert (row.standing.rank, row.standing.cases, row.standing.seeds) == (1, 4, (2, 2))
    means = row.means
    assert means["clean"].value == pytest.approx(0.75)
    assert means["missing-t1-in"].value == pytest.approx(0.45)
    assert means["lost-t1-in"].value == pytest.approx(0.3)
    assert means["lost-t2-spir"].value == pytest.approx(0.1)
    # EMM avg: both proper subsets weigh the same: 0.75 - (0.3 + 0.1) / 2.
    assert means["emm_avg"].value == pytest.approx(0.55) == row.standing.scores["dsc"]
    # E(0.2): none is missing with 0.64, either with 0.16, and all of it makes 0.96.
    assert means["emm_e20"].value == pytest.approx((0.64 * 0.75 + 0.16 * 0.45 + 0.16 * 0.65) / 0.96)
    assert means["rmm_avg"].value == pytest.approx(0.7) == means["nm_pepper"].value
    # IoU is half of DSC in these files.
    assert means["iou_emm_avg"].value == pytest.approx(0.275)
    assert means["iou_lost-t1-in"].value == pytest.approx(0.15)


def test_an_interval_is_that_of_patients(tmp_path):
    two_folds(tmp_path)
    ((row,),) = (table.rows for table in build(tmp_path).tracks)
    values = np.array([0.8, 0.7, 0.6, 0.9]) - 0.15
    found = row.means["emm_avg"]
    assert (found.cases, found.value) == (4, pytest.approx(values.mean()))
    assert (found.low, found.high) == pytest.approx(of_scores(values))
    # What is lost is paired: it is the same for every patient here, so that it has no spread.
    lost = row.means["lost-t1-in"]
    assert (lost.value, lost.low, lost.high) == (pytest.approx(0.2), None, None)


def test_rank_and_test_are_of_emm_avg_and_never_mixed_with_clean_rows(tmp_path):
    names = [f"p{i}" for i in range(8)]
    rng = np.random.default_rng(0)
    losses = {"unet": rng.uniform(0.05, 0.1, 8), "unext": rng.uniform(0.2, 0.3, 8)}
    for method, clean in (("unet", 0.7), ("unext", 0.9)):
        split = {"split__test": names, "split__folds": 1, "data__cases": 8}
        dsc = dict.fromkeys(names, (clean, clean))
        run = make_run(tmp_path, method, "late", 0, 0, dsc, **split)

        def score(condition, case, label, method=method, clean=clean):
            return clean - (condition != "clean") * losses[method][int(case[1:])] * (
                4 if method == "unext" else 1
            )

        make_track(run, score)
    board = build(tmp_path)
    assert [row.label for row in board.tables[0].rows] == ["unext", "unet"]
    (table,) = board.tracks
    assert [row.standing.label for row in table.rows] == ["unet", "unext"]
    first, second = (np.array([one["dsc"] for one in row.standing.patients.values()]) for row in table.rows)
    assert first == pytest.approx(0.7 - losses["unet"])
    # Every patient loses more under the second: of all patterns of signs, two reach as far.
    assert (first > second).all()
    assert table.rows[1].standing.p_leader == 2 / 2**8
    assert [row.standing.standing for row in table.rows] == ["leader", "below the leader"]
    assert "differences of EMM avg" in table.tests.test
    assert "differences of DSC" in board.tables[0].tests.test
    # The clean tables are what they are without tracks.
    for folder in tmp_path.rglob("tracks"):
        shutil.rmtree(folder)
    assert build(tmp_path).tables == board.tables


def test_effect_of_fusion_is_of_emm_avg(tmp_path):
    two_folds(tmp_path, fusion="early", t1=0.5, t2=0.5)
    two_folds(tmp_path, fusion="late", t1=0.1, t2=0.2)
    (table,) = build(tmp_path).tracks
    (effect,) = table.fusion_effects
    assert (effect.a, effect.b, effect.difference) == ("early", "late", pytest.approx(-0.35))
    assert [row.standing.fusion for row in table.rows] == ["late", "early"]


def test_one_modality_is_ranked_by_what_is_left_of_it(tmp_path):
    run = make_run(tmp_path, task__modalities=["t1-in"], split__folds=1, data__cases=2)
    make_track(run, lambda condition, case, label: 0.8 if condition == "clean" else 0.5)
    (table,) = build(tmp_path).tracks
    assert (table.ranked_by, table.rows[0].standing.rank) == ("rmm_avg", 1)
    assert table.rows[0].means["emm_avg"].value is None
    assert table.rows[0].means["rmm_avg"].value == pytest.approx(0.5)
    assert not [name for name in table.rows[0].means if "missing" in name]


def test_a_row_without_all_folds_says_so_and_has_no_rank(tmp_path):
    two_folds(tmp_path, "unet")
    two_folds(tmp_path, "unext", clean=(0.9, 0.9, 0.9, 0.9), tracked=(0,))
    board = build(tmp_path)
    (table,) = board.tracks
    assert [(row.standing.rank, row.standing.status) for row in table.rows] == [
        (1, ""),
        (None, "incomplete: 1 of 2 folds"),
    ]
    assert all(row.rank for row in board.tables[0].rows)


def test_undefined_scores_are_left_out_at_each_step(tmp_path):
    # The spleen of p1 is in no mask; of p2 nothing is.
    def score(condition, case, label):
        return math.nan if case == "p2" or label == "spleen" else 0.8 if condition == "clean" else 0.6

    nan = math.nan
    run = make_run(tmp_path, dsc={"p1": (0.8, nan), "p2": (nan, nan)}, split__folds=1, data__cases=2)
    make_track(run, score)
    (row,) = build(tmp_path).tracks[0].rows
    assert (row.means["clean"].value, row.means["clean"].cases) == (0.8, 1)
    assert row.means["lost-t1-in"].value == pytest.approx(0.2)
    assert row.means["emm_avg"].low is None


def test_external_has_its_own_table_with_every_score_and_the_loss(tmp_path):
    for fold in (0, 1):
        run = make_run(tmp_path, fold=fold)
        there = {"x1": 0.5 + 0.1 * fold, "x2": 0.3}
        make_track(
            run,
            lambda c, case, label, there=there: there[case],
            "external",
            "external-other",
            cases=list(there),
        )
    board = build(tmp_path)
    (table,) = board.tracks
    (row,) = table.rows
    assert (table.title, table.data) == ("External, other: chaos (phantom), preset quick", "other")
    # Every fold's network sees every patient of the other data: x1 has 0.55 over folds, x2 0.3.
    assert (row.means["dsc"].value, row.means["dsc"].cases) == (pytest.approx(0.425), 2)
    assert row.means["clean"].value == pytest.approx(0.7)
    assert row.means["loss"].value == pytest.approx(0.275)
    assert row.means["hd95"].value == pytest.approx(5.75)
    assert row.means["iou"].value == pytest.approx(0.2125)
    assert "emm_avg" not in row.means


def test_other_data_is_another_table(tmp_path):
    run = make_run(tmp_path)
    for name, digest in (("external-a", "a"), ("external-b", "b")):
        make_track(run, lambda *_: 0.5, "external", name, cases=["x"], fingerprint=digest * 64)
    make_track(run, lambda *_: 0.5)
    titles = [table.title.partition(":")[0] for table in build(tmp_path).tracks]
    assert titles == ["Robustness", "External, a", "External, b"]


def test_filters_show_one_kind_of_tables(tmp_path):
    two_folds(tmp_path)
    assert build(tmp_path, track="clean").tracks == ()
    alone = build(tmp_path, track="robustness")
    assert (alone.tables, alone.overall, len(alone.tracks)) == ((), (), 1)
    with pytest.raises(UsbenchError, match="no finished external track; make one with: usbench evaluate"):
        build(tmp_path, track="external")
    with pytest.raises(UsbenchError, match=r"robust'.*robustness"):
        build(tmp_path, track="robust")


EDITS = {
    "edited": (
        lambda folder: edit_track(folder, lambda d: d["scores"].update(clean=1.0), seal=False),
        "edited",
    ),
    "a mean that is not that of the rows": (
        lambda folder: edit_track(folder, lambda d: d["scores"].update(clean=1.0)),
        "its mean clean is 1.0, its rows give 0.7",
    ),
    "edited rows": (
        lambda folder: (folder / "cases.csv").write_text((folder / "cases.csv").read_text() + "x"),
        "cases.csv: was edited",
    ),
    "half-written": (
        lambda folder: (folder / "track.json").unlink(),
        "not finished; the same usbench evaluate",
    ),
    "no rows": (lambda folder: (folder / "cases.csv").unlink(), "cases.csv: missing"),
    "of another result": (
        lambda folder: edit_track(folder, lambda d: d.update(of="0" * 64)),
        "of another result than the run beside it",
    ),
    "another protocol": (
        lambda folder: edit_track(folder, lambda d: d.update(protocol="0" * 12)),
        "its protocol is not that of its run",
    ),
    "a condition left out": (
        lambda folder: edit_track(folder, lambda d: d["conditions"].pop()),
        "its 29 conditions are not the 30 of the robustness track",
    ),
    "a case left out": (
        lambda folder: edit_track(folder, lambda d: d["data"]["cases"].pop()),
        "its cases are not those of the test fold",
    ),
    "no JSON": (lambda folder: (folder / "track.json").write_text("{"), "track.json"),
    "another schema": (
        lambda folder: edit_track(folder, lambda d: d.update(schema=9)),
        "has schema version 9, this usbench reads 1",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_tracks_that_cannot_be_trusted_are_left_out_by_name(tmp_path, name):
    edit, words = EDITS[name]
    make_run(tmp_path, dsc={"p1": (0.8, 0.6), "p2": (0.8, 0.6)})
    (run,) = (file.parent for file in tmp_path.rglob("result.json"))
    make_track(run, lambda *_: 0.7)
    edit(run / "tracks" / "robustness")
    board = build(tmp_path)
    assert board.tracks == ()
    (problem,) = board.problems
    assert problem.path == run / "tracks" / "robustness"
    assert words in problem.reason
    assert "\n" not in problem.reason
    assert len(board.tables[0].rows) == 1
    with pytest.raises(UsbenchError, match="1 track left out, the first"):
        build(tmp_path, track="robustness")


def test_a_track_of_a_run_that_is_gone_or_computed_again(tmp_path):
    first, second = make_run(tmp_path), make_run(tmp_path, fold=1)
    for run in (first, second):
        make_track(run, lambda *_: 0.7)
    for name in ("result.json", "cases.csv", "history.csv"):
        (first / name).unlink()
    rewrite(second, lambda data: data["cost"].update(train_seconds=99.0))
    problems = {one.path: one.reason for one in build(tmp_path).problems}
    assert "the run that it belongs to is not there" in problems[first / "tracks" / "robustness"]
    assert "of another result" in problems[second / "tracks" / "robustness"]


def test_a_track_is_no_unfinished_run(tmp_path):
    run = make_run(tmp_path)
    make_track(run, lambda *_: 0.7)
    (run / "tracks" / "robustness" / "track.json").unlink()
    assert [one.path for one in build(tmp_path).problems] == [run / "tracks" / "robustness"]


def test_what_the_rows_say_is_what_robustness_defines(tmp_path):
    rng = np.random.default_rng(1)
    drawn = {one.name: rng.uniform(size=2) for one in conditions_of(MODALITIES)}
    run = make_run(tmp_path, split__folds=1, data__cases=2)
    make_track(run, lambda condition, case, label: drawn[condition][int(case[1]) - 1])
    (row,) = build(tmp_path).tracks[0].rows
    for name, mean in row.means.items():
        if not name.startswith(("iou_", "missing", "lost")):
            by_hand = [averages({k: v[i] for k, v in drawn.items()}, MODALITIES)[name] for i in (0, 1)]
            assert mean.value == pytest.approx(np.mean(by_hand)), name


def test_told_networks_are_named(tmp_path):
    run = make_run(tmp_path)
    make_track(run, lambda *_: 0.7, told=True)
    assert usbench.leaderboards.build(tmp_path).tracks[0].rows[0].told
