"""A data set of three made-up patients with noise for images, in the layout of the Decathlon."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from usbench.contracts.settings import DataSettings

SETTINGS = DataSettings(size=16)
SHAPE = (20, 24, 3)
OBLIQUE = np.array([[-0.98, 0.2, 0, 5], [0.2, 0.98, 0, -9], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])


def write_case(folder: Path, case_id: str, seed: int, empty: bool = False) -> None:
    rng = np.random.default_rng(seed)
    images = rng.normal(300, 60, (*SHAPE, 2)).round()
    images[:4] = 0  # a fifth of the columns and a sixth of the rows: outside the mask of a stripped skull
    images[:, :4] = 0
    labels = np.zeros(SHAPE, dtype=np.uint8)
    if not empty:
        labels[8:14, 9:15, 1] = 1
        labels[10:12, 11:13, 1] = 2
    nib.save(nib.Nifti1Image(images.astype(np.int16), OBLIQUE), folder / "imagesTr" / f"{case_id}.nii.gz")
    nib.save(nib.Nifti1Image(labels, OBLIQUE), folder / "labelsTr" / f"{case_id}.nii.gz")


def write_index(folder: Path, case_ids: list[str]) -> None:
    entries = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in case_ids]
    index = {
        "name": "Tiny",
        "description": "noise",
        "reference": "none",
        "licence": "CC0",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "rim", "2": "core"},
        "numTraining": len(entries),
        "training": entries,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(index))


def write_set(folder: Path) -> Path:
    """The cases a1, a2 and a10 with their index; the folder is given back."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for seed, case_id in enumerate(("a1", "a2", "a10")):
        write_case(folder, case_id, seed)
    write_index(folder, ["a1", "a2", "a10"])
    return folder
