"""The U-Net of the paper, 64 to 1024 channels, with batch normalisation.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation.
MICCAI 2015.

What differs from the paper is what has become usual: convolutions are padded, so that the logits
have the size of the input and skips need no cropping, and are followed by batch normalisation,
which makes their bias needless. There is no dropout at the end of the contracting path.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from usbench import EncoderDecoder, Method, UsbenchError
from usbench.baselines.ladder import LadderDecoder, PoolingEncoder

LEVELS = 5


class DoubleConv(nn.Sequential):
    """Twice: 3x3 convolution without bias, batch normalisation, ReLU. [B, I, H, W] -> [B, O, H, W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class UpLevel(nn.Module):
    """One step of the expanding path: [B, 2C, H/2, W/2] and the skip [B, C, H, W] -> [B, C, H, W].

    A 2x2 transposed convolution halves the channels; the skip comes first in the concatenation.
    """

    def __init__(self, coarse: int, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(coarse, channels, kernel_size=2, stride=2)
        self.block = DoubleConv(2 * channels, channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """The coarser map [B, 2C, H/2, W/2] and the skip [B, C, H, W] -> [B, C, H, W]."""
        merged: Tensor = self.block(torch.cat([skip, self.up(coarse)], dim=1))
        return merged


def _initialise(network: nn.Module) -> None:
    """The paper's start: normal weights of deviation sqrt(2 / N), N the inputs of one output pixel."""
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            # Kernel and stride are equal: one input pixel reaches an output pixel.
            inputs = module.in_channels
        elif isinstance(module, nn.Conv2d):
            inputs = module.in_channels * math.prod(module.kernel_size)
        else:
            continue
        nn.init.normal_(module.weight, std=math.sqrt(2 / inputs))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(in_channels: int, classes: int, width: int = 64) -> EncoderDecoder:
    """Classic U-Net.

    Args:
        in_channels: C of the images [B, C, H, W]; H and W are multiples of 16.
        classes: K of the logits [B, K, H, W].
        width: channels of the finest of five levels, 64 in the paper; each further one has twice as many.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: for a width under 1.
    """
    if width < 1:
        raise UsbenchError(f"method.width {width} is not a number of channels; use 1 or more")
    channels = [width * 2**level for level in range(LEVELS)]
    network = EncoderDecoder(
        PoolingEncoder(DoubleConv, in_channels, channels), LadderDecoder(UpLevel, channels, classes), channels
    )
    _initialise(network)
    return network


METHOD = Method(
    name="unet-classic",
    paper="Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. "
    "MICCAI 2015.",
    build_network=build,
    settings={"width": 64},
    presets={"quick": {"width": 16}, "smoke": {"width": 8}},
    size_multiple=16,
)
