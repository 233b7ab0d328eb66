"""Prepared cases in memory for tests of volumes, and a ball on a tilted grid of thick slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.settings import DataSettings
from usbench.datasets.geometry import SliceGeometry
from usbench.datasets.patients.case import Patient, PatientCase, prepare_patient
from usbench.datasets.store import PreparedCase

AFFINE = np.diag(
    [-1.0, -1.0, 3.0, 1.0]
)  # the x axis to the left, the y axis to the back: no axis is mirrored


def stacked(
    slices: int = 6,
    size: int = 16,
    modalities: int = 2,
    seed: int = 0,
    mask: np.ndarray | None = None,
    **changes: Any,
) -> PreparedCase:
    """A case of noise, slices 3 mm apart; `mask` [Z, S, S], by default a block of class 1 with 2 inside."""
    random = np.random.default_rng(seed)
    images = random.normal(size=(slices, modalities, size, size)).astype(np.float16)
    if mask is None:
        mask = np.zeros((slices, size, size), np.uint8)
        mask[1 : slices - 1, 3 : size // 2, 4:-4] = 1
        mask[1 : slices - 1, 5:7, 6:8] = 2
        images += (2 * mask[:, None]).astype(np.float16)
    whole: dict[str, Any] = {
        "case_id": f"case{seed}",
        "images": images,
        "mask": mask,
        "affine": AFFINE,
        "spacing": (1.0, 1.0, 3.0),
        "geometry": SliceGeometry.from_affine((size, size, slices), AFFINE),
        "agreement": {},
        "foreground": mask.any(axis=(1, 2)),
        "path": Path(),
    }
    return PreparedCase(**{**whole, **changes})


def tilted(spacing: tuple[float, float, float] = (1.1, 0.9, 7.7)) -> np.ndarray:
    """An affine [4, 4] of voxels of that size, turned by 12 degrees about x and 9 about z, x mirrored."""
    a, b = np.radians([12.0, 9.0])
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn_z @ turn_x @ np.diag([-spacing[0], spacing[1], spacing[2]])
    affine[:3, 3] = (20.0, -35.0, 11.0)
    return affine


def distances(shape: tuple[int, int, int], affine: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The distance in mm of every voxel [X, Y, Z] from a point."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    return np.linalg.norm(world - centre, axis=-1)


def ball(radius: float = 24.0) -> tuple[PatientCase, np.ndarray]:
    """A patient whose one image is how deep a voxel lies in a ball, in cm, prepared at 64 pixels.

    Returns:
        The patient, and how deep each native voxel lies, in mm [X, Y, Z]: above 0 within the ball.
    """
    shape, affine = (70, 61, 13), tilted()
    centre = affine[:3, :3] @ np.array([37.3, 28.6, 6.4]) + affine[:3, 3]
    depth = radius - distances(shape, affine, centre)
    images = (depth / 10).astype(np.float32)[None]
    patient = Patient("ball", images, affine, (True,))
    return prepare_patient(patient, DataSettings(size=64, normalise="none"), ("depth",)), depth
