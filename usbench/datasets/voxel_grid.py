"""Voxel grids: whether two are the same, and bringing a volume from one onto another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

GRID_MM = 1e-3
"""How far, in mm, the corners and the spacing of a mask may be from those of its case."""


def voxel_spacing(affine: np.ndarray) -> tuple[float, float, float]:
    """The size of a voxel along its native axes.

    Args:
        affine: [4, 4], voxel index to millimetres.

    Returns:
        The lengths of the affine's first three columns, in mm.
    """
    x, y, z = np.sqrt((np.asarray(affine, dtype=np.float64)[:3, :3] ** 2).sum(axis=0))
    return float(x), float(y), float(z)


def grid_difference(
    shape: Sequence[int],
    affine: np.ndarray,
    other_shape: Sequence[int],
    other_affine: np.ndarray,
    tolerance: float,
) -> str | None:
    """In words, how the second grid differs from the first.

    Two grids are the same if their shapes are equal and no corner of the one lies further from its
    partner in the other than `tolerance` times the smallest side of a voxel.

    Args:
        shape: Numbers of voxels of the first grid.
        affine: Of the first grid: [4, 4], voxel index to millimetres.
        other_shape: Numbers of voxels of the second grid.
        other_affine: Of the second grid, likewise.
        tolerance: A share of the smallest side of a voxel of the first grid.

    Returns:
        The difference, or None where there is none.
    """
    if tuple(shape) != tuple(other_shape):
        return f"shape {_times(other_shape)} is not {_times(shape)}"
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*((0, n - 1) for n in shape))])
    apart = np.linalg.norm((corners @ (np.asarray(other_affine) - affine).T)[:, :3], axis=1).max()
    allowed = tolerance * min(voxel_spacing(affine))
    if not apart <= allowed:
        return (
            f"its corners lie up to {apart:.3g} mm apart in scanner coordinates (allowed: {allowed:.3g} mm)"
        )
    return None


def resample(
    volume: np.ndarray, affine: np.ndarray, shape: Sequence[int], target_affine: np.ndarray, order: int
) -> tuple[np.ndarray, float]:
    """A volume on another grid, through scanner coordinates.

    Args:
        volume: [X, Y, Z].
        affine: Of the volume: [4, 4], voxel index to millimetres.
        shape: Numbers of voxels of the other grid.
        target_affine: Of the other grid, likewise.
        order: 1 is linear, 0 takes the nearest voxel.

    Returns:
        The volume in the new shape; the type of the values is kept, and points outside the voxels of `volume`
        are 0. Then the share of the other grid's voxels that lie inside.
    """
    from scipy.ndimage import map_coordinates

    step = np.linalg.inv(affine) @ target_affine
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    points = np.stack(
        [
            np.broadcast_to(sum(step[row, i] * axes[i] for i in range(3)) + step[row, 3], shape)
            for row in range(3)
        ]
    )
    # A voxel reaches half a step beyond its centre; the rim takes the value of the outermost centre.
    rim = 1e-6
    inside = np.ones(tuple(shape), dtype=bool)
    for row, count in enumerate(volume.shape):
        inside &= (points[row] >= -0.5 - rim) & (points[row] <= count - 0.5 + rim)
    values: np.ndarray = map_coordinates(volume, points, order=order, mode="nearest", output=volume.dtype)
    values[~inside] = 0
    return values, float(inside.mean())


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(int(n)) for n in shape)
