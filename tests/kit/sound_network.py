"""A small network without a fault."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Sound(nn.Module):
    """Half the size, back again: what the faults below are put into."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(modalities, 12, 3, padding=1)
        self.norm = nn.GroupNorm(3, 12)
        self.deep = nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Conv2d(24, classes, 3, padding=1)

    def features(self, images: Tensor) -> Tensor:
        fine = functional.relu(self.norm(self.inner(images)))
        deep = functional.relu(self.deep(functional.avg_pool2d(fine, 2, ceil_mode=True)))
        return torch.cat([fine, functional.interpolate(deep, images.shape[-2:])], dim=1)

    def forward(self, images: Tensor) -> Any:
        return self.head(self.features(images))
