"""ASSD, MSSD and the relative volume differences beside MONAI's, SimpleITK's, and by hand."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from kit.masks import blobs, cube

from usbench.scores.case import ClassScore, score_case

GRIDS = [
    ((40, 36, 30), (1.0, 1.0, 1.0), 1),
    ((48, 40, 14), (0.7, 0.7, 3.0), 3),
    ((20, 50, 44), (7.7, 1.25, 1.36), 4),
    ((33, 17, 25), (0.5, 2.0, 0.9), 2),
]


def scored(prediction: np.ndarray, truth: np.ndarray, classes: int, spacing: tuple) -> list[ClassScore]:
    return score_case(prediction, truth, [str(c) for c in range(classes)], spacing, 1.0)


def pairs(shape, classes, seed):
    """A truth with a prediction near it and one that has nothing to do with it."""
    truth = blobs(shape, classes, seed)
    return [(np.roll(truth, (1, -2, 1), axis=(0, 1, 2)), truth), (blobs(shape, classes, seed + 100), truth)]


def by_monai(prediction, truth, classes, spacing):
    """ASSD and MSSD of each class, [2, classes]."""
    import torch
    from monai.metrics import HausdorffDistanceMetric, SurfaceDistanceMetric

    one_hot = [
        torch.from_numpy(np.stack([labels == c for c in range(classes + 1)])[None].astype(np.float32))
        for labels in (prediction, truth)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean = SurfaceDistanceMetric(include_background=False, symmetric=True)(*one_hot, spacing=spacing)
        largest = HausdorffDistanceMetric(include_background=False)(*one_hot, spacing=spacing)
    return np.stack([mean.numpy()[0], largest.numpy()[0]])


def by_simpleitk(prediction, truth, spacing):
    """ASSD and MSSD of two masks: the distance map of one contour, read on the other one."""
    import SimpleITK as sitk

    contours, maps = [], []
    for mask in (prediction, truth):
        # A border of background, so that a mask cut off by the volume has a contour there, as here.
        image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8).transpose(2, 1, 0))
        image.SetSpacing(spacing)
        contour = sitk.LabelContour(image, fullyConnected=False)
        away = sitk.SignedMaurerDistanceMap(contour, squaredDistance=False, useImageSpacing=True)
        contours.append(sitk.GetArrayViewFromImage(contour) > 0)
        maps.append(np.abs(sitk.GetArrayFromImage(away)))
    there, back = maps[1][contours[0]], maps[0][contours[1]]
    return np.concatenate([there, back]).mean(), max(there.max(), back.max())


@pytest.mark.parametrize(("shape", "spacing", "classes"), GRIDS)
@pytest.mark.parametrize("seed", [2, 3])
def test_mean_and_largest_distance_are_those_of_monai_and_simpleitk(shape, spacing, classes, seed):
    for prediction, truth in pairs(shape, classes, seed):
        rows = scored(prediction, truth, classes, spacing)
        monai = by_monai(prediction, truth, classes, spacing)
        for label, row in enumerate(rows, start=1):
            assert row.edge == ""
            found = row.scores["assd"], row.scores["mssd"]
            np.testing.assert_allclose(found, monai[:, label - 1], rtol=1e-6, atol=1e-5)
            itk = by_simpleitk(prediction == label, truth == label, spacing)
            np.testing.assert_allclose(found, itk, rtol=1e-5, atol=1e-5)
            assert row.scores["assd"] <= row.scores["mssd"]
            assert row.scores["hd95"] <= row.scores["mssd"]


@pytest.mark.parametrize(("shape", "spacing", "classes"), GRIDS)
def test_relative_volume_difference_is_that_of_the_volumes_of_simpleitk(shape, spacing, classes):
    import SimpleITK as sitk

    for prediction, truth in pairs(shape, classes, 4):
        images, volumes = [], []
        for labels in (prediction, truth):
            image = sitk.GetImageFromArray(labels.transpose(2, 1, 0))
            image.SetSpacing(spacing)
            shapes = sitk.LabelShapeStatisticsImageFilter()
            shapes.Execute(image)
            images.append(image)
            volumes.append([shapes.GetPhysicalSize(label) for label in range(1, classes + 1)])
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(*images)
        rows = scored(prediction, truth, classes, spacing)
        for label, (row, p, t) in enumerate(zip(rows, *volumes, strict=True), start=1):
            assert row.scores["rvd"] == pytest.approx((p - t) / t, rel=1e-9)
            assert row.scores["ravd"] == pytest.approx(abs(p - t) / t, rel=1e-9)
            # SimpleITK's is 2 (P - T) / (P + T), so P / T is (2 + s) / (2 - s).
            s = overlap.GetVolumeSimilarity(label)
            assert row.scores["rvd"] == pytest.approx((2 + s) / (2 - s) - 1, rel=1e-9)


@pytest.mark.skipif("USBENCH_REAL_DATA" not in os.environ, reason="needs USBENCH_REAL_DATA")
def test_distances_of_a_real_mask_are_those_of_monai():
    import nibabel

    file = sorted((Path(os.environ["USBENCH_REAL_DATA"]) / "msd").glob("*/labelsTr/[!.]*.nii.gz"))[0]
    image = nibabel.load(file)
    truth = (np.asarray(image.dataobj) > 0).astype(np.uint8)
    spacing = tuple(float(s) for s in image.header.get_zooms()[:3])
    prediction = np.roll(truth, (2, -1, 1), axis=(0, 1, 2))
    (row,) = scored(prediction, truth, 1, spacing)
    expected = by_monai(prediction, truth, 1, spacing)[:, 0]
    np.testing.assert_allclose((row.scores["assd"], row.scores["mssd"]), expected, rtol=1e-6, atol=1e-5)


def test_distances_and_volumes_by_hand():
    # The cubes of 4x4x4 voxels of 3 x 1 x 2 mm, two voxels apart along x. Each surface has 56 voxels: 24 at
    # 0 mm, 4 at 1 mm, 12 at 3 mm and 16 at 6 mm (worked out in test_case.py), the same both ways.
    shape = (10, 9, 8)
    truth, prediction = cube(shape, (0, 2, 2), (4, 6, 6)), cube(shape, (2, 2, 2), (6, 6, 6))
    (row,) = scored(prediction, truth, 1, (3.0, 1.0, 2.0))
    assert row.scores["assd"] == pytest.approx((4 * 1 + 12 * 3 + 16 * 6) / 56)
    assert row.scores["mssd"] == pytest.approx(6)
    assert (row.scores["rvd"], row.scores["ravd"]) == (0, 0)
    # One true voxel; predicted are it and two more along x, 1.5 mm apart: 0, 1.5 and 3 mm away, back 0 mm.
    truth, prediction = cube((5, 3, 3), (0, 1, 1), (1, 2, 2)), cube((5, 3, 3), (0, 1, 1), (3, 2, 2))
    (row,) = scored(prediction, truth, 1, (1.5, 1.0, 1.0))
    assert row.scores["assd"] == pytest.approx((0 + 1.5 + 3 + 0) / 4)
    assert (row.scores["mssd"], row.scores["rvd"], row.scores["ravd"]) == pytest.approx((3, 2, 2))
    (row,) = scored(truth, prediction, 1, (1.5, 1.0, 1.0))
    assert row.scores["assd"] == pytest.approx(4.5 / 4)
    assert (row.scores["rvd"], row.scores["ravd"]) == pytest.approx((-2 / 3, 2 / 3))


def test_a_mask_cut_off_by_the_volume_has_a_surface_there():
    # A slab of the whole plane, one voxel of 2 mm thick at x = 0, and all of the volume, 4 voxels long. With
    # a surface at the border the last plane of the volume is one, 6 mm away from the slab.
    slab, full = cube((4, 5, 5), (0, 0, 0), (1, 5, 5)), np.ones((4, 5, 5), np.uint8)
    (row,) = scored(full, slab, 1, (2.0, 1.0, 1.0))
    assert row.scores["mssd"] == pytest.approx(6)
    # Of the volume the 25 voxels of each end and the rings of 16 in between are surface: 0, 2, 4, 6 mm away.
    assert row.scores["assd"] == pytest.approx((16 * 2 + 16 * 4 + 25 * 6) / (25 + 16 + 16 + 25 + 25))


def test_empty_and_missing_masks_get_what_the_document_says():
    shape, spacing = (10, 20, 5), (2.0, 1.0, 4.0)
    empty, organ = np.zeros(shape, np.uint8), cube(shape, (2, 2, 2), (4, 4, 4))
    diagonal, nan = math.sqrt(20**2 + 20**2 + 20**2), math.nan
    expected = {  # truth, prediction: ASSD, MSSD, RVD, RAVD
        "both-empty": (empty, empty, (nan, nan, nan, nan)),
        "prediction-empty": (organ, empty, (diagonal, diagonal, -1, 1)),
        "truth-empty": (empty, organ, (diagonal, diagonal, nan, nan)),
        "missing": (organ, None, (diagonal, diagonal, -1, 1)),
    }
    for edge, (truth, prediction, values) in expected.items():
        (row,) = score_case(prediction, truth, ["a"], spacing, 1.0)
        assert row.edge == edge
        found = [row.scores[name] for name in ("assd", "mssd", "rvd", "ravd")]
        assert found == pytest.approx(values, nan_ok=True)
    (row,) = score_case(None, empty, ["a"], spacing, 1.0)
    assert row.edge == "missing"
    found = [row.scores[name] for name in ("assd", "mssd", "rvd", "ravd")]
    assert found == pytest.approx([diagonal, diagonal, nan, nan], nan_ok=True)


def test_the_distances_of_a_class_are_computed_once(monkeypatch):
    from usbench.scores.surface import Surfaces

    asked = []
    real = Surfaces.distances
    monkeypatch.setattr(Surfaces, "distances", lambda self, label: asked.append(label) or real(self, label))
    truth = blobs((24, 20, 18), 2, 7)
    scored(np.roll(truth, 1, axis=0), truth, 2, (1.0, 1.0, 1.0))
    assert asked == [1, 2]
