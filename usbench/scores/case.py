"""Scores of one patient's predicted mask, every class in one pass.

The definitions, with their edge cases, are in `docs/metrics.md`; the scores themselves are the entries of
`usbench.scores.registry`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from usbench.contracts.classes import is_class, largest_value
from usbench.contracts.score import MeasuredClass
from usbench.errors import UsbenchError
from usbench.scores.labels import as_labels, confusion_of, union_box
from usbench.scores.registry import all_scores
from usbench.scores.surface import Surfaces


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class in one case.

    Attributes:
        name: Name of the class.
        scores: Every score by its name; NaN where undefined.
        tp: Voxels of the whole volume that are of the class in prediction and truth.
        fp: Those of the class in the prediction alone.
        fn: Those of the class in the truth alone.
        tn: All others.
        edge: "" for an ordinary class, else "both-empty", "truth-empty", "prediction-empty" or "missing".
    """

    name: str
    scores: Mapping[str, float]
    tp: int
    fp: int
    fn: int
    tn: int
    edge: str = ""


def score_case(
    prediction: np.ndarray | None,
    truth: np.ndarray,
    class_names: Sequence[str],
    spacing: Sequence[float],
    tolerance_mm: float,
    regions: bool = False,
    only: Sequence[str] | None = None,
) -> list[ClassScore]:
    """Score a predicted mask against the true one.

    Args:
        prediction: Integers [X, Y, Z], 0 for background and i + 1 for `class_names[i]`, or of regions the
            sum of 2**i over those that a voxel is in; None where the prediction is missing. That gets the
            worst score there is, whatever the truth, and its voxels are counted as if nothing had been
            predicted.
        truth: Integers [X, Y, Z], as `prediction`.
        class_names: The foreground classes, K names.
        spacing: Voxel size along X, Y, Z in mm.
        tolerance_mm: The largest distance in mm at which a surface voxel still counts as found (NSD).
        regions: Whether the classes are regions, which may overlap. Each is scored as a binary mask.
        only: Names of the scores that are wanted, all by default: surfaces are costly, overlaps are not.

    Returns:
        One `ClassScore` a class, in order.

    Raises:
        UsbenchError: For unlike shapes, values that no mask of these classes has, or a spacing or tolerance
            that is not usable.
    """
    truth = np.asarray(truth)
    size = _check_geometry(truth, spacing, tolerance_mm)
    missing = prediction is None
    prediction = np.zeros_like(truth) if prediction is None else np.asarray(prediction)
    if prediction.shape != truth.shape:
        raise UsbenchError(
            f"prediction: its shape {prediction.shape} is not the truth's {truth.shape}; "
            "write predictions on the grid of the case's mask"
        )
    if regions:
        most = largest_value(len(class_names), True)
        maps = as_labels(prediction, most, "prediction", True), as_labels(truth, most, "truth", True)
        rows = []
        for index, name in enumerate(class_names):
            one, other = (is_class(values, index, True) for values in maps)
            rows += score_case(None if missing else one, other, [name], spacing, tolerance_mm, only=only)
        return rows
    diagonal = float(np.linalg.norm(np.asarray(truth.shape) * size))
    voxels = truth.size
    x, y, z = (float(length) for length in size)

    # Both label maps are read in memory order: NIfTI volumes are Fortran-ordered, and a score
    # does not depend on the order of the axes.
    axes = np.argsort([-abs(stride) for stride in truth.strides], kind="stable")
    prediction, truth, size = prediction.transpose(axes), truth.transpose(axes), size[axes]
    inside = union_box(prediction, truth)
    classes = len(class_names)
    predicted = as_labels(prediction[inside], classes, "prediction")
    true = as_labels(truth[inside], classes, "truth")

    confusion = confusion_of(predicted, true, classes + 1)
    confusion[0, 0] += voxels - true.size
    surfaces = cache(partial(Surfaces, predicted, true, size))
    rows = []
    for label, name in enumerate(class_names, start=1):
        tp = int(confusion[label, label])
        fp = int(confusion[:, label].sum()) - tp
        fn = int(confusion[label].sum()) - tp
        measured = MeasuredClass(
            tp=tp,
            fp=fp,
            fn=fn,
            tn=voxels - tp - fp - fn,
            spacing=(x, y, z),
            diagonal_mm=diagonal,
            tolerance_mm=float(tolerance_mm),
            edge="missing" if missing else _edge(tp, fp, fn),
            measure=partial(_distances, surfaces, label),
        )
        rows.append(_class_score(name, measured, only))
    return rows


def _distances(surfaces: Callable[[], Surfaces], label: int) -> tuple[np.ndarray, np.ndarray]:
    """The distances of a class; the surfaces of all of them are searched when the first is asked for."""
    return surfaces().distances(label)


def _class_score(name: str, measured: MeasuredClass, only: Sequence[str] | None) -> ClassScore:
    wanted = [score for score in all_scores() if only is None or score.name in only]
    values = {score.name: score.of(measured) for score in wanted}
    return ClassScore(name, values, measured.tp, measured.fp, measured.fn, measured.tn, measured.edge)


def _edge(tp: int, fp: int, fn: int) -> str:
    if not tp + fp + fn:
        return "both-empty"
    if not tp + fp:
        return "prediction-empty"
    return "" if tp + fn else "truth-empty"


def _check_geometry(truth: np.ndarray, spacing: Sequence[float], tolerance_mm: float) -> np.ndarray:
    if truth.ndim != 3 or truth.size == 0:
        raise UsbenchError(
            f"truth: its shape {truth.shape} is not a volume [X, Y, Z]; pass one patient's mask"
        )
    size = np.asarray(spacing, dtype=float)
    if size.shape != (3,) or not np.isfinite(size).all() or not (size > 0).all():
        raise UsbenchError(
            f"spacing: {tuple(np.atleast_1d(size).tolist())} is not three positive lengths in mm; "
            "correct the header of the case's images"
        )
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise UsbenchError(f"NSD tolerance: {tolerance_mm} mm is not a length; give a number of 0 or more")
    return size
