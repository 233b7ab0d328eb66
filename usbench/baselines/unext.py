"""UNeXt, a convolutional network with shifted MLPs at its coarse end.

Valanarasu, Patel: UNeXt: MLP-based Rapid Medical Image Segmentation Network. MICCAI 2022.
Three convolutional and two tokenised stages down, five steps up, skips added. With three input
channels and two classes it has 1,471,938 parameters, its small form 253,570. The first convolution
has as many input channels as it is given; the authors' code always takes three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import EncoderDecoder, Method

WIDTHS = (16, 32, 128, 160, 256)
SMALL_WIDTHS = (8, 16, 32, 64, 128)
_REACH = 2


def shift(tokens: Tensor, axis: int) -> Tensor:
    """Tokens [B, H, W, C] with their channels moved along axis 1 (H) or 2 (W), of the same shape.

    The channels are cut into five groups as `torch.chunk` cuts them (256 into 52, 52, 52, 52, 48);
    the groups move by -2, -1, 0, 1 and 2 places. What comes in over the edge is zero.
    """
    length = tokens.shape[axis]
    sides = (0, 0, _REACH, _REACH) if axis == 2 else (0, 0, 0, 0, _REACH, _REACH)
    groups = functional.pad(tokens, sides).chunk(2 * _REACH + 1, dim=-1)
    moved = [group.narrow(axis, 2 * _REACH - i, length) for i, group in enumerate(groups)]
    return torch.cat(moved, dim=-1)


class ShiftedBlock(nn.Module):
    """x + MLP(LN(x)); the MLP mixes places by shifts along H and W and by a depthwise convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.fc2 = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, C] -> the same shape."""
        hidden = self.fc1(shift(self.norm(tokens), axis=1))
        hidden = self.depthwise(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        result: Tensor = tokens + self.fc2(shift(functional.gelu(hidden), axis=2))
        return result


class _Mixer(nn.Module):
    """A shifted block and a LayerNorm on a map [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ShiftedBlock(channels)
        self.norm = nn.LayerNorm(channels)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.block(image.permute(0, 2, 3, 1)))
        return tokens.permute(0, 3, 1, 2)


class _Embedding(nn.Module):
    """Overlapping patches of half the size: a 3x3 convolution of stride 2, then LayerNorm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_channels)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.project(image).permute(0, 2, 3, 1))
        return tokens.permute(0, 3, 1, 2)


class _Down(nn.Module):
    """3x3 convolution, BN, max-pool 2, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, image: Tensor) -> Tensor:
        return functional.relu(functional.max_pool2d(self.norm(self.convolution(image)), 2))


class _Up(nn.Module):
    """3x3 convolution, BN where `normed`, bilinear x2, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, normed: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels) if normed else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        mixed = self.norm(self.convolution(image))
        return functional.relu(
            functional.interpolate(mixed, scale_factor=2, mode="bilinear", align_corners=False)
        )


class _Encoder(nn.Module):
    """Image -> five maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of its size."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        one, two, three, four, five = widths
        self.stages = nn.ModuleList(
            [
                _Down(in_channels, one),
                _Down(one, two),
                _Down(two, three),
                nn.Sequential(_Embedding(three, four), _Mixer(four)),
                nn.Sequential(_Embedding(four, five), _Mixer(five)),
            ]
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return tuple(maps)


class _Decoder(nn.Module):
    """The five maps -> logits; each step up is added to the skip of its size."""

    def __init__(self, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        one, two, three, four, five = widths
        self.ups = nn.ModuleList([_Up(five, four), _Up(four, three), _Up(three, two), _Up(two, one)])
        self.mixers = nn.ModuleList([_Mixer(four), _Mixer(three), nn.Identity(), nn.Identity()])
        self.last = _Up(one, one, normed=False)
        self.head = nn.Conv2d(one, classes, 1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        *skips, image = features
        for up, mixer, skip in zip(self.ups, self.mixers, reversed(skips), strict=True):
            image = mixer(up(image) + skip)
        logits: Tensor = self.head(self.last(image))
        return logits


def _initialise(module: nn.Module) -> None:
    """The authors' start of the tokenised parts; the others start as PyTorch starts them."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        assert module.bias is not None
        fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1] // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        nn.init.zeros_(module.bias)


def _build(in_channels: int, classes: int, widths: Sequence[int]) -> EncoderDecoder:
    return EncoderDecoder(_Encoder(in_channels, widths), _Decoder(classes, widths), widths)


def build(in_channels: int, classes: int) -> EncoderDecoder:
    """UNeXt from `in_channels` to `classes` logits, for sizes that are multiples of 32."""
    return _build(in_channels, classes, WIDTHS)


def build_small(in_channels: int, classes: int) -> EncoderDecoder:
    """UNeXt-S: the same network with about half the channels."""
    return _build(in_channels, classes, SMALL_WIDTHS)


_PAPER = "Valanarasu, Patel: UNeXt: MLP-based Rapid Medical Image Segmentation Network. MICCAI 2022."

METHOD = Method(name="unext", paper=_PAPER, build_network=build)
SMALL = Method(name="unext-small", paper=_PAPER, build_network=build_small)
