"""Results on disk: one schema, written whole or not at all, and proof against later edits."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usbench.contracts.score import Score
from usbench.errors import UsbenchError
from usbench.scores.case import ClassScore
from usbench.scores.registry import all_scores
from usbench.storage.files import digest_of, read_json, sha256_file, write_json, write_text

SCHEMA_VERSION = 1

# Raised whenever the same configuration would give other numbers: training, inference or scores.
PROTOCOL_VERSION = 3

# Every key of result.json and what it says. A test holds real results against it.
SCHEMA: dict[str, Any] = {
    "schema": "version of this layout",
    "usbench": "version of usbench",
    "cell": {
        "task": "name of the task",
        "method": "name of the method",
        "fusion": "early, hybrid, late, or one that a plugin brings",
        "fold": "test fold, from 0",
        "seed": "seed of every random draw",
        "hash": "digest of everything that changes the outcome; names the folder",
    },
    "task": {
        "name": "name of the task",
        "title": "name for people",
        "modalities": "the modalities used, in the task's order",
        "classes": "the foreground classes, in the order of mask values from 1",
        "merge_labels": "name of the class that all labels were merged into, or null",
        "words": "words for prompts and pictures, of the modalities and of the classes",
        "nsd_tolerance_mm": "tolerance of the normalised surface distance, mm",
        "origin": "built in, folder, package or file",
        "version": "version of the package that the task comes from",
    },
    "data": {
        "kind": "phantom, sample (less than the full data set, or a user's own) or real (the full data set)",
        "fingerprint": "SHA-256 over the content of all cases",
        "cases": "number of cases in the data set",
        "limit": "--limit, or null; a limited run is never ranked",
        "agreement": "test case -> class -> Dice between two annotations of it, where a case has two",
    },
    "split": {
        "folds": "number of folds",
        "rule": "fixed (stored with usbench) or derived (from a hash of the case ids)",
        "digest": "digest of the folds",
        "train": "case ids trained on",
        "test": "case ids scored",
    },
    "preset": "the preset that the configuration started from",
    "config": "the effective configuration: data, train, fusion, method",
    "method": {
        "name": "name of the method",
        "origin": "built in, package or file",
        "source_hash": "SHA-256 of the code of the method: its file and those of its package that it uses",
        "version": "version of the package that the method comes from",
        "paper": "reference of the method",
        "weights": "what the network started from",
        "licence": "licence of those weights, or none",
        "pretraining_overlap": "what is known of test cases in the pretraining data",
    },
    "fusion": {
        "name": "name of the fusion",
        "origin": "built in, package or file",
        "version": "version of the package that the fusion comes from",
        "source_hash": "SHA-256 of the code of a fusion that a plugin brings, else empty",
        "paper": "reference of the fusion",
        "label": "what tables and pages call it",
        "colour": "what it is drawn in, or empty",
    },
    "remarks": "what of frozen features fell back or was cut, a line each",
    "scores": "means over the classes of a case, then over cases; what is undefined is left out at each step",
    "paper_style": "slice-wise numbers as the Zeus paper prints them; never ranked",
    "cost": {
        "parameters": "number of parameters",
        "trainable": "number of parameters that are trained",
        "frozen_elsewhere": "number of parameters of frozen parts that made features for the network",
        "gflops_per_slice": "forward GFLOPs of one slice, 2 x multiply-adds, or null",
        "ms_per_slice": "forward milliseconds of one slice while predicting",
        "peak_memory_mb": "peak memory: of the GPU, or of the whole process on a CPU",
        "memory_since": "what that is the peak since: start of training (cell), or of the process (process)",
        "train_seconds": "seconds of training",
        "seconds": "seconds of training, predicting and scoring",
        "epochs": "epochs trained",
        "device": "name of the device",
        "devices": "number of devices",
        "precision": "numerical precision",
    },
    "provenance": "when, where and with what it was computed",
    "protocol": "digest of all that two rows must share to be compared",
    "protocol_version": "version of the protocol, by which digests are taken; 2 where it is absent",
    "files": "SHA-256 of each file beside this one",
    "digest": "digest of all the above",
}

# Keys that came when results without them were there, each line together; those are read all the same.
SINCE: tuple[tuple[str, ...], ...] = (
    ("remarks",),
    ("fusion",),
    ("task.words", "task.nsd_tolerance_mm", "task.origin", "task.version"),
    ("cost.seconds",),
    ("cost.memory_since",),
    ("protocol_version", "fusion.label", "fusion.colour"),
)


def absent(part: str, block: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Which of `keys` a `block` of a result lacks, sorted, less those that came later and are not there.

    part: name of the block within the result, "" for the result itself. What came together is there together.
    """
    prefix = f"{part}." if part else ""
    excused: set[str] = set()
    for names in SINCE:
        own = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        excused |= own if not own & set(block) else set()
    return sorted(set(keys) - set(block) - excused)


@dataclass(frozen=True)
class Result:
    """A finished cell: `data` is its result.json, `cases` the rows of its cases.csv."""

    path: Path
    data: dict[str, Any]
    cases: list[dict[str, Any]]

    @property
    def scores(self) -> dict[str, Any]:
        """The mean of each score over classes within a case, then over cases; see `docs/metrics.md`."""
        scores: dict[str, Any] = self.data["scores"]
        return scores


def run_folder(
    runs_dir: Path, task: str, kind: str, method: str, fusion: str, fold: int, seed: int, key: str
) -> Path:
    """The folder of a cell; data that is not the full real set is named in the path."""
    name = task if kind == "real" else f"{task}-{kind}"
    return runs_dir / name / f"{method}-{fusion}" / f"{fold}-{seed}-{key[:10]}"


_COUNTS = ("tp", "fp", "fn", "tn")
_TEXTS = ("case", "class", "edge")


def case_columns(scores: Iterable[Score] | None = None) -> tuple[str, ...]:
    """The columns of cases.csv, in order.

    Args:
        scores: The scores that it holds, all by default.

    Returns:
        Their names between those of case and class, and the counts of voxels.
    """
    names = [score.name for score in (all_scores() if scores is None else scores)]
    return ("case", "class", *names, *_COUNTS, "edge")


def scores_of(data: Mapping[str, Any]) -> tuple[Score, ...]:
    """The scores that a result has: all but those that were added later and that it does not name.

    Args:
        data: The content of a result.json.

    Returns:
        The entries of `usbench.scores.registry`, in order.
    """
    return tuple(score for score in all_scores() if not score.added or score.mean_name in data["scores"])


def cases_csv(cases: Mapping[str, Sequence[ClassScore]], scores: Sequence[Score] | None = None) -> str:
    """Per-case scores as CSV: a row a case and class, empty where a score is undefined.

    Args:
        cases: For each case its classes.
        scores: The scores that it holds, all by default.

    Returns:
        The text of a cases.csv.
    """
    scores = all_scores() if scores is None else scores
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(case_columns(scores))
    for case_id, classes in cases.items():
        for one in classes:
            values = ["" if math.isnan(value := one.scores[score.name]) else value for score in scores]
            writer.writerow([case_id, one.name, *values, one.tp, one.fp, one.fn, one.tn, one.edge])
    return out.getvalue()


def read_cases(path: Path) -> list[dict[str, Any]]:
    """The rows of a cases.csv, NaN where a score is undefined."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, ValueError) as error:
        raise UsbenchError(
            f"{path}: cannot read the per-case scores ({error}); run the cell again"
        ) from error
    return parse_cases(text, str(path))


def parse_cases(text: str, where: str) -> list[dict[str, Any]]:
    """The rows of the text of a cases.csv, each with every score.

    Args:
        text: The whole file.
        where: What the errors name.

    Returns:
        For each case and class a mapping by column; NaN where a score is undefined, and where it was added
        to usbench after the file was written.

    Raises:
        UsbenchError: Where the text is no such table, or lacks a column that every result has.
    """
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row] or [[]]
        if any(len(row) != len(header) for row in rows):
            raise ValueError("a row is cut off")
        if len(set(header)) < len(header):
            raise ValueError("a column stands there twice")
        texts = dict(zip(header, zip(*rows, strict=True), strict=False))
        if not texts:
            return []
        added = {score.name for score in all_scores() if score.added}
        columns = {}
        for name in dict.fromkeys((*case_columns(), *header)):
            if name in texts:
                columns[name] = _values(name, texts[name])
            elif name in added:
                columns[name] = [math.nan] * len(rows)
            else:
                raise ValueError(f"it lacks the column {name}")
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    except (ValueError, csv.Error) as error:
        raise UsbenchError(
            f"{where}: cannot read the per-case scores ({error}); run the cell again"
        ) from error


def _values(name: str, texts: Sequence[str]) -> Sequence[Any]:
    """The column `name` of a cases.csv from its texts."""
    if name in _TEXTS:
        return texts
    if name in _COUNTS:
        return list(map(int, texts))
    if "" in texts:
        texts = [text or "nan" for text in texts]
    return list(map(float, texts))


def history_csv(rows: Iterable[Mapping[str, float]]) -> str:
    """The training history as CSV."""
    rows = list(rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else ["epoch"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_result(folder: Path, data: dict[str, Any]) -> Result:
    """Write result.json, the last file of a run: with it, the cell is finished.

    Adds the digests of every other file in `folder` and of the result itself.
    """
    data = json.loads(json.dumps(data))
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    data["files"] = {
        name: sha256_file(folder / name)
        for name in names
        if name not in ("result.json", "checkpoint.pt")
        and not any(part.startswith(".") for part in Path(name).parts)
    }
    data.pop("digest", None)
    data["digest"] = digest_of(data)
    write_json(folder / "result.json", data)
    return load_result(folder)


_REMEDY = "compute it again with usbench run --overwrite, or remove its folder"


def check_result(data: Any, where: str, remedy: str = _REMEDY) -> None:
    """Raise `UsbenchError`, naming `where` it is, for what is no result, of another schema, or edited."""
    if not isinstance(data, dict) or "schema" not in data or "cell" not in data:
        raise UsbenchError(f"{where}: is not a result of usbench; {remedy}")
    if data["schema"] != SCHEMA_VERSION:
        raise UsbenchError(
            f"{where}: has schema version {data['schema']}, this usbench reads {SCHEMA_VERSION}; {remedy}"
        )
    if missing := absent("", data, SCHEMA):
        raise UsbenchError(f"{where}: lacks '{missing[0]}'; {remedy}")
    if data["digest"] != digest_of({key: value for key, value in data.items() if key != "digest"}):
        raise UsbenchError(f"{where}: was edited after the run (its digest does not fit); {remedy}")


def load_result(path: str | Path) -> Result:
    """Read a finished cell from its folder or its result.json, and check that nobody changed it.

    Raises `UsbenchError` naming the file where it is absent, not JSON, of another schema, or where
    its content or that of its cases.csv is not what was written.
    """
    path = Path(path)
    file = path / "result.json" if path.is_dir() or path.suffix != ".json" else path
    data = read_json(file, "a result", _REMEDY)
    check_result(data, str(file))
    cases = file.parent / "cases.csv"
    if not cases.is_file():
        raise UsbenchError(f"{cases}: missing beside its result; {_REMEDY}")
    if sha256_file(cases) != data["files"].get("cases.csv"):
        raise UsbenchError(f"{cases}: was edited after the run (its digest does not fit); {_REMEDY}")
    return Result(file.parent, data, read_cases(cases))


def write_tables(
    folder: Path, cases: Mapping[str, Sequence[ClassScore]], history: Iterable[Mapping[str, float]]
) -> None:
    """Write cases.csv and history.csv."""
    write_text(folder / "cases.csv", cases_csv(cases))
    write_text(folder / "history.csv", history_csv(history))
