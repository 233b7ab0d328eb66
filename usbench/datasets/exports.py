"""A task's cases in the layouts of others: nnU-Net raw data (version 2) and the Decathlon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.classes import value_of
from usbench.contracts.data import PHANTOM_MARK, Case, Task
from usbench.datasets.readers.layouts import open_reader
from usbench.errors import UsbenchError, unknown
from usbench.runtime.console import track
from usbench.storage.files import atomic_folder, write_json, write_text

ENDING = ".nii.gz"


def export(task: Task, root: Path, to: str, out: Path) -> list[str]:
    """Write every case of a task into a new folder, with the dataset.json of that layout.

    Scans are written on the grid that usbench reads them on, with the values of the files; masks with the
    classes of the task. The folder is there whole or not at all.

    Args:
        task: whose cases.
        root: its data folder.
        to: one of `LAYOUTS`.
        out: the folder to write: for nnU-Net one called Dataset123_Name, for the Decathlon Task23_Name.

    Returns:
        The cases, sorted naturally.

    Raises:
        UsbenchError: for a folder that is not empty, a case that cannot be read, or overlapping regions where
            the layout has none.
    """
    if to not in LAYOUTS:
        raise unknown("layout", to, LAYOUTS)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsbenchError(f"{out}: is not an empty folder; name a new one with --out")
    write, describe = LAYOUTS[to]
    values = export_values(task)
    if task.regions and to == "msd":
        raise UsbenchError(
            f"task {task.name} has regions, which the Decathlon's layout cannot hold; use --to nnunet"
        )
    reader = open_reader(task, root)
    case_ids = reader.case_ids()
    with atomic_folder(out) as folder:
        (folder / "imagesTr").mkdir()
        (folder / "labelsTr").mkdir()
        for case_id in track(case_ids, f"{task.name}: writing", total=len(case_ids)):
            case = reader.read(case_id)
            write(folder, case)
            _save(folder / "labelsTr" / f"{case_id}{ENDING}", _labels(case, values, task), case.affine)
        write_json(folder / "dataset.json", describe(task, case_ids, values))
        if reader.is_phantom():
            write_text(
                folder / PHANTOM_MARK, "Simulated by usbench. Scores on it say nothing about patients.\n"
            )
    return case_ids


def write_fold(
    task: Task,
    root: Path,
    out: Path,
    train: Sequence[str],
    test: Sequence[str],
    names: Mapping[str, str],
) -> None:
    """Write a fold as nnU-Net raw data: training cases with their masks, test cases without.

    The folder is there whole or not at all. It holds no link and no path.

    Args:
        task: Whose cases, with the modalities and classes to write.
        root: Its data folder.
        out: The folder to write.
        train: Ids of the training cases.
        test: Ids of the test cases.
        names: By id what the files of a case are called.

    Raises:
        UsbenchError: For a case that cannot be read, and for regions without labels.
    """
    values = export_values(task)
    reader = open_reader(task, root)
    with atomic_folder(out) as folder:
        for part in ("imagesTr", "labelsTr", "imagesTs"):
            (folder / part).mkdir()
        ids = [*train, *test]
        for number, case_id in enumerate(track(ids, f"{task.name}: writing for a pipeline", len(ids))):
            case, name = reader.read(case_id), names[case_id]
            if number >= len(train):
                _write_nnunet(folder, case, "imagesTs", name)
                continue
            _write_nnunet(folder, case, name=name)
            _save(folder / "labelsTr" / f"{name}{ENDING}", _labels(case, values, task), case.affine)
        write_json(folder / "dataset.json", _nnunet(task, train, values))


def own_values(task: Task) -> dict[str, int]:
    """By class the value of its own in written masks, in the task's order.

    Regions that lie within others may share no value alone: each has the one that nnU-Net paints it with.

    Args:
        task: Whose classes.

    Raises:
        UsbenchError: For regions without labels.
    """
    if not task.regions:
        return {one.name: number for number, one in enumerate(task.classes, start=1)}
    described = _nnunet(task, (), export_values(task))
    order = [name for name in described["labels"] if name != "background"]
    own = dict(zip(order, described["regions_class_order"], strict=True))
    return {name: own[name] for name in task.class_names}


def export_values(task: Task) -> dict[int, int]:
    """By value of `Case.mask`, the value in the masks that are written; both count from 1 for classes.

    Of regions, each combination that can occur has a value of its own.
    """
    if not task.regions:
        return {number: number for number in range(1, len(task.classes) + 1)}
    if not all(one.labels for one in task.classes):
        raise UsbenchError(f"task {task.name} states no labels for its regions; name them in its classes")
    every = sorted({label for one in task.classes for label in one.labels})
    sets = [sum(value_of(i, True) for i, one in enumerate(task.classes) if v in one.labels) for v in every]
    return {bits: number for number, bits in enumerate(dict.fromkeys(sets), start=1)}


def _labels(case: Case, values: dict[int, int], task: Task) -> np.ndarray:
    table = np.zeros(256, dtype=np.uint8)
    for ours, theirs in values.items():
        table[ours] = theirs
    there = {int(value) for value in np.unique(case.mask)} - {0}
    if odd := there - set(values):
        raise UsbenchError(
            f"case {case.case_id}: its mask holds a mix of regions ({odd.pop():b}) that the labels of "
            f"task {task.name} do not give; correct them"
        )
    labels: np.ndarray = table[case.mask]
    return labels


def _write_nnunet(folder: Path, case: Case, part: str = "imagesTr", name: str = "") -> None:
    for number, volume in enumerate(case.images):
        file = f"{name or case.case_id}_{number:04d}{ENDING}"
        _save(folder / part / file, _narrow(volume), case.affine)


def _write_msd(folder: Path, case: Case) -> None:
    volumes = case.images[0] if len(case.images) == 1 else np.moveaxis(case.images, 0, 3)
    _save(folder / "imagesTr" / f"{case.case_id}{ENDING}", _narrow(volumes), case.affine)


def _narrow(volume: np.ndarray) -> np.ndarray:
    """float32 voxels of any shape as int16 where that changes no value."""
    with np.errstate(invalid="ignore"):
        small = volume.astype(np.int16)
    return small if np.array_equal(small, volume) else volume


def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    import nibabel

    image: Any = nibabel.Nifti1Image(array, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _nnunet(task: Task, case_ids: Sequence[str], values: dict[int, int]) -> dict[str, Any]:
    labels: dict[str, Any] = {"background": 0}
    description: dict[str, Any] = {
        "channel_names": {str(number): one.name for number, one in enumerate(task.modalities)},
        "labels": labels,
        "numTraining": len(case_ids),
        "file_ending": ENDING,
        "name": task.name,
        "description": task.title,
        "reference": task.citation,
        "licence": task.licence,
    }
    if not task.regions:
        labels.update({one.name: number for number, one in enumerate(task.classes, start=1)})
        return description
    parts = {
        one.name: [theirs for ours, theirs in values.items() if ours & value_of(index, True)]
        for index, one in enumerate(task.classes)
    }
    # nnU-Net paints the regions in this order, each with one value: the larger first, with what is its own.
    order = sorted(parts, key=lambda name: -len(parts[name]))
    painted = []
    for place, name in enumerate(order):
        later = {value for other in order[place + 1 :] for value in parts[other]}
        own = [value for value in parts[name] if value not in later and value not in painted]
        rest = [value for value in parts[name] if value not in painted]
        painted.append((own or rest or parts[name])[0])
    labels.update({name: parts[name] if len(parts[name]) > 1 else parts[name][0] for name in order})
    description["regions_class_order"] = painted
    return description


def _msd(task: Task, case_ids: Sequence[str], values: dict[int, int]) -> dict[str, Any]:
    return {
        "name": task.name,
        "description": task.title,
        "reference": task.citation,
        "licence": task.licence,
        "release": "written by usbench",
        "tensorImageSize": "4D" if len(task.modalities) > 1 else "3D",
        "modality": {str(number): one.name for number, one in enumerate(task.modalities)},
        "labels": {
            "0": "background",
            **{str(number): one.name for number, one in enumerate(task.classes, start=1)},
        },
        "numTraining": len(case_ids),
        "numTest": 0,
        "training": [
            {"image": f"./imagesTr/{case}{ENDING}", "label": f"./labelsTr/{case}{ENDING}"}
            for case in case_ids
        ],
        "test": [],
    }


Write = Callable[[Path, Case], None]
Describe = Callable[[Task, Sequence[str], dict[int, int]], dict[str, Any]]

LAYOUTS: dict[str, tuple[Write, Describe]] = {
    "nnunet": (_write_nnunet, _nnunet),
    "msd": (_write_msd, _msd),
}
"""The layouts that can be written: what writes the scans of a case, and what dataset.json says."""
