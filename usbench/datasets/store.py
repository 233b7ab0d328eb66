"""The prepared store: every case sliced, normalised and resized once, compressed, checksummed.

A store is a folder for one task, one setting and one data folder. Each case in it is written whole
or not at all and knows what it was made from and how (`usbench.datasets.notes`), so an interrupted
preparation goes on where it stopped and a changed, added or removed case is followed
(`usbench.datasets.freshness`). Slices are compressed one by one (`usbench.storage.slices`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.classes import mask_key, value_fault
from usbench.contracts.data import Case, Reader, Task
from usbench.contracts.settings import DataSettings
from usbench.datasets.freshness import RawFiles, preparation_code, reader_code, recipe_of, stale_cases
from usbench.datasets.geometry import SliceGeometry
from usbench.datasets.notes import (
    ARRAYS,
    IMAGES,
    MASK,
    STORE_VERSION,
    TRUTH,
    Signs,
    case_folder,
    changed,
    damaged,
    read_meta,
    sign_of,
    write_meta,
    write_signs,
)
from usbench.datasets.preprocess import PREPARATION, prepare_arrays
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.voxel_grid import voxel_spacing
from usbench.datasets.workers import run_jobs, usable_cores
from usbench.errors import UsbenchError, unknown
from usbench.runtime.console import count, detail, track
from usbench.storage.files import atomic_folder, cache_dir, digest_of, locked, write_json
from usbench.storage.in_use import use
from usbench.storage.slices import SliceArray, write_slices

__all__ = ["DataSettings", "PreparedCase", "Store", "find_prepared", "prepare"]


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One prepared patient.

    images: float16 [Z, M, S, S], normalised. Slices are read from the compressed file when they are asked
        for: `images[7]` and `images[3:9]` read those alone, `np.asarray(images)` all; see `SliceArray`.
    mask: uint8 [Z, S, S], with classes or regions as `Case.mask` has them, likewise.
    affine: float64 [4, 4], native voxel index to RAS+ mm. spacing: mm along the native axes.
    geometry: the way between slices and the native grid.
    agreement: Dice between two annotations of this patient, by class, where there are two.
    foreground: bool [Z], whether the mask of a slice holds any class.
    """

    case_id: str
    images: SliceArray | np.ndarray
    mask: SliceArray | np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    geometry: SliceGeometry
    agreement: dict[str, float]
    foreground: np.ndarray
    path: Path

    def truth(self) -> np.ndarray:
        """The annotation on the native grid: uint8 [X, Y, Z], labels as in `mask`."""
        return np.asarray(SliceArray(self.path / TRUTH))


@dataclass(eq=False)
class Store:
    """Prepared cases on disk. Made by `prepare`; pickles as a path and the digests of its cases.

    contents: the digest (SHA-256, hex) of what each raw case holds, as it was when the store was opened, and
        of the version of its preparation (`_content`).
    seals: the digest of each case's notes, likewise as they were; empty where only `contents` has to fit.
    """

    path: Path
    task: Task
    settings: DataSettings
    contents: dict[str, str]
    seals: dict[str, str] = field(default_factory=dict, repr=False)
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
        """The case `case_id`.

        Its files are checked the first time: those that were found right before and have the same size, times
        and inode since are not read for it; others are held against their checksums.

        Raises `UsbenchError` for an unknown id and for files that changed after preparation.
        """
        if case_id not in self.contents:
            remedy = f"the store holds {count(self.contents, 'case')}"
            raise unknown(f"case of task {self.task.name}", case_id, self.contents, remedy)
        folder = case_folder(self.path, case_id)
        meta = read_meta(folder)
        # They also differ where another process has prepared the case from other data, or otherwise, since.
        if (
            meta is None
            or meta["content"] != self.contents[case_id]
            or self.seals.get(case_id, meta["seal"]) != meta["seal"]
        ):
            raise changed(folder / "meta.json", self.path)
        if case_id not in self._checked:
            broken = damaged(folder, meta)
            if broken is not None:
                raise changed(broken, self.path)
            self._checked.add(case_id)
        return PreparedCase(
            case_id=case_id,
            images=SliceArray(folder / IMAGES),
            mask=SliceArray(folder / MASK),
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
    verify: bool = False,
) -> Store:
    """Prepare the cases of `task` in the data folder `root`, or only `case_ids`, and open the store.

    A case is reused if all that it was made from is unchanged (`usbench.datasets.freshness`); files that
    can be seen not to have been touched are not read for that. `verify` reads every raw and every prepared
    file and prepares again what is damaged; `overwrite` prepares all again. `workers` processes share the
    work (default: one per usable core; 1 works in this process). The store lies below `cache` (default:
    "prepared" in the user's cache folder). A second process that prepares the same store waits for the
    first. Raises `UsbenchError` for data that cannot be read, a case that is not there, data without any
    foreground, and a full disk.
    """
    if workers is not None and workers < 1:
        raise UsbenchError(f"{workers} workers cannot prepare anything; use 1 or more")
    reader = open_reader(task, Path(root))
    present = reader.case_ids()
    wanted = _select(reader, present, case_ids)
    path = _store_folder(reader, settings, cache)
    use(path)
    code = preparation_code(task)
    redo = wanted if overwrite else stale_cases(reader, path, wanted, code, verify)
    detail(f"{path}: {len(wanted) - len(redo)} of {count(wanted, 'case')} are prepared already")
    if redo or _gone(path, present):
        waiting = f"{path}: another process is preparing this data; waiting for it"
        with locked(path / ".lock", waiting):
            _sweep(path)
            for folder in _gone(path, present):
                shutil.rmtree(folder)
            if not overwrite and not verify:
                redo = stale_cases(reader, path, redo, code)  # perhaps the other process prepared them
            _write_index(path, task, settings, reader.root)
            try:
                _prepare_all(reader, Path(root), settings, path, redo, workers, code)
            finally:
                _sweep(path)
    return _open(reader, settings, path, wanted)


def find_prepared(
    task: Task, root: Path, settings: DataSettings, case_ids: Sequence[str] | None = None
) -> Store | None:
    """The store that `prepare` would give, or None where a case of it is still to be prepared.

    Nothing is written but that this process uses it.
    """
    reader = open_reader(task, Path(root))
    wanted = _select(reader, reader.case_ids(), case_ids)
    path = _store_folder(reader, settings, None)
    stale = stale_cases(reader, path, wanted, preparation_code(task), remember=False)
    if stale:
        return None
    use(path)
    return _open(reader, settings, path, wanted)


def _store_folder(reader: Reader, settings: DataSettings, cache: Path | None) -> Path:
    return Path(cache or cache_dir() / "prepared") / f"{reader.task.name}-{_key(reader, settings)}"


def _open(reader: Reader, settings: DataSettings, path: Path, wanted: Sequence[str]) -> Store:
    task = reader.task
    metas = {case_id: read_meta(case_folder(path, case_id)) for case_id in wanted}
    contents, seals, voxels = {}, {}, 0
    for case_id, meta in metas.items():
        if meta is None:
            raise changed(case_folder(path, case_id) / "meta.json", path)
        contents[case_id], seals[case_id] = meta["content"], meta["seal"]
        voxels += meta["truth_voxels"]
    if not voxels:
        raise UsbenchError(
            f"{reader.root}: none of the {count(wanted, 'case')} of {task.name} has a voxel of "
            f"{', '.join(task.class_names)}; check the labels of the masks against the task"
        )
    return Store(path, task, settings, contents, seals=seals)


def _select(reader: Reader, present: Sequence[str], case_ids: Sequence[str] | None) -> list[str]:
    if case_ids is None:
        return list(present)
    for case_id in case_ids:
        if case_id not in present:
            remedy = f"{reader.root} holds {count(present, 'case')}"
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
    # The code of a plugin's reader decides what is in a case; that of usbench is in the notes of each case.
    if (code := reader_code(task)) is not None:
        key["reader"] = code
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
    write_json(path / "index.json", index, durable=False)


def _gone(path: Path, present: Sequence[str]) -> list[Path]:
    """Folders of prepared cases that the data no longer has."""
    folder = path / "cases"
    if not folder.is_dir():
        return []
    return [f for f in folder.iterdir() if not f.name.startswith(".") and f.name not in set(present)]


def _sweep(path: Path) -> None:
    """Remove what a killed preparation left half-written; only under the lock."""
    for leftover in (path / "cases").glob(".*.part*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _prepare_all(
    reader: Reader,
    root: Path,
    settings: DataSettings,
    path: Path,
    redo: Sequence[str],
    workers: int | None,
    code: str,
) -> None:
    if not redo:
        return
    processes = min(workers or usable_cores(), len(redo))
    words = f"{reader.task.name}: preparing"
    if processes == 1:
        for case_id in track(redo, words, total=len(redo)):
            _prepare_case(reader, settings, path, case_id, code)
    else:
        jobs = [(reader.task, root, settings, path, case_id, code) for case_id in redo]
        for _ in track(run_jobs(_prepare_in_worker, jobs, processes), words, total=len(redo)):
            pass


_readers: dict[tuple[Task, Path], Reader] = {}


def _prepare_in_worker(
    task: Task, root: Path, settings: DataSettings, path: Path, case_id: str, code: str
) -> None:
    if (task, root) not in _readers:
        _readers[task, root] = open_reader(task, root)
    _prepare_case(_readers[task, root], settings, path, case_id, code)


def _prepare_case(reader: Reader, settings: DataSettings, path: Path, case_id: str, code: str) -> None:
    raw, recipe = RawFiles(reader, case_id), recipe_of(reader, case_id)
    case = reader.read(case_id)
    signs = raw.signs()
    _check(reader.task, case)
    arrays = prepare_arrays(case, settings, reader.task.modality_names)
    with atomic_folder(case_folder(path, case_id)) as folder:
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
            "raw": raw.digests,
            "recipe": recipe,
            "code": code,
            "files": {name: _save(folder / name, array) for name, array in zip(ARRAYS, stored, strict=True)},
            "content": _content(case),
        }
        seal = write_meta(folder, meta)
        written = {name: sign_of(folder / name, device=False) for name in ARRAYS}
        write_signs(folder, seal, Signs(signs, written))


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
    """SHA-256 of a raw case: shape, images as float32, mask, affine; in Fortran order, as in NIfTI.

    The version of the preparation is part of it where that is not 1. Version 1 is left out, so that results
    from before there were versions keep their fingerprint, their cell and their place beside others. A later
    one makes other arrays of the same files: fingerprint, cells and stored features are then others.
    """
    digest = hashlib.sha256(repr(case.images.shape).encode())
    for volume in (*case.images, case.mask):
        digest.update(np.ascontiguousarray(volume.T).data)
    # A header's affine differs in its last digits with the form it is stored in.
    digest.update((np.round(np.asarray(case.affine, dtype=np.float64), 4) + 0.0).tobytes())
    if PREPARATION != 1:
        digest.update(f"preparation {PREPARATION}".encode())
    return digest.hexdigest()


def _save(file: Path, array: np.ndarray) -> dict[str, Any]:
    size, digest = write_slices(file, array)
    return {"bytes": size, "sha256": digest}
