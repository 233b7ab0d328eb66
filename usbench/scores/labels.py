"""Label maps: their check, the box that holds what they mark, and the count of voxels by pairs of labels."""

from __future__ import annotations

import numpy as np

from usbench.errors import UsbenchError


def union_box(prediction: np.ndarray, truth: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds every voxel which either map labels; empty slices if none does.

    Args:
        prediction: Labels [X, Y, Z].
        truth: Labels [X, Y, Z].
    """
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


def as_labels(values: np.ndarray, most: int, what: str, regions: bool = False) -> np.ndarray:
    """Values in the smallest integer type, once they are known to be labels.

    Args:
        values: An array of any shape.
        most: The largest value that a mask of these classes has.
        what: Names the array in errors.
        regions: Whether the classes are regions, for errors.

    Raises:
        UsbenchError: For values that are no whole numbers from 0 to `most`.
    """
    if values.dtype.kind not in "bui":
        raise UsbenchError(f"{what}: its values are {values.dtype}, not integer labels; save it as uint8")
    if values.size and (int(values.min()) < 0 or int(values.max()) > most):
        wrong = int(values.max()) if int(values.max()) > most else int(values.min())
        remedy = f"use 0 for background and 1..{most} for the task's classes in their order"
        if regions:
            remedy = "use 0 for background, and the sum of 2**i over the regions i that a voxel is in"
        raise UsbenchError(f"{what}: label {wrong} is outside 0..{most}; {remedy}")
    return values.astype(np.min_scalar_type(most), copy=False)


def confusion_of(predicted: np.ndarray, true: np.ndarray, k: int) -> np.ndarray:
    """Voxel counts [k, k], true label by predicted label."""
    code = true.astype(np.min_scalar_type(k * k), copy=True)
    code *= k
    code += predicted
    return np.bincount(code.ravel(), minlength=k * k).reshape(k, k)
