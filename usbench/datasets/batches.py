"""The slices of some prepared cases as batches on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from usbench.contracts.classes import is_class
from usbench.datasets.draws import draw_epoch
from usbench.datasets.workers import usable_cores
from usbench.storage.slices import SliceArray

if TYPE_CHECKING:
    from usbench.contracts.settings import TrainSettings
    from usbench.datasets.patients.case import PatientCase
    from usbench.datasets.store import PreparedCase

RESIDENT_BYTES = 4_000_000_000
"""What slices and features may take of a machine's memory, all processes that train on it together, and of a
GPU's memory, each process. More than that is read from the compressed store while it is needed."""

_ROWS = 16  # so many slices are moved at a time

Batch = tuple[Tensor, Tensor, dict[str, Tensor]]
_Array = np.ndarray | SliceArray
_Rows = list[Tensor | None]


def free_memory(device: torch.device) -> int:
    """Free bytes on a device; those available to the machine for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def resident_bound(device: torch.device) -> int:
    """Bytes that a process may keep of slices and features.

    On a CPU its share of `RESIDENT_BYTES` is that of its threads in the cores: several workers of a matrix
    have so many threads that they share the cores, and so they share the memory. On no device is it more than
    a quarter of what is free.

    Args:
        device: Where batches go.
    """
    share = 1.0
    if device.type != "cuda":
        share = min(1.0, torch.get_num_threads() / usable_cores())
    return int(min(share * RESIDENT_BYTES, free_memory(device) / 4))


@dataclass(frozen=True)
class View:
    """The slices with foreground of a case, each changed once, image and mask alike.

    Attributes:
        case_id: The case.
        images: float16 [F, M, S, S].
        mask: uint8 [F, S, S].
    """

    case_id: str
    images: np.ndarray
    mask: np.ndarray


class Slices:
    """All slices of some cases, in order of case and slice.

    They stay on the device if all of them take no more than `resident_bound`; else batches are read from the
    compressed store ahead of their use, pinned for a GPU. So the memory of a training does not grow with the
    number of patients beyond that bound.

    Args:
        cases: The cases.
        classes: K of the targets [B, K, S, S].
        device: Where batches go.
        extras: Features of the cases in their order, by name an array [Z, ...], or None where `fresh` gives
            the rows of a batch from its images.
        fresh: By name, images [B, M, S, S] -> rows [B, ...].
        resident: Whether slices stay on the device; by default, if they fit.
        views: Changed slices with foreground and their features, all cases in their order for one view after
            the other; they are reached through `variant`.
        regions: Whether the classes are regions, which may overlap.
        targets: Whether masks are wanted; without them there are no `batches`, only `images`, and nothing of
            a mask is read.
        fixed: Whether rows belong to slices as they are, so that images must not change under them; unless
            said, wherever there are rows.
    """

    left_right = -1  # the axis of images that is mirrored

    def __init__(
        self,
        cases: Sequence[PreparedCase | PatientCase],
        classes: int,
        device: torch.device,
        extras: Sequence[Mapping[str, np.ndarray | None]] = (),
        fresh: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        resident: bool | None = None,
        views: Sequence[tuple[View, Mapping[str, np.ndarray | None]]] = (),
        regions: bool = False,
        targets: bool = True,
        fixed: bool | None = None,
    ) -> None:
        self.classes = classes
        self.fixed = bool(extras) if fixed is None else fixed
        self.regions = regions
        self.device = device
        self.foreground = np.concatenate([np.asarray(case.foreground) for case in cases])
        self.views = len(views) // len(cases)
        extras = [*extras, *(rows for _, rows in views)]
        everything: list[PreparedCase | PatientCase | View] = [*cases, *(view for view, _ in views)]
        self._images: list[_Array] = [case.images for case in everything]
        self._masks: list[_Array] = [case.mask for case in everything] if targets else []
        self._starts = np.cumsum([0] + [len(images) for images in self._images])
        self._fresh = dict(fresh or {})
        names = list(extras[0]) if extras else []
        self._extras = {name: [extra[name] for extra in extras] for name in names}
        size = sum(a.nbytes for a in (*self._images, *self._masks))
        size += sum(a.nbytes for arrays in self._extras.values() for a in arrays if a is not None)
        self.resident = size <= resident_bound(device) if resident is None else resident
        self._resident_extras: dict[str, Tensor] = {}
        if self.resident:
            self._all_images = _whole(self._images, device)
            self._all_masks = _whole(self._masks, device) if targets else None
            for name, arrays in self._extras.items():
                whole = [array for array in arrays if array is not None]
                if len(whole) == len(arrays):
                    self._resident_extras[name] = _whole(whole, device)

    def __len__(self) -> int:
        return len(self.foreground)

    @property
    def modalities(self) -> int:
        """M of the images [B, M, S, S]."""
        return int(self._images[0].shape[1])

    @property
    def has_features(self) -> bool:
        """Whether batches come with rows of frozen parts."""
        return bool(self._extras)

    def epoch(self, settings: TrainSettings, seed: int, epoch: int, world: int) -> list[np.ndarray]:
        """The numbers of the slices of each batch of an epoch, int [B]; where there are views, of those too.

        Args:
            settings: As for `draw_epoch`.
            seed: Of the run.
            epoch: From 0.
            world: Number of processes that train together.
        """
        groups = draw_epoch(self.foreground, settings, seed, epoch, world)
        if not self.views:
            return groups
        random = np.random.default_rng([seed, epoch, 1])
        return [self.variant(group, random.integers(self.views + 1, size=len(group))) for group in groups]

    def variant(self, numbers: np.ndarray, view: np.ndarray) -> np.ndarray:
        """The numbers of slices or of their views, which is what `batches` takes.

        Args:
            numbers: Of slices, int [N].
            view: Of each slice the view, from 1, or 0 for the slice itself; int [N].

        Returns:
            int [N]. Slices without foreground have no views and stay what they are.
        """
        rank = np.cumsum(self.foreground) - 1
        changed = len(self) + (view - 1) * int(self.foreground.sum()) + rank[numbers]
        return np.where((view > 0) & self.foreground[numbers], changed, numbers)

    def batches(self, groups: Sequence[np.ndarray]) -> Iterator[Batch]:
        """For each group of slice numbers: float32 images [B, M, S, S] and target [B, K, S, S], extras."""
        for images, masks, extras in self._groups(groups):
            assert masks is not None, "made without targets"
            target = [is_class(masks, index, self.regions) for index in range(self.classes)]
            yield images, torch.stack(target, dim=1).float(), extras

    def images(self, groups: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """For each group of slice numbers: float32 images [B, M, S, S] and extras; no target is made."""
        for images, _, extras in self._groups(groups):
            yield images, extras

    def _groups(
        self, groups: Sequence[np.ndarray]
    ) -> Iterator[tuple[Tensor, Tensor | None, dict[str, Tensor]]]:
        """Images and masks [B, S, S] on the device, where there are masks, and extras."""
        if self.resident:
            for group in groups:
                index = torch.as_tensor(group, device=self.device)
                images = self._all_images[index].float()
                read = {n: a for n, a in self._read_extras(group).items() if n not in self._resident_extras}
                extras = {name: t[index].float() for name, t in self._resident_extras.items()}
                masks = None if self._all_masks is None else self._all_masks[index]
                yield images, masks, {**extras, **self._complete(read, images)}
            return
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = reader.submit(self._read, groups[0]) if len(groups) else None
            for number in range(len(groups)):
                assert ahead is not None
                images, masks, read = ahead.result()
                if number + 1 < len(groups):
                    ahead = reader.submit(self._read, groups[number + 1])
                images = images.to(self.device, non_blocking=True).float()
                if masks is not None:
                    masks = masks.to(self.device, non_blocking=True)
                yield images, masks, self._complete(read, images)

    def _places(self, group: np.ndarray) -> list[tuple[int, int]]:
        """(case, slice) of each slice number of a group."""
        case_of = np.searchsorted(self._starts, group, side="right") - 1
        return [(int(c), int(i - self._starts[c])) for c, i in zip(case_of, group, strict=True)]

    def _read(self, group: np.ndarray) -> tuple[Tensor, Tensor | None, dict[str, _Rows]]:
        """The rows of a group, unpacked from the store (pinned where a GPU takes them)."""
        places = self._places(group)
        images = torch.from_numpy(np.stack([self._images[c][z] for c, z in places]))
        masks = None
        if self._masks:
            masks = torch.from_numpy(np.stack([self._masks[c][z] for c, z in places]))
        if self.device.type == "cuda":
            images, masks = images.pin_memory(), None if masks is None else masks.pin_memory()
        return images, masks, self._read_extras(group)

    def _read_extras(self, group: np.ndarray) -> dict[str, _Rows]:
        """By name the stored rows of a group, None where there is none."""
        if len(self._resident_extras) == len(self._extras):
            return {}
        places = self._places(group)
        read = {}
        for name, arrays in self._extras.items():
            picked = [(array[z] if (array := arrays[c]) is not None else None) for c, z in places]
            read[name] = [None if row is None else torch.from_numpy(np.array(row)) for row in picked]
        return read

    def _complete(self, read: Mapping[str, _Rows], images: Tensor) -> dict[str, Tensor]:
        """Stored rows on the device as one tensor each, absent ones computed from their images."""
        complete = {}
        for name, rows in read.items():
            absent = [i for i, row in enumerate(rows) if row is None]
            there = [(i, row) for i, row in enumerate(rows) if row is not None]
            found = {}
            if there:
                stacked = torch.stack([row for _, row in there])
                if self.device.type == "cuda":
                    stacked = stacked.pin_memory()
                moved = stacked.to(self.device, non_blocking=True).float()
                found = {i: moved[k] for k, (i, _) in enumerate(there)}
            if absent:
                computed = self._fresh[name](images[absent])
                found |= {i: computed[k] for k, i in enumerate(absent)}
            complete[name] = torch.stack([found[i] for i in range(len(rows))])
        return complete


def _whole(arrays: Sequence[_Array], device: torch.device) -> Tensor:
    """Arrays [N, ...], one after the other, on a device; no second copy of them is made on the way."""
    first = arrays[0]
    dtype = torch.from_numpy(np.array(first[:0])).dtype
    whole = torch.empty((sum(map(len, arrays)), *first.shape[1:]), dtype=dtype, device=device)
    row = 0
    for array in arrays:
        for start in range(0, len(array), _ROWS):
            some = torch.from_numpy(np.array(array[start : start + _ROWS]))
            whole[row : row + len(some)] = some
            row += len(some)
    return whole
