"""Finished runs on few training patients, made by hand: what learning curves are drawn of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.handmade import add_row, rewrite
from usbench.results.digests import protocol_of_result

NAMES = [f"p{i:02d}" for i in range(6)]
FULL = [0.9, 0.8, 0.7, 0.9, 0.8, 0.7]
HALF = [0.7, 0.8, 0.5, 0.7, 0.6, 0.3]


def add(runs: Path, method: str, dsc: list[float], fusion: str = "late", **more: Any) -> None:
    """Six patients in two folds, three to train on; `share` or `train_cases` of them."""
    asked = {f"split__{name}": more.pop(name) for name in ("share", "train_cases") if name in more}
    count = more.pop("trained", 3)
    few = {**asked, "split__of": 3} if asked else {}
    add_row(runs, method, dsc, fusion, folds=2, **{**few, "split__train": NAMES[:count], **more})


def seal(runs: Path) -> Path:
    """Give every result the protocol that its settings have, as `usbench run` does."""
    for file in runs.rglob("result.json"):
        rewrite(file.parent, lambda data: data.update(protocol=protocol_of_result(data)))
    return runs


def write_curves(runs: Path) -> Path:
    """U-Net with one, two and all of three training patients, UNeXt with two, and a task without few."""
    add(runs, "unet", FULL)
    add(runs, "unet", HALF, share=0.5, trained=2)
    add(runs, "unet", [0.5] * 6, train_cases=1, trained=1)
    add(runs, "unext", [0.95] * 6, "early", share=0.5, trained=2)
    add(runs, "unet", FULL, cell__task="msd-brain")
    return seal(runs)
