"""Small networks that differ by mode, batch or seed, or cannot be saved: one fault each."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kit.sound_network import Sound


class NoisyAtEvaluation(Sound):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits if self.training else logits + float(np.random.default_rng().normal())


class NoisyInTraining(Sound):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits * (1 + time.perf_counter_ns() % 1000 / 1000) if self.training else logits


class StartsAnyhow(Sound):
    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        start = np.random.default_rng().normal(size=self.head.weight.shape, scale=0.1)
        self.head.weight.data = torch.from_numpy(start.astype("float32"))


class LouderInTraining(Sound):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return 1.5 * logits if self.training else logits


class PoolsThenNormalises(Sound):
    """Batch norm of one number a channel and slice."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.gate = nn.Sequential(self.convolution(24, 24, 1, bias=False), self.batch_norm(24))

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        pooled = features.mean(tuple(range(2, features.ndim)), keepdim=True)
        logits: Tensor = self.head(features * torch.sigmoid(self.gate(pooled)))
        return logits


class ReadsFresh(Sound):
    """Adds what lay in memory before; most of the time that is zero, and nobody sees it."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits + torch.empty_like(logits).detach()


class ReadsFreshInTraining(Sound):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits + torch.empty_like(logits).detach() if self.training else logits


class HasLambda(Sound):
    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.activation = lambda x: x * 2

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.activation(super().forward(images))
        return logits


class FrozenBatchNorm(Sound):
    """A frozen encoder whose statistics go on."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.encoder = nn.Sequential(self.convolution(modalities, modalities, 1), self.batch_norm(modalities))
        self.encoder.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images + self.encoder(images))
        return logits


class FrozenMoves(Sound):
    """A teacher that requires no gradient and follows its pupil all the same."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.teacher = self.convolution(24, classes, 3, padding=1).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.teacher.weight.lerp_(self.head.weight, 0.1)
        logits: Tensor = self.head(self.features(images)) + self.teacher(self.features(images))
        return logits


class InAList(Sound):
    """A layer in a list: no parameter of the network, and not in its state."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.hidden = [self.convolution(24, 24, 1)]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden[0](self.features(images)))
        return logits


class SeesNoPlace(Sound):
    """One number a class for all of the slice."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits.mean(tuple(range(2, logits.ndim)), keepdim=True).expand_as(logits)


class MixesSamples(Sound):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits - 0.3 * logits.mean(dim=0, keepdim=True)


class DeepSupervision(Sound):
    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return [logits, logits[..., ::2, ::2]] if self.training else logits


class TwoClasses(Sound):
    """Background and foreground, however many classes were asked for."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, 2)
