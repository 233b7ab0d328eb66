"""What lies in the cache folder: an entry for each thing that can be cleared by itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from usbench.errors import unknown
from usbench.storage.files import cache_dir
from usbench.storage.in_use import mark_of
from usbench.weights.store import weights_dir

KINDS = {
    "prepared": "data sets as slices; made again by the next run",
    "phantoms": "digital patients; made again in seconds",
    "features": "what frozen parts say of each slice; computed again, which may take hours",
    "views": "augmented slices for features; made again",
    "converted": "language models read from GGUF files; converted again",
    "instructions": "texts of language models; written again",
    "weights": "pretrained weights; fetched again, or by hand",
    "other": "what this version of usbench does not know",
}
"""The kinds of entries, in words."""

ANEW = ("prepared", "phantoms", "features", "views", "converted")
"""What is made again by itself, without a network."""

_FILES = {"instructions.sqlite": "instructions"}


@dataclass(frozen=True)
class Entry:
    """One thing in the cache.

    Attributes:
        kind: One of `KINDS`.
        path: The folder or file.
        task: The task that it belongs to, or "" where that is not known.
        bytes: What it takes on disk, as the sum of its files.
        used: When it was last used, in seconds since 1970; where nobody noted that, when it was last written.
    """

    kind: str
    path: Path
    task: str
    bytes: int
    used: float


def contents(
    kinds: tuple[str, ...] = (), task: tuple[str, ...] | None = None, known: bool = False
) -> list[Entry]:
    """What lies in the cache folder, in the order of `KINDS` and of names.

    Args:
        kinds: Of these kinds alone; all where none is named.
        task: Of these tasks alone.
        known: Whether a task is refused of which nothing lies there.

    Raises:
        UsbenchError: For a kind that there is not, and for a task as `known` says.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("part of the cache", kind, KINDS)
    found = [entry for entry in _all() if not kinds or entry.kind in kinds]
    tasks = {entry.task for entry in found} - {""}
    for name in task or ():
        if known and name not in tasks:
            raise unknown("task in the cache", name, tasks)
    return [entry for entry in found if task is None or entry.task in task]


def _all() -> list[Entry]:
    root, weights = cache_dir(), weights_dir()
    entries: list[Entry] = []
    for place in _visible(root):
        if place.resolve() == weights.resolve():
            continue
        if place.name in KINDS and place.is_dir() and not place.is_symlink():
            entries += [_entry(place.name, inner) for inner in _visible(place)]
        else:
            entries.append(_entry(_FILES.get(place.name, "other"), place))
    entries += [_entry("weights", place) for place in _visible(weights)]
    order = list(KINDS)
    return sorted(entries, key=lambda entry: (order.index(entry.kind), entry.path))


def _visible(folder: Path) -> list[Path]:
    """What a folder holds but hidden files: those are locks, marks and what is being written."""
    try:
        return sorted(place for place in folder.iterdir() if not place.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _entry(kind: str, place: Path) -> Entry:
    size, newest = 0, 0.0
    for file in _files(place):
        try:
            state = file.lstat()
        except OSError:  # Another process removes it meanwhile.
            continue
        size, newest = size + state.st_size, max(newest, state.st_mtime)
    try:
        used = max(newest, mark_of(place).stat().st_mtime)
    except OSError:
        used = newest
    return Entry(kind, place, _task_of(kind, place), size, used)


def _files(place: Path) -> Iterator[Path]:
    """The files of a folder; a link is not followed."""
    if place.is_symlink() or not place.is_dir():
        yield place
        return
    for folder, _, names in os.walk(place):
        for name in names:
            yield Path(folder) / name


def _task_of(kind: str, place: Path) -> str:
    if kind == "prepared":
        try:
            name = json.loads((place / "index.json").read_text(encoding="utf-8"))["task"]
        except (OSError, ValueError, KeyError, TypeError):
            name = place.name.rpartition("-")[0]
        return str(name)
    if kind == "phantoms":
        # NAME-VERSION, or NAME-scannerN-VERSION.
        return place.name.rpartition("-")[0].removesuffix("-scanner2")
    return ""
