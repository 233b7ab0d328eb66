"""The layout of CHAOS: per patient, DICOM slices of T1-DUAL and T2-SPIR with PNG annotations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.data import Case, ExaminingReader, Layout, Scans, Task
from usbench.contracts.names import case_id_fault, natural_key, twins
from usbench.contracts.problem import DataProblem, Report, fail
from usbench.datasets.readers.dicom import Series, read_series, slice_files
from usbench.datasets.readers.dicom_file import read_dicom
from usbench.datasets.readers.pictures import PictureError, read_indices
from usbench.datasets.voxel_grid import grid_difference, resample
from usbench.errors import UsbenchError
from usbench.runtime.console import count
from usbench.storage.files import os_errors

# Of each modality, the folder of its slices and that of its annotation.
SERIES = {
    "t1-in": ("T1DUAL/DICOM_anon/InPhase", "T1DUAL/Ground"),
    "t1-out": ("T1DUAL/DICOM_anon/OutPhase", "T1DUAL/Ground"),
    "t2-spir": ("T2SPIR/DICOM_anon", "T2SPIR/Ground"),
}

_AGAIN = "extract CHAOS_Train_Sets.zip again"

# Phases of one acquisition: the same grid, up to the rounding of the headers.
_SAME_GRID = 0.1

# Series with scanner coordinates in common have these in common, where the files say so.
_SHARED = ("StudyInstanceUID", "FrameOfReferenceUID")

# Less of the reference grid than this inside another scan, and the two do not show the same region.
_LEAST_OVERLAP = 0.25


class ChaosReader(ExaminingReader):
    """Reads `Train_Sets/MR` of CHAOS.

    The first modality of the task (of in phase, out of phase, T2-SPIR, in this order) gives the
    grid and the annotation; scans on another grid are interpolated onto it through scanner
    coordinates. Where T1-DUAL and T2-SPIR are both there, `Case.agreement` tells how well their
    two annotations coincide.
    """

    thread_safe = True

    def survey(self, report: Report) -> list[str]:
        """The patients' folders, sorted naturally; the series that they lack go to `report`."""
        names = self._patients()
        if not names:
            report(DataProblem(None, self.root, "no patient's folder that holds T1DUAL or T2SPIR", _AGAIN))
        for case_id in names:
            if fault := case_id_fault(case_id):
                what = f"the folder of a patient whose name {fault}"
                report(DataProblem(case_id, self.root / case_id, what, "rename the folder"))
            for problem in self._lacking(case_id):
                report(problem)
        if alike := twins(names):
            what = f'the folders "{alike[0]}" and "{alike[1]}" are one on some systems'
            report(DataProblem(alike[1], self.root / alike[1], what, "rename one of the two"))
        return names

    def _patients(self) -> list[str]:
        with os_errors(self.root, "read"):
            folders = [
                p for p in self.root.iterdir() if any((p / top).is_dir() for top in ("T1DUAL", "T2SPIR"))
            ]
        return sorted((p.name for p in folders), key=natural_key)

    def _has(self, case_id: str, modality: str) -> bool:
        return bool(slice_files(self.root / case_id / SERIES[modality][0], ".dcm"))

    def _lacking(self, case_id: str) -> list[DataProblem]:
        lacking = [m for m in self.task.modality_names if not self._has(case_id, m)]
        if not lacking:
            return []
        everywhere = [
            m for m in self.task.modality_names if all(self._has(name, m) for name in self._patients())
        ]
        remedy = _AGAIN
        if everywhere:
            remedy += f", or restrict the task to what every case has: --modalities {','.join(everywhere)}"
        whats = [f"case {case_id} lacks modality {m} (no DICOM files in {SERIES[m][0]})" for m in lacking]
        return [DataProblem(case_id, self.root / case_id, what, remedy) for what in whats]

    def files(self, case_id: str) -> list[Path]:
        """The DICOM slices of the task's modalities and the PNG annotations that `read` uses."""
        folder = self._folder(case_id)
        found = [f for m in self.task.modality_names for f in slice_files(folder / SERIES[m][0], ".dcm")]
        grounds = dict.fromkeys(SERIES[m][1] for m in self.task.modality_names)
        return found + [f for ground in grounds for f in slice_files(folder / ground, ".png")]

    def recipe(self, case_id: str) -> dict[str, Any]:
        """The folders of each modality and its annotation, and the grey values of each class."""
        series = {name: list(SERIES[name]) for name in self.task.modality_names}
        classes = {one.name: [list(pair) for pair in one.ranges] for one in self.task.classes}
        return {"series": series, "classes": classes}

    def mask_file(self, case_id: str) -> Path:
        """The folder of the annotation that `read` uses."""
        return self.root / case_id / SERIES[self.task.modality_names[0]][1]

    def is_phantom(self) -> bool:
        """Whether the first slice names its patient as the phantom does, or the folder has the mark."""
        images = [file for file in self.files(self.case_ids()[0]) if file.suffix.lower() == ".dcm"]
        try:
            header = read_dicom(images[0])
        except Exception:  # pydicom lets through whatever a broken file brings about
            return super().is_phantom()  # reading the case will say what is wrong with the file
        return str(header.get("PatientName", "")).startswith("Phantom^") or super().is_phantom()

    def examine(self, case_id: str, report: Report) -> Case | None:
        """Read one case, handing every problem to `report`; None if there was one."""
        folder = self._folder(case_id)
        found: list[DataProblem] = []

        def note(problem: DataProblem) -> None:
            found.append(problem)
            report(problem)

        for problem in self._lacking(case_id):
            note(problem)
        names = [m for m in self.task.modality_names if self._has(case_id, m)]
        if not names:
            return None
        series = {m: read_series(folder / SERIES[m][0], case_id, note) for m in names}
        notices = _one_patient({m: s for m, s in series.items() if s}, folder, case_id, note)
        reference = names[0]
        base = series[reference]
        ground = folder / SERIES[reference][1]
        mask = read_ground(ground, base, self.task, case_id, note) if base else None
        images = self._on_one_grid(series, folder, case_id, note)
        agreement = {}
        second = series.get("t2-spir")
        ground = folder / SERIES["t2-spir"][1]
        if reference != "t2-spir" and second and slice_files(ground, ".png"):
            other = read_ground(ground, second, self.task, case_id, note)
            if base and mask is not None and other is not None:
                moved, _ = resample(other, second.affine, base.volume.shape, base.affine, order=0)
                agreement = _dice_by_class(mask, moved, self.task)
        if found or base is None or mask is None:
            return None
        return Case(case_id, np.stack(images), mask, base.affine, agreement, notices)

    def patients(self) -> list[str]:
        """The patients' folders, sorted naturally, whether they have annotations or not."""
        names = self._patients()
        if not names:
            fail(DataProblem(None, self.root, "no patient's folder that holds T1DUAL or T2SPIR", _AGAIN))
        return names

    def scans_of(self, case_id: str) -> tuple[str, ...]:
        """The modalities of which a patient has DICOM files."""
        return tuple(m for m in self.task.modality_names if self._has(case_id, m))

    def images(self, case_id: str) -> Scans:
        """The scans of one patient on the grid of the first; annotations are not looked at."""
        folder = self._folder(case_id)
        for problem in self._lacking(case_id):
            fail(problem)
        names = self.task.modality_names
        read = {m: read_series(folder / SERIES[m][0], case_id, fail) for m in names}
        series = {m: one for m, one in read.items() if one is not None}
        _one_patient(series, folder, case_id, fail)
        stacked = np.stack(self._on_one_grid(series, folder, case_id, fail))
        base = series[names[0]]
        return Scans(case_id, stacked, base.affine, base.files)

    def _on_one_grid(
        self, series: Mapping[str, Series | None], folder: Path, case_id: str, report: Report
    ) -> list[np.ndarray]:
        """The volumes of some series on the grid of the first; fewer where there was a problem."""
        base, *_ = series.values()
        volumes = [base.volume] if base else []
        for modality, other in list(series.items())[1:]:
            if base is None or other is None:
                continue
            place = folder / SERIES[modality][0]
            one_acquisition = place.parent == base.files[0].parent.parent
            if one_acquisition and base.volume.shape[2] != other.volume.shape[2]:
                counts = (
                    f"{other.volume.shape[2]} slices, {base.files[0].parent.name} has {base.volume.shape[2]}"
                )
                what = f"{counts}, though both phases are one acquisition"
                report(DataProblem(case_id, place, what, _AGAIN))
                continue
            moved = onto_series(base, other, place, case_id, report)
            volumes += [] if moved is None else [moved]
        return volumes

    def _folder(self, case_id: str) -> Path:
        folder = self.root / case_id
        if not case_id or Path(case_id).name != case_id or not folder.is_dir():
            raise UsbenchError(f"{self.root}: no case {case_id!r}; there are {', '.join(self.case_ids())}")
        return folder


def onto_series(base: Series, other: Series, folder: Path, case_id: str, report: Report) -> np.ndarray | None:
    """A series on the grid of another, through scanner coordinates where they differ.

    Args:
        base: the series that gives the grid.
        other: the series to bring there.
        folder: of `other`, for messages.
        case_id: the case, for messages.
        report: takes each problem; it may raise it.

    Returns:
        float32 [X, Y, Z] of the shape of `base.volume`, None where there is a problem.
    """
    if not grid_difference(base.volume.shape, base.affine, other.volume.shape, other.affine, _SAME_GRID):
        return other.volume
    volume, share = resample(other.volume, other.affine, base.volume.shape, base.affine, order=1)
    if share < _LEAST_OVERLAP:
        what = f"covers only {share:.0%} of {base.files[0].parent} in scanner coordinates"
        remedy = "see whether both are of one patient and visit, or restrict the task with --modalities"
        report(DataProblem(case_id, folder, what, remedy))
        return None
    if volume.min() == volume.max():
        what = "constant image on the grid of the reference scan"
        report(DataProblem(case_id, folder, what, "drop the case, or the modality (--modalities)"))
        return None
    return volume


def read_ground(folder: Path, series: Series, task: Task, case_id: str, report: Report) -> np.ndarray | None:
    """The PNG annotation of a series as class indices, on the grid of the series.

    A PNG belongs to the slice of the same name; where names differ (one stack serves both phases of T1-DUAL)
    the n-th PNG belongs to the n-th DICOM file.

    Args:
        folder: Holds the PNG files.
        series: The series.
        task: Says which grey values make up which class.
        case_id: The case, for messages.
        report: Takes each problem; it may raise it.

    Returns:
        Labels uint8 [X, Y, Z], None where there is a problem.
    """
    pictures = slice_files(folder, ".png")
    pairs = _pair(pictures, series, folder, case_id, report)
    if pairs is None:
        return None
    columns, rows, _ = series.volume.shape
    mask = np.zeros(series.volume.shape, dtype=np.uint8)
    whole = True
    for z, picture in enumerate(pairs):
        classes = _read_classes(picture, (rows, columns), task, case_id, report)
        if classes is None:
            whole = False
        else:
            mask[:, :, z] = classes.T
    return mask if whole else None


def _pair(
    pictures: list[Path], series: Series, folder: Path, case_id: str, report: Report
) -> list[Path] | None:
    """The PNG of each slice of `series`, in the order of Z."""
    by_stem = {p.stem: p for p in pictures}
    stems = [f.stem for f in series.files]
    if len(pictures) != len(stems):
        what = f"{count(pictures, 'PNG annotation')} (*.png) for {count(stems, 'slice')}"
        absent = [s for s in stems if s not in by_stem]
        if 0 < len(absent) < len(stems):
            what += f", none for {', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}"
        report(DataProblem(case_id, folder, what, _AGAIN))
        return None
    if set(by_stem) == set(stems):
        return [by_stem[s] for s in stems]
    by_order = dict(zip(sorted(stems, key=natural_key), pictures, strict=True))
    for stem in stems:
        if stem in by_stem and by_order[stem] != by_stem[stem]:
            what = f"the names of the PNG files fit some slices only ({stem} but not all)"
            report(DataProblem(case_id, folder, what, "name every picture as its slice, or none"))
            return None
    return [by_order[s] for s in stems]


def _one_patient(series: dict[str, Series], folder: Path, case_id: str, report: Report) -> tuple[str, ...]:
    """Hand it to `report` where the series of a case name two patients; else the notices to say."""
    apart = []
    for (name, one), (other_name, other) in itertools.combinations(series.items(), 2):
        pairs = {key: (one.identity[key], other.identity[key]) for key in one.identity}
        differs = [key for key, (a, b) in pairs.items() if a and b and a != b]
        if "PatientID" in differs:
            a, b = pairs["PatientID"]
            what = (
                f"series of two patients: PatientID {a} in {SERIES[name][0]}, {b} in {SERIES[other_name][0]}"
            )
            report(DataProblem(case_id, folder, what, "give every patient a folder of their own"))
            return ()
        if shared := [key for key in _SHARED if key in differs]:
            apart.append(f"{name} and {other_name} differ in {' and '.join(shared)}")
    if not apart:
        return ()
    trust = "usbench places them by their scanner coordinates, see in a viewer whether they fit"
    return (f"case {case_id}: not one scan session by the headers ({'; '.join(apart)}); {trust}",)


def _read_classes(
    picture: Path, shape: tuple[int, int], task: Task, case_id: str, report: Report
) -> np.ndarray | None:
    """Class indices, uint8 [rows, columns], of an annotation that must have this `shape`."""
    try:
        values, called = read_indices(picture, shape)
        table = _class_table(task)
        unknown = [v for v in np.unique(values).tolist() if v >= table.size or table[v] == 255]
        if unknown:
            allowed = ", ".join(f"{low}-{high}" for c in task.classes for low, high in c.ranges)
            shown = ", ".join(map(str, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
            what = f"{called} {shown} are unknown, allowed are 0, {allowed}"
            raise PictureError(what, "correct the annotation, or take that of CHAOS_Train_Sets.zip")
    except PictureError as error:
        report(DataProblem(case_id, picture, str(error), error.remedy))
        return None
    classes: np.ndarray = table[values]
    return classes


def _class_table(task: Task) -> np.ndarray:
    """uint8 [256]: class index by grey value, 255 for grey values in no range."""
    table = np.full(256, 255, dtype=np.uint8)
    table[0] = 0
    for index, structure in enumerate(task.classes, start=1):
        for low, high in structure.ranges:
            table[low : high + 1] = index
    return table


def _dice_by_class(one: np.ndarray, other: np.ndarray, task: Task) -> dict[str, float]:
    """Dice of two masks by class; a class that neither has is left out."""
    scores = {}
    for index, name in enumerate(task.class_names, start=1):
        a, b = one == index, other == index
        total = int(a.sum()) + int(b.sum())
        if total:
            scores[name] = 2 * int((a & b).sum()) / total
    return scores


def _holds(folder: Path) -> bool:
    tops = {Path(images).parts[0] for images, _ in SERIES.values()}
    return folder.is_dir() and any((case / top).is_dir() for case in folder.iterdir() for top in tops)


def _any_name(name: str) -> bool:
    return True


def _faults(task: Task) -> Iterator[str]:
    for modality in task.modalities:
        if modality.name not in SERIES:
            yield f"modality {modality.name} is none of CHAOS; choose from {', '.join(SERIES)}"
    if task.regions:
        yield "its classes are regions, but grey values of CHAOS exclude each other; leave out regions=True"
    for structure in task.classes:
        if not structure.ranges or not all(0 < low <= high < 256 for low, high in structure.ranges):
            yield f"class {structure.name} has ranges {structure.ranges}; give grey values, from 1 to 255"


LAYOUT = Layout(
    name="chaos",
    description="a folder for each patient, with T1DUAL/DICOM_anon/{InPhase,OutPhase}, T1DUAL/Ground, "
    "T2SPIR/DICOM_anon and T2SPIR/Ground",
    open=ChaosReader,
    holds=_holds,
    parents=("chaos", "CHAOS", "CHAOS_Train_Sets"),
    any_name=_any_name,
    faults=_faults,
)
