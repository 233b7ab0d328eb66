"""A small data set in nnU-Net's raw layout, and the masks that its test cases should have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from usbench.contracts.pipeline import PipelineFolder, PipelineWatcher

SHAPE = (30, 34, 6)
SPACING = (1.2, 1.1, 4.0)
TRAIN = ("p01", "p02_seg", "p 03")
"""The second id ends as nnU-Net's own files of masks do."""
TEST = ("t1",)


def grid() -> np.ndarray:
    """An affine [4, 4] in mm that turns by 20 degrees and shifts, so that a lost direction shows."""
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] *= SPACING
    affine[:3, 3] = (-31.5, 12.25, 7.0)
    return affine


def draw(seed: int, slices: int = SHAPE[2]) -> tuple[np.ndarray, np.ndarray]:
    """Images [2, X, Y, Z] and a mask [X, Y, Z]: a ball of class 1 with a core of class 2."""
    random = np.random.default_rng(seed)
    shape = (*SHAPE[:2], slices)
    centre = np.array(shape) / 2 + random.uniform(-2, 2, 3) * (1, 1, 0.3)
    place = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    far = np.linalg.norm((place - centre) * (1, 1, 3), axis=-1)
    mask = ((far < 9).astype(np.uint8) + (far < 4)).astype(np.uint8)
    images = np.stack([mask * 40.0, (mask == 2) * 60.0]) + random.normal(100, 4, (2, *shape))
    return images.astype(np.float32), mask


@dataclass
class Told(PipelineWatcher):
    """Keeps what a pipeline said."""

    lines: list[str]
    epochs: list[dict[str, float]]
    total: int = 0

    def on_start(self, epochs: int) -> None:
        self.total = epochs

    def on_epoch(self, row) -> None:
        self.epochs.append(dict(row))

    def say(self, text: str) -> None:
        self.lines.append(text)


def told() -> Told:
    """A watcher that has heard nothing yet."""
    return Told([], [])


def make_folder(
    place: Path,
    channels: tuple[str, ...] = ("T1", "CT"),
    regions: bool = False,
    mirror: bool = False,
    slices: int = SHAPE[2],
) -> PipelineFolder:
    """Three training cases and a test case below `place`; the truth of the latter lies in `place/truth`."""
    raw = place / "raw"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / name).mkdir(parents=True)
    (place / "truth").mkdir()
    for seed, case in enumerate((*TRAIN, *TEST)):
        images, mask = draw(seed, slices)
        kind = "Ts" if case in TEST else "Tr"
        for number in range(len(channels)):
            nibabel.save(
                nibabel.Nifti1Image(images[number], grid()),
                raw / f"images{kind}" / f"{case}_{number:04d}.nii.gz",
            )
        folder = raw / "labelsTr" if kind == "Tr" else place / "truth"
        nibabel.save(nibabel.Nifti1Image(mask, grid()), folder / f"{case}.nii.gz")
    labels = (
        {"background": 0, "whole": [1, 2], "core": [2]}
        if regions
        else {"background": 0, "ring": 1, "core": 2}
    )
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels,
        "numTraining": len(TRAIN),
        "file_ending": ".nii.gz",
        **({"regions_class_order": [1, 2]} if regions else {}),
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    names = [name for name in labels if name != "background"]
    return PipelineFolder(
        raw=raw,
        work=place / "work",
        masks=place / "masks",
        log=place / "log.txt",
        modalities=channels,
        classes={name: value for value, name in enumerate(names, 1)},
        train=TRAIN,
        test=TEST,
        mirror=mirror,
        seed=3,
    )
