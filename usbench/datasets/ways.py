"""What a network sees of a patient, slices or volumes: the one place where a run takes one way or the other.

A way makes the data that a network is trained on, and brings any network to the prepared grid: there, images
are slices [Z, M, S, S] of one patient and logits [Z, K, S, S], whatever the network sees in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.contracts.settings import TrainSettings
from usbench.datasets.batches import Slices, View
from usbench.datasets.stacks import resize_all, shape_of, slice_distance
from usbench.datasets.volumes import Volumes

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.contracts.settings import VolumeSettings
    from usbench.datasets.store import PreparedCase

Extras = Sequence[Mapping[str, np.ndarray | None]]
Fresh = Mapping[str, Callable[[Tensor], Tensor]] | None
Views = Sequence[tuple[View, Mapping[str, np.ndarray | None]]]

BATCH = 16
"""So many slices at a time are predicted by a network of slices, and made a mask of whatever it sees."""

TILES = 4
"""So many patches at a time are predicted by a network of volumes."""


class Example(NamedTuple):
    """What a network sees at once of a patient, for counting what it costs.

    Attributes:
        images: [1, M, H, W] or [1, M, D, H, W] on the device.
        extras: Features by name.
        per_slice: How many such inputs a slice of the patient takes: 1 for a network of slices.
    """

    images: Tensor
    extras: dict[str, Tensor]
    per_slice: float


class Way(Protocol):
    """What a run does otherwise for a network of slices and for one of volumes."""

    def training(
        self,
        cases: Sequence[PreparedCase],
        classes: int,
        device: torch.device,
        regions: bool,
        extras: Extras = (),
        fresh: Fresh = None,
        views: Views = (),
        fixed: bool | None = None,
    ) -> Slices | Volumes:
        """What a network is trained on; the arguments are those of `Slices`."""

    def groups(self, count: int, batch: int = BATCH) -> list[np.ndarray]:
        """Which of the `count` slices of a patient are predicted together: numbers, int [B] each."""

    def logits(self, network: nn.Module, images: Tensor, distance: float, **words: Tensor) -> Tensor:
        """The logits of such a group on the prepared grid.

        Args:
            network: What `Config` says it sees -> logits.
            images: float32 [B, M, S, S] on the device of the network.
            distance: Of neighbouring slices, in mm.
            words: What else the network takes, [B, ...]; `present` [B, M] is the same for all slices.

        Returns:
            [B, K, S, S].
        """

    def example(
        self, case: PreparedCase, device: torch.device, extras: Extras = (), fresh: Fresh = None
    ) -> Example:
        """What the network sees first of a case."""

    def few(self, case: PreparedCase) -> tuple[Tensor, Tensor]:
        """A few images with foreground of a case of one class, [N, M, ...], and their target [N, 1, ...]."""

    def blind(self) -> Way:
        """The same way, which looks at no mask when it chooses where in a patient a training sample lies."""

    def nominal(self, modalities: int, size: int) -> Example:
        """The same of nobody, on the device that is torch's default: zeros of that many modalities.

        Args:
            modalities: M.
            size: Of a prepared slice, in pixels. Of a network of volumes the patient has as many slices as it
                sees at once.
        """


class BySlices:
    """The way of a network that sees slices."""

    def training(
        self,
        cases: Sequence[PreparedCase],
        classes: int,
        device: torch.device,
        regions: bool,
        extras: Extras = (),
        fresh: Fresh = None,
        views: Views = (),
        fixed: bool | None = None,
    ) -> Slices:
        """See `Way`."""
        return Slices(cases, classes, device, extras, fresh, views=views, regions=regions, fixed=fixed)

    def groups(self, count: int, batch: int = BATCH) -> list[np.ndarray]:
        """Groups of at most `batch` slices, int [B] each, that differ by one at most."""
        return np.array_split(np.arange(count), max(1, -(-count // batch)))

    def logits(self, network: nn.Module, images: Tensor, distance: float, **words: Tensor) -> Tensor:
        """Images [B, M, S, S] -> logits [B, K, S, S]; see `Way`."""
        logits: Tensor = network(images, **words)
        return logits

    def example(
        self, case: PreparedCase, device: torch.device, extras: Extras = (), fresh: Fresh = None
    ) -> Example:
        """The first slice."""
        slices = Slices([case], 1, device, extras, fresh, targets=False)
        return Example(*next(iter(slices.images([np.arange(1)]))), 1.0)

    def few(self, case: PreparedCase) -> tuple[Tensor, Tensor]:
        """Eight slices with the most foreground: [8, M, S, S] and [8, 1, S, S]."""
        chosen = np.asarray(case.mask, dtype=bool).sum(axis=(1, 2)).argsort()[-8:]
        images = torch.from_numpy(case.images[chosen].astype("float32"))
        return images, torch.from_numpy(case.mask[chosen][:, None].astype("float32"))

    def blind(self) -> Way:
        """Itself: a sample is a slice as a whole."""
        return self

    def nominal(self, modalities: int, size: int) -> Example:
        """One slice."""
        return Example(torch.zeros(1, modalities, size, size), {}, 1.0)


@dataclass(frozen=True)
class ByVolumes:
    """The way of a network that sees volumes.

    Attributes:
        settings: What it sees of them.
    """

    settings: VolumeSettings

    def training(
        self,
        cases: Sequence[PreparedCase],
        classes: int,
        device: torch.device,
        regions: bool,
        extras: Extras = (),
        fresh: Fresh = None,
        views: Views = (),
        fixed: bool | None = None,
    ) -> Volumes:
        """See `Way`."""
        return Volumes(cases, classes, device, self.settings, regions)

    def groups(self, count: int, batch: int = BATCH) -> list[np.ndarray]:
        """All slices together, int [Z]."""
        import monai.inferers.utils  # noqa: F401  # here, before a clock runs

        return [np.arange(count)]

    def logits(self, network: nn.Module, images: Tensor, distance: float, **words: Tensor) -> Tensor:
        """[Z, M, S, S] -> [Z, K, S, S], as a whole or by a sliding window of Gaussian weights; see `Way`."""
        count, side = len(images), images.shape[-1]
        shape = shape_of(count, side, distance, self.settings)
        stack = images.transpose(0, 1)
        if shape != tuple(stack.shape[1:]):
            # Prepared images are kept in half precision, and so a network has seen them in training.
            stack = resize_all(stack, shape).half().float()
        words = {name: value[:1] for name, value in words.items()}
        if self.settings.mode == "whole":
            found: Tensor = network(stack[None], **words)
        else:
            found = self._slide(lambda tiles: network(tiles, **_for_all(words, len(tiles))), stack[None])
        if found.shape[2:] != (count, side, side):
            size = (count, side, side)
            found = functional.interpolate(found.float(), size, mode="trilinear", align_corners=False)
        return found[0].float().transpose(0, 1)

    def _slide(self, network: Callable[[Tensor], Tensor], volume: Tensor) -> Tensor:
        """Logits [1, K, D, H, W] of a volume [1, M, D, H, W], put together from those of patches."""
        from monai.inferers.utils import sliding_window_inference

        found: Any = sliding_window_inference(
            volume,
            roi_size=self.settings.patch,
            sw_batch_size=TILES,
            # It is weighted in place, which logits that share memory with themselves do not take.
            predictor=lambda tiles: network(tiles).contiguous(),
            overlap=self.settings.overlap,
            mode="gaussian",
            padding_mode="replicate",
        )
        assert isinstance(found, Tensor)
        return found

    def example(
        self, case: PreparedCase, device: torch.device, extras: Extras = (), fresh: Fresh = None
    ) -> Example:
        """The volume as a whole, or its first patch."""
        images = torch.from_numpy(np.asarray(case.images, dtype=np.float32)).transpose(0, 1)
        count, side = images.shape[1], images.shape[-1]
        shape = shape_of(count, side, slice_distance(case), self.settings)
        first, inputs = self._inputs(resize_all(images, shape)[None])
        return Example(first.to(device), {}, inputs / count)

    def few(self, case: PreparedCase) -> tuple[Tensor, Tensor]:
        """The volume as a whole, or two patches about foreground: [N, M, D, H, W] and [N, 1, D, H, W]."""
        settings = replace(self.settings, foreground=1.0, patches=2)
        volumes = Volumes([case], 1, torch.device("cpu"), settings)
        (group,) = volumes.epoch(TrainSettings(batch=2), seed=0, epoch=0, world=1)
        images, target, _ = next(iter(volumes.batches([group])))
        return images, target

    def blind(self) -> Way:
        """Patches lie anywhere."""
        return ByVolumes(replace(self.settings, foreground=0.0))

    def nominal(self, modalities: int, size: int) -> Example:
        """What the network sees at once, of a patient with as many slices."""
        depth, *_ = shape = self.settings.network_shape
        with torch.device("cpu"):
            stack = torch.zeros(1, 1, *shape_of(depth, size, self.settings.spacing, self.settings))
            _, inputs = self._inputs(stack)
        return Example(torch.zeros(1, modalities, *shape), {}, inputs / depth)

    def _inputs(self, volume: Tensor) -> tuple[Tensor, int]:
        """What the network sees first of a volume [1, M, D, H, W], and how many such inputs the volume is."""
        if self.settings.mode == "whole":
            return volume, 1
        first, seen = volume, 0

        def look(tiles: Tensor) -> Tensor:
            nonlocal first, seen
            if not seen:
                first = tiles[:1]
            seen += len(tiles)
            return tiles

        self._slide(look, volume)
        return first, seen


def _for_all(words: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Words of one volume [1, ...] for each of its patches, [B, ...]."""
    return {name: value.expand(count, *value.shape[1:]) for name, value in words.items()}


def way_of(config: Config) -> Way:
    """The way of the network that a configuration is of."""
    return BySlices() if config.volume is None else ByVolumes(config.volume)
