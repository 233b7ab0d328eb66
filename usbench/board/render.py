"""A leaderboard as text: for a terminal, as Markdown, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import unknown
from usbench.files import write_text

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from usbench.board.table import Leaderboard, Row, Table

FORMATS = ("table", "md", "csv", "json", "html")

_COLUMNS = (
    "rank", "method", "fusion", "DSC [95% CI]", "mIoU", "HD95 mm", "NSD", "parameters (trained)", "ms/slice",
    "cases", "folds", "seeds", "weights", "data",
)  # fmt: skip
_WORDS = ("method", "fusion", "weights", "data")
# What a narrow terminal can do without, the first to go first; the label names the weights, and
# the title the data.
_DISPENSABLE = (
    "data",
    "weights",
    "seeds",
    "ms/slice",
    "parameters (trained)",
    "folds",
    "NSD",
    "HD95 mm",
    "mIoU",
)


def render(board: Leaderboard, form: str = "table") -> str:
    """The leaderboard as text in the format "table", "md", "csv", "json" or "html".

    "table" fits the width of the terminal. CSV holds the rows alone, each with the table it
    belongs to; what was left out then goes to standard error. Raises `UsbenchError` for another
    format.
    """
    if form == "table":
        return _as_table(board)
    if form == "md":
        return _as_markdown(board)
    if form == "csv":
        if board.problems:
            from usbench.console import say

            for line in _problem_lines(board):
                say(line)
        return _as_csv(board)
    if form == "json":
        return json.dumps(as_dict(board), indent=2, ensure_ascii=False, allow_nan=False)
    if form == "html":
        return _as_html(board)
    raise unknown("format", form, FORMATS)


def write(board: Leaderboard, folder: str | Path) -> list[Path]:
    """Write leaderboard.md, .csv, .json and .html into `folder`; return their paths."""
    texts = {
        "md": _as_markdown(board),
        "csv": _as_csv(board),
        "json": render(board, "json"),
        "html": _as_html(board),
    }
    paths = []
    for form, text in texts.items():
        path = Path(folder) / f"leaderboard.{form}"
        write_text(path, text.rstrip("\n") + "\n")
        paths.append(path)
    return paths


def _as_html(board: Leaderboard) -> str:
    from usbench.board.page import html

    return html(as_dict(board), [[row.patients for row in table.rows] for table in board.tables])


def as_dict(board: Leaderboard) -> dict[str, Any]:
    """The leaderboard as JSON-like values, scores unrounded, without the patients behind them."""
    from usbench import __version__

    return {
        "schema": 1,
        "usbench": __version__,
        "tables": [
            {
                "title": table.title,
                "task": table.task,
                "data": table.kind,
                "preset": table.preset,
                "modalities": list(table.modalities),
                "classes": list(table.classes),
                "cases": table.cases,
                "limit": table.limit,
                "folds": table.folds,
                "split": table.rule,
                "fingerprint": table.fingerprint,
                "protocol": table.protocol,
                "rows": [_row_dict(row) for row in table.rows],
            }
            for table in board.tables
        ],
        "problems": [{"path": str(problem.path), "reason": problem.reason} for problem in board.problems],
    }


def _row_dict(row: Row) -> dict[str, Any]:
    low, high = row.interval or (None, None)
    scores = dict(row.scores)
    return {
        "rank": row.rank,
        "status": row.status,
        "method": row.method,
        "label": row.label,
        "fusion": row.fusion,
        "dsc": scores.pop("dsc"),
        "dsc_low": low,
        "dsc_high": high,
        **scores,
        "parameters": row.parameters,
        "trainable": row.trainable,
        "ms_per_slice": row.ms_per_slice,
        "cases": row.cases,
        "folds_done": row.folds_done,
        "folds": row.folds,
        "seeds": _seeds(row),
        "weights": row.weights,
        "data": row.data,
        "settings": row.settings,
    }


def _cells(row: Row) -> dict[str, str]:
    dsc = _number(row.scores["dsc"], 3)
    if row.interval:
        dsc += f" [{row.interval[0]:.3f}, {row.interval[1]:.3f}]"
    values = (
        str(row.rank) if row.rank else row.status.partition(":")[0],
        row.label,
        row.fusion,
        dsc,
        _number(row.scores["miou"], 3),
        _number(row.scores["hd95"], 1),
        _number(row.scores["nsd"], 3),
        f"{_millions(row.parameters)} ({_millions(row.trainable)})",
        _number(row.ms_per_slice, 1),
        str(row.cases),
        f"{row.folds_done}/{row.folds}",
        _seeds(row),
        row.weights,
        row.data,
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _seeds(row: Row) -> str:
    few, many = row.seeds
    return str(many) if few == many else f"{few} to {many}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}M" if count >= 10_000 else str(count)


def _problem_lines(board: Leaderboard) -> list[str]:
    if not board.problems:
        return []
    return [f"left out ({len(board.problems)}):", *(f"  {problem}" for problem in board.problems)]


def _as_table(board: Leaderboard) -> str:
    parts = []
    for table in board.tables:
        columns = list(_COLUMNS)
        natural = _natural_width(table, columns)
        # Output that goes to a file or a pipe has no width to fit.
        width = shutil.get_terminal_size((natural, 24)).columns if sys.stdout.isatty() else natural
        dropped = []
        for name in _DISPENSABLE:
            if _natural_width(table, columns) <= width:
                break
            columns.remove(name)
            dropped.append(name)
        text = _printed(_rich_table(table, columns), width)
        if dropped:
            text += f"too narrow for: {', '.join(dropped)} (a wider terminal or --format md shows them)\n"
        parts.append(f"{table.title}\n{table.facts}\n{text}")
    if board.problems:
        parts.append("\n".join(_problem_lines(board)) + "\n")
    return "\n".join(parts).rstrip("\n")


def _rich_table(table: Table, columns: Sequence[str]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in columns:
        grid.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=name not in _WORDS)
    for row in table.rows:
        cells = _cells(row)
        # As text: a label in square brackets is not markup.
        grid.add_row(*(Text(cells[name]) for name in columns))
    return grid


def _natural_width(table: Table, columns: Sequence[str]) -> int:
    cells = [_cells(row) for row in table.rows]
    return sum(max(len(name), *(len(row[name]) for row in cells)) + 3 for name in columns)


def _printed(grid: RichTable, width: int) -> str:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(grid)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(line for line in lines if line) + "\n"


def _as_markdown(board: Leaderboard) -> str:
    from tabulate import tabulate

    parts = ["# Leaderboard"]
    for table in board.tables:
        rows = [[cell.replace("|", "\\|") for cell in _cells(row).values()] for row in table.rows]
        align = ["left" if name in _WORDS else "right" for name in _COLUMNS]
        grid = tabulate(rows, headers=list(_COLUMNS), tablefmt="pipe", disable_numparse=True, colalign=align)
        parts += [f"## {table.title}", table.facts, grid]
        if notes := [f"- {row.label}, {row.fusion}: {row.status}" for row in table.rows if row.status]:
            parts.append("Not ranked:\n\n" + "\n".join(notes))
    if board.problems:
        parts.append("## Left out\n\n" + "\n".join(f"- `{p.path}`: {p.reason}" for p in board.problems))
    return "\n\n".join(parts) + "\n"


def _as_csv(board: Leaderboard) -> str:
    shared = ("table", "task", "preset", "modalities", "classes", "fingerprint", "protocol")
    rows = []
    for table in board.tables:
        facts = (
            table.title,
            table.task,
            table.preset,
            " ".join(table.modalities),
            " ".join(table.classes),
            table.fingerprint,
            table.protocol,
        )
        for row in table.rows:
            values = _row_dict(row)
            values["settings"] = " ".join(f"{name}={value}" for name, value in row.settings.items())
            rows.append({**dict(zip(shared, facts, strict=True)), **values})
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")
