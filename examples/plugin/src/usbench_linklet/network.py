"""Linklet: residual stages down, and on the way up every skip is added. A small relative of LinkNet.

Chaurasia, Culurciello: LinkNet: Exploiting Encoder Representations for Efficient Semantic Segmentation.
VCIP 2017. Only the idea of added skips is taken; stages, widths and normalisation are others.
"""

from __future__ import annotations

from torch import Tensor, nn

from usbench import EncoderDecoder, Method


class Stage(nn.Module):
    """Halves the sides (stride 2) or keeps them (stride 1), with a residual branch."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.short = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride)
        self.long = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1),
            nn.GroupNorm(4, outputs),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1),
            nn.GroupNorm(4, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.silu(self.short(images) + self.long(images))


class Encoder(nn.Module):
    def __init__(self, in_channels: int, channels: list[int]) -> None:
        super().__init__()
        inputs = [in_channels, *channels[:-1]]
        strides = [1] + [2] * (len(channels) - 1)
        self.stages = nn.ModuleList(map(Stage, inputs, channels, strides))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return tuple(maps[1:])


class Decoder(nn.Module):
    def __init__(self, channels: list[int], classes: int) -> None:
        super().__init__()
        pairs = zip(channels[1:], channels[:-1], strict=True)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(c, f, kernel_size=2, stride=2) for c, f in pairs)
        self.head = nn.Sequential(
            Stage(channels[0], channels[0], 1), nn.Conv2d(channels[0], classes, kernel_size=1)
        )

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        merged = maps[-1]
        for up, skip in zip(reversed(self.ups), reversed(maps[:-1]), strict=True):
            merged = skip + up(merged)
        logits: Tensor = self.head(merged)
        return logits


def build(in_channels: int, classes: int, width: int = 16) -> EncoderDecoder:
    channels = [width, 2 * width, 4 * width, 8 * width]
    return EncoderDecoder(Encoder(in_channels, channels), Decoder(channels, classes), channels)


METHOD = Method(
    name="linklet",
    paper="Example of usbench, after Chaurasia, Culurciello: LinkNet. VCIP 2017.",
    build_network=build,
    settings={"width": 16},
    presets={"smoke": {"width": 8}},
    size_multiple=8,
)
