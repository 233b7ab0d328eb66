"""The network of nnU-Net, planned for the size of the volume, as MONAI's `DynUNet` builds it.

Isensee, Jaeger, Kohl, Petersen, Maier-Hein: nnU-Net: A Self-configuring Method for Deep Learning-based
Biomedical Image Segmentation. Nature Methods 18, 2021.

It is nnU-Net's network alone, without its recipe: no deep supervision (a network of usbench gives one
mask), and the training of usbench. The program itself is the method `nnunet`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from usbench import EncoderDecoder, Method, UsbenchError

if TYPE_CHECKING:
    from monai.networks.nets.dynunet import DynUNet

SMALLEST = 4
"""Voxels along an axis below which it is not halved."""

Triple = tuple[int, int, int]


class _Encoder(nn.Module):
    """Volumes [B, C, D, H, W] -> a map for each level of the plan, finest first, the bottleneck's last."""

    def __init__(self, network: DynUNet) -> None:
        super().__init__()
        self.input_block = network.input_block
        self.downsamples = network.downsamples
        self.bottleneck = network.bottleneck

    def forward(self, volumes: Tensor) -> tuple[Tensor, ...]:
        maps = [self.input_block(volumes)]
        for level in (*self.downsamples, self.bottleneck):
            maps.append(level(maps[-1]))
        return tuple(maps)


class _Decoder(nn.Module):
    """Such maps -> logits [B, K, D, H, W]."""

    def __init__(self, network: DynUNet) -> None:
        super().__init__()
        self.upsamples = network.upsamples
        self.output_block = network.output_block

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        x = maps[-1]
        for level, skip in zip(self.upsamples, reversed(maps[:-1]), strict=True):
            x = level(x, skip)
        logits: Tensor = self.output_block(x)
        return logits


def plan(shape: Triple, anisotropy: float = 1.0) -> tuple[list[Triple], list[Triple]]:
    """Kernels and strides of the levels, by the rule of nnU-Net's planner.

    An axis is halved while that leaves at least 4 voxels, and only while its voxels are less than twice as
    long as the shortest ones of the axes that can still be halved; the last axis left needs 12 voxels. A
    kernel has 1 voxel along an axis until its voxels are less than twice as long as the shortest, and 3 from
    then on. The coarsest level has 3x3x3. Where nnU-Net would enlarge the patch until halves come out even,
    an axis of an odd number of voxels is left as it is.

    Args:
        shape: (D, H, W) in voxels.
        anisotropy: The distance of slices divided by the size of a pixel.

    Returns:
        Kernels (D, H, W) and strides (D, H, W), one of each a level, finest first.
    """
    size = list(shape)
    length = [anisotropy, 1.0, 1.0]
    kernel = [1, 1, 1]
    kernels: list[Triple] = []
    strides: list[Triple] = [(1, 1, 1)]
    while able := [axis for axis in range(3) if size[axis] >= 2 * SMALLEST and size[axis] % 2 == 0]:
        shortest = min(length[axis] for axis in able)
        able = [axis for axis in able if length[axis] < 2 * shortest]
        if len(able) == 1 and size[able[0]] < 3 * SMALLEST:
            break
        kernel = [3 if k == 3 or x < 2 * min(length) else 1 for k, x in zip(kernel, length, strict=True)]
        kernels.append((kernel[0], kernel[1], kernel[2]))
        for axis in able:
            size[axis] //= 2
            length[axis] *= 2
        halved = [2 if axis in able else 1 for axis in range(3)]
        strides.append((halved[0], halved[1], halved[2]))
    return [*kernels, (3, 3, 3)], strides


def build(
    in_channels: int, classes: int, shape: Triple, width: int = 32, anisotropy: float = 1.0
) -> EncoderDecoder:
    """The network of nnU-Net.

    Args:
        in_channels: C of the volumes [B, C, D, H, W].
        classes: K of the logits [B, K, D, H, W].
        shape: (D, H, W) of the volumes, for which levels, kernels and strides are planned by `plan`.
        width: Channels of the finest map, 32 in the paper; each further one has twice as many, up to ten
            times `width`.
        anisotropy: The distance of slices divided by the size of a pixel, 1 where they are equal. From 2 on
            the first levels look at each slice by itself.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: For settings out of their range, or volumes too small for three levels.
    """
    if width < 1:
        raise UsbenchError(f"method.width {width} is not a number of channels; use 1 or more")
    if not (math.isfinite(anisotropy) and anisotropy > 0):
        raise UsbenchError(
            f"method.anisotropy {anisotropy} is not a ratio of lengths; use the distance of slices divided "
            "by the size of a pixel, such as 3.5"
        )
    kernels, strides = plan(shape, anisotropy)
    if len(strides) < 3:
        raise UsbenchError(
            f"dynunet can halve a volume of {'x'.join(map(str, shape))} voxels {len(strides) - 1} times, "
            "and needs two; make volume.patch (or volume.shape) at least 16 along two axes"
        )
    from monai.networks.nets.dynunet import DynUNet

    channels = [min(width * 2**level, 10 * width) for level in range(len(strides))]
    network = DynUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=classes,
        kernel_size=kernels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=channels,
        deep_supervision=False,
    )
    return EncoderDecoder(_Encoder(network), _Decoder(network), channels)


METHOD = Method(
    name="dynunet",
    paper="Isensee, Jaeger, Kohl, Petersen, Maier-Hein: nnU-Net: A Self-configuring Method for Deep "
    "Learning-based Biomedical Image Segmentation. Nature Methods 18, 2021.",
    build_network=build,
    settings={"width": 32, "anisotropy": 1.0},
    presets={"quick": {"width": 8}, "smoke": {"width": 4}},
    dims=3,
    takes_shape=True,
    size_multiple=(4, 16, 16),
)
