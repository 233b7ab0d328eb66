"""Results on disk: written whole or not at all, held against one schema, and proof against later edits."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from usbench.contracts.score import Score
from usbench.errors import UsbenchError
from usbench.results.result import Result
from usbench.results.schema import KNOWN_VERSIONS, typed
from usbench.scores.case import ClassScore
from usbench.scores.registry import all_scores
from usbench.storage.files import digest_of, flush_folder, sha256_file, write_json, write_text
from usbench.storage.regular import read_bounded, read_text
from usbench.storage.tables import MOST_TABLE, counts, numbers, parse_table
from usbench.storage.texts import read_json

# Raised whenever the same configuration would give other numbers: training, inference or scores.
PROTOCOL_VERSION = 3

LOG = "log.txt"
LOGS = "logs"
"""The log of a run and the folder of its trackers: they grow after the result is written."""

_NO_DIGEST = ("result.json", "checkpoint.pt", "report.html", LOG)


def run_folder(
    runs_dir: Path, task: str, kind: str, method: str, fusion: str, fold: int, seed: int, key: str
) -> Path:
    """The folder of a cell; data that is not the full real set is named in the path."""
    name = task if kind == "real" else f"{task}-{kind}"
    return runs_dir / name / f"{method}-{fusion}" / f"{fold}-{seed}-{key[:10]}"


def has_results(runs_dir: Path, task: str, method: str, fusion: str = "*") -> bool:
    """Whether a finished cell of a method may be the one asked for, which needs no weights.

    Args:
        runs_dir: Where results are.
        task: Name of the task; "*" for any.
        method: Name of the method.
        fusion: Name of the fusion; by default any.
    """
    return any(True for _ in runs_dir.glob(f"{task}*/{method}-{fusion}/*/result.json"))


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
        text = read_text(path, MOST_TABLE)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsbenchError(f"{path}: cannot read the per-case scores ({why}); run the cell again") from error
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
        header, rows = parse_table(text)
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
        names = tuple(columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    except ValueError as error:
        raise UsbenchError(
            f"{where}: cannot read the per-case scores ({error}); run the cell again"
        ) from error


def _values(name: str, texts: Sequence[str]) -> Sequence[Any]:
    """The column `name` of a cases.csv from its texts."""
    if name in _TEXTS:
        return texts
    if name in _COUNTS:
        return counts(texts)
    return numbers(texts)


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

    Args:
        folder: Of the run; its other files are there already.
        data: All that `usbench.results.schema.ResultFile` says but the digests of the files and of the whole.

    Returns:
        The result, read back.

    Raises:
        UsbenchError: Where `data` does not fit the model; nothing is written then.
    """
    data = json.loads(json.dumps(data))
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    data["files"] = {
        name: sha256_file(folder / name)
        for name in names
        if name not in _NO_DIGEST
        and not any(part.startswith(".") or part == LOGS for part in Path(name).parts)
    }
    data.pop("digest", None)
    data["digest"] = digest_of(data)
    typed(data, str(folder / "result.json"), "this is an error of usbench or of a plugin")
    # A power cut after this line may take no file that the result names.
    flush_folder(folder, above=3)
    write_json(folder / "result.json", data)
    return load_result(folder)


_REMEDY = "compute it again with usbench run --overwrite, or remove its folder"


def check_result(data: Any, where: str, remedy: str = _REMEDY) -> None:
    """Hold the content of a result.json against its version, its digest and `usbench.results.schema`.

    Args:
        data: What JSON gives.
        where: The file, for the error.
        remedy: What to do about it, for the error.

    Raises:
        UsbenchError: For what is no result, of another version of the schema, or edited, and for the first
            key that is absent, unknown, or has a value that it cannot have.
    """
    if not isinstance(data, dict) or "schema" not in data or "cell" not in data:
        raise UsbenchError(f"{where}: is not a result of usbench; {remedy}")
    if data["schema"] not in KNOWN_VERSIONS:
        known = " and ".join(map(str, KNOWN_VERSIONS))
        raise UsbenchError(
            f"{where}: has schema version {data['schema']}, this usbench reads {known}; {remedy}"
        )
    if "digest" in data and data["digest"] != digest_of({k: v for k, v in data.items() if k != "digest"}):
        raise UsbenchError(f"{where}: was edited after the run (its digest does not fit); {remedy}")
    typed(data, where, remedy)


def load_result(path: str | Path) -> Result:
    """Read a finished cell, and check that nobody changed it.

    Args:
        path: Its folder, or the result.json in there.

    Returns:
        The result; `result.cases` has a row a case and class.

    Raises:
        UsbenchError: naming the file where it is absent, not JSON, not as `docs/result.schema.json` says, or
            where its content or that of its cases.csv is not what was written.
    """
    path = Path(path)
    file = path / "result.json" if path.is_dir() or path.suffix != ".json" else path
    data = read_json(file, "a result", _REMEDY)
    check_result(data, str(file))
    cases = file.parent / "cases.csv"
    if not cases.is_file():
        raise UsbenchError(f"{cases}: missing beside its result; {_REMEDY}")
    try:
        content = read_bounded(cases, MOST_TABLE)
        if hashlib.sha256(content).hexdigest() != data["files"].get("cases.csv"):
            raise UsbenchError(f"{cases}: was edited after the run (its digest does not fit); {_REMEDY}")
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsbenchError(f"{cases}: cannot read the per-case scores ({why}); {_REMEDY}") from error
    return Result(file.parent, data, parse_cases(text, str(cases)))


def write_tables(
    folder: Path, cases: Mapping[str, Sequence[ClassScore]], history: Iterable[Mapping[str, float]]
) -> None:
    """Write cases.csv and history.csv."""
    write_text(folder / "cases.csv", cases_csv(cases), durable=False)
    write_text(folder / "history.csv", history_csv(history), durable=False)
