"""Methods small enough to be trained many times, and one that fails as an environment variable says.

No batch statistics: two processes with half a batch each train as one does with the whole.
"""

import os
import time

import torch
from torch import Tensor, nn

from usbench import Method


class Tiny(nn.Module):
    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(modalities, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, classes, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(float(os.environ.get("TINY_SLEEP", "0")))
        logits: Tensor = self.layers(images)
        return logits


def build(task, fusion: str) -> nn.Module:
    return Tiny(len(task.modalities), len(task.classes))


def build_fragile(task, fusion: str) -> nn.Module:
    how = os.environ.get("FRAGILE", "")
    if how == "raise":
        raise RuntimeError("the kernel is not there")
    if how == "memory":
        raise MemoryError("cannot allocate 9 GB")
    if how == "exit":
        os._exit(3)
    torch.manual_seed(1)
    return build(task, fusion)


DECLARED = ("early", "late")
METHODS = [
    Method("tiny", "no paper", build_segmenter=build, fusions=DECLARED),
    Method("fragile", "no paper", build_segmenter=build_fragile, fusions=DECLARED),
]
