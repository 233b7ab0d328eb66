"""Real gliomas taken apart into the layouts that people have: the same scores, to the last digit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

import usbench
from usbench.datasets.imports.make import Asked, make_task_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("USBENCH_REAL_DATA" not in os.environ, reason="needs USBENCH_REAL_DATA"),
]

CLASSES = {"necrosis": 1, "edema": 2, "non-enhancing": 3, "enhancing": 4}


def parts(sample: Path):
    """Of each case its name, its channels as images of their own, and its mask's file."""
    for file in sorted((sample / "imagesTr").glob("[!.]*.nii.gz")):
        image = nibabel.load(file)
        voxels = np.asarray(image.dataobj)
        header = image.header.copy()
        header.set_data_shape(voxels.shape[:3])
        channels = [nibabel.Nifti1Image(voxels[..., k], image.affine, header) for k in range(voxels.shape[3])]
        yield file.name.removesuffix(".nii.gz"), channels, sample / "labelsTr" / file.name


def as_patients(sample: Path, folder: Path) -> Path:
    for case, channels, mask in parts(sample):
        (folder / case).mkdir(parents=True)
        for channel, name in zip(channels, ("flair", "t1ce"), strict=True):
            nibabel.save(channel, folder / case / f"{case}_{name}.nii.gz")
        (folder / case / f"{case}_seg.nii.gz").symlink_to(mask)
    return folder


def as_nnunet(sample: Path, folder: Path) -> Path:
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for case, channels, mask in parts(sample):
        for number, channel in enumerate(channels):
            nibabel.save(channel, folder / f"imagesTr/{case}_{number:04d}.nii.gz")
        (folder / f"labelsTr/{case}.nii.gz").symlink_to(mask)
    said = {
        "channel_names": {"0": "FLAIR", "1": "T1gd"},
        "labels": {"background": 0, **CLASSES},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(said))
    return folder


def as_table(sample: Path, folder: Path) -> Path:
    folder.mkdir()
    lines = ["case,flair,t1gd,mask"]
    for number, (case, channels, mask) in enumerate(parts(sample)):
        for channel, name in zip(channels, ("f", "g"), strict=True):
            nibabel.save(channel, folder / f"{name}{number}.nii.gz")
        lines.append(f"{case},f{number}.nii.gz,g{number}.nii.gz,{mask}")
    (folder / "cases.csv").write_text("\n".join(lines))
    return folder / "cases.csv"


def scores(runs: Path, **task: object) -> tuple[object, str, str]:
    [result] = usbench.run(
        "unet",
        "early",
        preset="smoke",
        settings={"train.epochs": 1, "data.size": 32},
        folds="0",
        device="cpu",
        runs_dir=runs,
        **task,
    )
    data = result.data
    return data["scores"], (result.path / "cases.csv").read_text(), data["data"]["fingerprint"]


@pytest.mark.parametrize("take_apart", [as_patients, as_nnunet, as_table])
def test_a_data_set_taken_apart_gives_the_same_scores(real_data: Path, tmp_path: Path, take_apart) -> None:
    sample = real_data / "msd" / "Task91_GliomaFlairT1gd"
    place = take_apart(sample, tmp_path / "mine")
    named = {name: (value,) for name, value in CLASSES.items()}
    asked = Asked() if take_apart is as_nnunet else Asked(classes=named)
    make_task_file(place, tmp_path / "task.yaml", asked)
    expected = scores(tmp_path / "runs", task_dir=sample)
    assert scores(tmp_path / "runs", task=str(tmp_path / "task.yaml")) == expected
