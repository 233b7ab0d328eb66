"""Runs of small networks that kept their weights, with masks that show something, in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import usbench

PLUGIN = """
import torch
from torch import nn
from usbench import Feature, Method


class Bright(nn.Module):
    '''Each class where a difference of the modalities is above a level.'''

    def __init__(self, modalities, classes, start, frozen=False):
        super().__init__()
        self.blur = nn.Conv2d(modalities, classes, 3, padding=1)
        self.frozen = frozen
        with torch.no_grad():
            self.blur.weight.fill_(0.01)
            self.blur.bias.fill_(-0.1)
            for k in range(classes):
                for m in range(modalities):
                    self.blur.weight[k, m, 1, 1] = start * (1.0 if (k + m) % 2 == 0 else -0.5)

    def forward(self, images, level=None, whole=None):
        logits = self.blur(images)
        if self.frozen:
            logits = logits + (level.mean(1) + 0.1 * whole.mean(1))[:, None, None, None]
        return logits


def build(task, fusion, start=1.0):
    return Bright(len(task.modalities), len(task.classes), start)


def build_frozen(task, fusion):
    return Bright(len(task.modalities), len(task.classes), 1.0, frozen=True)


def features(task, device):
    return [
        Feature('level', 'level', 1, lambda images: (images.mean((2, 3)), None), mean_under=('hybrid',)),
        Feature('whole', 'whole', 1, lambda x: (x.mean((0, 2, 3)).expand(len(x), -1), None), per_slice=False),
    ]


METHODS = [
    Method('bright', 'no paper', build_segmenter=build, settings={'start': 1.0}),
    Method('frozen', 'no paper', build_segmenter=build_frozen, features=features),
]
"""


def plugin(folder: Path) -> Path:
    """The plugin file with both methods, in a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "bright.py"
    file.write_text(PLUGIN, encoding="utf-8")
    return file


def kept_run(file: Path, runs: Path, **options: Any) -> Any:
    """One cell of a method of `plugin` that keeps its network; options are those of `usbench.run`."""
    words: dict[str, Any] = {"method": "bright", "fusion": "early", "preset": "smoke", "device": "cpu"}
    words |= {"plugins": [file], "runs_dir": runs, "keep_weights": True, "folds": "0"}
    settings = {"train.epochs": 1, "data.size": 32, **options.pop("settings", {})}
    return usbench.run(**{**words, **options, "settings": settings})[0]
