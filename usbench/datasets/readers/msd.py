"""The layout of the Medical Segmentation Decathlon: dataset.json and NIfTI with the modalities last."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.data import Case, ExaminingReader, Layout, Scans, Task
from usbench.contracts.names import natural_key
from usbench.contracts.problem import DataProblem, Report, fail
from usbench.datasets.readers.description import (
    Description,
    ListedCase,
    load_description,
    load_tests,
    wrong,
)
from usbench.datasets.readers.masks import class_mask
from usbench.datasets.readers.nifti import absent, nifti_errors, open_nifti
from usbench.datasets.readers.scans import as_scan, plain_numbers, scan_fault, scan_remedy
from usbench.datasets.voxel_grid import grid_difference
from usbench.errors import UsbenchError, unknown

_PLAIN = "save it as plain numbers, integers or floats"

# A mask displaced by less than half a voxel still belongs to the image voxel by voxel.
_SAME_GRID = 0.5


class MsdReader(ExaminingReader):
    """Reads a folder in the layout of the Decathlon."""

    thread_safe = True

    def __init__(self, task: Task, root: Path) -> None:
        """Raises `UsbenchError` if dataset.json is wrong or lacks a modality of `task`."""
        super().__init__(task, root)
        description = load_description(self.root)
        self._reference = description.reference
        self._count = len(description.channels)
        self._channels = [self._channel(description, k) for k in range(len(task.modalities))]
        self._listed_cases = {entry.case_id: entry for entry in description.entries}

    def _channel(self, description: Description, k: int) -> int:
        found = [i for i, name in enumerate(description.channels) if self.task.modalities[k].is_called(name)]
        if len(found) == 1:
            return found[0]
        wanted = self.task.modalities[k].name
        there = [m.name for m in self.task.modalities if any(map(m.is_called, description.channels))]
        remedy = "choose the folder of the task"
        if there and not found:
            remedy = f"restrict the task with --modalities {','.join(there)}"
        what = f"{'more than one' if found else 'no'} modality {wanted} of task {self.task.name}"
        listed = ", ".join(description.channels)
        raise wrong(self.root / "dataset.json", f"{what} among those it lists ({listed})", remedy)

    def survey(self, report: Report) -> list[str]:
        """The cases that dataset.json lists, sorted naturally; absent files go to `report`."""
        for entry in self._listed_cases.values():
            for path in (entry.image, entry.label):
                if not path.is_file():
                    report(absent(entry.case_id, path))
        return list(self._listed_cases)

    def files(self, case_id: str) -> list[Path]:
        """The image and the mask of a case."""
        entry = self._listed_case(case_id)
        return [entry.image, entry.label]

    def recipe(self, case_id: str) -> dict[str, Any]:
        """The channel of each modality, the two files, and the labels of each class."""
        entry = self._listed_case(case_id)
        names = (os.path.relpath(file, self.root) for file in (entry.image, entry.label))
        image, mask = (Path(name).as_posix() for name in names)
        return {
            "image": image,
            "mask": mask,
            "channels": dict(zip(self.task.modality_names, self._channels, strict=True)),
            "of": self._count,
            "labels": {structure.name: list(structure.labels) for structure in self.task.classes},
        }

    def is_phantom(self) -> bool:
        """Whether dataset.json says so as that of a phantom does, or the folder has the mark."""
        return self._reference == "usbench phantom" or super().is_phantom()

    def examine(self, case_id: str, report: Report) -> Case | None:
        """Read one case on its native grid, handing every problem to `report`; None if there was one."""
        entry = self._listed_case(case_id)
        found: list[DataProblem] = []

        def note(problem: DataProblem) -> None:
            found.append(problem)
            report(problem)

        image = self._image(case_id, entry.image, note)
        mask = self._mask(entry, note)
        if image is None or mask is None:
            return None
        difference = grid_difference(image[0].shape[1:], image[1], mask[0].shape, mask[1], _SAME_GRID)
        if difference:
            what = f"the mask is not on the grid of {entry.image.name}: {difference}"
            note(DataProblem(case_id, entry.label, what, "resample the mask onto the image"))
        return None if found else Case(case_id, image[0], mask[0], image[1])

    def patients(self) -> list[str]:
        """The cases that dataset.json lists for training and for testing, sorted naturally."""
        return sorted({**self._listed_cases, **load_tests(self.root)}, key=natural_key)

    def images(self, case_id: str) -> Scans:
        """The scans of a case that dataset.json lists for training or, without a mask, for testing."""
        entry = self._listed_cases.get(case_id)
        file = entry.image if entry else load_tests(self.root).get(case_id)
        if file is None:
            raise unknown("case", case_id, self.patients(), f"{self.root} lists {len(self.patients())}")
        image = self._image(case_id, file, fail)
        assert image is not None, "every problem was raised"
        return Scans(case_id, *image)

    def _listed_case(self, case_id: str) -> ListedCase:
        if case_id not in self._listed_cases:
            raise UsbenchError(f"{self.root}: no case {case_id}; there are {', '.join(self._listed_cases)}")
        return self._listed_cases[case_id]

    def _image(self, case_id: str, file: Path, report: Report) -> tuple[np.ndarray, np.ndarray] | None:
        """The modalities of the task, float32 [M, X, Y, Z], and the affine."""

        def bad(what: str, remedy: str) -> tuple[np.ndarray, np.ndarray] | None:
            report(DataProblem(case_id, file, what, remedy))
            return None

        with nifti_errors(case_id, file, report), open_nifti(file) as (proxy, affine):
            shape = proxy.shape
            if len(shape) == 3 and self._count == 1:
                shape = (*shape, 1)
            if len(shape) != 4 or shape[3] != self._count:
                return bad(
                    f"shape {shape}, expected three axes and on a fourth {self._count} modalities",
                    "correct the image or dataset.json",
                )
            # Every volume in the order of the file (Fortran), so that nothing is shuffled in memory.
            images = np.empty((len(self._channels), *shape[2::-1]), dtype=np.float32).transpose(0, 3, 2, 1)
            # Forward through the file, so that a compressed one is unpacked once.
            for row in np.argsort(self._channels):
                where = (..., self._channels[row]) if len(proxy.shape) == 4 else (...,)
                values = np.asarray(proxy[where])
                if not plain_numbers(values):
                    return bad(f"voxels of type {values.dtype}, plain numbers are expected", _PLAIN)
                images[row] = as_scan(values)
            whole = True
            for modality, volume in zip(self.task.modalities, images, strict=True):
                if fault := scan_fault(volume, modality.name):
                    whole = False
                    bad(fault, scan_remedy(fault))
            return (images, affine) if whole else None
        return None

    def _mask(self, entry: ListedCase, report: Report) -> tuple[np.ndarray, np.ndarray] | None:
        """The mask, uint8 [X, Y, Z] with classes as the task counts them, and its affine."""

        def bad(what: str, remedy: str) -> tuple[np.ndarray, np.ndarray] | None:
            report(DataProblem(entry.case_id, entry.label, what, remedy))
            return None

        with nifti_errors(entry.case_id, entry.label, report), open_nifti(entry.label) as (proxy, affine):
            raw = np.asarray(proxy[...])
            if not plain_numbers(raw):
                return bad(f"voxels of type {raw.dtype}, plain numbers are expected", _PLAIN)
            if raw.ndim == 4 and raw.shape[3] == 1:
                raw = raw[..., 0]
            if raw.ndim != 3:
                what = f"a mask of shape {raw.shape}, three axes are expected"
                return bad(what, "save one mask of three axes, in which each class has a value")
            mask, fault = class_mask(raw, self.task)
            if mask is None:
                return bad(fault, "correct the mask")
            return mask, affine
        return None


def _holds(folder: Path) -> bool:
    return (folder / "dataset.json").is_file()


def _any_name(name: str) -> bool:
    # The folder of another task of the Decathlon may hold the same modalities: it is never this task's.
    return not re.match(r"Task[0-9]+_", name)


def _faults(task: Task) -> Iterator[str]:
    seen: set[int] = set()
    for structure in task.classes:
        if not structure.labels or not all(0 < value < 2**31 for value in structure.labels):
            yield f"class {structure.name} has labels {structure.labels}; give the mask values, from 1"
        for value in structure.labels:
            if value in seen and not task.regions:
                yield (
                    f"the mask value {value} belongs to two classes; make them disjoint, or regions that may "
                    "overlap (regions=True)"
                )
            seen.add(value)


LAYOUT = Layout(
    name="msd",
    description="dataset.json beside imagesTr and labelsTr",
    open=MsdReader,
    holds=_holds,
    parents=("msd", "MSD"),
    any_name=_any_name,
    faults=_faults,
)
