"""The prepared store: every case sliced, normalised and resized once, checksummed, memory-mapped.

A store is a folder for one task, one setting and one data folder. Each case in it is written whole
or not at all and knows the raw files it came from, so an interrupted preparation goes on where it
stopped and a changed, added or removed case is followed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.classes import mask_key, value_fault
from usbench.contracts.data import Case, Reader, Task
from usbench.contracts.settings import DataSettings
from usbench.datasets.geometry import SliceGeometry
from usbench.datasets.preprocess import prepare_arrays
from usbench.datasets.readers.layouts import layout_of, open_reader
from usbench.datasets.voxel_grid import voxel_spacing
from usbench.datasets.workers import run_jobs, usable_cores
from usbench.errors import UsbenchError, unknown
from usbench.plugins.code_hash import code_hash, module_of, of_usbench
from usbench.runtime.console import track
from usbench.storage.files import (
    atomic_folder,
    cache_dir,
    digest_of,
    locked,
    os_errors,
    read_json,
    sha256_file,
    write_json,
)

__all__ = ["DataSettings", "PreparedCase", "Store", "find_prepared", "prepare"]

# Raise it when the same raw case would be prepared differently: older stores are then left alone.
STORE_VERSION = 1
_ARRAYS = ("images.npy", "mask.npy", "truth.npy")


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One prepared patient.

    images: float16 [Z, M, S, S], normalised, read-only, memory-mapped.
    mask: uint8 [Z, S, S], with classes or regions as `Case.mask` has them, read-only, memory-mapped.
    affine: float64 [4, 4], native voxel index to RAS+ mm. spacing: mm along the native axes.
    geometry: the way between slices and the native grid.
    agreement: Dice between two annotations of this patient, by class, where there are two.
    foreground: bool [Z], whether the mask of a slice holds any class.
    """

    case_id: str
    images: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    geometry: SliceGeometry
    agreement: dict[str, float]
    foreground: np.ndarray
    path: Path

    def truth(self) -> np.ndarray:
        """The annotation on the native grid: uint8 [X, Y, Z], labels as in `mask`."""
        array: np.ndarray = np.load(self.path / "truth.npy", allow_pickle=False)
        return array


@dataclass(eq=False)
class Store:
    """Prepared cases on disk. Made by `prepare`; pickles as a path and the digests of its cases.

    contents: the digest (SHA-256, hex) of what each raw case holds, as it was when the store was opened.
    """

    path: Path
    task: Task
    settings: DataSettings
    contents: dict[str, str]
    _checked: set[str] = field(default_factory=set, repr=False)

    @property
    def case_ids(self) -> tuple[str, ...]:
        """The cases of this store, sorted naturally."""
        return tuple(self.contents)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what the raw cases hold: ids, images, masks, positions in space.

        Paths, times and settings do not enter, so two people with the same data get the same.
        """
        return digest_of(self.contents)

    def case(self, case_id: str) -> PreparedCase:
        """The case `case_id`, its files checked against their checksums the first time.

        Raises `UsbenchError` for an unknown id and for files that changed after preparation.
        """
        if case_id not in self.contents:
            remedy = f"the store holds {len(self.contents)} cases"
            raise unknown(f"case of task {self.task.name}", case_id, self.contents, remedy)
        folder = _case_folder(self.path, case_id)
        meta = _read_meta(folder / "meta.json")
        # The content also differs where another process has prepared other raw data since.
        if meta is None or meta["content"] != self.contents[case_id]:
            raise _changed(folder / "meta.json", self.path)
        if case_id not in self._checked:
            for name in _ARRAYS:
                file = folder / name
                if not file.is_file() or sha256_file(file) != meta["files"][name]["sha256"]:
                    raise _changed(file, self.path)
            self._checked.add(case_id)
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        mask = np.load(folder / "mask.npy", mmap_mode="r", allow_pickle=False)
        return PreparedCase(
            case_id=case_id,
            images=images,
            mask=mask,
            affine=np.array(meta["affine"], dtype=np.float64),
            spacing=(meta["spacing"][0], meta["spacing"][1], meta["spacing"][2]),
            geometry=SliceGeometry.from_json(meta["geometry"]),
            agreement=dict(meta["agreement"]),
            foreground=np.array([flag == "1" for flag in meta["foreground"]], dtype=bool),
            path=folder,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_checked": set()}  # another process checks for itself


def prepare(
    task: Task,
    root: Path,
    settings: DataSettings,
    workers: int | None = None,
    cache: Path | None = None,
    case_ids: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Store:
    """Prepare the cases of `task` in the data folder `root`, or only `case_ids`, and open the store.

    Cases whose raw files have the names, sizes and times of last time are reused; `overwrite`
    prepares them again. `workers` processes share the work (default: one per usable core; 1 works
    in this process). The store lies below `cache` (default: "prepared" in the user's cache folder).
    A second process that prepares the same store waits for the first. Raises `UsbenchError` for data
    that cannot be read, a case that is not there, data without any foreground, and a full disk.
    """
    if workers is not None and workers < 1:
        raise UsbenchError(f"{workers} workers cannot prepare anything; use 1 or more")
    reader = open_reader(task, Path(root))
    present = reader.case_ids()
    wanted = _select(reader, present, case_ids)
    path = _store_folder(reader, settings, cache)
    if overwrite or _stale(reader, path, wanted) or _gone(path, present):
        waiting = f"{path}: another process is preparing this data; waiting for it"
        with locked(path / ".lock", waiting):
            _sweep(path)
            for folder in _gone(path, present):
                shutil.rmtree(folder)
            redo = wanted if overwrite else _stale(reader, path, wanted)
            _write_index(path, task, settings, reader.root)
            try:
                _prepare_all(reader, Path(root), settings, path, redo, workers)
            finally:
                _sweep(path)
    return _open(reader, settings, path, wanted)


def find_prepared(
    task: Task, root: Path, settings: DataSettings, case_ids: Sequence[str] | None = None
) -> Store | None:
    """The store that `prepare` would give, or None where a case of it is still to be prepared."""
    reader = open_reader(task, Path(root))
    wanted = _select(reader, reader.case_ids(), case_ids)
    path = _store_folder(reader, settings, None)
    return None if _stale(reader, path, wanted) else _open(reader, settings, path, wanted)


def _store_folder(reader: Reader, settings: DataSettings, cache: Path | None) -> Path:
    return Path(cache or cache_dir() / "prepared") / f"{reader.task.name}-{_key(reader, settings)}"


def _open(reader: Reader, settings: DataSettings, path: Path, wanted: Sequence[str]) -> Store:
    task = reader.task
    metas = {case_id: _read_meta(_case_folder(path, case_id) / "meta.json") for case_id in wanted}
    contents, voxels = {}, 0
    for case_id, meta in metas.items():
        if meta is None:
            raise _changed(_case_folder(path, case_id) / "meta.json", path)
        contents[case_id] = meta["content"]
        voxels += meta["truth_voxels"]
    if not voxels:
        raise UsbenchError(
            f"{reader.root}: none of the {len(wanted)} cases of {task.name} has a voxel of "
            f"{', '.join(task.class_names)}; check the labels of the masks against the task"
        )
    return Store(path, task, settings, contents)


def _select(reader: Reader, present: Sequence[str], case_ids: Sequence[str] | None) -> list[str]:
    if case_ids is None:
        return list(present)
    for case_id in case_ids:
        if case_id not in present:
            remedy = f"{reader.root} holds {len(present)} cases"
            raise unknown(f"case of task {reader.task.name}", case_id, present, remedy)
    return [case_id for case_id in present if case_id in set(case_ids)]


def _key(reader: Reader, settings: DataSettings) -> str:
    task = reader.task
    key = {
        "version": STORE_VERSION,
        "task": task.name,
        "modalities": task.modality_names,
        "classes": mask_key(task.classes, task.regions),
        "settings": settings.to_json(),
        "root": str(reader.root.resolve()),
    }
    if task.patterns is not None:
        key["files"] = task.patterns
    read = layout_of(task).open
    if not of_usbench(read):
        # The code of a plugin's reader decides what is in a case; that of usbench has STORE_VERSION.
        key["reader"] = code_hash(module_of(read))
    return digest_of(key)[:12]


def _write_index(path: Path, task: Task, settings: DataSettings, root: Path) -> None:
    index = {
        "version": STORE_VERSION,
        "task": task.name,
        "modalities": list(task.modality_names),
        "classes": list(task.class_names),
        "settings": settings.to_json(),
        "root": str(root.resolve()),
        **({"regions": True} if task.regions else {}),
    }
    write_json(path / "index.json", index)


def _case_folder(path: Path, case_id: str) -> Path:
    return path / "cases" / case_id


def _changed(file: Path, store: Path) -> UsbenchError:
    return UsbenchError(
        f"{file}: prepared data changed underneath; run 'usbench data prepare --overwrite' or delete {store}"
    )


def _read_meta(file: Path) -> dict[str, Any] | None:
    """The notes on a prepared case; None if they are missing, unreadable, edited or of another version."""
    try:
        meta: dict[str, Any] = read_json(file, "notes on a prepared case", "prepare it again")
        seal = meta.pop("seal")
    except (UsbenchError, AttributeError, KeyError, TypeError):
        return None
    return meta if seal == digest_of(meta) and meta.get("version") == STORE_VERSION else None


def _stale(reader: Reader, path: Path, wanted: Sequence[str]) -> list[str]:
    """The wanted cases that are not prepared, or from other raw files than those on disk now."""
    stale = []
    for case_id in wanted:
        folder = _case_folder(path, case_id)
        meta = _read_meta(folder / "meta.json")
        if meta is None or meta["sources"] != _sources(reader, case_id) or not _complete(folder, meta):
            stale.append(case_id)
    return stale


def _complete(folder: Path, meta: dict[str, Any]) -> bool:
    try:
        return all((folder / name).stat().st_size == meta["files"][name]["bytes"] for name in _ARRAYS)
    except OSError:
        return False


def _sources(reader: Reader, case_id: str) -> list[list[Any]]:
    """Name (relative to the data), size and time of every raw file of a case."""
    sources = []
    for file in reader.files(case_id):
        with os_errors(file, "read"):
            state = file.stat()
        sources.append([os.path.relpath(file, reader.root), state.st_size, state.st_mtime_ns])
    return sources


def _gone(path: Path, present: Sequence[str]) -> list[Path]:
    """Folders of prepared cases that the data no longer has."""
    folder = path / "cases"
    if not folder.is_dir():
        return []
    return [f for f in folder.iterdir() if not f.name.startswith(".") and f.name not in set(present)]


def _sweep(path: Path) -> None:
    """Remove what a killed preparation left half-written; only under the lock."""
    for leftover in (path / "cases").glob(".*.part"):
        shutil.rmtree(leftover, ignore_errors=True)


def _prepare_all(
    reader: Reader, root: Path, settings: DataSettings, path: Path, redo: Sequence[str], workers: int | None
) -> None:
    if not redo:
        return
    count = min(workers or usable_cores(), len(redo))
    words = f"{reader.task.name}: preparing"
    if count == 1:
        for case_id in track(redo, words, total=len(redo)):
            _prepare_case(reader, settings, path, case_id)
    else:
        jobs = [(reader.task, root, settings, path, case_id) for case_id in redo]
        for _ in track(run_jobs(_prepare_in_worker, jobs, count), words, total=len(redo)):
            pass


_readers: dict[tuple[Task, Path], Reader] = {}


def _prepare_in_worker(task: Task, root: Path, settings: DataSettings, path: Path, case_id: str) -> None:
    if (task, root) not in _readers:
        _readers[task, root] = open_reader(task, root)
    _prepare_case(_readers[task, root], settings, path, case_id)


def _prepare_case(reader: Reader, settings: DataSettings, path: Path, case_id: str) -> None:
    sources = _sources(reader, case_id)  # before reading: a file that changes meanwhile is read again
    case = reader.read(case_id)
    _check(reader.task, case)
    arrays = prepare_arrays(case, settings, reader.task.modality_names)
    with atomic_folder(_case_folder(path, case_id)) as folder:
        stored = (arrays.images, arrays.mask, case.mask)
        meta = {
            "version": STORE_VERSION,
            "case": case_id,
            "affine": np.asarray(case.affine, dtype=np.float64).tolist(),
            "spacing": list(voxel_spacing(case.affine)),
            "geometry": arrays.geometry.to_json(),
            "agreement": {name: float(value) for name, value in case.agreement.items()},
            "foreground": "".join(str(int(layer.any())) for layer in arrays.mask),
            "truth_voxels": int(np.count_nonzero(case.mask)),
            "sources": sources,
            "files": {name: _save(folder / name, array) for name, array in zip(_ARRAYS, stored, strict=True)},
            "content": _content(case),
        }
        write_json(folder / "meta.json", {**meta, "seal": digest_of(meta)})


def _check(task: Task, case: Case) -> None:
    """Hold a reader to its word before anything is written."""
    shape = (len(task.modalities), *case.mask.shape)
    if case.images.shape != shape or case.images.dtype != np.float32 or case.mask.dtype != np.uint8:
        raise UsbenchError(
            f"case {case.case_id}: the reader gave images {case.images.dtype} {case.images.shape} and mask "
            f"{case.mask.dtype} {case.mask.shape}, not float32 {shape} and uint8 {shape[1:]}; mend the reader"
        )
    if fault := value_fault(case.mask, task.class_names, task.regions):
        raise UsbenchError(f"case {case.case_id} of {task.name}: {fault}; check its labels")


def _content(case: Case) -> str:
    """SHA-256 of a raw case: shape, images as float32, mask, affine; in Fortran order, as in NIfTI."""
    digest = hashlib.sha256(repr(case.images.shape).encode())
    for volume in (*case.images, case.mask):
        digest.update(np.ascontiguousarray(volume.T).data)
    # A header's affine differs in its last digits with the form it is stored in.
    digest.update((np.round(np.asarray(case.affine, dtype=np.float64), 4) + 0.0).tobytes())
    return digest.hexdigest()


class _Hashing:
    """A file opened for writing that hashes and counts what passes, with real errors for a full disk."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.digest, self.bytes = stream, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return int(self.stream.write(data))


def _save(file: Path, array: np.ndarray) -> dict[str, Any]:
    with open(file, "wb") as stream:
        sink = _Hashing(stream)
        np.save(sink, array, allow_pickle=False)
    return {"bytes": sink.bytes, "sha256": sink.digest.hexdigest()}
