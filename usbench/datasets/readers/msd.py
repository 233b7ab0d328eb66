"""The layout of the Medical Segmentation Decathlon: dataset.json and NIfTI with the modalities last."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from usbench.contracts.data import Case, ExaminingReader, Layout, Task
from usbench.contracts.names import natural_key, safe_name
from usbench.contracts.problem import DataError, DataProblem, Report
from usbench.datasets.voxel_grid import grid_difference
from usbench.errors import UsbenchError
from usbench.storage.files import read_json

_AGAIN = "extract or download the data set again"
_JSON_REMEDY = "correct dataset.json (see the layout of the Medical Segmentation Decathlon)"

# What a broken file brings about: cut short, garbled, or with a header that promises too much.
_BROKEN = (EOFError, zlib.error, OSError, ValueError, OverflowError, MemoryError)

# A mask displaced by less than half a voxel still belongs to the image voxel by voxel.
_SAME_GRID = 0.5


@dataclass(frozen=True)
class ListedCase:
    """A training case that dataset.json names."""

    case_id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Description:
    """What dataset.json says. `channels` in the order of the images; `labels` without background."""

    title: str
    licence: str
    reference: str
    channels: tuple[str, ...]
    labels: dict[str, tuple[int, ...]]
    entries: tuple[ListedCase, ...]


def load_description(root: Path) -> Description:
    """Read `root/dataset.json`.

    `labels` may be written as the Decathlon does ({"1": "liver"}) or as nnU-Net does ({"liver": 1}),
    and `channel_names` stands for `modality`.

    Raises:
        UsbenchError: Naming the key or the value that is wrong.
    """
    file = root / "dataset.json"
    data = read_json(file, "the description of the data set", _AGAIN)
    if not isinstance(data, dict):
        raise _bad(file, f"holds a {type(data).__name__}, an object with keys is expected")
    return Description(
        title=_text(data, "description") or _text(data, "name"),
        licence=_text(data, "licence") or _text(data, "license"),
        reference=_text(data, "reference"),
        channels=_channels(file, data),
        labels=_labels(file, data),
        entries=_listed_cases(file, data),
    )


def _bad(file: Path, what: str, remedy: str = _JSON_REMEDY) -> DataError:
    return DataError(DataProblem(None, file, what, remedy))


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return value.strip() if isinstance(value, str) else ""


def _channels(file: Path, data: dict[str, Any]) -> tuple[str, ...]:
    key = "modality" if "modality" in data else "channel_names"
    value = data.get(key)
    if not isinstance(value, dict) or not value:
        raise _bad(file, 'key "modality" is missing or empty, expected {"0": "T2", "1": "ADC"}')
    if sorted(value) != sorted(str(k) for k in range(len(value))):
        raise _bad(
            file, f'"{key}" is numbered {", ".join(value)}, expected 0 to {len(value) - 1} without gaps'
        )
    channels = [value[str(k)] for k in range(len(value))]
    for name in channels:
        if not isinstance(name, str) or not safe_name(name):
            raise _bad(file, f'"{key}" names a modality {name!r}, a word is expected')
    _refuse_same(file, key, [safe_name(name) for name in channels])
    return tuple(name.strip() for name in channels)


def _labels(file: Path, data: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    value = data.get("labels")
    if not isinstance(value, dict) or not value:
        raise _bad(file, 'key "labels" is missing or empty, expected {"0": "background", "1": "liver"}')
    decathlon = all(isinstance(name, str) for name in value.values())
    pairs = [(name, key) if decathlon else (key, name) for key, name in value.items()]
    labels: dict[str, tuple[int, ...]] = {}
    seen: dict[int, str] = {}
    for name, numbers in pairs:
        values = tuple(
            _label_value(file, name, v) for v in (numbers if isinstance(numbers, list) else [numbers])
        )
        if values == (0,):
            continue
        if name.strip().lower() == "ignore":
            raise _bad(
                file, '"labels" has a class "ignore", which usbench does not support', "remove those voxels"
            )
        if not safe_name(name):
            raise _bad(file, f'"labels" names a class {name!r}, a word is expected')
        for v in values:
            if v in seen:
                raise _bad(
                    file,
                    f'"labels" gives the value {v} to both "{seen[v]}" and "{name}"',
                    "make them disjoint",
                )
            seen[v] = name
        labels[name.strip()] = values
    if not labels:
        raise _bad(file, '"labels" names no class besides the background')
    _refuse_same(file, "labels", [safe_name(name) for name in labels])
    return dict(sorted(labels.items(), key=lambda item: item[1]))


def _label_value(file: Path, name: str, value: object) -> int:
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]+", value.strip()) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**31:
        raise _bad(file, f'"labels" gives class "{name}" the value {value!r}, an integer from 0 is expected')
    return number


def _refuse_same(file: Path, key: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise _bad(file, f'"{key}" has the name "{name}" twice', "give each its own name")


def _listed_cases(file: Path, data: dict[str, Any]) -> tuple[ListedCase, ...]:
    value = data.get("training")
    if not isinstance(value, list) or not value:
        raise _bad(
            file, 'key "training" is missing or empty, expected a list of {"image": file, "label": file}'
        )
    entries: dict[str, ListedCase] = {}
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise _bad(
                file, f'entry {number} of "training" is {item!r}, expected {{"image": file, "label": file}}'
            )
        image, label = (_listed(file, number, item, key) for key in ("image", "label"))
        if image.name.startswith("._"):
            continue
        case_id = re.sub(r"\.nii(\.gz)?$", "", image.name)
        if case_id in entries:
            raise _bad(file, f'"training" lists case {case_id} twice', "list every case once")
        entries[case_id] = ListedCase(case_id, image, label)
    return tuple(sorted(entries.values(), key=lambda e: natural_key(e.case_id)))


def _listed(file: Path, number: int, item: dict[str, Any], key: str) -> Path:
    value = item.get(key)
    if not isinstance(value, str) or not re.search(r"\.nii(\.gz)?$", value):
        raise _bad(
            file, f'entry {number} of "training" has {key} {value!r}, expected the name of a .nii.gz file'
        )
    name = PurePosixPath(value)
    if name.is_absolute() or ".." in name.parts:
        raise _bad(
            file, f'entry {number} of "training" has {key} {value!r} outside the folder', "use relative names"
        )
    return file.parent / name


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
        raise _bad(self.root / "dataset.json", f"{what} among those it lists ({listed})", remedy)

    def survey(self, report: Report) -> list[str]:
        """The cases that dataset.json lists, sorted naturally; absent files go to `report`."""
        for entry in self._listed_cases.values():
            for path in (entry.image, entry.label):
                if not path.is_file():
                    report(_absent(entry.case_id, path))
        return list(self._listed_cases)

    def files(self, case_id: str) -> list[Path]:
        """The image and the mask of a case."""
        entry = self._listed_case(case_id)
        return [entry.image, entry.label]

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

        image = self._image(entry, note)
        mask = self._mask(entry, note)
        if image is None or mask is None:
            return None
        difference = grid_difference(image[0].shape[1:], image[1], mask[0].shape, mask[1], _SAME_GRID)
        if difference:
            what = f"the mask is not on the grid of {entry.image.name}: {difference}"
            note(DataProblem(case_id, entry.label, what, "resample the mask onto the image"))
        return None if found else Case(case_id, image[0], mask[0], image[1])

    def _listed_case(self, case_id: str) -> ListedCase:
        if case_id not in self._listed_cases:
            raise UsbenchError(f"{self.root}: no case {case_id}; there are {', '.join(self._listed_cases)}")
        return self._listed_cases[case_id]

    def _image(self, entry: ListedCase, report: Report) -> tuple[np.ndarray, np.ndarray] | None:
        """The modalities of the task, float32 [M, X, Y, Z], and the affine."""

        def bad(what: str, remedy: str = _AGAIN) -> tuple[np.ndarray, np.ndarray] | None:
            report(DataProblem(entry.case_id, entry.image, what, remedy))
            return None

        with _nifti_errors(entry.case_id, entry.image, report), _open(entry.image) as (proxy, affine):
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
                if values.dtype.kind not in "iufb":
                    return bad(f"voxels of type {values.dtype}, plain numbers are expected")
                images[row] = values
            whole = True
            for modality, volume in zip(self.task.modalities, images, strict=True):
                broken = volume.size - int(np.isfinite(volume).sum())
                if broken:
                    whole = False
                    bad(
                        f"{broken} voxels of {modality.name} are NaN or infinite",
                        "replace them, or drop the case",
                    )
                elif volume.min() == volume.max():
                    whole = False
                    bad(
                        f"constant image, every voxel of {modality.name} is {volume.flat[0]:g}",
                        "drop the case",
                    )
            return (images, affine) if whole else None
        return None

    def _mask(self, entry: ListedCase, report: Report) -> tuple[np.ndarray, np.ndarray] | None:
        """The mask, uint8 [X, Y, Z] with classes as the task counts them, and its affine."""

        def bad(what: str, remedy: str = _AGAIN) -> tuple[np.ndarray, np.ndarray] | None:
            report(DataProblem(entry.case_id, entry.label, what, remedy))
            return None

        with _nifti_errors(entry.case_id, entry.label, report), _open(entry.label) as (proxy, affine):
            raw = np.asarray(proxy[...])
            if raw.dtype.kind not in "iufb":
                return bad(f"voxels of type {raw.dtype}, plain numbers are expected")
            if raw.ndim == 4 and raw.shape[3] == 1:
                raw = raw[..., 0]
            if raw.ndim != 3:
                return bad(f"a mask of shape {raw.shape}, three axes are expected")
            allowed = {0, *(value for c in self.task.classes for value in c.labels)}
            if sum(int(np.count_nonzero(raw == v)) for v in allowed) != raw.size:
                unknown = [v for v in np.unique(raw).tolist() if v not in allowed]
                shown = ", ".join(f"{v:g}" for v in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
                known = ", ".join(str(v) for v in sorted(allowed))
                return bad(f"mask values {shown} are unknown, allowed are {known}", "correct the mask")
            mask = np.zeros_like(raw, dtype=np.uint8)
            for index, structure in enumerate(self.task.classes, start=1):
                for value in structure.labels:
                    np.copyto(mask, index, where=raw == value)
            return mask, affine
        return None


def _absent(case_id: str, path: Path) -> DataProblem:
    what = "the file is absent, though dataset.json lists it"
    return DataProblem(case_id, path, what, f"{_AGAIN}, or take the case off the list")


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, np.ndarray]]:
    """The lazily read voxels of a NIfTI file and its affine; at the end, the check sum of a .gz is tested."""
    import nibabel

    image: Any = nibabel.load(path)
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("its affine does not place the voxels in space")
    if path.suffix != ".gz":
        yield image.dataobj, affine
        return
    with gzip.open(path) as stream:
        yield type(image).from_stream(stream).dataobj, affine
        while stream.read(1 << 20):
            pass


@contextmanager
def _nifti_errors(case_id: str, path: Path, report: Report) -> Iterator[None]:
    """Hand what a broken or absent NIfTI file makes nibabel raise to `report`."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except FileNotFoundError:
        report(_absent(case_id, path))
    except (ImageFileError, HeaderDataError, *_BROKEN) as error:
        report(DataProblem(case_id, path, f"truncated or invalid NIfTI file ({error})", _AGAIN))


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
            if value in seen:
                yield f"the mask value {value} belongs to two classes; make them disjoint"
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
