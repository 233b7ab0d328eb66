"""Small networks without a fault."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import Supervised


class Sound(nn.Module):
    """Half the size, back again: what the faults below are put into. With `dims` 3 it sees volumes."""

    dims = 2

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__()
        self.inner = self.convolution(modalities, 12, 3, padding=1)
        self.norm = nn.GroupNorm(3, 12)
        self.deep = self.convolution(12, 12, 3, padding=1)
        self.head = self.convolution(24, classes, 3, padding=1)

    def convolution(self, *sizes: int, **words: int) -> nn.Module:
        return (nn.Conv3d if self.dims == 3 else nn.Conv2d)(*sizes, **words)

    def batch_norm(self, channels: int) -> nn.Module:
        return (nn.BatchNorm3d if self.dims == 3 else nn.BatchNorm2d)(channels)

    def features(self, images: Tensor) -> Tensor:
        fine = functional.relu(self.norm(self.inner(images)))
        pool = functional.avg_pool3d if self.dims == 3 else functional.avg_pool2d
        deep = functional.relu(self.deep(pool(fine, 2, ceil_mode=True)))
        return torch.cat([fine, functional.interpolate(deep, images.shape[2:])], dim=1)

    def forward(self, images: Tensor) -> Any:
        return self.head(self.features(images))


class Deep(Sound):
    """Sound, and in training it gives a second mask of a head of its own."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__(modalities, classes)
        self.beside = self.convolution(24, classes, 1)

    def forward(self, images: Tensor) -> Any:
        features = self.features(images)
        logits = self.head(features)
        return Supervised(logits, [self.beside(features)]) if self.training else logits
