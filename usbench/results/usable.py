"""Finding finished runs, and leaving out by name what cannot be trusted."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from usbench.errors import UsbenchError, reason_of
from usbench.results.digests import OF_ROWS, frame_of_result, volumes_of_result, without_later
from usbench.results.io import load_result, scores_of
from usbench.results.result import Result
from usbench.results.running import running
from usbench.results.tracks import FOLDER
from usbench.runtime.console import count, detail
from usbench.scores.registry import all_scores

EDGES = ("empty", "false", "penalised", "hd95_found")
"""What is counted of empty masks in a case: classes that the truth does not have; those of them that were
predicted; classes whose HD95 is a diagonal; and the mean HD95 over classes where both masks hold something.
"""

OF_CLASSES = ("dsc", "tp", "fp", "fn", "tn")
"""What is kept of each class of a case: its DSC, and counts of voxels."""

TRUTH, BRATS = "truth", "brats"
EMPTY = (TRUTH, BRATS)
"""Who decides what a class scores that the truth does not have: it is not scored for anybody; or as BraTS has
it, 1 where nothing is predicted either, and 0 else."""

_PERFECT = {"dsc": 1.0, "iou": 1.0, "nsd": 1.0, "hd95": 0.0}


@dataclass(frozen=True)
class LeftOut:
    """A folder that tables leave out, and why. As text it is one line."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Entry:
    """A submission that other people's runs come from. name: of the entry; verified: the day, or ""."""

    name: str
    verified: str


@dataclass(frozen=True)
class Run:
    """A finished run as the tables need it.

    data: its result.json. cases: the patients of its test fold. scores: [cases, scores], in the order
    of `usbench.scores.registry.all_scores`, the mean over the classes that have one, NaN where none has.
    edges: [cases, 4], in the order of `EDGES`. entry: the submission it comes from, None for a run of one's
    own. lacking: names of the scores that were added to usbench after it was computed. by_class: [cases,
    classes, 5], DSC as it is stored and the voxels of tp, fp, fn, tn. masks: digest of the voxels of each
    mask by case, where it is known. claimed: names of the costs that are the submitter's word alone.
    """

    path: Path
    data: dict[str, Any]
    cases: tuple[str, ...]
    scores: np.ndarray
    edges: np.ndarray
    entry: Entry | None = None
    lacking: frozenset[str] = frozenset()
    by_class: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 5)))
    masks: Mapping[str, str] | None = None
    claimed: frozenset[str] = frozenset()


def collect(runs_dir: Path, empty: str = TRUTH) -> tuple[list[Run], list[LeftOut]]:
    """The finished runs below `runs_dir`, in order of path, and what was left out.

    A run counts if `load_result` accepts it and its cases.csv holds every case of its test fold
    with every class. A cell that lies there twice counts once. Unfinished runs are listed too. `empty` is one
    of `EMPTY`.
    """
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    seen: dict[tuple[Any, ...], Path] = {}
    for folder, finished in run_folders(runs_dir):
        if not finished:
            now = running(folder)
            why = (
                f"is running: {now}" if now else "not finished; the same usbench run command goes on with it"
            )
            left_out.append(LeftOut(folder, why))
            continue
        try:
            result = load_result(folder)
            run = checked(result, empty)
            key = cell_key(run.data)
        except Exception as error:
            left_out.append(LeftOut(folder, reason_of(error).replace(f"{folder}{os.sep}", "")))
            continue
        if key in seen:
            left_out.append(LeftOut(folder, f"the same cell as {seen[key]}; remove one of the two"))
            continue
        seen[key] = folder
        runs.append(run)
    detail(f"{runs_dir}: {count(runs, 'finished run')} read, {len(left_out)} left out")
    return runs, left_out


def settings(data: dict[str, Any]) -> dict[str, Any]:
    """What makes a row of its own besides method and fusion: settings, code, version, devices."""
    method = data["method"]
    config = without_later(data["config"], data["cell"]["fusion"])
    flat = {f"{part}.{name}": v for part in ("method", "fusion") for name, v in config[part].items()}
    flat |= {f"train.{name}": v for name, v in config["train"].items() if f"train.{name}" in OF_ROWS}
    if "volume" in config:
        flat |= {f"{part}.{name}": v for part in ("train", "volume") for name, v in config[part].items()}
    # Built-in code changes with its own hash; the version of usbench around it does not count.
    flat["version"] = "" if method["origin"] == "built in" else str(method["version"])
    flat["code"] = str(method["source_hash"])[:10]
    flat["devices"] = data["cost"].get("devices", 1)
    fusion = data.get("fusion", {})
    if fusion.get("origin", "built in") != "built in":
        flat["fusion-code"] = str(fusion["source_hash"])[:10]
        flat["fusion-version"] = str(fusion["version"])
    return flat


def settings_key(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Settings as a key: equal for equal settings, whatever their order."""
    return tuple((name, repr(value)) for name, value in sorted(values.items()))


def table_key(data: dict[str, Any], protocol: str | None = None) -> tuple[Any, ...]:
    """What results must share to stand in one table; with another protocol than their own, if it is given."""
    return (
        data["cell"]["task"],
        data["data"]["kind"],
        data["data"]["fingerprint"],
        data["protocol"] if protocol is None else protocol,
        tuple(data["task"]["modalities"]),
        tuple(data["task"]["classes"]),
    )


def frame_key(data: dict[str, Any]) -> tuple[Any, ...]:
    """What a result must share with masks of other programs to stand in one table with them."""
    return table_key(data, frame_of_result(data))


def volumes_key(data: dict[str, Any]) -> tuple[Any, ...]:
    """What a network of volumes must share with another one to stand in one table with it."""
    return table_key(data, volumes_of_result(data))


def row_key(data: dict[str, Any]) -> tuple[Any, ...]:
    """What results must share to be averaged in one row of a table: all but fold and seed."""
    own = settings_key(settings(data))
    return data["cell"]["method"], data["cell"]["fusion"], str(data["method"]["weights"]), own


def cell_key(data: dict[str, Any]) -> tuple[Any, ...]:
    """The cell of a result; two results with one key are one cell."""
    return (*table_key(data), *row_key(data), int(data["cell"]["fold"]), int(data["cell"]["seed"]))


def run_folders(runs_dir: Path) -> list[tuple[Path, bool]]:
    """Every folder that holds a run, sorted, with whether it is finished.

    The folders of its tracks have a cases.csv too, and are no runs.
    """
    folders: dict[Path, bool] = {}
    for place, inner, files in os.walk(runs_dir):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if "result.json" in files:
            folders[Path(place)] = True
        elif "checkpoint.pt" in files or ("cases.csv" in files and Path(place).parent.name != FOLDER):
            folders[Path(place)] = False
        if Path(place) in folders and FOLDER in inner:
            inner.remove(FOLDER)
    return sorted(folders.items())


def named_runs(given: Sequence[str | Path], problems: list[str] | None = None) -> list[Path]:
    """The folders of the finished runs that a user names, in that order and each once.

    Args:
        given: Run folders, their result.json, or folders that hold runs.
        problems: Where a line is added for each that cannot be used, and the others are given; without it the
            first of them ends the call.

    Raises:
        UsbenchError: For a folder that is absent or holds no run, and for a run that is not finished.
    """
    reasons: list[str] = [] if problems is None else problems
    before = len(reasons)
    found: list[Path] = []
    for one in given:
        place = Path(one).expanduser()
        place = place.parent if place.name == "result.json" else place
        here = run_folders(place) if place.is_dir() else []
        if not here:
            what = (
                "holds no run (no result.json); give the folder of a finished usbench run"
                if place.is_dir()
                else "no such folder of runs; check the path"
            )
            reasons.append(f"{place}: {what}")
        for folder, finished in here:
            if not finished:
                now = running(folder)
                why = f"is running: {now}; wait for it" if now else ""
                why = why or "is not finished; the same usbench run command goes on with it"
                reasons.append(f"{folder}: {why}")
            elif not any(os.path.samefile(folder, other) for other in found):
                found.append(folder)
    if not found and len(reasons) == before:
        reasons.append("no run is named; give the folder of a finished usbench run")
    if problems is None and reasons:
        raise UsbenchError(reasons[0])
    return found


def newest_run(runs_dir: Path) -> Path:
    """The folder of the run below `runs_dir` that was finished last.

    Raises:
        UsbenchError: Where no run is finished there.
    """
    finished = [folder for folder, done in run_folders(runs_dir) if done]
    if not finished:
        what = "holds no finished run" if runs_dir.is_dir() else "no such folder of runs"
        raise UsbenchError(
            f"{runs_dir}: {what}; name a run, its --runs-dir, or compute one: usbench run --help"
        )
    return max(finished, key=lambda folder: ((folder / "result.json").stat().st_mtime_ns, folder))


def rows_of(rows: Sequence[Mapping[str, Any]], empty: str = TRUTH) -> list[dict[str, Any]]:
    """Rows of a cases.csv with the scores that tables count where the truth has nothing of a class.

    The truth alone decides which patients count: where a false positive were scored and its absence not, two
    rows would be compared without the very patients in whom they differ most.

    Args:
        rows: A mapping a case and class, with scores and counts.
        empty: One of `EMPTY`.

    Returns:
        As many rows; NaN for each score of a class that the truth does not have but for what is said of
        false positives, or under `BRATS` 1 for overlaps where nothing was predicted and what is stored else.
    """
    names = [score.name for score in all_scores() if not score.of_empty_truth]
    found = []
    for row in rows:
        if row["tp"] + row["fn"]:
            found.append(dict(row))
        elif empty == TRUTH:
            found.append({**row, **{name: math.nan for name in names if name in row}})
        else:
            perfect = _PERFECT if row["edge"] == "both-empty" else {}
            found.append({**row, **{name: value for name, value in perfect.items() if name in row}})
    return found


def _edges(rows: Sequence[Sequence[Mapping[str, Any]]]) -> np.ndarray:
    """The counts of `EDGES` of each case from its rows, a row a class."""
    found = np.full((len(rows), len(EDGES)), np.nan)
    for line, classes in zip(found, rows, strict=True):
        there = [row for row in classes if row["tp"] + row["fn"]]
        absent = [row for row in classes if not row["tp"] + row["fn"]]
        penalised = [row for row in there if row["edge"]]
        distances = [row["hd95"] for row in there if not row["edge"] and not math.isnan(row["hd95"])]
        line[:3] = len(absent), sum(row["fp"] > 0 for row in absent), len(penalised)
        if distances:
            line[3] = math.fsum(distances) / len(distances)
    return found


def checked(result: Result, empty: str = TRUTH) -> Run:
    """The run of a result.

    Args:
        result: As `usbench.results.io.load_result` gives it.
        empty: One of `EMPTY`.

    Returns:
        What the tables need of it.

    Raises:
        UsbenchError: Where its cases.csv has not every case of its test fold with every class, once.
    """
    data = result.data
    cases, classes = tuple(data["split"]["test"]), tuple(data["task"]["classes"])
    expected = [(case, name) for case in cases for name in classes]
    found = {(row["case"], row["class"]): row for row in result.rows}
    if lost := sorted(set(expected) - set(found)):
        raise UsbenchError(f"cases.csv: lacks case {lost[0][0]}, class {lost[0][1]}; compute the run again")
    if not len(found) == len(expected) == len(result.rows):
        raise UsbenchError("cases.csv: has rows that are not of its test fold; compute the run again")
    scores = [score.name for score in all_scores()]
    picked = itemgetter(*scores)
    counted = rows_of([found[pair] for pair in expected], empty)
    values = np.array([picked(row) for row in counted], dtype=float)
    if np.isinf(values).any():
        line, column = np.argwhere(np.isinf(values))[0]
        raise UsbenchError(
            f"cases.csv: {scores[column]} of case {expected[line][0]} is infinite; compute the run again"
        )
    means = _mean_over_classes(values.reshape(len(cases), len(classes), -1))
    lacking = frozenset(scores) - {score.name for score in scores_of(data)}
    kinds = len(classes)
    edges = _edges([counted[i : i + kinds] for i in range(0, len(counted), kinds)])
    columns = itemgetter(*OF_CLASSES)
    by_class = np.array([columns(found[pair]) for pair in expected], dtype=float)
    by_class = by_class.reshape(len(cases), kinds, len(OF_CLASSES))
    return Run(result.path, data, cases, means, edges, lacking=lacking, by_class=by_class)


def _mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Means [cases, scores] of values [cases, classes, scores] without the NaN, NaN where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)
    return means
