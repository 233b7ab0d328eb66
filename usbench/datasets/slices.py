"""The slices of some prepared cases as batches on a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from usbench.datasets.store import PreparedCase

RESIDENT_SHARE = 0.4

Batch = tuple[Tensor, Tensor, dict[str, Tensor]]


def free_memory(device: torch.device) -> int:
    """Free bytes on a device; those available to the machine for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


class Slices:
    """All slices of some cases, in order of case and slice.

    They stay on the device while they take less than `RESIDENT_SHARE` of its free memory; else
    batches are read from the memory-mapped store ahead of their use, pinned for a GPU.
    extras: what the method precomputed, per case a dict of tensors [Z, ...], in the cases' order.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        classes: int,
        device: torch.device,
        extras: Sequence[dict[str, Tensor]] = (),
        resident: bool | None = None,
    ) -> None:
        self.classes = classes
        self.device = device
        self.foreground = np.concatenate([np.asarray(case.foreground) for case in cases])
        self._images = [case.images for case in cases]
        self._masks = [case.mask for case in cases]
        self._starts = np.cumsum([0] + [len(mask) for mask in self._masks])
        self._extras: dict[str, Tensor] = {}
        if extras:
            self._extras = {name: torch.cat([extra[name] for extra in extras]) for name in extras[0]}
        size = sum(a.nbytes for a in (*self._images, *self._masks))
        size += sum(t.element_size() * t.nelement() for t in self._extras.values())
        self.resident = size < RESIDENT_SHARE * free_memory(device) if resident is None else resident
        if self.resident:
            self._all_images = torch.from_numpy(np.concatenate(self._images)).to(device)
            self._all_masks = torch.from_numpy(np.concatenate(self._masks)).to(device)
            self._extras = {name: tensor.to(device) for name, tensor in self._extras.items()}

    def __len__(self) -> int:
        return len(self.foreground)

    def batches(self, groups: Sequence[np.ndarray]) -> Iterator[Batch]:
        """For each group of slice numbers: float32 images [B, M, S, S] and target [B, K, S, S], extras."""
        if self.resident:
            for group in groups:
                index = torch.as_tensor(group, device=self.device)
                extras = {name: t[index].float() for name, t in self._extras.items()}
                yield self._finish(self._all_images[index], self._all_masks[index], extras)
            return
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = reader.submit(self._read, groups[0]) if len(groups) else None
            for number in range(len(groups)):
                assert ahead is not None
                images, masks, extras = ahead.result()
                if number + 1 < len(groups):
                    ahead = reader.submit(self._read, groups[number + 1])
                moved = {name: t.to(self.device, non_blocking=True).float() for name, t in extras.items()}
                yield self._finish(
                    images.to(self.device, non_blocking=True), masks.to(self.device, non_blocking=True), moved
                )

    def _read(self, group: np.ndarray) -> Batch:
        """The rows of a group, copied out of the memory map (pinned where a GPU takes them)."""
        case_of = np.searchsorted(self._starts, group, side="right") - 1
        places = [(int(c), int(i - self._starts[c])) for c, i in zip(case_of, group, strict=True)]
        images = torch.from_numpy(np.stack([self._images[c][z] for c, z in places]))
        masks = torch.from_numpy(np.stack([self._masks[c][z] for c, z in places]))
        extras = {name: tensor[torch.as_tensor(group)] for name, tensor in self._extras.items()}
        if self.device.type == "cuda":
            return images.pin_memory(), masks.pin_memory(), {n: t.pin_memory() for n, t in extras.items()}
        return images, masks, extras

    def _finish(self, images: Tensor, masks: Tensor, extras: dict[str, Tensor]) -> Batch:
        labels = torch.arange(1, self.classes + 1, device=masks.device, dtype=masks.dtype)
        target = masks[:, None] == labels[None, :, None, None]
        return images.float(), target.float(), extras
