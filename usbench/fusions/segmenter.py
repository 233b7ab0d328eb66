"""Whole segmenters under late fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from usbench.fusions.merge import merge_logits


class Merged(nn.Module):
    """A segmenter whose masks, where it gives one a modality, are merged by `merge_logits`."""

    def __init__(self, network: nn.Module, modalities: int, classes: int, merge: str) -> None:
        super().__init__()
        self.network = network
        self.merge = merge
        self.weight = nn.Parameter(torch.zeros(modalities, classes)) if merge == "learned" else None

    def forward(self, images: Tensor, **extras: Tensor) -> Tensor:
        """images [B, M, H, W] -> logits [B, K, H, W]."""
        logits: Tensor = self.network(images, **extras)
        return merge_logits(logits, self.merge, self.weight) if logits.ndim == 5 else logits
