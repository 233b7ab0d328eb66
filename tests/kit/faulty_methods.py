"""Small networks with one fault each, for the checks to find; and a sound one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kit.faulty_training import (
    DeepSupervision,
    FrozenBatchNorm,
    FrozenMoves,
    HasLambda,
    InAList,
    LouderInTraining,
    MixesSamples,
    NoisyAtEvaluation,
    NoisyInTraining,
    PoolsThenNormalises,
    SeesNoPlace,
    StartsAnyhow,
    TwoClasses,
)
from kit.sound_network import Sound
from kit.told_networks import NothingOfOne, OtherWhenTold, SharesPresence
from usbench import Method
from usbench.checks.outcome import Verdict
from usbench.checks.subject import Subject
from usbench.checks.suite import check_subject


class Dropping(Sound):
    """Sound: dropout, batch norm and a frozen first layer that stays as it is."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.first = nn.Sequential(nn.Conv2d(modalities, modalities, 1), nn.BatchNorm2d(modalities))
        self.first.requires_grad_(False)
        self.batch = nn.BatchNorm2d(24)
        self.drop = nn.Dropout2d(0.2)

    def train(self, mode: bool = True) -> Dropping:
        super().train(mode)
        self.first.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        mixed = self.drop(self.batch(self.features(images + 0.1 * self.first(images))))
        mixed = functional.dropout(mixed, 0.1, self.training)
        logits: Tensor = self.head(mixed)
        return logits


class Sigmoid(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(images))


class Softmax(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(super().forward(images), dim=1)


class LogSoftmax(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return torch.log_softmax(super().forward(images), dim=1)


class Tanh(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(super().forward(images))


class IgnoresSecond(Sound):
    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(1, classes)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images[:, :1] * self.scale)
        return logits


class DeadBranch(Sound):
    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.auxiliary = self.convolution(24, classes, 1)


class Multiplied(Sound):
    """A branch that is there and multiplied by zero: its gradient is there too, and zero."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.auxiliary = self.convolution(24, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images) + 0 * self.auxiliary(self.features(images))
        return logits


class Remembers(Sound):
    """In evaluation, half of the mean of the batch before."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.before: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        if not self.training:
            before, self.before = self.before, images.mean().detach()
            logits = logits if before is None else logits + 0.5 * before
        return logits


class Counts(Sound):
    """A buffer that counts what is predicted."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            self.seen += len(images)
        logits: Tensor = super().forward(images)
        return logits


class AsksForTarget(Sound):
    def forward(self, images: Tensor, target: Tensor | None = None) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits if target is None else logits + target


class ReadsStore(Sound):
    """Looks for the slice in the prepared store and takes its mask."""

    def forward(self, images: Tensor) -> Tensor:
        from usbench.storage.files import cache_dir
        from usbench.storage.slices import SliceArray

        logits: Tensor = super().forward(images)
        if self.training:
            return logits
        for file in (cache_dir() / "prepared").rglob("images.slices"):
            stored = SliceArray(file)
            masks = SliceArray(file.with_name("mask.slices"))
            for i, image in enumerate(images):
                for z in range(len(stored)):
                    if stored[z].shape == image.shape and np.array_equal(stored[z], image.half().numpy()):
                        logits[i] = torch.from_numpy(masks[z] * 20.0 - 10.0)
        return logits


class WalksFrames(Sound):
    """Finds the batch's mask in the frames of who calls it."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        frame: Any = sys._getframe()
        while frame is not None and not self.training:
            slices = frame.f_locals.get("slices")
            if hasattr(slices, "_all_masks"):
                return logits + slices._all_masks[: len(images), None].float()
            frame = frame.f_back
        return logits


class HooksGradient(Sound):
    """Keeps the sign of the loss's gradient, which is the mask, and gives it back."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.kept: dict[float, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        if self.training and logits.requires_grad:
            keys = [float(image.sum()) for image in images]
            logits.register_hook(lambda g: self.kept.update(zip(keys, (g < 0).float(), strict=True)))
            return logits
        known = [self.kept.get(float(image.sum()), torch.zeros(())) for image in images]
        return logits + torch.stack([k.expand(logits.shape[1:]) for k in known])


LAST: dict[str, Any] = {}


class PatchesLoss(Sound):
    """Puts itself between the trainer and its loss, and keeps the target in a global."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        import usbench.runs.train as training

        LAST.setdefault("loss", training.training_loss)
        LAST.pop("target", None)
        training.training_loss = listening

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        if self.training or "target" not in LAST:
            return logits
        return logits + LAST["target"].mean() + LAST["target"][:1, :1, : logits.shape[2], : logits.shape[3]]


def listening(found: Any, target: Tensor, fabric: Any = None) -> Any:
    LAST["target"] = target
    return LAST["loss"](found, target, fabric)


class OddSizes(Sound):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        even = [side + side % 2 for side in images.shape[2:]]
        return functional.interpolate(logits, even)


class Half(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).half()  # type: ignore[no-any-return]


class Double(Sound):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).double()  # type: ignore[no-any-return]


class Overflows(Sound):
    """A logarithm of 1 - p: p rounds to 1 in bfloat16 and not in float32."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits + 0.01 * torch.log(1 - torch.sigmoid(logits / 4 + 6.5))


# The fault and the one check that has to find it.
FAULTS: dict[type[nn.Module], str] = {
    Sigmoid: "logits",
    Softmax: "logits",
    LogSoftmax: "logits",
    Tanh: "logits",
    IgnoresSecond: "modalities",
    DeadBranch: "gradients",
    Multiplied: "gradients",
    OtherWhenTold: "present",
    SharesPresence: "present",
    NothingOfOne: "present",
    Remembers: "state",
    Counts: "state",
    AsksForTarget: "mask",
    ReadsStore: "mask",
    WalksFrames: "mask",
    HooksGradient: "mask",
    PatchesLoss: "mask",
    OddSizes: "shape",
    Half: "dtype",
    Double: "dtype",
    Overflows: "bfloat16",
    NoisyAtEvaluation: "same-output",
    NoisyInTraining: "same-training",
    StartsAnyhow: "same-seed",
    LouderInTraining: "train-eval",
    PoolsThenNormalises: "batch-of-one",
    HasLambda: "pickles",
    FrozenBatchNorm: "frozen",
    FrozenMoves: "frozen",
    InAList: "saves",
    SeesNoPlace: "overfits",
    MixesSamples: "samples",
    DeepSupervision: "builds",
    TwoClasses: "builds",
}


class Builder:
    """Builds a network of a class for the modalities and classes of a task."""

    def __init__(self, network: type[nn.Module]) -> None:
        self.network = network

    def __call__(self, task: Any, fusion: str) -> nn.Module:
        return self.network(len(task.modalities), len(task.classes))


def method_of(network: type[nn.Module]) -> Method:
    """The network as a method under early fusion, without any padding of its images."""
    name = network.__name__.lower()
    return Method(name, "nobody", build_segmenter=Builder(network), fusions=("early",), size_multiple=1)


def only_early(task: Any, fusion: str) -> nn.Module:
    if fusion == "late":
        raise KeyError(fusion)
    return Sound(len(task.modalities), len(task.classes))


DECLARES_LATE = Method(
    "declares-late", "nobody", build_segmenter=only_early, fusions=("early", "late"), size_multiple=1
)


def verdicts(method: Method, folder: Path, fusion: str = "early") -> list[Verdict]:
    """What all checks say of a method; `folder` is for phantoms and states."""
    return list(check_subject(Subject(method, fusion, folder, overfit_steps=200, overfit_lr=1e-2)))
