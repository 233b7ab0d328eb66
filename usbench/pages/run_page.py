"""One finished run as a self-contained HTML page."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from usbench.pages.case_pictures import MOST_PICTURE, as_written, reduced
from usbench.pages.shell import data_uri, escape, first_sort, shell
from usbench.pages.track_sections import track_sections
from usbench.results.io import case_columns, load_result, scores_of
from usbench.results.network_file import NETWORKS
from usbench.results.result import Result
from usbench.results.words import task_words
from usbench.scores.registry import all_scores
from usbench.scores.text import number
from usbench.storage.files import sha256_file, write_text
from usbench.storage.regular import read_bounded, read_text
from usbench.storage.tables import MOST_TABLE, parse_table
from usbench.storage.tables import number as as_number
from usbench.storage.texts import parse_json

_WHOLE_PICTURE = 1_500_000  # bytes: a larger picture is reduced
_TEXTS = 500  # so many instructions are listed

TableCell = Any
"""What stands in a table: a value, or (HTML, value to sort by)."""


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        folder: Of the run.
        out: The file; report.html in the folder by default.

    Returns:
        The file.

    Raises:
        UsbenchError: Where the folder holds no finished run, where result.json or cases.csv was edited, and
            where the page cannot be written.
    """
    result = load_result(folder)
    path = Path(out) if out is not None else result.path / "report.html"
    write_text(path, html(result), durable=False)
    return path


def html(result: Result) -> str:
    """The page of a run. Of its files only those that are as the run wrote them are shown."""
    data = result.data
    cell, task = data["cell"], data["task"]
    name = f"{cell['method']}, {cell['fusion']} fusion"
    where = task_words(data)
    about = (
        f"{where}: {task['title']}. Fold {cell['fold']} of {data['split']['folds']}, seed {cell['seed']}, "
        f"preset {data['preset']}. usbench {data['usbench']}."
    )
    history, loss = _history(result)
    parts = [
        f'<header class="top"><h1>{escape(name)}</h1><button type="button" id="theme"></button></header>',
        f'<p class="muted">{escape(about)}</p>',
        "<main>",
        _verified(result),
        _scores(data),
        _outside(data),
        _remarks(data),
        f"<section><h2>Training</h2>{loss}</section>",
        _cases(result),
        _classes(data),
        _picture(result),
        track_sections(result),
        _instructions(result),
        '<div class="columns">',
        _cost(data),
        _pairs("Configuration", _flat(data["config"])),
        _pairs("Method", data["method"]),
        _pairs("Fusion", data["fusion"]) if "fusion" in data else "",
        _pairs("Data", _flat({name: data[name] for name in ("task", "data", "split", "protocol")})),
        _pairs("Provenance", {**_flat(data["provenance"]), "hash": cell["hash"], "digest": data["digest"]}),
        _pairs("Slice by slice, as the Zeus paper prints scores; never ranked", _paper_style(data)),
        "</div>",
        _files(result),
        "</main>",
    ]
    scripts = ("page.js", "plots.js", "run.js")
    return shell(f"{name}, {where}, fold {cell['fold']}", "\n".join(parts), scripts, {"history": history})


def _verified(result: Result) -> str:
    """What `load_result` and the digests of the other files say."""
    files = [name for name in result.data["files"] if not _is_removed_network(result, name)]
    changed = [name for name in files if as_written(result, name) is None]
    text = (
        f"Digest {result.data['digest'][:16]} verified: result.json and cases.csv are as the run wrote them. "
        f"{len(files) - len(changed)} of {len(files)} files of the run are unchanged."
    )
    if len(files) < len(result.data["files"]):
        text += " The trained network was removed; no score needs it."
    if not changed:
        return f'<p id="digest" class="good">{escape(text)}</p>'
    text += f" Changed or missing, and therefore not shown: {', '.join(changed)}."
    return f'<p id="digest" class="bad">{escape(text)}</p>'


def _scores(data: Mapping[str, Any]) -> str:
    scores = data["scores"]
    facts = [
        (score.mean_heading, score.sentence, number(scores[score.mean_name], score.digits))
        for score in scores_of(data)
    ]
    facts.append(("cases", "cases with at least one scored class", str(scores["cases"])))
    items = "".join(
        f'<div title="{escape(hint)}"><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>'
        for name, hint, value in facts
    )
    return f'<dl class="facts">{items}</dl>'


def _outside(data: Mapping[str, Any]) -> str:
    """Of masks that another program made: what that means, and what of the result is only claimed."""
    outside = data.get("outside")
    if outside is None:
        return ""
    if outside["kind"] == "pipeline":
        title = "An outside pipeline"
        text = (
            "usbench had a program of its own recipe train on this fold and predict its test cases, whose "
            "masks it did not see; usbench scored the masks as those of any method."
        )
    else:
        title = "Masks from elsewhere"
        text = (
            "Somebody gave these masks, and usbench scored them as those of any method. It did not see how "
            "they were made: that no test case was trained on is a claim of their author."
        )
    notes = list(outside["claims"])
    if outside["missing"]:
        notes.append(f"without a mask, scored as an empty one: {', '.join(outside['missing'])}")
    notes += [f"{name} {version}" for name, version in outside["versions"].items()]
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    listed = f'<ul class="notes">{items}</ul>' if items else ""
    return f'<section id="outside"><h2>{title}</h2><p>{escape(text)}</p>{listed}</section>'


def _remarks(data: Mapping[str, Any]) -> str:
    remarks = data.get("remarks") or []
    if not remarks:
        return ""
    items = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return f'<section><h2>Remarks</h2><ul class="notes">{items}</ul></section>'


def _history(result: Result) -> tuple[list[dict[str, float | None]], str]:
    """The rows of history.csv for the plot, and what stands in its place or around it."""
    if "outside" in result.data and "history.csv" not in result.data["files"]:
        return [], '<p class="muted">usbench trained nothing here.</p>'
    file = as_written(result, "history.csv")
    if file is None:
        return [], '<p class="muted">history.csv is missing or was changed after the run.</p>'
    try:
        heads, lines = parse_table(read_text(file, MOST_TABLE))
        rows = [dict(zip(heads, map(_finite, line), strict=True)) for line in lines]
    except (OSError, ValueError):
        return [], '<p class="muted">history.csv cannot be read.</p>'
    if not rows:
        return [], '<p class="muted">Nothing was trained.</p>'
    return rows, '<div id="history"></div>'


def _finite(text: str) -> float | None:
    # A training that diverged has no finite loss.
    return None if text in ("", "nan", "inf", "-inf") else as_number(text)


def _cases(result: Result) -> str:
    means: dict[str, list[float]] = {}
    for row in result.rows:
        if not math.isnan(row["dsc"]):
            means.setdefault(row["case"], []).append(row["dsc"])
    order = sorted((math.fsum(values) / len(values), case) for case, values in means.items())
    worst = order[0][1] if len(order) > 1 else None
    known = scores_of(result.data)
    digits = {"tp": 0, "fp": 0, "fn": 0, "tn": 0, **{score.name: score.digits for score in known}}
    columns = case_columns(known)
    rows, classes = [], []
    for row in result.rows:
        cells: list[TableCell] = []
        for column in columns:
            value = row[column]
            if column == "case" and value == worst:
                cells.append((f'{escape(value)} <span class="mark-worst">worst case</span>', value))
            elif isinstance(value, str):
                cells.append(value)
            else:
                sort = "" if math.isnan(value) else repr(value)
                cells.append((escape(number(value, digits[column])), sort))
        rows.append(cells)
        classes.append("worst" if row["case"] == worst else "")
    heads = [_head(name) for name in columns]
    note = f"The worst case has the lowest DSC, {order[0][0]:.3f} over its classes." if worst else ""
    table = _table("scores by case and class", heads, rows, classes)
    return f"<section><h2>Cases</h2>{_note(note)}{table}</section>"


def _head(name: str) -> tuple[str, str]:
    """The head of a column of cases.csv, and which way it sorts first."""
    if name in ("case", "class", "edge"):
        return name, "text"
    for score in all_scores():
        if score.name == name:
            return score.heading, first_sort(score)
    return name, "up" if name in ("fp", "fn") else "down"


def _classes(data: Mapping[str, Any]) -> str:
    known = scores_of(data)
    digits = {**{score.name: score.digits for score in known}, "cases": 0}
    rows = []
    for class_name, scores in data["scores"]["classes"].items():
        cells: list[TableCell] = [class_name]
        for name in digits:
            value = scores.get(name)
            text = number(value, digits[name])
            cells.append((escape(text), "" if value is None else repr(value)))
        rows.append(cells)
    heads = [("class", "text"), *(_head(name) for name in digits)]
    return f"<section><h2>Classes</h2>{_table('mean scores by class', heads, rows)}</section>"


def _picture(result: Result) -> str:
    file = as_written(result, "figures/cases.png")
    if file is None:
        words = '<p class="muted">figures/cases.png is missing or was changed after the run.</p>'
        return f"<section><h2>Pictures</h2>{words}</section>"
    try:
        content, kind = read_bounded(file, MOST_PICTURE), "image/png"
        if len(content) > _WHOLE_PICTURE:
            content, kind = reduced(file, 1600)[0], "image/jpeg"
    except OSError:
        words = '<p class="muted">figures/cases.png cannot be read as a picture.</p>'
        return f"<section><h2>Pictures</h2>{words}</section>"
    shown = ", ".join(result.data["split"]["test"][:4])
    image = f'<img src="{data_uri(content, kind)}" alt="{escape(f"predictions beside the truth: {shown}")}">'
    note = "Solid lines outline the truth, dashed ones the prediction."
    if "regions" in result.data["task"]:
        note += " Regions may lie within each other: the smaller ones are drawn on top, with thinner lines."
    return f'<section><h2>Pictures</h2>{_note(note)}<div class="picture">{image}</div></section>'


def _instructions(result: Result) -> str:
    """What a language model said, from notes.json: each text once, with how often it was said."""
    if "notes.json" not in result.data["files"]:
        return ""
    file = as_written(result, "notes.json")
    try:
        notes = parse_json(read_text(file)) if file else None
    except (OSError, ValueError):
        notes = None
    if not isinstance(notes, dict):
        words = "notes.json is missing, unreadable or was changed after the run."
        return f"<section><h2>Instructions</h2>{_note(words)}</section>"
    said: dict[tuple[str, ...], list[str]] = {}
    for case, entry in _entries(notes):
        key = tuple(str(entry.get(name, "")) for name in ("modality", "class", "text"))
        marks = "".join(f"{name} " for name in ("fallback", "truncated") if entry.get(name)).strip()
        said.setdefault((*key, marks), []).append(case)
    if not said:
        return ""
    rows: list[list[TableCell]] = []
    for (modality, class_name, text, marks), cases in list(said.items())[:_TEXTS]:
        count, patients = len(cases), len(set(cases))
        rows.append(
            [modality, class_name, text, (escape(count), count), (escape(patients), patients), marks or "-"]
        )
    heads = [
        ("modality", "text"),
        ("class", "text"),
        ("text", "text"),
        ("times", "down"),
        ("cases", "down"),
        ("remark", "text"),
    ]
    more = f" The first {_TEXTS} of {len(said)} texts." if len(said) > _TEXTS else ""
    note = f"What the language model said, each text once with how often it was said.{more}"
    table = _table("instructions", heads, rows)
    return f'<section class="texts"><h2>Instructions</h2>{_note(note)}{table}</section>'


def _entries(notes: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for case, features in notes.items():
        for entries in features.values() if isinstance(features, dict) else ():
            for entry in entries if isinstance(entries, list) else ():
                if isinstance(entry, dict) and "text" in entry:
                    yield str(case), entry


def _cost(data: Mapping[str, Any]) -> str:
    cost = dict(data["cost"])
    words = {
        **{name: f"{cost[name]:,}" for name in ("parameters", "trainable") if cost[name] is not None},
        "frozen_elsewhere": f"{cost.get('frozen_elsewhere', 0):,}",
        "gflops_per_slice": f"{number(cost['gflops_per_slice'], 2)} GFLOPs",
        **{
            name: f"{number(cost[name], digits)} {unit}"
            for name, digits, unit in (
                ("ms_per_slice", 2, "ms"),
                ("peak_memory_mb", 0, "MB"),
                ("train_seconds", 1, "s"),
            )
            if cost[name] is not None
        },
    }
    if "outside" in data:  # Where nothing is known of it, no dash could be read as none.
        words |= {name: "not known" for name, value in cost.items() if value is None}
    return _pairs("Cost", {name: words.get(name, value) for name, value in cost.items()})


def _paper_style(data: Mapping[str, Any]) -> dict[str, str]:
    return {name: number(value) for name, value in data["paper_style"].items()}


def _is_removed_network(result: Result, name: str) -> bool:
    """Whether `name` is the trained network that was there and is gone, as `usbench prune` leaves it."""
    return name in NETWORKS and not os.path.lexists(result.path / name)


def _files(result: Result) -> str:
    rows = []
    for name, digest in result.data["files"].items():
        file = result.path / name
        state = "as written" if as_written(result, name) else "changed" if file.is_file() else "missing"
        if _is_removed_network(result, name):
            state = "removed, not needed for the scores"
        rows.append([name, f"{digest[:16]}", state])
    heads = [("file", "text"), ("SHA-256", ""), ("state", "text")]
    digest = sha256_file(result.path / "result.json")
    note = f"result.json itself has SHA-256 {digest[:16]}."
    return f"<section><h2>Files</h2>{_note(note)}{_table('files of the run', heads, rows)}</section>"


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[before + name] = value
    return flat


def _pairs(title: str, values: Mapping[str, Any]) -> str:
    def words(value: Any) -> str:
        if value is None or value in ("", [], {}):
            return "-"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(words(value))}</dd>" for name, value in values.items()
    )
    return f'<section><h2>{escape(title)}</h2><dl class="pairs">{items}</dl></section>'


def _note(text: str) -> str:
    return f'<p class="muted">{escape(text)}</p>' if text else ""


def _table(
    caption: str,
    heads: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[TableCell]],
    classes: Sequence[str] = (),
) -> str:
    def head(name: str, sort: str) -> str:
        right = ' class="number"' if sort in ("up", "down") else ""
        return f'<th scope="col"{right}{f" data-sort={sort}" if sort else ""}>{escape(name)}</th>'

    def cell(value: TableCell, sort: str) -> str:
        right = ' class="number"' if sort in ("up", "down") else ""
        if isinstance(value, tuple):
            return f'<td{right} data-value="{escape(value[1])}">{value[0]}</td>'
        return f"<td{right}>{escape(value)}</td>"

    lines = []
    for i, row in enumerate(rows):
        mark = f' class="{classes[i]}"' if classes and classes[i] else ""
        cells = "".join(cell(value, sort) for value, (_, sort) in zip(row, heads, strict=True))
        lines.append(f"<tr{mark}>{cells}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="sortable"><caption class="hidden">{escape(caption)}</caption>'
        f"<thead><tr>{''.join(head(*one) for one in heads)}</tr></thead><tbody>{''.join(lines)}</tbody>"
        "</table></div>"
    )
