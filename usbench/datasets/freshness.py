"""Which prepared cases can be used again, and which have to be prepared anew.

A case is used again only if all that it depends on is unchanged: what its raw files hold, what the reader
takes from where, the code of the reader and of the preparation, and its own files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usbench.contracts.data import Reader, Task
from usbench.contracts.problem import DataError, DataProblem
from usbench.datasets import preprocess, voxel_grid
from usbench.datasets.notes import (
    Sign,
    Signs,
    case_folder,
    damaged,
    raw_names,
    read_meta,
    read_signs,
    settled,
    sign_of,
    write_signs,
)
from usbench.datasets.readers.layouts import layout_of
from usbench.errors import UsbenchError
from usbench.plugins.code_hash import module_of, of_usbench, source_files
from usbench.plugins.code_sense import consists_of, sense_hash
from usbench.runtime.console import say, track
from usbench.storage.files import os_errors, sha256_file

# What decides the values of a case lies in this room, but for the order of names.
_FOLLOWED = ("usbench.datasets.", "usbench.contracts.names", "usbench.contracts.classes")


def preparation_code(task: Task) -> str:
    """The digest of the code of usbench that decides what is in a prepared case of a task.

    That of the preparation, of the reader where it is one of usbench, and of what both import of this room;
    comments, docstrings and formatting do not count. The code of a plugin's reader is in the name of the
    store's folder (`reader_code`).
    """
    read = layout_of(task).open
    modules = [preprocess.__name__, voxel_grid.__name__]
    if of_usbench(read):
        modules.append(module_of(read))
    return sense_hash(consists_of(modules, _FOLLOWED))


def reader_code(task: Task) -> str | None:
    """The digest of the code of a plugin's reader; None for a reader of usbench."""
    read = layout_of(task).open
    return None if of_usbench(read) else sense_hash(source_files(module_of(read)))


def recipe_of(reader: Reader, case_id: str) -> Any:
    """What the reader takes from where, as it is read back from JSON.

    Raises:
        UsbenchError: for what JSON cannot hold.
    """
    recipe = reader.recipe(case_id)
    try:
        return json.loads(json.dumps(recipe, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsbenchError(
            f"task {reader.task.name}: its reader gives a recipe of case {case_id} that JSON cannot hold "
            f"({error}); give numbers, texts, lists and dictionaries"
        ) from error


class RawFiles:
    """The raw files of a case while it is read: their digests, and whether they stayed as they were."""

    def __init__(self, reader: Reader, case_id: str) -> None:
        """Raises `UsbenchError` where a file is absent or cannot be read."""
        self._case_id = case_id
        self._files = raw_names(list(reader.files(case_id)), reader.root)
        self._signs = self._look()
        self.digests = {name: _digest(file) for name, file in self._files.items()}

    def _look(self) -> dict[str, Sign]:
        return {name: sign_of(file, device=True) for name, file in self._files.items()}

    def signs(self) -> dict[str, Sign]:
        """The signs by which the files can be known later, once they have been read.

        Raises:
            DataError: where a file was changed meanwhile.
        """
        now = self._look()
        for name, sign in self._signs.items():
            if now[name] != sign:
                what = "the file was changed while it was being read"
                remedy = "wait until it is written, and prepare again"
                raise DataError(DataProblem(self._case_id, self._files[name], what, remedy))
        return {name: sign for name, sign in now.items() if settled(sign)}


def stale_cases(
    reader: Reader, path: Path, wanted: Sequence[str], code: str, verify: bool = False, remember: bool = True
) -> list[str]:
    """The wanted cases that are to be prepared, since they never were or since something has changed.

    A raw file with the signs by which it is known is not read. Any other is read: with the same digest it is
    the same file, and its new signs are remembered.

    Args:
        reader: Of the data.
        path: The store.
        wanted: The cases.
        code: What `preparation_code` gives.
        verify: Read all raw and prepared files, whatever their signs; what is damaged is said.
        remember: Write down new signs.
    """
    stale, unsure = [], []
    for case_id in wanted:
        folder = case_folder(path, case_id)
        meta = read_meta(folder)
        if meta is None and (folder / "meta.json").exists():
            say(f"{folder / 'meta.json'}: not what was written; case {case_id} is prepared again")
        if meta is None or meta["code"] != code or meta["recipe"] != recipe_of(reader, case_id):
            stale.append(case_id)
            continue
        files = raw_names(list(reader.files(case_id)), reader.root)
        if list(files) != list(meta["raw"]):
            stale.append(case_id)
            continue
        # Files that show no sign of a change are not read.
        if not verify and (broken := damaged(folder, meta, remember=remember)) is not None:
            say(f"{broken}: not what was written; case {case_id} is prepared again")
            stale.append(case_id)
            continue
        signs = read_signs(folder, meta["seal"]).raw
        if verify or any(signs.get(name) != sign_of(file, device=True) for name, file in files.items()):
            unsure.append((case_id, folder, meta, files))
    words = f"{reader.task.name}: {'verifying' if verify else 'reading files that were touched'}"
    for case_id, folder, meta, files in track(unsure, words, total=len(unsure)) if unsure else ():
        broken = damaged(folder, meta, again=True) if verify else None
        if broken is not None:
            say(f"{broken}: not what was written; case {case_id} is prepared again")
        if broken is not None or not _same(folder, meta, files, remember):
            stale.append(case_id)
    order = {case_id: number for number, case_id in enumerate(wanted)}
    return sorted(stale, key=order.__getitem__)


def _same(folder: Path, meta: dict[str, Any], files: dict[str, Path], remember: bool) -> bool:
    """Whether raw files hold what they held when the case was prepared; they are read for it."""
    found: dict[str, Sign] = {}
    for name, file in files.items():
        sign = sign_of(file, device=True)
        if _digest(file) != meta["raw"][name]:
            return False
        # A file that changes meanwhile has other signs by then, and is read once more.
        if settled(sign):
            found[name] = sign
    if remember and found:
        write_signs(folder, meta["seal"], Signs(found, read_signs(folder, meta["seal"]).prepared))
    return True


def _digest(file: Path) -> str:
    with os_errors(file, "read"):
        return sha256_file(file)
