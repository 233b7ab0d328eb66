"""Random changes to a batch of slices while training, on whatever device the batch is."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

ROTATION = math.radians(15)
SCALE = 0.15
SHIFT = 0.08
GAIN = 0.15
OFFSET = 0.15


def light(
    images: Tensor,
    target: Tensor,
    generator: torch.Generator,
    first: int = 0,
    total: int | None = None,
    mirror: bool = False,
) -> tuple[Tensor, Tensor]:
    """Rotate, scale, shift and re-contrast each slice; all modalities of a slice move together.

    Contrast (gain and offset, in units of the normalised image) is drawn per modality.

    Args:
        images: float [B, M, H, W].
        target: 0 or 1, [B, K, H, W].
        generator: One of the CPU, so that the draws are the same on every device.
        first: Where the batch is a share of a larger one: the place of its first slice in that one.
        total: The slices of that larger batch. The draws are those that one device would make for all of it.
        mirror: Exchange left and right in half of the slices; not for classes that have a side, where it
            would turn a right kidney into a left one.

    Returns:
        The changed images [B, M, H, W] and target [B, K, H, W].
    """
    batch, modalities = images.shape[:2]
    whole = batch if total is None else total

    def draw(*shape: int) -> Tensor:
        return (torch.rand(whole, *shape, generator=generator) * 2 - 1)[first : first + batch]

    angle, scale = draw() * ROTATION, torch.exp(draw() * SCALE)
    shift = draw(2) * 2 * SHIFT
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack(
        [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1
    )
    gain, offset = 1 + draw(modalities) * GAIN, draw(modalities) * OFFSET
    if mirror:
        theta[:, 0] *= torch.where(draw() < 0, -1.0, 1.0)[:, None]
    theta, gain, offset = (t.to(images.device, images.dtype) for t in (theta, gain, offset))

    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    target = functional.grid_sample(target, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return images * gain[:, :, None, None] + offset[:, :, None, None], target
