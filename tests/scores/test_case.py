"""Scores against MONAI, and against cases worked by hand."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from kit.masks import blobs, cube

from usbench.errors import UsbenchError
from usbench.scores import surface
from usbench.scores.case import ClassScore, score_case
from usbench.scores.paper import paper_style
from usbench.scores.registry import all_scores
from usbench.scores.summary import summarise


def values(row, names):
    """Some scores of a class, by their names in one text."""
    return tuple(row.scores[name] for name in names.split())


def by_monai(prediction, truth, classes, spacing, tolerance):
    """DSC, IoU, HD95 and NSD of each class by MONAI's metric classes: [4, classes]."""
    import torch
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDiceMetric

    def one_hot(labels):
        return torch.from_numpy(np.stack([labels == c for c in range(classes + 1)])[None].astype(np.float32))

    pair = one_hot(prediction), one_hot(truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = [
            DiceMetric(include_background=False)(*pair),
            MeanIoU(include_background=False)(*pair),
            HausdorffDistanceMetric(include_background=False, percentile=95)(*pair, spacing=spacing),
            SurfaceDiceMetric([tolerance] * classes, include_background=False)(*pair, spacing=spacing),
        ]
    return np.stack([score.numpy()[0] for score in scores])


def assert_as_monai(prediction, truth, classes, spacing, tolerance):
    ours = score_case(prediction, truth, [str(c) for c in range(classes)], spacing, tolerance)
    theirs = by_monai(prediction, truth, classes, spacing, tolerance)
    compared = 0
    for row, expected in zip(ours, theirs.T, strict=True):
        if row.edge == "":
            np.testing.assert_allclose(
                values(row, "dsc iou hd95 nsd"),
                expected,
                rtol=1e-6,
                atol=1e-5,
            )
            compared += 1
    return compared


@pytest.mark.parametrize(
    ("shape", "spacing", "tolerance", "classes"),
    [
        ((40, 36, 30), (1.0, 1.0, 1.0), 1.0, 1),
        ((48, 40, 14), (0.7, 0.7, 3.0), 2.1, 3),
        ((20, 50, 44), (7.7, 1.25, 1.36), 4.0, 4),
        ((33, 17, 25), (0.5, 2.0, 0.9), 0.0, 2),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_monai_on_random_masks(shape, spacing, tolerance, classes, seed):
    truth = blobs(shape, classes, seed)
    near = np.roll(truth, (1, -2, 1), axis=(0, 1, 2))
    far = blobs(shape, classes, seed + 100)
    assert assert_as_monai(near, truth, classes, spacing, tolerance) == classes
    assert assert_as_monai(far, truth, classes, spacing, tolerance) == classes


def test_both_searches_and_both_memory_orders_give_the_same(monkeypatch):
    truth, prediction = blobs((30, 34, 20), 3, 5), blobs((30, 34, 20), 3, 6)
    arguments = (["a", "b", "c"], (0.8, 1.1, 2.5), 2.0)
    with_tree = score_case(prediction, truth, *arguments)
    assert score_case(np.asfortranarray(prediction), np.asfortranarray(truth), *arguments) == with_tree
    assert score_case(prediction.astype(np.int64), truth.astype(">i2"), *arguments) == with_tree
    monkeypatch.setattr(surface, "_TREE_POINTS", 0)
    monkeypatch.setattr(surface, "_TREE_SHARE", 0.0)
    for one, other in zip(score_case(prediction, truth, *arguments), with_tree, strict=True):
        assert dict(one.scores) == pytest.approx(dict(other.scores), abs=1e-9, nan_ok=True)
        assert dataclasses.replace(one, scores={}) == dataclasses.replace(other, scores={})


@pytest.mark.skipif("USBENCH_REAL_DATA" not in os.environ, reason="needs USBENCH_REAL_DATA")
def test_agrees_with_monai_on_real_masks():
    import nibabel

    folder = Path(os.environ["USBENCH_REAL_DATA"]) / "msd"
    compared = 0
    for task in sorted(folder.iterdir()):
        file = sorted((task / "labelsTr").glob("[!.]*.nii.gz"))[0]
        image = nibabel.load(file)
        truth = np.asarray(image.dataobj).astype(np.uint8)
        spacing = tuple(float(s) for s in image.header.get_zooms()[:3])
        prediction = np.roll(truth, (2, -1, 1), axis=(0, 1, 2))
        holes = np.random.default_rng(0).random(truth.shape) < 0.02
        prediction[holes] = 0
        compared += assert_as_monai(prediction, truth, int(truth.max()), spacing, 2.0)
    assert compared >= 3


def test_shifted_cubes_by_hand():
    # Truth: 4x4x4 voxels at x 0..3; prediction: the same at x 2..5. Voxels of 3 x 1 x 2 mm.
    # Overlap 2*4*4 = 32 of 64 and 64: DSC 64/128, IoU 32/96.
    # Each surface: 64 - 2*2*2 = 56 voxels. From prediction to truth:
    #   x=2: the 12 of the ring lie on the truth's surface, 0 mm; the inner 4 are one voxel in y away, 1 mm
    #   x=3: the 12 of the ring lie on the truth's last plane, 0 mm
    #   x=4: 12 voxels one voxel in x away, 3 mm;  x=5: 16 voxels two voxels in x away, 6 mm
    # Sorted: 24 zeros, 4 ones, 12 threes, 16 sixes; the same back by symmetry. 95th percentile: 6.
    shape = (10, 9, 8)
    truth, prediction = cube(shape, (0, 2, 2), (4, 6, 6)), cube(shape, (2, 2, 2), (6, 6, 6))
    for tolerance, found in ((0.5, 24), (1.0, 28), (2.9, 28), (3.0, 40), (6.0, 56)):
        (row,) = score_case(prediction, truth, ["organ"], (3.0, 1.0, 2.0), tolerance)
        assert row.scores["nsd"] == pytest.approx(found / 56)
    assert (row.name, row.tp, row.fp, row.fn, row.tn, row.edge) == ("organ", 32, 32, 32, 720 - 96, "")
    assert values(row, "dsc iou hd95") == pytest.approx((0.5, 1 / 3, 6.0))
    assert values(row, "sensitivity specificity") == pytest.approx((0.5, 624 / 656))


def test_percentile_is_interpolated_and_the_larger_direction_counts():
    # Truth: one voxel. Prediction: it and two more along x, 1.5 mm apart: 0, 1.5 and 3 mm away.
    # The 95th percentile lies at 0.95 * 2 = 1.9 of the way: 1.5 + 0.9 * 1.5. Back: 0.
    truth, prediction = cube((5, 3, 3), (0, 1, 1), (1, 2, 2)), cube((5, 3, 3), (0, 1, 1), (3, 2, 2))
    (row,) = score_case(prediction, truth, ["a"], (1.5, 1.0, 1.0), 1.0)
    assert row.scores["hd95"] == pytest.approx(2.85)
    assert row.scores["nsd"] == pytest.approx((1 + 1) / (3 + 1))
    (row,) = score_case(truth, prediction, ["a"], (1.5, 1.0, 1.0), 1.0)
    assert row.scores["hd95"] == pytest.approx(2.85)


def test_single_voxels_by_hand():
    # 2, 1 and 3 voxels apart of 2 x 5 x 1 mm: sqrt(16 + 25 + 9).
    truth, prediction = cube((6, 6, 6), (1, 1, 1), (2, 2, 2)), cube((6, 6, 6), (3, 2, 4), (4, 3, 5))
    (row,) = score_case(prediction, truth, ["a"], (2.0, 5.0, 1.0), 7.0)
    assert values(row, "dsc nsd") == (0.0, 0.0)
    assert row.scores["hd95"] == pytest.approx(math.sqrt(50))
    (row,) = score_case(truth, truth, ["a"], (2.0, 5.0, 1.0), 0.0)
    assert (
        row.scores["dsc"],
        row.scores["iou"],
        row.scores["hd95"],
        row.scores["nsd"],
        row.scores["sensitivity"],
    ) == (1.0, 1.0, 0.0, 1.0, 1.0)


def test_whole_volume_has_its_border_as_surface():
    # 3x3x3 full of one class: all but the middle voxel are surface, since beyond the volume is outside.
    full = np.ones((3, 3, 3), dtype=np.uint8)
    (row,) = score_case(full, full, ["a"], (1.0, 1.0, 1.0), 0.0)
    assert (row.scores["dsc"], row.scores["hd95"], row.scores["nsd"], row.tn) == (1.0, 0.0, 1.0, 0)
    assert math.isnan(row.scores["specificity"])
    # The middle voxel alone: 6 of 26 surface voxels are 1 mm away, 12 sqrt(2), 8 sqrt(3); back: 1 mm.
    (row,) = score_case(cube((3, 3, 3), (1, 1, 1), (2, 2, 2)), full, ["a"], (1.0, 1.0, 1.0), 1.0)
    assert row.scores["nsd"] == pytest.approx((6 + 1) / 27)
    assert row.scores["hd95"] == pytest.approx(math.sqrt(3))


def test_neighbouring_class_is_outside():
    # Two classes side by side fill the volume: each has its own surface on the plane between them.
    truth = cube((4, 3, 3), (0, 0, 0), (2, 3, 3), 1, cube((4, 3, 3), (2, 0, 0), (4, 3, 3), 2))
    prediction = cube((4, 3, 3), (0, 0, 0), (3, 3, 3), 1, truth.copy())
    one, two = score_case(prediction, truth, ["one", "two"], (1.0, 1.0, 1.0), 0.0)
    assert (one.tp, one.fp, one.fn, one.tn) == (18, 9, 0, 9)
    assert (two.tp, two.fp, two.fn, two.tn) == (9, 0, 9, 18)
    # Truth one: 18 voxels, all surface (2 thick). Predicted: 27, all but the middle one.
    # Shared: the 18 without that middle one's place: x=1 middle voxel is inside the prediction.
    assert one.scores["nsd"] == pytest.approx((17 + 17) / (26 + 18))


def test_edge_cases():
    shape, spacing = (10, 20, 5), (2.0, 1.0, 4.0)
    empty, organ = np.zeros(shape, dtype=np.uint8), cube(shape, (2, 2, 2), (4, 4, 4))
    diagonal = math.sqrt(20**2 + 20**2 + 20**2)

    (row,) = score_case(empty, empty, ["a"], spacing, 1.0)
    assert row.edge == "both-empty"
    assert row.tn == 1000
    assert all(math.isnan(value) for value in row.scores.values())

    (row,) = score_case(empty, organ, ["a"], spacing, 1.0)
    assert (
        row.scores["dsc"],
        row.scores["iou"],
        row.scores["nsd"],
        row.scores["sensitivity"],
        row.scores["specificity"],
    ) == (0, 0, 0, 0, 1)
    assert row.edge == "prediction-empty"
    assert row.scores["hd95"] == pytest.approx(diagonal)

    (row,) = score_case(organ, empty, ["a"], spacing, 1.0)
    assert values(row, "dsc iou nsd") == (0, 0, 0)
    assert math.isnan(row.scores["sensitivity"])
    assert row.scores["specificity"] == pytest.approx(992 / 1000)
    assert row.edge == "truth-empty"
    assert row.scores["hd95"] == pytest.approx(diagonal)

    for truth, voxels in ((organ, 8), (empty, 0)):
        (row,) = score_case(None, truth, ["a"], spacing, 1.0)
        assert (
            row.scores["dsc"],
            row.scores["iou"],
            row.scores["nsd"],
            row.scores["sensitivity"],
            row.scores["specificity"],
        ) == (0, 0, 0, 0, 0)
        assert row.edge == "missing"
        assert row.scores["hd95"] == pytest.approx(diagonal)
        assert (row.tp, row.fp, row.fn, row.tn) == (0, 0, voxels, 1000 - voxels)


def test_leaving_an_organ_out_never_improves_a_score():
    shape, spacing, names = (12, 12, 12), (1.0, 1.0, 1.0), ["liver", "spleen"]
    truth = cube(shape, (0, 0, 0), (3, 3, 3), 1, cube(shape, (0, 8, 8), (2, 10, 10), 2))
    worst_place = cube(shape, (0, 0, 0), (3, 3, 3), 1, cube(shape, (11, 0, 0), (12, 1, 1), 2))
    left_out = cube(shape, (0, 0, 0), (3, 3, 3), 1)
    tried = summarise([score_case(worst_place, truth, names, spacing, 1.0)])
    omitted = summarise([score_case(left_out, truth, names, spacing, 1.0)])
    missing = summarise([score_case(None, truth, names, spacing, 1.0)])
    assert tried["hd95"] < omitted["hd95"] < missing["hd95"]
    assert tried["dsc"] >= omitted["dsc"] > missing["dsc"] == 0.0
    assert omitted["unscored"] == missing["unscored"] == 0


@pytest.mark.parametrize(
    ("prediction", "truth", "spacing", "tolerance", "message"),
    [
        (np.zeros((3, 3, 4), int), np.zeros((3, 3, 3), int), (1, 1, 1), 1.0, "shape"),
        (
            np.full((3, 3, 3), 3),
            np.zeros((3, 3, 3), int),
            (1, 1, 1),
            1.0,
            "prediction: label 3 is outside 0..2",
        ),
        (np.zeros((3, 3, 3), int), np.full((3, 3, 3), -1), (1, 1, 1), 1.0, "truth: label -1 is outside"),
        (np.zeros((3, 3, 3)), np.zeros((3, 3, 3), int), (1, 1, 1), 1.0, "float64, not integer"),
        (np.zeros((3, 3), int), np.zeros((3, 3), int), (1, 1, 1), 1.0, "not a volume"),
        (np.zeros((3, 3, 3), int), np.zeros((3, 3, 3), int), (1, 0, 1), 1.0, "spacing"),
        (np.zeros((3, 3, 3), int), np.zeros((3, 3, 3), int), (1, 1), 1.0, "spacing"),
        (np.zeros((3, 3, 3), int), np.zeros((3, 3, 3), int), (1, math.nan, 1), 1.0, "spacing"),
        (np.zeros((3, 3, 3), int), np.zeros((3, 3, 3), int), (1, 1, 1), -1.0, "tolerance"),
    ],
)
def test_unusable_input_is_refused_by_name(prediction, truth, spacing, tolerance, message):
    with pytest.raises(UsbenchError, match=message) as error:
        score_case(prediction, truth, ["a", "b"], spacing, tolerance)
    assert "\n" not in str(error.value)


def row(name, dsc, edge="", hd95=1.0, sensitivity=0.5):
    known = {"dsc": dsc, "iou": dsc / 2, "hd95": hd95, "sensitivity": sensitivity}
    return ClassScore(name, {s.name: known.get(s.name, 1.0) for s in all_scores()}, 1, 1, 1, 1, edge)


def test_summary_takes_classes_within_cases_first():
    nan = math.nan
    unscored = ClassScore("b", {score.name: nan for score in all_scores()}, 0, 0, 0, 9, "both-empty")
    none = dataclasses.replace(unscored, name="a")
    block = summarise(
        [
            [row("a", 0.8), row("b", 0.4, sensitivity=nan)],  # 0.6
            [row("a", 0.9, hd95=5.0), unscored],  # 0.9, not (0.8 + 0.4 + 0.9) / 3
            [none, unscored],  # not scored at all
        ]
    )
    assert block["dsc"] == pytest.approx(0.75)
    assert block["miou"] == pytest.approx(0.375)
    assert block["hd95"] == pytest.approx(3.0)
    assert block["sensitivity"] == pytest.approx(0.5)
    assert (block["cases"], block["unscored"]) == (2, 3)
    assert block["classes"]["a"]["dsc"] == pytest.approx(0.85)
    assert block["classes"]["a"]["cases"] == 2
    assert block["classes"]["b"]["dsc"] == pytest.approx(0.4)
    assert block["classes"]["b"]["cases"] == 1
    assert block["classes"]["b"]["sensitivity"] is None
    assert list(block) == [
        "dsc", "miou", "hd95", "nsd", "assd", "mssd", "sensitivity", "specificity", "rvd", "ravd",
        "false_ml", "cases", "unscored", "classes",
    ]  # fmt: skip
    with pytest.raises(UsbenchError, match="one task"):
        summarise([[row("a", 1.0)], [row("b", 1.0)]])


def test_summary_of_nothing_is_none():
    block = summarise([])
    assert block["dsc"] is None
    assert block["cases"] == 0
    assert block["classes"] == {}


def test_paper_style_by_hand():
    # Three 2x2 slices, two classes.
    # Slice 0: class 1 in both, 1 of 2 voxels found: DSC 2*1/(2+1) = 2/3, IoU 1/2; class 2 absent;
    #          background: truth 2, predicted 3, both 2: IoU 2/3. mIoU (1/2 + 2/3) / 2 = 7/12.
    # Slice 1: truth empty, class 2 predicted on all 4: DSC 0; IoU 0 and background 0: mIoU 0.
    # Slice 2: empty in both: not counted.
    truth, prediction = np.zeros((3, 2, 2), np.uint8), np.zeros((3, 2, 2), np.uint8)
    truth[0, 0] = 1
    prediction[0, 0, 0] = 1
    prediction[1] = 2
    assert paper_style(prediction, truth, 2) == pytest.approx((1 / 3, 7 / 24))
    assert paper_style(prediction, truth, ["a", "b"]) == pytest.approx((1 / 3, 7 / 24))
    assert paper_style(truth, truth, 2) == (1.0, 1.0)
    assert all(math.isnan(v) for v in paper_style(prediction[2:], truth[2:], 2))
    # A slice full of one class has no background to average.
    assert paper_style(prediction[1:2], prediction[1:2], 2) == (1.0, 1.0)
    with pytest.raises(UsbenchError, match="one shape"):
        paper_style(prediction[:2], truth, 2)
