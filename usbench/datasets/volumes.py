"""Volumes of some prepared cases, or patches of them, as batches on a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from usbench.contracts.classes import is_class
from usbench.datasets.batches import Batch, resident_bound
from usbench.datasets.draws import draw_volumes
from usbench.datasets.stacks import Stack

if TYPE_CHECKING:
    from usbench.contracts.settings import TrainSettings, VolumeSettings
    from usbench.datasets.store import PreparedCase


class Volumes:
    """The volumes of some cases for training, as `usbench.datasets.batches.Slices` are slices.

    A sample is a patch: the number of its case and the voxel of the case's stack where it begins, int [4]. As
    a whole a volume has one patch. Beyond the stack its edge is repeated, half of what lacks on each side.

    Stacks stay on the device if all of them take no more than `resident_bound`; else the slices that a patch
    needs are read from the compressed store ahead of their use, so that memory does not grow with the number
    of patients beyond that bound.

    Args:
        cases: The cases.
        classes: K of the targets [B, K, D, H, W].
        device: Where batches go.
        settings: What the network sees.
        regions: Whether the classes are regions, which may overlap.
        resident: Whether stacks stay on the device; by default, if they fit.
    """

    has_features = False
    fixed = False  # no rows, so that nothing forbids to change an image

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        classes: int,
        device: torch.device,
        settings: VolumeSettings,
        regions: bool = False,
        resident: bool | None = None,
    ) -> None:
        self.classes, self.regions, self.device = classes, regions, device
        self.settings = settings
        self.patch = settings.network_shape
        self.foreground = np.concatenate([np.asarray(case.foreground) for case in cases])
        self.left_right = 2 if cases[0].geometry.plane == "sagittal" else -1
        self._stacks = [Stack(case, settings) for case in cases]
        size = sum(stack.nbytes for stack in self._stacks)
        self.resident = size <= resident_bound(device) if resident is None else resident
        if self.resident:
            for stack in self._stacks:
                stack.keep(device)
        # A patch that covers the whole stack has its place, whatever it is centred on.
        self._balanced = settings.mode == "patch" and settings.foreground > 0
        self._voxels = [stack.voxels(classes, regions) for stack in self._stacks] if self._balanced else []

    def __len__(self) -> int:
        return len(self._stacks)

    @property
    def modalities(self) -> int:
        """M of the images [B, M, D, H, W]."""
        return self._stacks[0].modalities

    def epoch(self, settings: TrainSettings, seed: int, epoch: int, world: int) -> list[np.ndarray]:
        """The samples of each batch of an epoch, int [B, 4], a pure function of seed and epoch.

        Args:
            settings: `batch` and `min_batches` count.
            seed: Of the run.
            epoch: From 0.
            world: Number of processes that train together.
        """
        random = np.random.default_rng([seed, epoch])
        times = 1 if self.settings.mode == "whole" else self.settings.patches
        groups = draw_volumes(random, len(self), times, settings, world)
        return [np.stack([self._patch(int(case), random.random(4)) for case in group]) for group in groups]

    def _patch(self, case: int, chances: np.ndarray) -> np.ndarray:
        """A patch of a case: [4], its number and where the patch begins. chances: [4], from 0 to below 1."""
        shape = np.array(self._stacks[case].shape)
        spare = shape - self.patch
        begin = np.floor(chances[1:] * (np.maximum(spare, 0) + 1)).astype(np.int64)
        if self._balanced and chances[0] < self.settings.foreground:
            centre = self._voxel(case, *chances[1:3])
            if centre is not None:
                begin = np.clip(centre - np.array(self.patch) // 2, 0, np.maximum(spare, 0))
        begin = np.where(spare < 0, -(-spare // 2), begin)
        return np.array([case, *begin])

    def _voxel(self, case: int, of_class: float, of_voxel: float) -> np.ndarray | None:
        """A voxel of a class that the case has, each class and each of its voxels as likely, int [3]."""
        counts = self._voxels[case]
        there = np.flatnonzero(counts.sum(axis=1))
        if not len(there):
            return None
        index = int(there[int(of_class * len(there))])
        passed = np.cumsum(counts[index])
        rank = int(of_voxel * passed[-1])
        z = int(np.searchsorted(passed, rank, side="right"))
        mask = self._stacks[case].mask(z, z + 1)[0].cpu().numpy()
        places = np.flatnonzero(is_class(mask, index, self.regions))
        return np.array([z, *divmod(int(places[rank - passed[z]]), mask.shape[1])])

    def batches(self, groups: Sequence[np.ndarray]) -> Iterator[Batch]:
        """For each group of samples: float32 images [B, M, D, H, W] and target [B, K, D, H, W], no extras."""
        for images, masks in self._groups(groups):
            target = [is_class(masks, index, self.regions) for index in range(self.classes)]
            yield images, torch.stack(target, dim=1).float(), {}

    def _groups(self, groups: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and masks [B, D, H, W] on the device."""
        if self.resident:
            for group in groups:
                yield self._read(group, self.device)
            return
        with ThreadPoolExecutor(max_workers=1) as reader:
            cpu = torch.device("cpu")
            ahead = reader.submit(self._read, groups[0], cpu) if len(groups) else None
            for number in range(len(groups)):
                assert ahead is not None
                images, masks = ahead.result()
                if number + 1 < len(groups):
                    ahead = reader.submit(self._read, groups[number + 1], cpu)
                if self.device.type == "cuda":
                    images, masks = images.pin_memory(), masks.pin_memory()
                yield (
                    images.to(self.device, non_blocking=True),
                    masks.to(self.device, non_blocking=True),
                )

    def _read(self, group: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        images = torch.empty((len(group), self.modalities, *self.patch), dtype=torch.float32, device=device)
        masks = torch.empty((len(group), *self.patch), dtype=torch.uint8, device=device)
        for row, (case, *begin) in enumerate(group):
            stack = self._stacks[case]
            wanted = [
                np.arange(first, first + size).clip(0, length - 1)
                for first, size, length in zip(begin, self.patch, stack.shape, strict=True)
            ]
            start, stop = int(wanted[0][0]), int(wanted[0][-1]) + 1
            images[row] = _cut(stack.images(start, stop), wanted, start).transpose(0, 1)
            masks[row] = _cut(stack.mask(start, stop), wanted, start)
        return images, masks


def _cut(block: Tensor, wanted: Sequence[np.ndarray], start: int) -> Tensor:
    """Voxels of slices [Z, ..., H, W], the first is slice `start`; a view where no edge is repeated."""
    for dim, places in zip((0, -2, -1), wanted, strict=True):
        first = int(places[0]) - (start if dim == 0 else 0)
        if places[-1] - places[0] == len(places) - 1:
            block = block.narrow(dim, first, len(places))
        else:
            index = torch.from_numpy(places - (start if dim == 0 else 0)).to(block.device)
            block = block.index_select(dim, index)
    return block
