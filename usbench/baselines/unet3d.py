"""The 3D U-Net of the paper: 32 to 512 channels, batch normalisation, no bottlenecks.

Çiçek, Abdulkadir, Lienkamp, Brox, Ronneberger: 3D U-Net: Learning Dense Volumetric Segmentation from
Sparse Annotation. MICCAI 2016.

What differs from the paper: convolutions are padded, so that the logits have the size of the input and
skips need no cropping. Batch normalisation makes the bias of a convolution before it needless, and at test
time uses the running statistics; the paper, with a batch of one, uses those of the volume at hand, by
which the mask of a volume would depend on its neighbours in a batch. The loss for sparse annotation is not
part of a network.

The paper states 19,069,955 parameters for three input channels and three classes. That is every weight
(19,067,616, upsampling without a bias), the three biases of the head, and one number for each of the 2,336
channels that a 3x3x3 convolution gives. Batch normalisation has two for each, scale and shift, so this
network has 19,072,291.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from usbench import EncoderDecoder, Method, UsbenchError
from usbench.baselines.ladder import LadderDecoder, PoolingEncoder

LEVELS = 4


class DoubleConv(nn.Sequential):
    """Twice: 3x3x3 convolution without bias, batch normalisation, ReLU. [B, I, D, H, W] -> [B, O, D, H, W].

    Args:
        in_channels: I.
        inner: Channels between the two.
        out_channels: O.
    """

    def __init__(self, in_channels: int, inner: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv3d(in_channels, inner, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm3d(inner),
            nn.ReLU(inplace=True),
            nn.Conv3d(inner, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
        )


def _widening(in_channels: int, out_channels: int) -> DoubleConv:
    """A block of the analysis path. It has doubled the channels before the pooling that follows it."""
    return DoubleConv(in_channels, out_channels // 2, out_channels)


class UpLevel(nn.Module):
    """A step up: [B, 2C, D/2, H/2, W/2] and the skip [B, C, D, H, W] -> [B, C, D, H, W].

    A 2x2x2 transposed convolution keeps the channels; the skip comes first in the concatenation.
    """

    def __init__(self, coarse: int, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(coarse, coarse, kernel_size=2, stride=2, bias=False)
        self.block = DoubleConv(channels + coarse, channels, channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """The coarser map [B, 2C, D/2, H/2, W/2] and the skip [B, C, D, H, W] -> [B, C, D, H, W]."""
        merged: Tensor = self.block(torch.cat([skip, self.up(coarse)], dim=1))
        return merged


class _Encoder(PoolingEncoder):
    """Volumes [B, C, D, H, W] -> maps [B, channels[i], D / 2^i, H / 2^i, W / 2^i], finest first."""

    def __init__(self, in_channels: int, channels: list[int]) -> None:
        super().__init__(_widening, in_channels, channels)
        self.pool = nn.MaxPool3d(kernel_size=2)  # type: ignore[assignment]


class _Decoder(LadderDecoder):
    """Such maps -> logits [B, K, D, H, W]."""

    def __init__(self, channels: list[int], classes: int) -> None:
        super().__init__(UpLevel, channels, classes)
        self.head = nn.Conv3d(channels[0], classes, kernel_size=1)  # type: ignore[assignment]


def build(in_channels: int, classes: int, width: int = 64) -> EncoderDecoder:
    """3D U-Net.

    Args:
        in_channels: C of the volumes [B, C, D, H, W]; D, H and W are multiples of 8.
        classes: K of the logits [B, K, D, H, W].
        width: Channels of the finest of four maps, 64 in the paper; each further one has twice as many. The
            first convolution of all gives half as many.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: For a width that is no even number of channels.
    """
    if width < 2 or width % 2:
        raise UsbenchError(f"method.width {width} is no even number of channels; use 2, 4, ..., 64")
    channels = [width * 2**level for level in range(LEVELS)]
    return EncoderDecoder(_Encoder(in_channels, channels), _Decoder(channels, classes), channels)


METHOD = Method(
    name="unet3d",
    paper="Çiçek, Abdulkadir, Lienkamp, Brox, Ronneberger: 3D U-Net: Learning Dense Volumetric Segmentation "
    "from Sparse Annotation. MICCAI 2016.",
    build_network=build,
    settings={"width": 64},
    presets={"quick": {"width": 16}, "smoke": {"width": 8}},
    dims=3,
    size_multiple=8,
)
