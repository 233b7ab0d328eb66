"""A tiny method with a frozen part, which is told by FROZEN_SLEEP how many seconds a slice takes."""

import os
import time

import torch
from torch import Tensor, nn

from usbench import Feature, Method


class Mixing(nn.Module):
    """The mean image over modalities, weighted; the rows are that image."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, classes, 3, padding=1)

    def forward(self, images: Tensor, blurred: Tensor) -> Tensor:
        logits: Tensor = self.layer(blurred.mean(1))
        return logits


def build(task, fusion: str) -> nn.Module:
    return Mixing(len(task.classes))


def features(task, device):
    def compute(images: Tensor):
        time.sleep(len(images) * float(os.environ.get("FROZEN_SLEEP", "0")))
        return torch.nn.functional.avg_pool2d(images, 3, 1, 1).unsqueeze(2), None

    return [Feature("blurred", "blurred images", 1, compute, mean_under=("hybrid",))]


METHOD = Method(
    "frozen",
    "no paper",
    build_segmenter=build,
    fusions=("late", "hybrid"),
    features=features,
    size_multiple=1,
)
