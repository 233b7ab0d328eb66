"""The Zeus paper's slice-wise numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from usbench.errors import UsbenchError
from usbench.scores.labels import as_labels


def paper_style(
    prediction: np.ndarray, truth: np.ndarray, classes: int | Sequence[str]
) -> tuple[float, float]:
    """The Zeus paper's slice-wise numbers, as nearly as it states them.

    A slice counts if it holds any foreground, true or predicted. Its DSC is the mean over the foreground
    classes in it, its mIoU the mean over the background and those classes; both are averaged over the
    slices. The paper leaves the convention open (`docs/metrics.md`), so these numbers are never ranked.

    Args:
        prediction: Integers [Z, H, W], the slices as the network sees them.
        truth: Likewise.
        classes: The foreground classes or their number K.

    Returns:
        (paper_dsc, paper_miou), NaN if no slice counts.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if truth.ndim != 3 or prediction.shape != truth.shape:
        raise UsbenchError(
            f"slices: prediction {prediction.shape} and truth {truth.shape} must have one shape "
            "[slices, height, width]; pass both at the network's size"
        )
    k = (classes if isinstance(classes, int) else len(classes)) + 1
    predicted, true = as_labels(prediction, k - 1, "prediction"), as_labels(truth, k - 1, "truth")
    code = np.arange(len(true)).reshape(-1, 1, 1) * k * k + true.astype(np.intp) * k + predicted
    confusion = np.bincount(code.ravel(), minlength=len(true) * k * k).reshape(len(true), k, k)
    both = np.diagonal(confusion, axis1=1, axis2=2).astype(float)
    sizes = (confusion.sum(axis=1) + confusion.sum(axis=2)).astype(float)
    counted = (sizes[:, 1:] > 0).any(axis=1)
    if not counted.any():
        return math.nan, math.nan
    both, sizes = both[counted], sizes[counted]
    with np.errstate(invalid="ignore"):
        dsc = 2 * both[:, 1:] / sizes[:, 1:]
        iou = both / (sizes - both)
    return float(np.nanmean(dsc, axis=1).mean()), float(np.nanmean(iou, axis=1).mean())
