"""Overlapping regions are scored as binary masks of their own: against MONAI, scipy, and by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from kit.masks import blobs
from scipy.ndimage import binary_erosion, distance_transform_edt

from usbench.errors import UsbenchError
from usbench.scores.case import score_case
from usbench.scores.paper import paper_style
from usbench.scores.registry import all_scores

NAMES = ["whole", "core", "enhancing"]
SPACING = (0.9, 1.3, 3.0)


def nested(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bit mask of three regions within each other and one that is not, and its maps, bool [3, X, Y, Z]."""
    labels = blobs((30, 34, 16), 3, seed)
    maps = np.stack([labels >= 1, labels >= 2, (labels == 3) | (blobs((30, 34, 16), 1, seed + 50) == 1)])
    return (maps * np.array([1, 2, 4])[:, None, None, None]).sum(0).astype(np.uint8), maps


def test_each_region_is_scored_as_monai_scores_its_binary_mask() -> None:
    import torch
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDiceMetric

    truth, true = nested(1)
    for prediction, predicted in (nested(2), (np.roll(truth, 2, 0), np.roll(true, 2, 1))):
        rows = score_case(prediction, truth, NAMES, SPACING, 2.0, regions=True)
        assert [row.name for row in rows] == NAMES
        for row, one, other in zip(rows, predicted, true, strict=True):
            pair = [torch.from_numpy(m[None, None].astype(np.float32)) for m in (one, other)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = [
                    DiceMetric()(*pair),
                    MeanIoU()(*pair),
                    HausdorffDistanceMetric(percentile=95, include_background=True)(*pair, spacing=SPACING),
                    SurfaceDiceMetric([2.0], include_background=True)(*pair, spacing=SPACING),
                ]
            ours = [row.scores[name] for name in ("dsc", "iou", "hd95", "nsd")]
            np.testing.assert_allclose(ours, [float(t) for t in theirs], rtol=1e-6, atol=1e-5)
            counts = (one & other).sum(), (one & ~other).sum(), (~one & other).sum(), (~one & ~other).sum()
            assert (row.tp, row.fp, row.fn, row.tn) == counts
            surfaces = [m & ~binary_erosion(m) for m in (one, other)]
            far = [distance_transform_edt(~s, sampling=SPACING) for s in surfaces]
            there, back = far[1][surfaces[0]], far[0][surfaces[1]]
            assert row.scores["assd"] == pytest.approx((there.sum() + back.sum()) / (there.size + back.size))
            assert row.scores["mssd"] == pytest.approx(max(there.max(), back.max()))


def test_a_region_scores_what_a_task_of_it_alone_would() -> None:
    (prediction, predicted), (truth, true) = nested(3), nested(4)
    rows = score_case(prediction, truth, NAMES, SPACING, 1.0, regions=True)
    for name, row, one, other in zip(NAMES, rows, predicted, true, strict=True):
        alone = score_case(one.astype(np.uint8), other.astype(np.uint8), [name], SPACING, 1.0)
        assert [row] == alone


def test_disjoint_regions_score_as_classes_do() -> None:
    truth, prediction = blobs((30, 34, 16), 2, 5), blobs((30, 34, 16), 2, 6)
    # Of two classes that never overlap, values 1 and 2 are bits 1 and 2 too.
    one = score_case(prediction, truth, ["a", "b"], SPACING, 1.0, regions=True)
    assert one == score_case(prediction, truth, ["a", "b"], SPACING, 1.0)


def test_overlap_counts_in_both_regions() -> None:
    truth, prediction = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    truth[0, 0, :4] = 0b01, 0b11, 0b11, 0b10
    prediction[0, 0, :4] = 0b01, 0b01, 0b11, 0b00
    one, two = score_case(prediction, truth, ["a", "b"], (1, 1, 1), 0.0, regions=True)
    assert (one.tp, one.fp, one.fn, one.tn) == (3, 0, 0, 61)
    assert (two.tp, two.fp, two.fn, two.tn) == (1, 0, 2, 61)
    assert (one.scores["dsc"], two.scores["dsc"]) == (1.0, 0.5)


def test_empty_and_missing_regions_have_the_edge_cases_of_classes() -> None:
    truth, prediction = np.zeros((5, 5, 5), np.uint8), np.zeros((5, 5, 5), np.uint8)
    truth[1:3, 1:3, 1:3] = 0b0011
    prediction[1:3, 1:3, 1:3] = 0b0101
    rows = score_case(prediction, truth, ["a", "b", "c", "d"], (1, 1, 1), 1.0, regions=True)
    assert [row.edge for row in rows] == ["", "prediction-empty", "truth-empty", "both-empty"]
    missing = score_case(None, truth, ["a", "b", "c", "d"], (1, 1, 1), 1.0, regions=True)
    assert [row.edge for row in missing] == ["missing"] * 4
    assert [row.scores["dsc"] for row in missing] == [0.0] * 4
    assert {score.name for score in all_scores()} == set(rows[0].scores)


def test_values_beyond_the_bits_are_refused() -> None:
    truth = np.zeros((3, 3, 3), np.uint8)
    wrong = truth + 8
    with pytest.raises(UsbenchError, match=r"prediction: label 8 is outside 0\.\.7; .*sum of 2\*\*i"):
        score_case(wrong, truth, NAMES, (1, 1, 1), 1.0, regions=True)
    with pytest.raises(UsbenchError, match="not integer labels"):
        score_case(truth.astype(float), truth, NAMES, (1, 1, 1), 1.0, regions=True)
    with pytest.raises(UsbenchError, match="at most 8 regions"):
        score_case(truth, truth, [str(i) for i in range(9)], (1, 1, 1), 1.0, regions=True)


def test_paper_style_of_regions_by_hand() -> None:
    # One slice of 4 x 1 pixels. Whole: truth 3, prediction 2, both 2. Core: truth 1, prediction 2, both 1.
    truth = np.array([[[0], [1], [1], [3]]], dtype=np.uint8)
    prediction = np.array([[[0], [0], [3], [3]]], dtype=np.uint8)
    dsc = (4 / 5 + 2 / 3) / 2
    miou = (1 / 2 + 2 / 3 + 1 / 2) / 3  # background: truth 1, prediction 2, both 1
    assert paper_style(prediction, truth, 2, regions=True) == pytest.approx((dsc, miou))
    assert paper_style(truth, truth, 2, regions=True) == (1.0, 1.0)
    nothing = np.zeros_like(truth)
    assert all(math.isnan(v) for v in paper_style(nothing, nothing, 2, regions=True))
    # Without overlap the two conventions agree.
    one, other = blobs((9, 20, 20), 2, 1), blobs((9, 20, 20), 2, 2)
    assert paper_style(one, other, 2, regions=True) == pytest.approx(paper_style(one, other, 2))
