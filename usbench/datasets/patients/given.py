"""One patient whose files are named modality by modality: read, checked, put on one grid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from usbench.contracts.data import Task
from usbench.contracts.problem import DataError, DataProblem, fail
from usbench.datasets.patients.case import Patient
from usbench.datasets.readers.dicom import read_series
from usbench.datasets.readers.nifti import nifti_errors, open_nifti
from usbench.datasets.readers.patterns import SUFFIXES
from usbench.datasets.readers.scans import as_scan, plain_numbers, scan_fault
from usbench.datasets.voxel_grid import grid_difference, resample
from usbench.errors import UsbenchError, unknown
from usbench.runtime.console import count
from usbench.storage.files import at_home

# As the readers: one grid, up to the rounding of headers; less overlap than that is another region.
_SAME_GRID = 0.1
_LEAST_OVERLAP = 0.25

Given = str | Path | tuple[np.ndarray, np.ndarray]
"""A scan: a NIfTI file, with ":0" for the first of its volumes; a folder of one DICOM series; or an array
[X, Y, Z] with its affine [4, 4]."""


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan that was read: float32 [X, Y, Z], affine [4, 4], where it is from, the files of a series."""

    volume: np.ndarray
    affine: np.ndarray
    place: str
    slices: tuple[Path, ...] = ()


def read_given(
    task: Task,
    images: Mapping[str, Given],
    case_id: str,
    onto_first: bool = False,
    allow_missing: bool = False,
) -> Patient:
    """Read a patient whose scans are named one by one.

    A scan on another grid is resampled where the task does that with its own data (CHAOS, a task file that
    says so); else it is refused, unless `onto_first` asks for it.

    Args:
        task: With the modalities in the order of the network.
        images: By modality.
        case_id: What the patient is called.
        onto_first: Whether scans on another grid are resampled onto the first modality.
        allow_missing: Whether modalities may be absent; they are zeros then.

    Raises:
        UsbenchError: Naming the modality, the file and the remedy.
    """
    for name in images:
        if name not in task.modality_names:
            raise unknown(f"modality of task {task.name}", name, task.modality_names)
    _refuse_twice(images)
    lacking = [name for name in task.modality_names if name not in images]
    if not images or (lacking and not allow_missing):
        whole = ", ".join(task.modality_names)
        raise UsbenchError(
            f"case {case_id}: no file for {', '.join(lacking)}; the network takes {whole}: name a file for "
            "each, or let it go without (--allow-missing)"
        )
    names = [name for name in task.modality_names if name in images]
    scans = {name: read_scan(images[name], name, case_id) for name in names}
    reference = names[0]
    if task.files is not None and task.files.reference in names and not onto_first:
        reference = task.files.reference
    base = scans[reference]
    volumes = [_on_grid(task, name, scans[name], reference, base, onto_first, case_id) for name in names]
    shape = (len(task.modalities), *base.volume.shape)
    # The order in memory is that of the reader of such files, so that sums are rounded in the same way.
    stacked = np.zeros(shape, np.float32) if base.slices else np.zeros(shape[::-1], np.float32).T
    for name, volume in zip(names, volumes, strict=True):
        stacked[task.modality_names.index(name)] = volume
    present = tuple(name in images for name in task.modality_names)
    return Patient(case_id, stacked, base.affine, present, base.slices)


def _refuse_twice(images: Mapping[str, Given]) -> None:
    seen: dict[tuple[Path, int | None], str] = {}
    for name, given in images.items():
        if isinstance(given, tuple):
            continue
        path, channel = split_channel(given)
        key = (path.resolve(), channel)
        if key in seen:
            raise UsbenchError(
                f"{given}: given for {seen[key]} and for {name}; name the file of each modality"
            )
        seen[key] = name


def split_channel(given: str | Path) -> tuple[Path, int | None]:
    """The path and the volume on the fourth axis that "case.nii.gz:0" means; None where it says none."""
    found = re.fullmatch(r"(.+\.nii(?:\.gz)?):(\d+)", str(given))
    return (at_home(found[1]), int(found[2])) if found else (at_home(given), None)


def read_scan(given: Given, name: str, case_id: str) -> _Scan:
    """Read one scan.

    Args:
        given: A file, a folder, or an array [X, Y, Z] with its affine [4, 4].
        name: Of its modality.
        case_id: For messages.

    Raises:
        UsbenchError: Naming the file, what is wrong, and the remedy.
    """
    if isinstance(given, tuple):
        return _from_array(given, name, case_id)
    path, channel = split_channel(given)

    def bad(what: str, remedy: str) -> DataError:
        return DataError(DataProblem(case_id, path, what, remedy))

    if path.is_dir():
        series = read_series(path, case_id, fail)
        assert series is not None, "every problem was raised"
        return _Scan(series.volume, series.affine, str(path), series.files)
    if not path.exists():
        raise bad(f"there is no such file or folder (for {name})", "check the path")
    if not path.name.endswith(SUFFIXES):
        remedy = "give a .nii.gz or .nii file, or the folder of a DICOM series (*.dcm)"
        raise bad(f"no scan that usbench reads (for {name})", remedy)
    with nifti_errors(case_id, path, fail), open_nifti(path) as (proxy, affine):
        shape = tuple(proxy.shape)
        volumes = shape[3] if len(shape) == 4 else 1
        if len(shape) not in (3, 4):
            raise bad(f"shape {shape} (for {name}), three axes are expected", "correct the image")
        if channel is None and volumes > 1:
            which = f"name the one that is {name}: {name}={path.name}:0 (to {path.name}:{volumes - 1})"
            raise bad(f"it holds {volumes} volumes", which)
        if channel is not None and channel >= volumes:
            raise bad(
                f"it holds {count(volumes, 'volume')}, no number {channel} for {name}", "count them from 0"
            )
        values = np.asarray(proxy[..., channel or 0] if len(shape) == 4 else proxy[...])
        if not plain_numbers(values):
            raise bad(f"voxels of type {values.dtype}, plain numbers are expected", "convert the image")
        volume = as_scan(values)
        if fault := scan_fault(volume, name):
            raise bad(fault, "correct the scan, or leave this modality out (--allow-missing)")
    return _Scan(volume, affine, str(path))


def _from_array(given: tuple[np.ndarray, np.ndarray], name: str, case_id: str) -> _Scan:
    values, affine = np.asarray(given[0]), np.asarray(given[1], dtype=np.float64)
    if values.ndim != 3 or not plain_numbers(values) or affine.shape != (4, 4):
        what = f"{name} is an array {values.dtype} {values.shape} with an affine {affine.shape}"
        remedy = "give numbers [X, Y, Z] and the affine [4, 4] from voxel index to RAS+ mm"
        raise DataError(DataProblem(case_id, None, what, remedy))
    volume = as_scan(values)
    if fault := scan_fault(volume, name):
        raise DataError(DataProblem(case_id, None, fault, "correct the scan"))
    return _Scan(volume, affine, f"the array of {name}")


def _on_grid(
    task: Task, name: str, scan: _Scan, reference: str, base: _Scan, onto_first: bool, case_id: str
) -> np.ndarray:
    """The voxels of a scan on the grid of the reference."""
    from usbench.datasets.resampling import onto_grid

    grid = base.volume.shape, base.affine
    difference = grid_difference(*grid, scan.volume.shape, scan.affine, _SAME_GRID)
    if difference is None:
        return scan.volume
    where = f"{name} is not on the grid of {reference}, {base.place}: {difference}"
    of_task = task.reader == "chaos" or (task.files is not None and task.files.resample)
    if not (onto_first or of_task):
        remedy = f"resample it, or let usbench do that onto {reference} (--resample)"
        raise UsbenchError(f"{scan.place}: {where}; {remedy}")
    if task.reader == "chaos" and not onto_first:
        moved, share = resample(scan.volume, scan.affine, *grid, order=1)  # as the reader of CHAOS
    else:
        from usbench.datasets.resampling import overlap

        share = overlap(scan.volume.shape, scan.affine, *grid)
        moved = onto_grid(scan.volume, scan.affine, *grid)
    if share < _LEAST_OVERLAP or moved.min() == moved.max():
        what = f"{where}; only {share:.0%} of that grid lie inside it"
        raise UsbenchError(f"{scan.place}: {what}; check that both are of one patient and one session")
    return moved


def name_of(images: Mapping[str, Given], names: Sequence[str]) -> str:
    """What a patient is called whose files are named: after the first file, without its ending.

    Args:
        images: By modality.
        names: The modalities in order.
    """
    for name in names:
        given = images.get(name)
        if given is not None and not isinstance(given, tuple):
            return re.sub(r"\.nii(\.gz)?$", "", split_channel(given)[0].resolve().name)
    return "case"
