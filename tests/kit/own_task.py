"""Two scans of four made-up patients, in the layout of the example of a task and in that of the Decathlon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from kit.places import ROOT, TINY
from usbench.contracts.settings import DataSettings

OWN = ROOT / "examples" / "own_task.py"


CASES = ("patient-01", "patient-02", "patient-03", "patient-10")


SHAPE = (20, 18, 6)


SMALL = DataSettings(size=32)


MSD_TASK = """
from usbench import Modality, Structure, Task
TASK = Task(name="two-msd", title="Liver", folder="Task99_Liver",
    modalities=(Modality("t1", "T1", aliases=("T1w",)), Modality("t2", "T2")),
    classes=(Structure("liver", "liver", labels=(1,)), Structure("lesion", "lesion", labels=(2,))),
    nsd_tolerance_mm=2.0, licence="none", citation="nobody")
"""


def volumes(number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two scans and a mask with values 0, 1, 2 of one patient, and an oblique affine."""
    rng = np.random.default_rng(number)
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[4:14, 5 : 13 + number // 3 % 2, 1:5] = 1
    mask[6 : 9 + number % 3, 7:10, 2:4] = 2
    scans = {}
    for name, contrast in (("t1", 3.0), ("t2", -2.0)):
        scans[name] = (mask * contrast + rng.normal(5, 1, SHAPE)).astype(np.float32)
    affine = np.array([[-1.5, 0.1, 0, 20], [0.1, 1.5, 0, -30], [0, 0, 4, 5 + number], [0, 0, 0, 1]])
    return {**scans, "mask": mask}, affine


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def write(folder: Path, text: str, name: str = "plugin.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def changed(folder: Path, *pairs: tuple[str, str]) -> Path:
    """The example's file with some of its text replaced."""
    text = OWN.read_text()
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return write(folder, text)


def cell_words(data: Path, runs: Path, *plugins: Path) -> dict[str, Any]:
    return {
        "task": "two-scans",
        "data_dir": data,
        "plugins": [*(plugins or (OWN,)), TINY],
        "preset": "smoke",
        "device": "cpu",
        "runs_dir": runs,
    }
