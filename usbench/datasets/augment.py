"""Random changes to a batch of slices or volumes while training, on whatever device the batch is."""

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
    left_right: int = -1,
) -> tuple[Tensor, Tensor]:
    """Rotate, scale, shift and re-contrast each slice; all modalities of a slice move together.

    All slices of a volume move alike, about the axis through them: nothing is interpolated between slices,
    which may be thick. Contrast (gain and offset, in units of the normalised image) is drawn per modality.

    Args:
        images: float [B, M, H, W], or volumes [B, M, D, H, W].
        target: 0 or 1, [B, K, H, W] or [B, K, D, H, W].
        generator: One of the CPU, so that the draws are the same on every device.
        first: Where the batch is a share of a larger one: the place of its first slice in that one.
        total: The slices of that larger batch. The draws are those that one device would make for all of it.
        mirror: Exchange left and right in half of the slices; not for classes that have a side, where it
            would turn a right kidney into a left one.
        left_right: The axis that runs from left to right; 2 for volumes of sagittal slices.

    Returns:
        The changed images and target, of their shapes.
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
        turned = draw() < 0
        if left_right == -1:
            theta[:, 0] *= torch.where(turned, -1.0, 1.0)[:, None]
        else:
            turned = turned.to(images.device).reshape(-1, *[1] * (images.ndim - 1))
            images = torch.where(turned, images.flip(left_right), images)
            target = torch.where(turned, target.flip(left_right), target)
    theta, gain, offset = (t.to(images.device, images.dtype) for t in (theta, gain, offset))

    shapes, (height, width) = (images.shape, target.shape), images.shape[-2:]
    # The slices of a volume are as more channels of one slice.
    flat, flat_target = (t.reshape(batch, -1, height, width) for t in (images, target))
    grid = places(theta, height, width)
    flat = functional.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    flat_target = functional.grid_sample(
        flat_target, grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    images, target = flat.reshape(shapes[0]), flat_target.reshape(shapes[1])
    gain, offset = (t.reshape(batch, modalities, *[1] * (images.ndim - 2)) for t in (gain, offset))
    return images.mul_(gain).add_(offset), target


def places(theta: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of turned, scaled and shifted slices is taken from.

    As `torch.nn.functional.affine_grid` with `align_corners=False`, to the last bit where that one rounds
    after every product, in a tenth of its time: it multiplies a matrix by all pixels, this one adds rows and
    columns.

    Args:
        theta: [B, 2, 3], in units of half the slice: x, y and 1 of a pixel to the x and y of its place.
        height: Of the slices, in pixels.
        width: Of the slices, in pixels.

    Returns:
        [B, height, width, 2], each x and y; -1 and 1 are the outer edges of the outermost pixels.
    """
    across = theta[:, :, 0, None] * _centres(width, theta)
    down = theta[:, :, 1, None] * _centres(height, theta)
    grid = across[:, :, None, :] + down[:, :, :, None]
    grid += theta[:, :, 2, None, None]
    return grid.permute(0, 2, 3, 1)


def _centres(count: int, like: Tensor) -> Tensor:
    """The centres of pixels in a row, whose outer edges are at -1 and 1."""
    if count == 1:
        return torch.zeros(1, dtype=like.dtype, device=like.device)
    return torch.linspace(-1, 1, count, dtype=like.dtype, device=like.device) * (count - 1) / count
