"""A task as a plugin with everything that a task may bring: a layout of its own, a check, and a phantom.

    liver-npz/patient-01.npz      arrays t1, t2 and mask [X, Y, Z], spacing [3] in mm
    liver-npz/patient-02.npz
    ...

    usbench data list --plugin examples/whole_task.py
    usbench run --plugin examples/whole_task.py --task liver-npz --method unet --fusion late
    usbench data phantom liver-npz my-phantom --plugin examples/whole_task.py
    usbench data check liver-npz --plugin examples/whole_task.py --data-dir my-phantom

Without --data-dir, `run` makes the phantom and uses it. `examples/own_task.py` is a smaller beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from usbench import Case, DataProblem, ExaminingReader, Layout, Modality, Phantom, Structure, Task


class NpzReader(ExaminingReader):
    """Finds every fault of a case, so that `usbench data check` lists them all at once."""

    def survey(self, report: Callable[[DataProblem], None]) -> list[str]:
        return sorted(file.stem for file in self.root.glob("*.npz"))

    def files(self, case_id: str) -> list[Path]:
        return [self.root / f"{case_id}.npz"]

    def examine(self, case_id: str, report: Callable[[DataProblem], None]) -> Case | None:
        (file,) = self.files(case_id)
        arrays = dict(np.load(file, allow_pickle=False))
        names = [*self.task.modality_names, "mask", "spacing"]
        absent = [name for name in names if name not in arrays]
        for name in absent:
            report(DataProblem(case_id, file, f"holds no array {name}", "write it, or drop the case"))
        if absent:
            return None
        labels = [value for structure in self.task.classes for value in structure.labels]
        for value in sorted(set(arrays["mask"].ravel().tolist()) - {0, *labels}):
            report(DataProblem(case_id, file, f"mask value {value} belongs to no class", "correct the mask"))
        mask = np.zeros(arrays["mask"].shape, dtype=np.uint8)
        for number, structure in enumerate(self.task.classes, start=1):
            mask[np.isin(arrays["mask"], structure.labels)] = number
        images = np.stack([arrays[name].astype(np.float32) for name in self.task.modality_names])
        return Case(case_id, images, mask, np.diag([*arrays["spacing"], 1.0]))


def holds_npz(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob("*.npz"))


def write_patient(folder: Path, case_id: str, seed: int, index: int) -> None:
    """A liver, bright on T1, with a lesion, bright on T2: two balls in noise on a grid of 3 x 3 x 5 mm."""
    rng = np.random.default_rng([seed, index])
    spacing = np.array([3.0, 3.0, 5.0])
    x, y, z = np.indices((48, 40, 10)) * spacing[:, None, None, None]
    at = np.array([70.0, 60.0, 25.0]) + rng.uniform(-8, 8, 3)
    mask = np.zeros(x.shape, dtype=np.uint8)
    for value, radius in ((1, 32.0), (2, rng.uniform(10, 14))):
        mask[(x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2 < radius**2] = value
    signals = {"t1": np.array([20, 90, 60]), "t2": np.array([20, 50, 110])}
    scans = {name: signal[mask] + rng.normal(0, 6, mask.shape) for name, signal in signals.items()}
    np.savez_compressed(folder / f"{case_id}.npz", mask=mask, spacing=spacing, **scans)


TASK = Task(
    name="liver-npz",
    title="Liver and lesions on T1 and T2, a file a patient",
    folder="liver-npz",
    modalities=(Modality("t1", "T1-weighted MRI"), Modality("t2", "T2-weighted MRI")),
    classes=(Structure("liver", "liver", labels=(1,)), Structure("lesion", "liver lesion", labels=(2,))),
    reader=Layout("npz", "a .npz file for each patient", NpzReader, holds=holds_npz),
    phantom=Phantom(tuple(f"patient-{number:02d}" for number in range(1, 11)), write_patient),
    nsd_tolerance_mm=3.0,
    tolerance_reason="one pixel in the plane of the scans",
    licence="not stated",
    citation="not stated",
)
