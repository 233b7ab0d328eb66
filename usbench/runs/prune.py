"""`usbench prune`: what runs need no more is removed by rule; results, tables, logs and masks never are."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from usbench.contracts.pruning import Rules
from usbench.errors import UsbenchError, unknown
from usbench.runs.lock import LOCK, CellBusy, is_busy, locked_cell
from usbench.runs.prune_find import FoundRun, aside, find_runs, folder_bytes, newest
from usbench.runtime.console import track
from usbench.storage.files import locked, os_errors


@dataclass(frozen=True)
class Removal:
    """One file or folder that is to be removed.

    Attributes:
        run: the folder of the run.
        path: the file or folder.
        what: "network", "checkpoint", "half-written file", "unfinished cell", "masks of a track", or "rest of
            a prune" that was killed.
        bytes: what it takes.
        written: when it was last written to, in nanoseconds; one that was written to since stays.
    """

    run: Path
    path: Path
    what: str
    bytes: int
    written: int


@dataclass
class Pruning:
    """What `usbench prune` found, and removed.

    Attributes:
        found: what the rules name.
        left: what was left alone, with the reason, a line each.
        removed: what was removed.
        failed: what could not be removed, with the reason, a line each.
        runs: how many runs were looked at.
    """

    found: list[Removal] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    removed: list[Removal] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    runs: int = 0

    @property
    def bytes(self) -> int:
        """Of all that was found."""
        return sum(one.bytes for one in self.found)


def prune(
    paths: str | Path | Sequence[str | Path],
    *,
    networks: bool = False,
    checkpoints: bool = False,
    unfinished: bool = False,
    tracks_masks: bool = False,
    older_than: float | None = None,
    task: str | Sequence[str] | None = None,
    method: str | Sequence[str] | None = None,
    fusion: str | Sequence[str] | None = None,
    yes: bool = False,
) -> Pruning:
    """Remove what finished cells need no more, or cells that were never finished.

    `result.json`, `cases.csv`, `history.csv`, logs, figures and the masks of finished cells are never
    removed. A cell that another process computes is left alone. At least one rule must be named.

    Args:
        paths: folders of runs, of a task, or of single runs.
        networks: remove the trained networks of finished cells; scores and tables stay as they are.
        checkpoints: remove checkpoints beside a finished result, and half-written files.
        unfinished: remove whole folders of cells that are not finished.
        tracks_masks: remove the masks of finished tracks.
        older_than: only of runs that were finished, or last written to, more than so many days ago.
        task: only of these tasks.
        method: only of these methods.
        fusion: only of these fusions.
        yes: remove; without it nothing is removed, and what would be is given back.

    Returns:
        What was found and what was removed.

    Raises:
        UsbenchError: where no rule is named, a path is no folder, or a name is that of no run there.
    """
    rules = Rules(networks, checkpoints, unfinished, tracks_masks, older_than, task, method, fusion)  # type: ignore[arg-type]
    pruning = find(paths, rules)
    return remove(pruning) if yes else pruning


def find(paths: str | Path | Sequence[str | Path], rules: Rules) -> Pruning:
    """What the rules would remove below some folders; nothing is removed.

    Raises:
        UsbenchError: where a path is no folder, or a name of the rules is that of no run there.
    """
    several = [paths] if isinstance(paths, str | Path) else paths
    pruning = Pruning()
    runs, rests = find_runs([Path(path) for path in several], pruning.left)
    _require_known(runs, rules)
    pruning.runs = len(runs)
    for run in runs:
        if not _chosen(run, rules):
            continue
        found = list(_of_finished(run, rules) if run.finished else _of_unfinished(run, rules))
        if found and is_busy(run.folder):
            pruning.left.append(f"{run.folder}: another process is computing this cell; left alone")
        else:
            pruning.found += found
    if rules.unfinished:
        pruning.found += [_removal(rest.parent, rest, "rest of a prune") for rest in rests]
    return pruning


def remove(pruning: Pruning) -> Pruning:
    """Remove what was found. What became busy, or was written to, since then is left alone and named.

    A folder is moved aside before it is emptied: whenever this is killed, a run is whole or gone, and the
    next prune removes what lies aside.
    """
    for one in track(pruning.found, "removing", len(pruning.found)):
        try:
            with os_errors(one.path, "remove"):
                why = _remove(one)
        except CellBusy:
            why = "another process is computing this cell"
        except UsbenchError as error:
            pruning.failed.append(str(error))
            continue
        if why:
            pruning.left.append(f"{one.path}: {why}; left alone")
        else:
            pruning.removed.append(one)
    return pruning


def _require_known(runs: Sequence[FoundRun], rules: Rules) -> None:
    for name in ("task", "method", "fusion"):
        known = sorted({getattr(run, name) for run in runs} - {""})
        for asked in getattr(rules, name) or ():
            if asked not in known:
                raise unknown(f"{name} of these runs", asked, known)


def _chosen(run: FoundRun, rules: Rules) -> bool:
    """Whether a run is of the tasks, methods, fusions and age that the rules name."""
    for name in ("task", "method", "fusion"):
        asked = getattr(rules, name)
        if asked is not None and getattr(run, name) not in asked:
            return False
    return rules.older_than is None or time.time() - run.seconds > rules.older_than * 86400


def _of_finished(run: FoundRun, rules: Rules) -> Iterable[Removal]:
    """What the rules remove of a finished run."""
    from usbench.results.network_file import NETWORKS
    from usbench.results.tracks import MASKS, track_folders

    folder = run.folder
    if rules.networks:
        for name in NETWORKS:
            if name in run.files and _is_own(folder / name):
                yield _removal(folder, folder / name, "network")
    if rules.checkpoints:
        if _is_own(folder / "checkpoint.pt"):
            yield _removal(folder, folder / "checkpoint.pt", "checkpoint")
        yield from _half_written(folder)
    if rules.tracks_masks:
        for of_track in track_folders(folder):
            if of_track.is_symlink() or of_track.parent.is_symlink():
                continue
            if (of_track / MASKS).is_dir() and not (of_track / MASKS).is_symlink():
                yield _removal(folder, of_track / MASKS, "masks of a track")
            if aside(of_track / MASKS).is_dir():
                yield _removal(folder, aside(of_track / MASKS), "rest of a prune")


def _of_unfinished(run: FoundRun, rules: Rules) -> Iterable[Removal]:
    """What the rules remove of a run without a result."""
    if rules.unfinished:
        yield _removal(run.folder, run.folder, "unfinished cell")
    elif rules.checkpoints:
        yield from _half_written(run.folder)


def _half_written(folder: Path) -> Iterable[Removal]:
    for path in sorted(folder.rglob(".*.part*")):
        if _is_own(path):
            yield _removal(folder, path, "half-written file")


def _is_own(path: Path) -> bool:
    """Whether a path is a file and no link to one."""
    return path.is_file() and not path.is_symlink()


def _removal(run: Path, path: Path, what: str) -> Removal:
    return Removal(run, path, what, folder_bytes(path), newest(path))


def _remove(one: Removal) -> str:
    """Remove one file or folder; the words say why it stays, "" where it is gone."""
    if one.what == "rest of a prune":
        return _empty(one.path)
    if not one.path.exists():
        return "it is not there any more"
    if one.what == "unfinished cell":
        return _remove_cell(one)
    with locked_cell(one.run):
        if newest(one.path) != one.written:
            return "it was written to since it was listed"
        if one.path.is_file():
            with os_errors(one.path, "remove"):
                one.path.unlink()
            return ""
        busy = CellBusy(f"{one.path}: another process is writing to this track")
        with locked(one.path.parent / LOCK, busy=busy, remove=True):
            rest = _put_aside(one.path)
    return _empty(rest)


def _remove_cell(one: Removal) -> str:
    """Remove the folder of an unfinished cell; its lock moves away with it."""
    run = one.run
    with locked_cell(run, remove=False):
        why = ""
        if (run / "result.json").exists():
            why = "it was finished since it was listed"
        elif newest(run) != one.written:
            why = "it was written to since it was listed"
        if why:
            (run / LOCK).unlink(missing_ok=True)
            return why
        try:
            rest = _put_aside(run)
        except UsbenchError:
            (run / LOCK).unlink(missing_ok=True)
            raise
    return _empty(rest)


def _put_aside(folder: Path) -> Path:
    rest = aside(folder)
    if rest.exists():
        _empty(rest)
    with os_errors(folder, "remove"):
        os.replace(folder, rest)
    return rest


def _empty(folder: Path) -> str:
    with os_errors(folder, "remove"):
        if folder.exists():
            shutil.rmtree(folder)
    return ""
