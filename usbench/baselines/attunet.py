"""Attention U-Net: a U-Net whose every skip passes a gate.

Oktay, Schlemper, Le Folgoc, Lee, Heinrich, Misawa, Mori, McDonagh, Hammerla, Kainz, Glocker,
Rueckert: Attention U-Net: Learning Where to Look for the Pancreas. MIDL 2018, arXiv:1804.03999.

The paper's network is 3D and gates at the resolution of the coarser map. This is the 2D form that
comparisons use: five levels, gates at the resolution of the skip with the upsampled decoder map
as gating signal, batch normalisation in the gates. Weights start as torch draws them, so that a
gate starts near 1/2 everywhere; the paper starts with open gates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from usbench import EncoderDecoder, Method, UsbenchError
from usbench.baselines.ladder import LadderDecoder, PoolingEncoder

LEVELS = 5


class DoubleConv(nn.Sequential):
    """Twice: 3x3 convolution with bias, batch normalisation, ReLU. [B, I, H, W] -> [B, O, H, W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UpConv(nn.Sequential):
    """Each pixel repeated 2x2, then a 3x3 convolution. [B, I, H, W] -> [B, O, 2H, 2W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class AttentionGate(nn.Module):
    """A skip x times its attention, sigmoid(BN(p . ReLU(BN(Wg g) + BN(Wx x)))), every map a 1x1 convolution.

    gating g [B, C, H, W] and skip x [B, C, H, W] -> [B, C, H, W]. One coefficient a pixel, in (0, 1),
    that depends on that pixel of both alone.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.gating = nn.Sequential(nn.Conv2d(channels, inner, kernel_size=1), nn.BatchNorm2d(inner))
        self.skip = nn.Sequential(nn.Conv2d(channels, inner, kernel_size=1), nn.BatchNorm2d(inner))
        self.score = nn.Sequential(nn.Conv2d(inner, 1, kernel_size=1), nn.BatchNorm2d(1))

    def forward(self, gating: Tensor, skip: Tensor) -> Tensor:
        """The skip times its attention.

        Args:
            gating: the upsampled decoder map [B, C, H, W].
            skip: the encoder's map [B, C, H, W].

        Returns:
            [B, C, H, W].
        """
        score: Tensor = self.score(torch.relu(self.gating(gating) + self.skip(skip)))
        return skip * torch.sigmoid(score)


class _UpLevel(nn.Module):
    """One step up: the coarser map [B, 2C, H/2, W/2] and the skip [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, coarse: int, channels: int) -> None:
        super().__init__()
        self.up = UpConv(coarse, channels)
        self.gate = AttentionGate(channels)
        self.block = DoubleConv(2 * channels, channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        up = self.up(coarse)
        merged: Tensor = self.block(torch.cat([self.gate(up, skip), up], dim=1))
        return merged


def build(in_channels: int, classes: int, width: int = 64) -> EncoderDecoder:
    """Attention U-Net.

    Args:
        in_channels: C of the images [B, C, H, W]; H and W are multiples of 16.
        classes: K of the logits [B, K, H, W].
        width: channels of the finest of five levels; each further one has twice as many. 64 is the
            network of the comparisons.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: for a width under 2, which leaves a gate empty.
    """
    if width < 2:
        raise UsbenchError(f"method.width {width} is too small for a gate of half of it; use 2 or more")
    channels = [width * 2**level for level in range(LEVELS)]
    return EncoderDecoder(
        PoolingEncoder(DoubleConv, in_channels, channels),
        LadderDecoder(_UpLevel, channels, classes),
        channels,
    )


METHOD = Method(
    name="attunet",
    paper="Oktay et al.: Attention U-Net: Learning Where to Look for the Pancreas. MIDL 2018.",
    build_network=build,
    settings={"width": 64},
    presets={"quick": {"width": 16}, "smoke": {"width": 8}},
    size_multiple=16,
)
