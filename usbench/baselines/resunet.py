"""ResUNet: a U-Net of pre-activation residual units.

Zhang, Liu, Wang: Road Extraction by Deep Residual U-Net. IEEE GRSL 2018, arXiv:1711.10684.
Xiao, Lian, Luo, Li: Weighted Res-UNet for High-Quality Retina Vessel Segmentation. ITME 2018.

Neither paper comes with code by its authors, and two variants are public. This is the larger, with
13,043,074 parameters for 3 channels and 2 classes: shortcuts are a 3x3 convolution with batch
normalisation, and upsampling is a transposed convolution. The other (8,221,058) has 1x1 shortcuts
and bilinear upsampling. Xiao's weighted attention is in neither, nor here. The output is logits;
the sigmoid that Zhang ends with is the loss's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from usbench import EncoderDecoder, Method, UsbenchError
from usbench.baselines.ladder import LadderDecoder

LEVELS = 4


class ResidualUnit(nn.Module):
    """Twice BN, ReLU, 3x3 convolution, plus BN of a 3x3 convolution of the input; nothing after the sum.

    [B, I, H, W] -> [B, O, H/stride, W/stride]. The first convolution and the shortcut take the stride.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """A map [B, I, H, W] -> [B, O, H / stride, W / stride]."""
        total: Tensor = self.body(x) + self.shortcut(x)
        return total


class Stem(nn.Module):
    """The first unit: the image goes into its convolution as it is, and the shortcut has no BN."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
        )
        self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] -> [B, O, H, W]."""
        total: Tensor = self.body(images) + self.shortcut(images)
        return total


class _Encoder(nn.Module):
    """The stem and three stride-2 units, of which the last is the bridge."""

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.stem = Stem(in_channels, channels[0])
        self.units = nn.ModuleList(ResidualUnit(i, o, stride=2) for i, o in pairwise(channels))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = [self.stem(images)]
        for unit in self.units:
            maps.append(unit(maps[-1]))
        return tuple(maps)


class UpLevel(nn.Module):
    """One step up: [B, 2C, H/2, W/2] and the skip [B, C, H, W] -> [B, C, H, W].

    A 2x2 transposed convolution keeps the channels, and comes first in the concatenation.
    """

    def __init__(self, coarse: int, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(coarse, coarse, kernel_size=2, stride=2)
        self.unit = ResidualUnit(coarse + channels, channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """The coarser map [B, 2C, H/2, W/2] and the skip [B, C, H, W] -> [B, C, H, W]."""
        merged: Tensor = self.unit(torch.cat([self.up(coarse), skip], dim=1))
        return merged


def build(in_channels: int, classes: int, width: int = 64) -> EncoderDecoder:
    """ResUNet.

    Args:
        in_channels: C of the images [B, C, H, W]; H and W are multiples of 8.
        classes: K of the logits [B, K, H, W].
        width: channels of the finest of four levels, 64 in Zhang's paper; each further one has twice as
            many.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: for a width under 1.
    """
    if width < 1:
        raise UsbenchError(f"method.width {width} is not a number of channels; use 1 or more")
    channels = [width * 2**level for level in range(LEVELS)]
    return EncoderDecoder(
        _Encoder(in_channels, channels), LadderDecoder(UpLevel, channels, classes), channels
    )


METHOD = Method(
    name="resunet",
    paper="Zhang, Liu, Wang: Road Extraction by Deep Residual U-Net. IEEE GRSL 2018; as used by Xiao et al.: "
    "Weighted Res-UNet for High-Quality Retina Vessel Segmentation. ITME 2018 (without its attention).",
    build_network=build,
    settings={"width": 64},
    presets={"quick": {"width": 16}, "smoke": {"width": 8}},
    size_multiple=8,
)
