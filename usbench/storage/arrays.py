"""Folders of arrays that are written whole, verified by their digests, and memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usbench.runtime.console import say
from usbench.storage.files import atomic_folder, sha256_file
from usbench.storage.sealed import SEAL, read_sealed, write_sealed
from usbench.storage.texts import read_json

LAYOUT = 2
"""Version of meta.json; version 1 had digests of the values alone, and is still read."""

# Files that this process has verified, with their time of change then.
_verified: dict[Path, int] = {}


def save_arrays(place: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write a folder of arrays: NAME.npy for each, and meta.json with the digests of all files and its own.

    Args:
        place: The folder.
        arrays: By name, of any shape.
        meta: What meta.json holds besides the digests.

    Raises:
        UsbenchError: Naming `place` where the disk is full; nothing half-written stays.
    """
    with atomic_folder(place) as temporary:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        digests = {name: sha256_file(temporary / f"{name}.npy") for name in arrays}
        write_sealed(temporary / "meta.json", {**meta, "layout": LAYOUT, "files": digests}, durable=False)


def load_arrays(place: Path, names: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Read a folder that `save_arrays` wrote, once its files are known to be what was written.

    Args:
        place: The folder.
        names: Of the arrays.

    Returns:
        The arrays by name (of any shape), memory-mapped, and the meta data; None where the folder is absent,
        or one of its files is damaged, which is said.
    """
    files = {name: place / f"{name}.npy" for name in names}
    if not place.is_dir():
        return None
    try:
        meta = _read_meta(place / "meta.json")
        arrays = {}
        for name, file in files.items():
            arrays[name] = _checked(file, name, meta)
        return arrays, meta
    except Exception as error:  # Notes and headers of layout 1 may hold anything.
        words = " ".join(str(error).split())
        say(f"{place}: not what was written ({words}); it is made again")
        return None


def _read_meta(file: Path) -> dict[str, Any]:
    """The notes. Those of layout 1 had no seal: they have none of the two keys that later ones have."""
    found = read_json(file, "the notes of stored arrays", "remove it")
    if isinstance(found, dict) and not {"layout", SEAL, "files"} & set(found) and "sha256" in found:
        return found
    meta = read_sealed(file, "the notes of stored arrays", "remove it")
    if meta.get("layout") != LAYOUT:
        raise ValueError(f"layout {meta.get('layout')}, this usbench reads {LAYOUT}")
    return meta


def _checked(file: Path, name: str, meta: Mapping[str, Any]) -> np.ndarray:
    stamp = file.stat().st_mtime_ns
    fresh = _verified.get(file) != stamp
    # Before it is opened: NumPy evaluates the header, and stumbles over a damaged one in its own ways.
    if fresh and "files" in meta and sha256_file(file) != meta["files"][name]:
        raise ValueError(f"the digest of {file.name} does not fit")
    array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    if fresh and "files" not in meta and _digest(array) != meta["sha256"][name]:
        raise ValueError(f"the digest of {file.name} does not fit")
    _verified[file] = stamp
    return array


def _digest(array: np.ndarray) -> str:
    """Of the values alone, as layout 1 had it."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
