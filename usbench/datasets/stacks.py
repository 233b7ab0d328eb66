"""The slices of a case as one stack on another grid, of which any part is had without the rest.

Along each axis voxel i covers i to i + 1 and has its centre at i + 1/2, as in the resizing of slices, so that
images, masks and logits stay on each other. A value is a weighted sum of its neighbours, linear between two
of them where the axis grows and over all that a new voxel covers where it shrinks (Pillow's bilinear filter).
It is summed in one order, so that a part of a stack has exactly the values that it has in the whole.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from usbench.contracts.classes import is_class
from usbench.datasets.preprocess import nearest_index

if TYPE_CHECKING:
    from usbench.contracts.settings import VolumeSettings
    from usbench.datasets.patients.case import PatientCase
    from usbench.datasets.store import PreparedCase

Shape = tuple[int, int, int]

_CHUNK = 16  # so many slices are unpacked and resized in their plane at a time


class Axis:
    """An axis of some voxels brought to another number of them.

    Args:
        length: Of the axis.
        size: Of the new axis, which covers the same.
    """

    def __init__(self, length: int, size: int) -> None:
        self.length, self.size = length, size
        scale = length / size
        support = max(1.0, scale)
        centre = (np.arange(size) + 0.5) * scale - 0.5
        index = np.ceil(centre - support).astype(np.int64)[:, None] + np.arange(math.floor(2 * support) + 1)
        weight = np.maximum(0.0, 1 - np.abs(index - centre[:, None]) / support)
        weight[(index < 0) | (index >= length)] = 0
        self._weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
        self._index = index

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Of which old voxels, from the first to before the last, the new ones start..stop - 1 are made."""
        if self.length == self.size:
            return start, stop
        used = self._index[start:stop][self._weight[start:stop] > 0]
        return int(used.min()), int(used.max()) + 1

    def resize(self, values: Tensor, dim: int, start: int = 0, stop: int | None = None) -> Tensor:
        """New voxels of an axis.

        Args:
            values: float32, of any shape: along `dim` the old voxels of `span(start, stop)`.
            dim: The axis.
            start: The first new voxel.
            stop: Before which new voxel to end; None for the last.

        Returns:
            float32, of that shape but for the axis.
        """
        if self.length == self.size:
            return values
        stop = self.size if stop is None else stop
        first, _ = self.span(start, stop)
        index, weight = self._index[start:stop], self._weight[start:stop]
        shape = [1] * values.ndim
        shape[dim] = stop - start
        total: Tensor | None = None
        for tap in range(index.shape[1]):
            if not weight[:, tap].any():
                continue
            # Where the weight is 0 the voxel may not be there, and any other will do.
            places = (index[:, tap] - first).clip(0, values.shape[dim] - 1)
            some = values.index_select(dim, torch.from_numpy(places).to(values.device))
            some *= torch.from_numpy(weight[:, tap]).to(values.device).reshape(shape)
            total = some if total is None else total.add_(some)
        assert total is not None
        return total


def resize_all(values: Tensor, shape: Shape) -> Tensor:
    """Values float32 [..., Z, Y, X] on another grid, [..., D, H, W]."""
    for dim, size in zip((-1, -2, -3), reversed(shape), strict=True):
        values = Axis(values.shape[dim], size).resize(values, values.ndim + dim)
    return values


def slice_distance(case: PreparedCase | PatientCase) -> float:
    """The distance of neighbouring slices of a case, in mm."""
    return case.spacing[case.geometry.axes[0]]


def shape_of(count: int, side: int, distance: float, settings: VolumeSettings) -> Shape:
    """The grid on which a network of volumes sees a case.

    Args:
        count: Number of its slices.
        side: Of a slice, in pixels.
        distance: Of its slices, in mm.
        settings: What a network sees.

    Returns:
        (D, H, W): `shape` as a whole; for patches that of the slices, their distance brought to `spacing`.
    """
    if settings.mode == "whole":
        return settings.shape
    if settings.spacing:
        count = max(1, round(count * distance / settings.spacing))
    return count, side, side


class Stack:
    """The slices of a case on the grid that a network of volumes sees.

    Nothing is read before it is asked for; `keep` holds all of it on a device from then on.

    Args:
        case: The case.
        settings: What the network sees.
    """

    def __init__(self, case: PreparedCase | PatientCase, settings: VolumeSettings) -> None:
        self._case = case
        count, modalities, side, _ = case.images.shape
        self.modalities, self.side = int(modalities), int(side)
        self.shape = shape_of(count, self.side, slice_distance(case), settings)
        self._axis = Axis(count, self.shape[0])
        self._nearest = [
            nearest_index(n, size) for n, size in zip((count, self.side, self.side), self.shape, strict=True)
        ]
        self._images: Tensor | None = None
        self._mask: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of all its images and masks."""
        return math.prod(self.shape) * (2 * self.modalities + 1)

    def keep(self, device: torch.device) -> None:
        """Hold all of it on a device."""
        self._images = self.images(0, self.shape[0]).to(device)
        self._mask = self.mask(0, self.shape[0]).to(device)

    def images(self, start: int, stop: int) -> Tensor:
        """Its slices start..stop - 1, float16 [D, M, H, W]: normalised intensities."""
        if self._images is not None:
            return self._images[start:stop]
        low, high = self._axis.span(start, stop)
        stored, size = self._case.images, self.shape[1:]
        if (self._axis.length, self.side, self.side) == self.shape:
            return torch.from_numpy(np.asarray(stored[low:high]))
        flat = torch.empty((high - low, self.modalities, *size), dtype=torch.float32)
        for first in range(low, high, _CHUNK):
            last = min(first + _CHUNK, high)
            some = torch.from_numpy(np.asarray(stored[first:last], dtype=np.float32))
            for dim, new in ((3, size[1]), (2, size[0])):
                some = Axis(self.side, new).resize(some, dim)
            flat[first - low : last - low] = some
        return self._axis.resize(flat, 0, start, stop).half()

    def mask(self, start: int, stop: int) -> Tensor:
        """The mask of those slices by the nearest voxel, uint8 [D, H, W]."""
        if self._mask is not None:
            return self._mask[start:stop]
        numbers, rows, columns = self._nearest
        used = numbers[start:stop]
        stored = np.asarray(self._case.mask[int(used[0]) : int(used[-1]) + 1])[used - used[0]]
        if self.shape[1:] != (self.side, self.side):
            stored = stored[:, rows][:, :, columns]
        return torch.from_numpy(stored)

    def voxels(self, classes: int, regions: bool) -> np.ndarray:
        """How many voxels each class has in each slice, int64 [K, D]; read once, a few slices at a time."""
        found = []
        for start in range(0, self.shape[0], _CHUNK):
            some = self.mask(start, min(start + _CHUNK, self.shape[0])).cpu().numpy()
            counts = [np.count_nonzero(is_class(some, k, regions), axis=(1, 2)) for k in range(classes)]
            found.append(np.stack(counts))
        return np.concatenate(found, axis=1)
