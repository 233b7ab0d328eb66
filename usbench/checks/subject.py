"""What is checked: a method under one fusion protocol, with networks and slices to try it on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from usbench.config import Config, make_config
from usbench.contracts.data import Modality, Structure, Task
from usbench.contracts.method import Feature, Method, Supervised
from usbench.features.rows import form_of
from usbench.fusions.build import build_model
from usbench.fusions.registry import declared, settings_of
from usbench.runs.train import training_loss

CPU = torch.device("cpu")
PAIR, CLASSES = 2, 2
"""Modalities and classes of a network where a check needs only one."""


def mock_task(modalities: int = 2, classes: int = 1) -> Task:
    """A task that exists nowhere, for tests: M modalities m0, m1, ... and K classes c0, c1, ..."""
    return Task(
        name="mock",
        title="Mock",
        modalities=tuple(Modality(f"m{i}", f"scan {i}") for i in range(modalities)),
        classes=tuple(Structure(f"c{i}", f"organ {i}", labels=(i + 1,)) for i in range(classes)),
        case_ids=(),
        nsd_tolerance_mm=1.0,
        licence="none",
        citation="none",
        homepage="none",
    )


@dataclass(eq=False)
class Subject:
    """A method under one fusion protocol.

    Attributes:
        method: The method.
        fusion: Name of the fusion protocol.
        folder: A temporary one, for phantoms and states.
        preset: As for a run; "smoke" makes methods small.
        settings: As for a run.
        modalities: The numbers of modalities that are tried.
        classes: The numbers of classes that are tried.
        sizes: Height and width of the slices that are tried, odd ones among them; of a method of volumes,
            depth, height and width, and where there are none such, what it sees and an odd size.
        side: Side of a square slice; a method of volumes is tried on what its settings say that it sees.
        caller: How to call a network, `(network, images [B, M, H, W]) -> logits [B, K, H, W]`, where a test
            makes the rows of the method's features; else they are made as in a run.
        thorough: Every size for every number of modalities, and `logits` and `overfits` also where protocols
            share an encoder and a decoder.
        compiler: Backend of `torch.compile` that `compiles` tries.
    """

    method: Method
    fusion: str
    folder: Path
    preset: str = "smoke"
    settings: Mapping[str, Any] = field(default_factory=dict)
    modalities: Sequence[int] = (1, 2, 3, 4)
    classes: Sequence[int] = (1, 4)
    sizes: Sequence[tuple[int, ...]] = ((64, 64), (50, 75))
    side: int = 64
    overfit_size: int = 32
    overfit_steps: int = 300
    overfit_lr: float = 1e-3
    caller: Callable[[nn.Module, Tensor], Tensor | Supervised] | None = None
    thorough: bool = False
    compiler: str = "inductor"
    _pristine: dict[tuple[int, int], nn.Module] = field(default_factory=dict, repr=False)
    _features: dict[tuple[int, int], list[Feature]] = field(default_factory=dict, repr=False)
    _rows: dict[Any, dict[str, Tensor]] = field(default_factory=dict, repr=False)

    @cached_property
    def config(self) -> Config:
        """The effective configuration.

        Raises:
            UsbenchError: For settings that are wrong.
        """
        fusion = declared(self.fusion)
        own = settings_of(fusion, self.settings)
        of = self.method
        return make_config(self.preset, of.settings, of.presets, own, fusion, of.dims)

    @cached_property
    def full(self) -> tuple[int, ...]:
        """The size of an image: (side, side), or (D, H, W) of what a network of volumes sees."""
        return (self.side, self.side) if self.config.volume is None else self.config.volume.network_shape

    @property
    def of_one_size(self) -> bool:
        """Whether the network sees volumes of the size that it was built for, and no others."""
        return self.method.takes_shape and self.method.dims == 3

    @cached_property
    def tried(self) -> list[tuple[int, ...]]:
        """The sizes that are tried."""
        fitting = [size for size in self.sizes if len(size) == len(self.full)]
        depth, height, width = self.full if len(self.full) == 3 else (1, *self.full)
        odd = (depth + 1, max(height - 3, height // 2), max(width - 11, width // 2))
        return fitting or [self.full, odd[-len(self.full) :]]

    @cached_property
    def trained(self) -> list[tuple[int, ...]]:
        """The sizes of images on which steps of training are taken, the smallest first."""
        if self.of_one_size:
            return [self.full]
        doubled = tuple(2 * size for size in self.full)
        return list(dict.fromkeys((self.small, self.full, doubled)))

    def words(self, size: tuple[int, ...]) -> str:
        """What images of a size are: "slices of 64x64" or "volumes of 8x32x32"."""
        return f"{'slices' if len(size) == 2 else 'volumes'} of {'x'.join(map(str, size))}"

    @property
    def shares_halves_with(self) -> str:
        """The protocol under which the same encoder and decoder are trained already, or ""."""
        first = self.method.fusions[0]
        shares = self.method.build_network is not None and not self.thorough
        return first if shares and self.fusion != first else ""

    def build(
        self,
        modalities: int = PAIR,
        classes: int = CLASSES,
        seed: int = 0,
        size: tuple[int, ...] | None = None,
    ) -> nn.Module:
        """A network built anew from a seed, as a run builds it; for images of a size, if it asks for that."""
        torch.manual_seed(seed)
        config = self.config
        if size is not None and config.volume is not None and self.of_one_size:
            depth, height, width = size
            one = (depth, height, width)
            config = replace(config, volume=replace(config.volume, shape=one, patch=one))
        return build_model(self.method, mock_task(modalities, classes), declared(self.fusion), config)

    def network(self, modalities: int = PAIR, classes: int = CLASSES) -> nn.Module:
        """A network that nobody has touched yet: a copy of one that was built from seed 0."""
        key = (modalities, classes)
        if key not in self._pristine:
            self._pristine[key] = self.build(modalities, classes)
        try:
            return copy.deepcopy(self._pristine[key])
        except Exception:  # What cannot be copied is built again; `pickles` tells of it.
            return self.build(modalities, classes)

    def images(
        self, modalities: int = PAIR, size: tuple[int, ...] | None = None, batch: int = 2, seed: int = 1
    ) -> Tensor:
        """A batch [B, M, H, W] or [B, M, D, H, W] of noise with deviation 1, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, modalities, *(size or self.full), generator=generator)

    def target(self, images: Tensor, classes: int = CLASSES) -> Tensor:
        """A mask [B, K, H, W] for the images: where the first modality is bright, shifted by class."""
        bright = (images[:, :1] > 0).float()
        return torch.cat([bright.roll(k, -1) for k in range(classes)], dim=1)

    def call(self, network: nn.Module, images: Tensor, classes: int = CLASSES) -> Tensor:
        """The logits of a batch, with the rows of the method's features where it has any.

        Args:
            network: As of `build`.
            images: [B, M, H, W].
            classes: K of the network.

        Returns:
            Whatever the network gives; of a sound one [B, K, H, W].
        """
        found = self._found(network, images, classes)
        return found.logits if isinstance(found, Supervised) else found

    def _found(self, network: nn.Module, images: Tensor, classes: int) -> Tensor | Supervised:
        """What the network gives; in training that may be more than logits."""
        if self.caller is not None:
            return self.caller(network, images)
        found: Tensor | Supervised = network(images, **self.rows(images, classes))
        return found

    def rows(self, images: Tensor, classes: int = CLASSES) -> dict[str, Tensor]:
        """The rows of the method's features for a batch, as a run stores them.

        Args:
            images: [B, M, H, W].
            classes: K of the network.

        Returns:
            By name of the feature, [B, ...].
        """
        if self.method.features is None or self.caller is not None:
            return {}
        if images.device.type == "meta":
            raise NotImplementedError("features are computed from real images")
        key = (classes, tuple(images.shape), images.detach().numpy().tobytes())
        if key not in self._rows:
            with torch.no_grad():
                self._rows[key] = {
                    f.name: form_of(f, self.fusion).rounded(f.compute(images.detach())[0])
                    for f in self.features(images.shape[1], classes)
                }
        return self._rows[key]

    def features(self, modalities: int, classes: int) -> list[Feature]:
        """The method's features for a task, made once."""
        key = (modalities, classes)
        if key not in self._features:
            assert self.method.features is not None
            for feature in (f for other in self._features.values() for f in other):
                feature.free()  # Two language models need not be in memory together.
            made = self.method.features(mock_task(modalities, classes), CPU, **self.config.method)
            self._features[key] = list(made)
        return self._features[key]

    def loss(self, network: nn.Module, images: Tensor, classes: int = CLASSES) -> Tensor:
        """The loss of training, one number [], on images [B, M, H, W] and their `target`."""
        loss, _, _ = training_loss(self._found(network, images, classes), self.target(images, classes))
        return loss

    @cached_property
    def small(self) -> tuple[int, ...]:
        """The size of images where steps of training are taken.

        Slices of a side of 32, or of `side` where that is too small; volumes as the network sees them.
        """
        if len(self.full) == 3 or self.side <= 32:
            return self.full
        try:
            self.call(self.network().train(), self.images(size=(32, 32)))
        except Exception:
            return self.full
        return 32, 32

    def small_images(self, modalities: int = PAIR, batch: int = 2) -> Tensor:
        """A batch [B, M, S, S] or [B, M, D, H, W] for steps of training."""
        return self.images(modalities, self.small, batch)


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that an optimiser changes."""
    return [p for p in network.parameters() if p.requires_grad]


def adam(network: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    """The optimiser of a run, over what is trainable."""
    return torch.optim.Adam(trainable(network), lr=lr)


def shift(one: Tensor, two: Tensor) -> float:
    """The largest difference of two tensors.

    Args:
        one: Of any shape.
        two: Likewise.

    Returns:
        The difference, relative to the largest value of `one` if that is over 1; infinite where the shapes
        differ.
    """
    if one.shape != two.shape:
        return float("inf")
    scale = max(1.0, float(one.detach().abs().max()))
    return float((one.detach().double() - two.detach().double()).abs().max()) / scale


def differs(one: Tensor, two: Tensor, tolerance: float) -> bool:
    """Whether two tensors of any shape differ by more than `tolerance`, see `shift`; NaN always does."""
    return not shift(one, two) <= tolerance


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def plain(value: object) -> str:
    """A shape as [2, 1, 64, 64], anything else by its type."""
    return str(list(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def unwrapped(network: nn.Module) -> nn.Module:
    """A segmenter without what usbench puts around it."""
    from usbench.fusions.build import Padded
    from usbench.fusions.segmenter import Merged

    while isinstance(network, Padded | Merged):
        network = network.network
    return network
