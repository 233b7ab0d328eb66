"""Masks that another program made, read onto the grid of a case: the one place that knows how.

A mask is held against its case, never brought to fit: another grid, fractions and unknown values are errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usbench.contracts.classes import largest_value
from usbench.contracts.problem import DataError, DataProblem, fail
from usbench.datasets.exports import export_values
from usbench.datasets.readers.nifti import nifti_errors, open_nifti
from usbench.datasets.voxel_grid import GRID_MM, grid_difference, voxel_spacing

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.datasets.store import PreparedCase

_GRID = "write the mask on the grid of the case's own scans"


def usual_values(task: Task) -> dict[int, int]:
    """What the values of an outside mask mean where nobody says otherwise.

    Args:
        task: With the classes of the run.

    Returns:
        By value in the file, that of `Case.mask`: 1..K of classes, in the task's order; of regions the
        values that `export` writes.

    Raises:
        UsbenchError: Where a task with regions does not state which labels make them up.
    """
    return {theirs: ours for ours, theirs in export_values(task).items()}


def bit_values(task: Task) -> dict[int, int]:
    """Values of `Case.mask` themselves: 1..K of classes, sums of bits of regions."""
    return {value: value for value in range(1, largest_value(len(task.classes), task.regions) + 1)}


LABELS_REMEDY = "say what the values mean with --labels, or by a dataset.json beside the masks"


def read_outside_mask(
    path: Path, case: PreparedCase, values: Mapping[int, int], remedy: str = LABELS_REMEDY
) -> np.ndarray:
    """A mask of another program, with the values of `Case.mask`.

    Args:
        path: A NIfTI file, compressed or not.
        case: The case that it is a mask of.
        values: By value in the file but 0, that of `Case.mask`.
        remedy: What to do about a value that means nothing.

    Returns:
        uint8 [X, Y, Z] on the native grid of the case.

    Raises:
        DataError: One line for a file that is no NIfTI volume, another shape or place, fractions, values that
            mean nothing.
    """
    name, shape = case.case_id, case.geometry.shape

    def wrong(what: str, remedy: str) -> DataError:
        return DataError(DataProblem(name, path, what, remedy))

    if not path.is_file():
        raise wrong(f"the mask of case {name} is not there", "write it, or name the right folder")
    with nifti_errors(name, path, fail), open_nifti(path) as (proxy, affine):
        if len(proxy.shape) != 3:
            axes = " x ".join(map(str, proxy.shape))
            raise wrong(f"has {len(proxy.shape)} axes ({axes}), a mask has 3", "write labels, one volume")
        tolerance = GRID_MM / min(voxel_spacing(case.affine))
        if difference := grid_difference(shape, case.affine, proxy.shape, affine, tolerance):
            raise wrong(f"is not on the grid of case {name}: {difference}", _GRID)
        raw = np.asarray(proxy[...])
    found = np.unique(raw)
    known = {0: 0, **values}
    for value in found.tolist():
        if not np.isfinite(value) or value != int(value):
            raise wrong(f"holds {value:g}, and a mask has whole numbers", "write labels, not probabilities")
        if int(value) not in known:
            means = ", ".join(map(str, sorted(known)))
            raise wrong(
                f"holds {int(value)}, which is no class of the task (values: {means})",
                remedy,
            )
    ours = np.array([known[int(value)] for value in found.tolist()], dtype=np.uint8)
    mask: np.ndarray = ours[np.searchsorted(found, raw)]
    return mask
