"""From a folder or a task file to the patients in it, whatever the layout."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from usbench.contracts.data import Reader, Task
from usbench.contracts.names import case_id_fault
from usbench.datasets.patients.case import Patient
from usbench.datasets.patients.folders import find_in_folder, find_numbered
from usbench.datasets.patients.given import Given, read_given, split_channel
from usbench.datasets.readers.dicom import slice_files
from usbench.datasets.readers.layouts import layout_of, locate, open_reader
from usbench.errors import UsbenchError, unknown
from usbench.storage.files import at_home, os_errors


class Patients(ABC):
    """Some patients that can be read one by one.

    Attributes:
        task: With the modalities that are read, in order.
        case_ids: Their names, in order.
    """

    def __init__(self, task: Task, case_ids: Sequence[str]) -> None:
        """Raises `UsbenchError` for a name that cannot be that of a file."""
        for case_id in case_ids:
            if fault := case_id_fault(case_id):
                raise UsbenchError(f"the patient '{case_id}' {fault}; choose another name")
        self.task = task
        self.case_ids = tuple(case_ids)

    @abstractmethod
    def files(self, case_id: str) -> list[Path]:
        """The files that a patient is read from, as far as they are known and there."""

    @abstractmethod
    def read(self, case_id: str) -> Patient:
        """Read a patient; `UsbenchError` for the first thing that is wrong."""

    def content(self, case_id: str) -> str:
        """SHA-256 (hex) of what is in the patient's files."""
        digest = hashlib.sha256()
        for file in self.files(case_id):
            with os_errors(file, "read"), file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


class _Named(Patients):
    """Patients whose files are known by modality."""

    def __init__(
        self, task: Task, named: Mapping[str, Mapping[str, Given]], onto_first: bool, allow_missing: bool
    ) -> None:
        super().__init__(task, list(named))
        self._named, self._onto_first, self._allow_missing = named, onto_first, allow_missing

    def files(self, case_id: str) -> list[Path]:
        paths = [split_channel(one)[0] for one in self._named[case_id].values() if not isinstance(one, tuple)]
        found = [f for path in paths for f in (slice_files(path, ".dcm") if path.is_dir() else [path])]
        return [file for file in dict.fromkeys(found) if file.is_file()]

    def read(self, case_id: str) -> Patient:
        return read_given(self.task, self._named[case_id], case_id, self._onto_first, self._allow_missing)


class _Read(Patients):
    """Patients of a data folder, read as the data of its task is."""

    def __init__(self, reader: Reader, root: Path, allow_missing: bool, below: Path | None = None) -> None:
        ids = reader.patients()
        if below is not None:  # imagesTs, and not all that dataset.json beside it lists
            ids = [i for i in ids if any((below / f"{i}{end}").is_file() for end in (".nii.gz", ".nii"))]
        super().__init__(reader.task, ids)
        self._reader, self._root, self._allow_missing = reader, root, allow_missing

    def files(self, case_id: str) -> list[Path]:
        try:
            found = self._reader.files(case_id)
        except UsbenchError:
            return []  # of a case that is listed without a mask
        return [file for file in found if file.is_file()]

    def read(self, case_id: str) -> Patient:
        names = self.task.modality_names
        there = self._reader.scans_of(case_id)
        if not self._allow_missing or len(there) in (0, len(names)):
            scans = self._reader.images(case_id)
            return Patient(case_id, scans.images, scans.affine, (True,) * len(names), scans.slices)
        scans = open_reader(self.task.with_modalities(there), self._root).images(case_id)
        images = np.zeros((len(names), *scans.images.shape[1:]), np.float32)
        for name, volume in zip(there, scans.images, strict=True):
            images[names.index(name)] = volume
        return Patient(case_id, images, scans.affine, tuple(name in there for name in names), scans.slices)


def given_patient(
    task: Task,
    images: Mapping[str, Given],
    case_id: str,
    onto_first: bool = False,
    allow_missing: bool = False,
) -> Patients:
    """One patient whose scans are named by modality; see `usbench.datasets.patients.given.read_given`."""
    return _Named(task, {case_id: images}, onto_first, allow_missing)


def open_patients(
    task: Task, place: str | Path, onto_first: bool = False, allow_missing: bool = False
) -> Patients:
    """The patients of a folder or of a task file.

    Looked for are, in this order: a task file; nnU-Net's numbered files; the layout of the task; a folder a
    patient with files called as the modalities, or the folder of one patient.

    Args:
        task: That of a run.
        place: A folder, or a task file (.yaml).
        onto_first: Whether scans on another grid are resampled onto the first modality.
        allow_missing: Whether modalities may be absent.

    Raises:
        UsbenchError: Where there is no patient, with what was looked for.
    """
    place = at_home(place)
    if place.suffix.lower() in (".yaml", ".yml"):
        return _of_task_file(task, place, allow_missing)
    if not place.is_dir():
        what = "is a file" if place.exists() else "there is no such folder"
        raise UsbenchError(
            f"{place}: {what}; give the folder of the patients, a task file (.yaml), or the files one by one "
            "with --images"
        )
    for folder in (place, place / "imagesTs", place / "imagesTr"):
        if folder.is_dir() and (numbered := find_numbered(task, folder)):
            return _Named(task, numbered, onto_first, allow_missing)
    if (found := _of_layout(task, place, allow_missing)) is not None:
        return found
    if folders := find_in_folder(task, place):
        return _Named(task, folders, onto_first, allow_missing)
    called = ", ".join("/".join((m.name, *m.aliases)) for m in task.modalities)
    raise UsbenchError(
        f"{place}: no patient found; it should hold {layout_of(task).description}, or a folder for each "
        f"patient with files named after the modalities ({called}), or files CASE_0000.nii.gz"
    )


def _of_layout(task: Task, place: Path, allow_missing: bool) -> Patients | None:
    """The patients of a folder in the layout of the task; None where it is in another one."""
    below = None
    if place.name in ("imagesTr", "imagesTs") and (place.parent / "dataset.json").is_file():
        place, below = place.parent, place
    if task.reader == "msd" and (place / "dataset.json").is_file():
        # Named by the user, it is the folder itself, whatever its name.
        task = replace(task, folder=".")
    if locate(task, place) is None:
        return None
    if task.files is not None:
        reader = open_reader(task, place)
        try:
            return _Read(reader, place, allow_missing)
        except UsbenchError:
            return None  # every folder is one that may hold files of some pattern
    return _Read(open_reader(task, place), place, allow_missing, below)


def _of_task_file(task: Task, file: Path, allow_missing: bool) -> Patients:
    from usbench.datasets.tasks.task_file import load_task_file

    other = load_task_file(file, masks=False)
    for name in task.modality_names:
        if name not in other.modality_names:
            fault = unknown("modality", name, other.modality_names)
            raise UsbenchError(f"{file}: the runs take a modality that it does not have: {fault}")
    order = {m.name: m for m in other.modalities}
    other = replace(other, modalities=tuple(order[name] for name in task.modality_names))
    assert other.files is not None
    return _Read(open_reader(other, other.files.folder), other.files.folder, allow_missing)
