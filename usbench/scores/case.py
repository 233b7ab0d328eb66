"""Scores of one patient's predicted mask: overlap and boundary, every class in one pass.

The definitions, with their edge cases, are in `docs/metrics.md`. Overlap scores follow Taha and
Hanbury (2015), the normalised surface distance Nikolov et al. (2018), both as MONAI computes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from usbench.errors import UsbenchError

SCORES = ("dsc", "iou", "hd95", "nsd", "sensitivity", "specificity")
"""The scores of a case and class, by the names they have in `cases.csv`."""

# Which search is faster, measured on blobs, noise, shells and half-filled volumes: a tree over the
# surface voxels, unless there are many of them and more than one in forty voxels of the box.
_TREE_LEAF = 32
_TREE_POINTS = 50_000
_TREE_SHARE = 1 / 40


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class in one case.

    dsc, iou, nsd, sensitivity, specificity are in 0..1, hd95 is in mm; NaN where undefined.
    tp, fp, fn, tn count voxels of the whole volume. `edge` is "" for an ordinary case, else
    "both-empty", "truth-empty", "prediction-empty" or "missing".
    """

    name: str
    dsc: float
    iou: float
    hd95: float
    nsd: float
    sensitivity: float
    specificity: float
    tp: int
    fp: int
    fn: int
    tn: int
    edge: str = ""


def score_case(
    prediction: np.ndarray,
    truth: np.ndarray,
    class_names: Sequence[str],
    spacing: Sequence[float],
    tolerance_mm: float,
) -> list[ClassScore]:
    """Score a predicted label map against the true one; one `ClassScore` a class, in order.

    prediction, truth: integers [X, Y, Z], 0 for background and i + 1 for `class_names[i]`.
    spacing: voxel size along X, Y, Z in mm. tolerance_mm: the largest distance at which a surface
    voxel still counts as found (NSD). Raises `UsbenchError` for unlike shapes, labels that are not
    integers in 0..K, or a spacing or tolerance that is not usable.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    size = _check_geometry(truth, spacing, tolerance_mm)
    if prediction.shape != truth.shape:
        raise UsbenchError(
            f"prediction: its shape {prediction.shape} is not the truth's {truth.shape}; "
            "write predictions on the grid of the case's mask"
        )
    diagonal = _diagonal(truth.shape, size)
    voxels = truth.size

    # Both label maps are read in memory order: NIfTI volumes are Fortran-ordered, and a score
    # does not depend on the order of the axes.
    axes = np.argsort([-abs(stride) for stride in truth.strides], kind="stable")
    prediction, truth, size = prediction.transpose(axes), truth.transpose(axes), size[axes]
    inside = _union_box(prediction, truth)
    classes = len(class_names)
    predicted = _labels(prediction[inside], classes, "prediction")
    true = _labels(truth[inside], classes, "truth")

    confusion = _confusion(predicted, true, classes + 1)
    confusion[0, 0] += voxels - true.size
    surfaces = _Surfaces(predicted, true, size)
    rows = []
    for label, name in enumerate(class_names, start=1):
        tp = int(confusion[label, label])
        fp = int(confusion[:, label].sum()) - tp
        fn = int(confusion[label].sum()) - tp
        counts = (tp, fp, fn, voxels - tp - fp - fn)
        rows.append(_score_class(name, counts, surfaces, label, diagonal, float(tolerance_mm)))
    return rows


def missing_case(
    truth: np.ndarray, class_names: Sequence[str], spacing: Sequence[float], tolerance_mm: float
) -> list[ClassScore]:
    """The scores of a case whose prediction is missing: the worst there are, whatever the truth.

    Arguments and errors as for `score_case`. Voxels are counted as if nothing had been predicted.
    """
    truth = np.asarray(truth)
    size = _check_geometry(truth, spacing, tolerance_mm)
    counts = np.bincount(_labels(truth, len(class_names), "truth").ravel(), minlength=len(class_names) + 1)
    diagonal = _diagonal(truth.shape, size)
    return [
        ClassScore(name, 0.0, 0.0, diagonal, 0.0, 0.0, 0.0, 0, 0, int(n), int(truth.size - n), "missing")
        for name, n in zip(class_names, counts[1:], strict=True)
    ]


def summarise(cases: Iterable[Sequence[ClassScore]]) -> dict[str, Any]:
    """Average the scores of several cases: the "scores" block of `result.json`.

    cases: for each case its classes, as `score_case` gives them. Macro order: the mean over the
    classes of a case, then over cases; NaN is left out at each step. "cases" counts the cases with
    at least one scored class, "unscored" the (case, class) pairs without a score. "classes" holds
    the means over cases of each class ("iou" there, "miou" for their mean), with the number of cases
    behind them. None stands for an undefined mean. Raises `UsbenchError` where cases do not have the
    same classes.
    """
    rows = [list(case) for case in cases]
    names = [row.name for row in rows[0]] if rows else []
    for case in rows:
        if [row.name for row in case] != names:
            raise UsbenchError(
                f"scores: a case has the classes {[row.name for row in case]}, another {names}; "
                "average only cases of one task"
            )
    table = np.array(
        [[[getattr(row, score) for score in SCORES] for row in case] for case in rows], dtype=float
    )
    table = table.reshape(len(rows), len(names), len(SCORES))
    unscored = np.isnan(table[:, :, 0])
    overall = _named(_mean(_mean(table, axis=1), axis=0))
    block: dict[str, Any] = {"miou" if score == "iou" else score: value for score, value in overall.items()}
    block["cases"] = int((~unscored).any(axis=1).sum())
    block["unscored"] = int(unscored.sum())
    by_class = _mean(table, axis=0)
    block["classes"] = {
        name: {**_named(by_class[i]), "cases": int((~unscored[:, i]).sum())} for i, name in enumerate(names)
    }
    return block


def paper_style(
    prediction: np.ndarray, truth: np.ndarray, classes: int | Sequence[str]
) -> tuple[float, float]:
    """The Zeus paper's slice-wise numbers, as nearly as it states them: (paper_dsc, paper_miou).

    prediction, truth: integers [Z, H, W], the slices as the network sees them. classes: the
    foreground classes or their number K. A slice counts if it holds any foreground, true or
    predicted. Its DSC is the mean over the foreground classes in it, its mIoU the mean over the
    background and those classes; both are averaged over the slices. NaN if no slice counts. The
    paper leaves the convention open (`docs/metrics.md`), so these numbers are never ranked.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if truth.ndim != 3 or prediction.shape != truth.shape:
        raise UsbenchError(
            f"slices: prediction {prediction.shape} and truth {truth.shape} must have one shape "
            "[slices, height, width]; pass both at the network's size"
        )
    k = (classes if isinstance(classes, int) else len(classes)) + 1
    predicted, true = _labels(prediction, k - 1, "prediction"), _labels(truth, k - 1, "truth")
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


def _diagonal(shape: Sequence[int], size: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(shape) * size))


def _union_box(prediction: np.ndarray, truth: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds every voxel which either map labels; empty slices if none does."""
    if prediction.dtype == truth.dtype and truth.dtype.kind in "bui":
        marked = (prediction | truth) != 0
    else:
        marked = (prediction != 0) | (truth != 0)
    box = []
    for axis in range(3):
        # The profile of one axis is taken within what the axes before it left, so the first
        # reduction is the only one over the whole volume.
        others = tuple(a for a in range(3) if a != axis)
        used = np.flatnonzero(marked.any(axis=others))
        start, stop = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)
        marked = marked[tuple(slice(start, stop) if a == axis else slice(None) for a in range(3))]
        box.append(slice(start, stop))
    return tuple(box)


def _labels(values: np.ndarray, classes: int, what: str) -> np.ndarray:
    """`values` in the smallest integer type, once they are known to be labels 0..classes."""
    if values.dtype.kind not in "bui":
        raise UsbenchError(f"{what}: its values are {values.dtype}, not integer labels; save it as uint8")
    if values.size and (int(values.min()) < 0 or int(values.max()) > classes):
        wrong = int(values.max()) if int(values.max()) > classes else int(values.min())
        raise UsbenchError(
            f"{what}: label {wrong} is outside 0..{classes}; use 0 for background and 1..{classes} "
            "for the task's classes in their order"
        )
    return values.astype(np.min_scalar_type(classes), copy=False)


def _confusion(predicted: np.ndarray, true: np.ndarray, k: int) -> np.ndarray:
    """Voxel counts [k, k], true label by predicted label."""
    code = true.astype(np.min_scalar_type(k * k), copy=True)
    code *= k
    code += predicted
    return np.bincount(code.ravel(), minlength=k * k).reshape(k, k)


class _Surfaces:
    """The surface voxels of all classes of two label maps on one grid, and the distances between them.

    A voxel is on its class's surface if one of its six neighbours has another label; beyond the
    volume there is background.
    """

    def __init__(self, predicted: np.ndarray, true: np.ndarray, size: np.ndarray) -> None:
        self.size = size
        found, expected = _surface(np.pad(predicted, 1)), _surface(np.pad(true, 1))
        # A voxel on both surfaces of a class is at distance 0 from the other: no search for it.
        self.common = (found == expected) & (found != 0)
        self.found, self.expected = found, expected

    def distances(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances in mm from the predicted surface to the true one, and from the true to the predicted.

        The zeros of voxels on both surfaces stand first.
        """
        found, expected = (np.flatnonzero(s.ravel() == label) for s in (self.found, self.expected))
        common = self.common.ravel()
        return (
            self._nearest(found[~common[found]], expected, len(found)),
            self._nearest(expected[~common[expected]], found, len(expected)),
        )

    def _nearest(self, moved: np.ndarray, target: np.ndarray, count: int) -> np.ndarray:
        """Distances [count] in mm from voxels (flat indices) to the nearest `target`, after leading zeros."""
        distance = np.zeros(count)
        if not len(moved):
            return distance
        shape = self.found.shape
        start = np.stack(np.unravel_index(moved, shape), axis=1)
        most = max(len(moved), len(target))
        if most > _TREE_POINTS and most > _TREE_SHARE * self.found.size:
            from scipy.ndimage import distance_transform_edt

            outside = np.ones(shape, dtype=bool)
            outside.ravel()[target] = False
            nearest = distance_transform_edt(
                outside, sampling=self.size, return_distances=False, return_indices=True
            ).reshape(3, -1)
            step = (nearest[:, moved].T - start) * self.size
            distance[count - len(moved) :] = np.sqrt((step * step).sum(axis=1))
        else:
            from scipy.spatial import cKDTree

            places = np.stack(np.unravel_index(target, shape), axis=1) * self.size
            tree = cKDTree(places, leafsize=_TREE_LEAF, compact_nodes=False, balanced_tree=False)
            distance[count - len(moved) :] = tree.query(start * self.size)[0]
        return distance


def _surface(padded: np.ndarray) -> np.ndarray:
    """The label of each surface voxel, 0 elsewhere; `padded` has a border of background."""
    core = padded[1:-1, 1:-1, 1:-1]
    differs = np.zeros(core.shape, dtype=bool)
    for axis in range(3):
        for shift in (0, 2):
            beside = tuple(
                slice(shift, shift + core.shape[a]) if a == axis else slice(1, -1) for a in range(3)
            )
            differs |= padded[beside] != core
    return core * differs


def _score_class(
    name: str,
    counts: tuple[int, int, int, int],
    surfaces: _Surfaces,
    label: int,
    diagonal: float,
    tolerance_mm: float,
) -> ClassScore:
    tp, fp, fn, tn = counts
    nan = math.nan
    if not tp + fp + fn:
        return ClassScore(name, nan, nan, nan, nan, nan, nan, tp, fp, fn, tn, "both-empty")
    sensitivity = tp / (tp + fn) if tp + fn else nan
    specificity = tn / (tn + fp) if tn + fp else nan
    if not (tp + fp and tp + fn):
        edge = "prediction-empty" if tp + fn else "truth-empty"
        return ClassScore(name, 0.0, 0.0, diagonal, 0.0, sensitivity, specificity, tp, fp, fn, tn, edge)
    there, back = surfaces.distances(label)
    hd95 = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    # In single precision, so that 3 voxels of 0.7 mm are within 2.1 mm, as they are in MONAI.
    limit = np.float32(tolerance_mm)
    near = sum(int(np.count_nonzero(d.astype(np.float32) <= limit)) for d in (there, back))
    nsd = near / (len(there) + len(back))
    dsc, iou = 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn)
    return ClassScore(name, dsc, iou, hd95, nsd, sensitivity, specificity, tp, fp, fn, tn)


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean along `axis` without the NaN; NaN, and no warning, where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis)
    return mean


def _named(values: np.ndarray) -> dict[str, float | None]:
    return {name: None if math.isnan(v) else float(v) for name, v in zip(SCORES, values, strict=True)}
