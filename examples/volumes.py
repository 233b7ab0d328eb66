"""A network of volumes: usbench run --plugin examples/volumes.py --method small-3d --fusion hybrid ..."""

import torch
from torch import Tensor, nn

from usbench import EncoderDecoder, Method


def block(inputs: int, outputs: int, stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Sequential:
    normalise = nn.InstanceNorm3d(outputs, affine=True)
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, stride, 1), normalise, nn.LeakyReLU())


class Encoder(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.fine, self.coarse = block(inputs, width), block(width, 2 * width, (1, 2, 2))

    def forward(self, volumes: Tensor) -> tuple[Tensor, ...]:
        fine = self.fine(volumes)
        return fine, self.coarse(fine)


class Decoder(nn.Module):
    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(2 * width, width, (1, 2, 2), (1, 2, 2))
        self.last = nn.Sequential(block(2 * width, width), nn.Conv3d(width, classes, 1))

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        return self.last(torch.cat([maps[0], self.up(maps[1])], dim=1))


def build(inputs: int, classes: int, width: int = 8) -> EncoderDecoder:
    return EncoderDecoder(Encoder(inputs, width), Decoder(classes, width), (width, 2 * width))


METHOD = Method("small-3d", "not published", build, settings={"width": 8}, dims=3, size_multiple=(1, 2, 2))
