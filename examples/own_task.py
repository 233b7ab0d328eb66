"""A task as a plugin, with a reader of its own: a folder a patient, a NIfTI file a scan.

    liver/patient-01/{t1.nii.gz, t2.nii.gz, mask.nii.gz}
    liver/patient-02/...

    usbench data check two-scans --plugin examples/own_task.py --data-dir DATA
    usbench run --plugin examples/own_task.py --task two-scans --data-dir DATA --method unet --fusion late

DATA is the folder that holds `liver`. usbench checks all that the reader gives.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from usbench import Case, Modality, Structure, Task, UsbenchError


class FolderReader:
    """task: that of the run, perhaps with fewer modalities and merged classes. root: its folder."""

    def __init__(self, task: Task, root: Path) -> None:
        self.task = task
        self.root = root

    def case_ids(self) -> list[str]:
        return sorted(folder.name for folder in self.root.iterdir() if (folder / "mask.nii.gz").is_file())

    def files(self, case_id: str) -> list[Path]:
        names = [*self.task.modality_names, "mask"]
        return [self.root / case_id / f"{name}.nii.gz" for name in names]

    def read(self, case_id: str) -> Case:
        *scans, annotation = [nibabel.load(file) for file in self.files(case_id)]
        for scan in scans:
            # Resample here, or refuse: usbench takes all volumes of a case to be on one grid.
            if scan.shape != annotation.shape or not np.allclose(scan.affine, annotation.affine, atol=1e-3):
                raise UsbenchError(f"case {case_id}: its scans are on different grids; resample them")
        raw = np.asarray(annotation.dataobj)
        mask = np.zeros(raw.shape, dtype=np.uint8)
        for number, structure in enumerate(self.task.classes, start=1):
            mask[np.isin(raw, structure.labels)] = number
        images = np.stack([scan.get_fdata(dtype=np.float32) for scan in scans])
        return Case(case_id, images, mask, annotation.affine)


TASK = Task(
    name="two-scans",
    title="Liver and lesions on T1 and T2",
    folder="liver",
    reader=FolderReader,
    modalities=(Modality("t1", "T1-weighted MRI"), Modality("t2", "T2-weighted MRI")),
    classes=(Structure("liver", "liver", labels=(1,)), Structure("lesion", "liver lesion", labels=(2,))),
    nsd_tolerance_mm=2.0,
    licence="not stated",
    citation="not stated",
)
