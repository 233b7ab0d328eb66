"""Folders of arrays that are written whole, verified by their digests, and memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usbench.errors import UsbenchError
from usbench.storage.files import atomic_folder, read_json, write_json

# Files that this process has verified, with their time of change then.
_verified: dict[Path, int] = {}


def save_arrays(place: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write a folder of arrays: NAME.npy for each, and meta.json.

    Args:
        place: The folder.
        arrays: By name, of any shape.
        meta: What meta.json holds besides the digests of the arrays.

    Raises:
        UsbenchError: Naming `place` where the disk is full; nothing half-written stays.
    """
    with atomic_folder(place) as temporary:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        digests = {name: _digest(array) for name, array in arrays.items()}
        write_json(temporary / "meta.json", {**meta, "sha256": digests})


def load_arrays(place: Path, names: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Read a folder that `save_arrays` wrote.

    Args:
        place: The folder.
        names: Of the arrays.

    Returns:
        The arrays by name (of any shape), memory-mapped, and the meta data; None where the folder or one of
        its files is absent or damaged.
    """
    files = {name: place / f"{name}.npy" for name in names}
    if not all(file.is_file() for file in (*files.values(), place / "meta.json")):
        return None
    try:
        meta = read_json(place / "meta.json", "the notes of stored arrays", "remove it")
        arrays = {}
        for name, file in files.items():
            array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
            stamp = file.stat().st_mtime_ns
            if _verified.get(file) != stamp:
                if _digest(array) != meta["sha256"][name]:
                    return None
                _verified[file] = stamp
            arrays[name] = array
        return arrays, meta
    except (OSError, ValueError, KeyError, TypeError, UsbenchError):
        return None


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
