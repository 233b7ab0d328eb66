"""Methods of volumes small enough to be trained many times, and one whose logits are the images.

No batch statistics: two processes with half a batch each train as one does with the whole.
"""

import os
import time

import torch
from torch import Tensor, nn

from usbench import EncoderDecoder, Method


class Encoder(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv3d(in_channels, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv3d(8, 8, 3, stride=(1, 2, 2), padding=1), nn.ReLU())

    def forward(self, volumes: Tensor) -> tuple[Tensor, ...]:
        time.sleep(float(os.environ.get("TINY_SLEEP", "0")))
        fine = self.fine(volumes)
        return fine, self.coarse(fine)


class Decoder(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=(1, 2, 2))
        self.head = nn.Conv3d(16, classes, 1)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        logits: Tensor = self.head(torch.cat([maps[0], self.up(maps[1])], dim=1))
        return logits


def build(in_channels: int, classes: int) -> EncoderDecoder:
    return EncoderDecoder(Encoder(in_channels), Decoder(classes), (8, 8))


class Shown(nn.Module):
    """The first K images of the volume as logits, and a parameter that does nothing."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.zero = nn.Parameter(torch.zeros(1))

    def forward(self, volumes: Tensor) -> Tensor:
        return volumes[:, : self.classes] + 0 * self.zero


def build_shown(task, fusion: str) -> nn.Module:
    return Shown(len(task.classes))


METHODS = [
    Method("tiny3d", "no paper", build_network=build, dims=3, size_multiple=(1, 2, 2)),
    Method(
        "shown3d",
        "no paper",
        build_segmenter=build_shown,
        fusions=("early",),
        dims=3,
        size_multiple=1,
        presets={"smoke": {"volume.mode": "whole", "train.lr": 0.01}},
    ),
]
