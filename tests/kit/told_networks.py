"""Networks that are told which modalities a slice has: a sound one, and some with one fault each."""

from __future__ import annotations

import torch
from torch import Tensor

from kit.sound_network import Sound


class Told(Sound):
    """Sound: brings the sum of what is there to the size of the sum of all."""

    takes_present = True

    def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor:
        if present is not None:
            share = present.float().mean(dim=1).clamp(min=0.1)
            images = images / share.reshape(-1, *[1] * (images.ndim - 1))
        logits: Tensor = super().forward(images)
        return logits


class OtherWhenTold(Told):
    """Told that all are there, it does something else than untold."""

    def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor:
        return super().forward(images, present) + (0.0 if present is None else 0.2)


class SharesPresence(Told):
    """What one slice lacks changes all others of the batch."""

    def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor:
        if present is not None:
            present = present.any(dim=0, keepdim=True).expand_as(present)
        return super().forward(images, present)


class NothingOfOne(Told):
    """Divides by what is absent."""

    def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor:
        logits = super().forward(images, present)
        if present is not None and not present.all():
            nothing = torch.where(present.all(1), 1.0, torch.nan)
            logits = logits * nothing.reshape(-1, *[1] * (logits.ndim - 1))
        return logits
