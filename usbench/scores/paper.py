"""The Zeus paper's slice-wise numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from usbench.contracts.classes import class_maps, largest_value
from usbench.errors import UsbenchError
from usbench.scores.labels import as_labels


def paper_style(
    prediction: np.ndarray, truth: np.ndarray, classes: int | Sequence[str], regions: bool = False
) -> tuple[float, float]:
    """The Zeus paper's slice-wise numbers, as nearly as it states them.

    A slice counts if it holds any foreground, true or predicted. Its DSC is the mean over the foreground
    classes in it, its mIoU the mean over the background and those classes; both are averaged over the
    slices. The paper leaves the convention open (`docs/metrics.md`), so these numbers are never ranked.

    Args:
        prediction: Integers [Z, H, W], the slices as the network sees them.
        truth: Likewise.
        classes: The foreground classes or their number K.
        regions: Whether they are regions, which may overlap; the background is what is in none of them.

    Returns:
        (paper_dsc, paper_miou), NaN if no slice counts.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if truth.ndim != 3 or prediction.shape != truth.shape:
        raise UsbenchError(
            f"slices: prediction {prediction.shape} and truth {truth.shape} must have one shape "
            "[slices, height, width]; pass both at the network's size"
        )
    k = classes if isinstance(classes, int) else len(classes)
    most = largest_value(k, regions)
    predicted = as_labels(prediction, most, "prediction", regions)
    true = as_labels(truth, most, "truth", regions)
    both, sizes = (_counts_of_regions if regions else _counts_of_classes)(predicted, true, k)
    counted = (sizes[:, 1:] > 0).any(axis=1)
    if not counted.any():
        return math.nan, math.nan
    both, sizes = both[counted], sizes[counted]
    with np.errstate(invalid="ignore"):
        dsc = 2 * both[:, 1:] / sizes[:, 1:]
        iou = both / (sizes - both)
    return float(np.nanmean(dsc, axis=1).mean()), float(np.nanmean(iou, axis=1).mean())


def _counts_of_classes(
    predicted: np.ndarray, true: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each slice and of background and classes: pixels of both masks, and the sum of their sizes."""
    k = classes + 1
    code = np.arange(len(true)).reshape(-1, 1, 1) * k * k + true.astype(np.intp) * k + predicted
    confusion = np.bincount(code.ravel(), minlength=len(true) * k * k).reshape(len(true), k, k)
    both = np.diagonal(confusion, axis1=1, axis2=2).astype(float)
    return both, (confusion.sum(axis=1) + confusion.sum(axis=2)).astype(float)


def _counts_of_regions(
    predicted: np.ndarray, true: np.ndarray, regions: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same of background and regions, float [Z, K + 1] each."""
    one, other = (
        np.concatenate([(mask == 0)[None], class_maps(mask, regions, True)]) for mask in (predicted, true)
    )
    both, sizes = (one & other).sum(axis=(2, 3)), one.sum(axis=(2, 3)) + other.sum(axis=(2, 3))
    return both.T.astype(float), sizes.T.astype(float)
