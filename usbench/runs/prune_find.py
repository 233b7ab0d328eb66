"""Which folders are runs of usbench, finished or not, and what is known of them; for `usbench prune`."""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.results.io import LOG, LOGS
from usbench.results.network_file import NETWORK
from usbench.results.running import PROGRESS
from usbench.runs.lock import LOCK
from usbench.storage.files import at_home
from usbench.storage.regular import read_text
from usbench.storage.texts import parse_json

_NAME = re.compile(r"(\d+)-(\d+)-([0-9a-f]{10})")
"""The name of a run's folder: fold, seed, and the first digits of the digest."""

_REST = re.compile(r"\.\d+-\d+-[0-9a-f]{10}\.pruned")
_START = re.compile(r"\S+ start: (.+) fold (\d+) seed (\d+), cell ([0-9a-f]+)")
"""The first line of a run's log."""

_OF_A_RUN = (
    *(LOCK, PROGRESS, LOG, LOGS, NETWORK),
    *("checkpoint.pt", "history.csv", "cases.csv", "notes.json", "predictions", "figures"),
)
"""What lies in the folder of a run before its result is written."""


@dataclass(frozen=True)
class FoundRun:
    """The folder of a run.

    Attributes:
        folder: where it is.
        finished: whether it has a result.
        seconds: when it was finished, or last written to, in seconds since 1970.
        files: the files that its result names; empty where it has none.
        task: name of the task; "" where an unfinished run does not say it, as for the other two.
        method: name of the method.
        fusion: name of the fusion.
    """

    folder: Path
    finished: bool
    seconds: float
    files: frozenset[str] = frozenset()
    task: str = ""
    method: str = ""
    fusion: str = ""


def find_runs(paths: Sequence[Path], left: list[str]) -> tuple[list[FoundRun], list[Path]]:
    """The runs below some folders, each once; links inside them are not followed.

    Args:
        paths: the folders.
        left: gets a line for each folder that looks like a run and is not taken for one, with the reason.

    Returns:
        The runs, and folders that a killed prune had put aside.

    Raises:
        UsbenchError: where a path is no folder.
    """
    runs: dict[Path, FoundRun] = {}
    rests: dict[Path, Path] = {}
    for given in paths:
        path = at_home(given)
        if not path.is_dir():
            raise UsbenchError(f"{path}: is no folder; name a folder of runs, such as runs")
        for folder in _folders(path, left):
            real = folder.resolve()
            if real in runs or real in rests:
                continue
            if _REST.fullmatch(real.name):
                rests[real] = folder
            elif (folder / "result.json").is_file():
                if (run := _finished(folder, left)) is not None:
                    runs[real] = run
            elif (found := _unfinished(folder, real.name, left)) is not None:
                runs[real] = found
    return sorted(runs.values(), key=lambda run: run.folder), sorted(rests.values())


def _folders(path: Path, left: list[str]) -> Iterator[Path]:
    """Folders that may be runs. What lies within them is not looked at."""

    def on_error(error: OSError) -> None:
        left.append(f"{error.filename}: cannot be read ({error.strerror}); left alone")

    for name, below, files in os.walk(path, onerror=on_error):
        folder = Path(name)
        last = folder.name or folder.resolve().name
        if "result.json" in files or _NAME.fullmatch(last) or _REST.fullmatch(last):
            below.clear()
            yield folder
        below.sort()


def _finished(folder: Path, left: list[str]) -> FoundRun | None:
    """The run whose result lies in the folder; an edited or older result is one, too."""
    try:
        data = parse_json(read_text(folder / "result.json"))
        cell = {name: str(data["cell"][name]) for name in ("task", "method", "fusion")}
        files = frozenset(map(str, data["files"]))
        return FoundRun(folder, True, _when(data, folder), files, **cell) if data["schema"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        left.append(f"{folder}: its result.json is no result of usbench; left alone")
        return None


def _when(data: dict[str, Any], folder: Path) -> float:
    """When a run was finished, as it says itself: times of files change when they are copied."""
    try:
        return calendar.timegm(time.strptime(data["provenance"]["finished"], "%Y-%m-%dT%H:%M:%SZ"))
    except (KeyError, TypeError, ValueError):
        return (folder / "result.json").stat().st_mtime


def _unfinished(folder: Path, name: str, left: list[str]) -> FoundRun | None:
    """A run without a result: all that is in its folder is of usbench, and its log fits its name."""
    entries = sorted(entry.name for entry in folder.iterdir())
    others = [entry for entry in entries if entry not in _OF_A_RUN and not _is_half_written(entry)]
    if others:
        left.append(f"{folder}: holds {others[0]}, which no unfinished run does; left alone")
        return None
    seconds = (newest(folder) or folder.stat().st_mtime_ns) / 1e9
    if all(entry in (LOCK, PROGRESS) or _is_half_written(entry) for entry in entries):
        return FoundRun(folder, False, seconds)
    facts = facts_of_unfinished(folder, name)
    if facts is None:
        left.append(f"{folder}: has no {LOG} that says which cell it is of; left alone")
        return None
    return FoundRun(folder, False, seconds, frozenset(), *facts)


def _is_half_written(entry: str) -> bool:
    return entry.startswith(".") and ".part" in entry


def facts_of_unfinished(folder: Path, name: str) -> tuple[str, str, str] | None:
    """Task, method and fusion of an unfinished run, by its log and its folder; None where they do not fit.

    Args:
        folder: of the run.
        name: what the folder is called: fold, seed and digest.
    """
    try:
        with open(folder / LOG, encoding="utf-8", errors="replace") as stream:
            start = _START.match(stream.readline())
    except OSError:
        return None
    parts = _NAME.fullmatch(name)
    if start is None or parts is None:
        return None
    title, fold, seed, digest = start.groups()
    if (fold, seed) != parts.group(1, 2) or not digest.startswith(parts.group(3)):
        return None
    # The log has "TASK METHOD FUSION", the folder METHOD-FUSION: they differ where method and fusion meet.
    pair = folder.resolve().parent.name
    for i, letter in enumerate(pair):
        method, fusion = pair[:i], pair[i + 1 :]
        if letter == "-" and title.endswith(f" {method} {fusion}"):
            return title.removesuffix(f" {method} {fusion}"), method, fusion
    return None


def aside(folder: Path) -> Path:
    """Where a folder is moved before it is emptied: beside it, under a name that nothing else has."""
    return folder.parent / f".{folder.name}.pruned"


def newest(path: Path) -> int:
    """When a file, or the newest file in a folder, was last written to, in nanoseconds, but for locks."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_mtime_ns
    last = 0
    for file in path.rglob("*"):
        if file.name != LOCK and not file.is_dir():
            with suppress(FileNotFoundError):  # Of a run that is being computed.
                last = max(last, file.lstat().st_mtime_ns)
    return last


def folder_bytes(path: Path) -> int:
    """The bytes of a file, or of all files in a folder; of a link its own."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    total = 0
    for file in path.rglob("*"):
        if file.is_symlink() or file.is_file():
            with suppress(FileNotFoundError):
                total += file.lstat().st_size
    return total
