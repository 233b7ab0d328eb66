"""What a prepared store knows of a case: what it was made from and how, and that its files are whole.

Two files lie beside the arrays of a case. `meta.json` is written with them and never again; a digest of its
own seals it. `signs.json` says which files were found to be what `meta.json` says, and by which signs they
are known to be the same ever since: it may be lost, and the files are then read once more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.storage.files import digest_of, os_errors, sha256_file, write_json
from usbench.storage.texts import read_json

# Raise it when a store is laid out differently: older stores are then left alone.
STORE_VERSION = 2
IMAGES, MASK, TRUTH = "images.slices", "mask.slices", "truth.slices"
ARRAYS = (IMAGES, MASK, TRUTH)

Sign = list[int]
"""Size, time of change and time of change of the entry (ns), inode, and for raw files the device.

Whoever changes a file changes one of them: a new content of the same size and time has another inode, or a
new time of change of its entry, which nobody can set.
"""

# Clocks of file systems tick, some every two seconds: a younger file may still change under the same time.
_SETTLED_NS = 2_000_000_000


def sign_of(file: Path, device: bool) -> Sign:
    """The signs of a file; `UsbenchError` where it cannot be looked at."""
    with os_errors(file, "read"):
        state = file.stat()
    sign = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    return [*sign, state.st_dev] if device else sign


def settled(sign: Sign) -> bool:
    """Whether a file is old enough for a later change of it to show in its signs."""
    return sign[2] < time.time_ns() - _SETTLED_NS


@dataclass
class Signs:
    """By which signs files of a case are known, raw ones by their names in the data and prepared ones."""

    raw: dict[str, Sign] = field(default_factory=dict)
    prepared: dict[str, Sign] = field(default_factory=dict)


def case_folder(store: Path, case_id: str) -> Path:
    """Where a store keeps a case."""
    return store / "cases" / case_id


def changed(file: Path, store: Path) -> UsbenchError:
    """What to say of prepared data that is not what it was."""
    return UsbenchError(
        f"{file}: prepared data changed underneath; run 'usbench data prepare --verify', which prepares such "
        f"cases again, or delete {store}"
    )


def write_meta(folder: Path, meta: Mapping[str, Any]) -> str:
    """Write the notes on a case and give their seal."""
    seal = digest_of(meta)
    write_json(folder / "meta.json", {**meta, "seal": seal})
    return seal


def read_meta(folder: Path) -> dict[str, Any] | None:
    """The notes on a prepared case, with their "seal".

    Returns:
        None if they are missing, unreadable, edited or of another version of the store.
    """
    try:
        meta: dict[str, Any] = read_json(folder / "meta.json", "notes on a prepared case", "prepare it again")
        seal = meta.pop("seal")
    except (UsbenchError, AttributeError, KeyError, TypeError):
        return None
    if seal != digest_of(meta) or meta.get("version") != STORE_VERSION:
        return None
    return {**meta, "seal": seal}


def write_signs(folder: Path, seal: str, signs: Signs) -> None:
    """Remember by which signs the files of a case are known; no error where the store cannot be written."""
    with suppress(UsbenchError):
        write_json(folder / "signs.json", {"of": seal, "raw": signs.raw, "prepared": signs.prepared}, False)


def read_signs(folder: Path, seal: str) -> Signs:
    """What `write_signs` wrote of the case with this seal; empty where there is none or it is damaged."""
    try:
        found = read_json(folder / "signs.json", "the signs of a prepared case", "prepare it again")
        if found["of"] == seal:
            return Signs(dict(found["raw"]), dict(found["prepared"]))
    except (UsbenchError, KeyError, TypeError, ValueError):
        pass
    return Signs()


def damaged(folder: Path, meta: Mapping[str, Any], again: bool = False, remember: bool = True) -> Path | None:
    """The first array file of a prepared case that is not what was written; None if all are.

    A file with the signs by which it is known is not read. Others are read, and remembered if they are right.

    Args:
        folder: Of the case.
        meta: Its notes, as `read_meta` gives them.
        again: Read all of them.
        remember: Write down by which signs those that were read are known.
    """
    signs = read_signs(folder, meta["seal"])
    known = {} if again else dict(signs.prepared)
    for name in ARRAYS:
        file = folder / name
        try:
            sign = sign_of(file, device=False)
            if known.get(name) == sign:
                continue
            if sign[0] != meta["files"][name]["bytes"] or sha256_file(file) != meta["files"][name]["sha256"]:
                return file
        except (OSError, UsbenchError):
            return file
        known[name] = sign
    if remember and known != signs.prepared:
        write_signs(folder, meta["seal"], Signs(signs.raw, known))
    return None


def raw_names(files: list[Path], root: Path) -> dict[str, Path]:
    """Raw files by their names relative to the data, in the order of the reader."""
    base = os.path.abspath(root)
    below = base.rstrip(os.sep) + os.sep
    names = {}
    for file in files:
        path = os.path.abspath(file)
        # A DICOM series has hundreds of files, nearly always below the folder: `relpath` takes its time.
        name = path.removeprefix(below) if path.startswith(below) else os.path.relpath(path, base)
        names[name.replace(os.sep, "/")] = Path(file)
    return names
