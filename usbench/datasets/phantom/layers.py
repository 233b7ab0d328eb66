"""A patient as a pile of shapes, and its picture on a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from usbench.datasets.phantom.fields import Array, Canvas, Grid, Shape, Waves
from usbench.datasets.phantom.tissues import Tissue

Layer = tuple[Shape, Tissue, int]
"""A shape, what it is made of, and its class (0 for none). Later layers cover earlier ones."""

SUB_SLICES = 2
"""Each thick slice is the mean of this many thin ones."""


class Patient(Protocol):
    """A pile of layers, the warp that bends all of them (in mm), and the grain of the tissues."""

    layers: list[Layer]
    warp: list[Waves]
    warp_mm: float
    texture: Waves


def picture(
    patient: Patient, grid: Grid, classes: int, emit: Callable[[Tissue], Sequence[float]]
) -> tuple[Array, NDArray[np.uint8]]:
    """The mean signals [S, X, Y, Z] and the mask [X, Y, Z] of `patient` on `grid`.

    `emit` gives the S signals of a tissue. The mask holds 0 or a class from 1 to `classes`.
    """
    fine = grid.thinner(SUB_SLICES)
    signals = len(emit(patient.layers[0][1]))
    canvas = Canvas(fine, signals, classes, patient.warp, patient.warp_mm)
    grain = Grain(patient.texture, fine)
    for shape, tissue, label in patient.layers:
        canvas.paint(shape, emit(tissue), label, grain.of(tissue))
    layers = canvas.averaged(SUB_SLICES)
    return layers[:signals], majority(layers[signals:])


class Grain:
    """The unevenness within organs: one random field, as strong as each tissue's texture says."""

    def __init__(self, waves: Waves, grid: Grid) -> None:
        self._field = np.clip(waves.on(grid), -2.5, 2.5)
        self._made: dict[float, Array] = {}

    def of(self, tissue: Tissue) -> Array | None:
        """What the signal of `tissue` is multiplied by in every voxel; None for 1 everywhere."""
        if not tissue.texture:
            return None
        if tissue.texture not in self._made:
            self._made[tissue.texture] = np.float32(1) + self._field * np.float32(tissue.texture)
        return self._made[tissue.texture]


def majority(occupancy: Array) -> NDArray[np.uint8]:
    """A mask [X, Y, Z] from occupancies [K, X, Y, Z].

    A voxel of which the classes together fill at least half takes the class that fills most of it,
    as its index plus 1; the others are 0.
    """
    best = occupancy.argmax(axis=0).astype(np.uint8) + np.uint8(1)
    return np.where(occupancy.sum(axis=0) >= 0.5, best, np.uint8(0)).astype(np.uint8)
