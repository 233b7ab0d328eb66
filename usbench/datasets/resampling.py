"""A volume on another voxel grid, through scanner coordinates, by SimpleITK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def onto_grid(
    volume: np.ndarray, affine: np.ndarray, shape: Sequence[int], target_affine: np.ndarray
) -> np.ndarray:
    """A scan on another grid, interpolated linearly.

    Args:
        volume: float32 [X, Y, Z].
        affine: Of the volume: [4, 4], voxel index to RAS+ mm.
        shape: Numbers of voxels of the other grid.
        target_affine: Of the other grid, likewise.

    Returns:
        float32 of the new shape, in Fortran order as files have it; 0 outside the volume.
    """
    import SimpleITK

    moved = SimpleITK.Resample(
        _image(volume, affine),
        _grid(shape, target_affine),
        SimpleITK.Transform(),
        SimpleITK.sitkLinear,
        0.0,
        SimpleITK.sitkFloat32,
    )
    values: np.ndarray = SimpleITK.GetArrayFromImage(moved).transpose(2, 1, 0)
    return values


def overlap(
    shape: Sequence[int], affine: np.ndarray, target_shape: Sequence[int], target_affine: np.ndarray
) -> float:
    """The share of the voxels of another grid that lie inside a volume, from every fourth along each axis.

    Args:
        shape: Numbers of voxels of the volume.
        affine: Of the volume: [4, 4], voxel index to mm.
        target_shape: Numbers of voxels of the other grid.
        target_affine: Of the other grid, likewise.
    """
    step = np.linalg.inv(affine) @ target_affine
    i, j, k = np.ogrid[tuple(slice(0, n, 4) for n in target_shape)]
    inside = np.ones(tuple(-(-n // 4) for n in target_shape), dtype=bool)
    for row, count in enumerate(shape):
        point = step[row, 0] * i + step[row, 1] * j + step[row, 2] * k + step[row, 3]
        inside &= (point >= -0.5) & (point <= count - 0.5)
    return float(inside.mean())


def _image(volume: np.ndarray, affine: np.ndarray) -> Any:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0)))
    return _placed(image, affine)


def _grid(shape: Sequence[int], affine: np.ndarray) -> Any:
    import SimpleITK

    return _placed(SimpleITK.Image([int(n) for n in shape], SimpleITK.sitkUInt8), affine)


def _placed(image: Any, affine: np.ndarray) -> Any:
    """The image at its place; ITK counts millimetres to the left and to the back (LPS)."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image
