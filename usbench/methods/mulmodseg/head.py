"""The head of MulModSeg: for each class, three 1x1 convolutions whose weights a text and the image decide.

Li et al.: MulModSeg: Enhancing Unpaired Multi-Modal Medical Image Segmentation with Modality-Conditioned Text
Embedding and Alternating Training. WACV 2025, arXiv:2411.15576. The form of the head is that of Liu et al.:
CLIP-Driven Universal Model for Organ Segmentation and Tumor Detection. ICCV 2023.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

CONDITION = 256
"""Width of what the text says, and of what the image says."""
NARROW = 8
"""Channels that the convolutions of a class work on."""
SHAPES = ((NARROW, NARROW), (NARROW, NARROW), (1, NARROW))
"""Outputs and inputs of these convolutions."""
WRITTEN = sum(outputs * inputs + outputs for outputs, inputs in SHAPES)
"""Numbers that are written for each class: 64 + 64 + 8 weights and 8 + 8 + 1 biases, 153."""
GROUPS = 16


def _norm(channels: int) -> nn.GroupNorm:
    """Sixteen groups, or as many of them as divide the channels of a narrower network."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


class Head(nn.Module):
    """The last map of a decoder -> one logit map for each class.

    Its parameters for a last map of D channels, a deepest map of C and texts of E numbers, for any number of
    classes and modalities: text 256 E + 256; image 2 C + 256 C + 256; last map 2 D + 8 D + 8; controller
    153 (512 + 1) = 78,489. With a ResNet-34 (D 16, C 512) and MiniLM (E 384) that is 98,560 + 132,352 + 168
    + 78,489 = 309,569; with CLIP (E 512) 32,768 more.

    Args:
        last: Channels D of the decoder's last map.
        deepest: Channels C of the encoder's deepest map.
        width: E of a text.
    """

    def __init__(self, last: int, deepest: int, width: int) -> None:
        super().__init__()
        self.text = nn.Linear(width, CONDITION)
        self.pooled = nn.Sequential(
            _norm(deepest), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(deepest, CONDITION, 1)
        )
        self.narrow = nn.Sequential(_norm(last), nn.ReLU(), nn.Conv2d(last, NARROW, 1))
        self.controller = nn.Linear(2 * CONDITION, WRITTEN)

    def forward(self, last: Tensor, deepest: Tensor, texts: Tensor) -> Tensor:
        """Logits of every class.

        Args:
            last: The decoder's last map [B, D, H, W].
            deepest: The encoder's deepest map [B, C, h, w].
            texts: An embedding for each slice and class, [B, K, E].

        Returns:
            [B, K, H, W].
        """
        said = torch.relu(self.text(texts))
        seen = self.pooled(deepest).flatten(1)[:, None].expand(-1, said.shape[1], -1)
        numbers = self.controller(torch.cat([seen, said], dim=2))
        return convolved(self.narrow(last), numbers)


def convolved(maps: Tensor, numbers: Tensor) -> Tensor:
    """Three 1x1 convolutions with ReLU between them, other ones for each slice and class.

    Args:
        maps: [B, 8, H, W], which every class starts from.
        numbers: [B, K, 153]: the weights of the three, row by row of a matrix [outputs, inputs], then the
            biases of the three.

    Returns:
        [B, K, H, W].
    """
    height, width = maps.shape[-2:]
    batch, classes = numbers.shape[:2]
    sizes = [outputs * inputs for outputs, inputs in SHAPES] + [outputs for outputs, _ in SHAPES]
    parts = numbers.flatten(0, 1).split(sizes, dim=1)
    x = maps.flatten(2)[:, None].expand(-1, classes, -1, -1).flatten(0, 1)
    for layer, ((outputs, inputs), weight, bias) in enumerate(
        zip(SHAPES, parts[: len(SHAPES)], parts[len(SHAPES) :], strict=True)
    ):
        x = torch.baddbmm(bias[:, :, None], weight.unflatten(1, (outputs, inputs)), x)
        if layer < len(SHAPES) - 1:
            x = torch.relu(x)
    return x.reshape(batch, classes, height, width)
