"""Whole segmenters: under late fusion, and with what they give beside their logits in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from usbench.contracts.method import Supervised
from usbench.fusions.merge import merge_logits


class Merged(nn.Module):
    """A segmenter whose masks, where it gives one a modality, are merged by `merge_logits`.

    Attributes:
        takes_present: Whether it is told which modalities are there: where absent ones are left out of the
            merge ("skip"), and where the segmenter itself wants to know.
    """

    def __init__(
        self, network: nn.Module, modalities: int, classes: int, merge: str, absent: str = "skip"
    ) -> None:
        super().__init__()
        self.network = network
        self.merge = merge
        self.skips = absent == "skip"
        self.passes_on = takes_present(network)
        self.takes_present = self.skips or self.passes_on
        self.weight = nn.Parameter(torch.zeros(modalities, classes)) if merge == "learned" else None

    def forward(self, images: Tensor, present: Tensor | None = None, **extras: Tensor) -> Tensor | Supervised:
        """images [B, M, H, W], present: bool [B, M] or None for all -> logits [B, K, H, W]."""
        words = {**extras, "present": present} if self.passes_on and present is not None else extras
        used = present if self.skips else None

        def merged(logits: Tensor) -> Tensor:
            by_modality = logits.ndim > images.ndim
            return merge_logits(logits, self.merge, self.weight, used) if by_modality else logits

        return each_logits(self.network(images, **words), merged)


def each_logits(found: Tensor | Supervised, change: Callable[[Tensor], Tensor]) -> Tensor | Supervised:
    """Change the logits that a network gave, and those beside them, if there are any.

    Args:
        found: What a network gave: logits [B, K, H, W], or `Supervised`.
        change: From logits to logits.

    Returns:
        What was given, of the same kind.
    """
    if isinstance(found, Supervised):
        return Supervised(change(found.logits), [change(one) for one in found.auxiliary], found.weights)
    return change(found)


def takes_present(network: nn.Module) -> bool:
    """Whether a network is told which modalities are there: it has the attribute `takes_present`, true.

    Such a network is called as `network(images, present=...)`, bool [B, M], wherever a modality is absent;
    images of absent modalities are 0. Without `present` all of them are there.
    """
    return bool(getattr(network, "takes_present", False))
