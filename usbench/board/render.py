"""A leaderboard as text: for a terminal, as Markdown, CSV, JSON and LaTeX; and all of them as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.board.asdict import as_dict, row_dict
from usbench.board.grids import Grid, grids
from usbench.board.latex import as_latex
from usbench.board.plot import cost_figure
from usbench.board.terminal import as_terminal, problem_lines
from usbench.errors import unknown
from usbench.files import write_text

if TYPE_CHECKING:
    from usbench.board.table import Leaderboard

__all__ = ["FORMATS", "as_dict", "render", "write"]


def render(board: Leaderboard, form: str = "table") -> str:
    """The leaderboard as text in one of `FORMATS`: "table", "md", "csv", "json", "latex" or "html".

    "table" fits the width of the terminal. CSV holds the rows alone, each with the table it
    belongs to; what was left out then goes to standard error, as it does for LaTeX. Raises
    `UsbenchError` for another format.
    """
    if form not in _RENDERERS:
        raise unknown("format", form, FORMATS)
    if form in ("csv", "latex"):
        from usbench.console import say

        for line in problem_lines(board):
            say(line)
    return _RENDERERS[form](board)


def write(board: Leaderboard, folder: str | Path) -> list[Path]:
    """Write leaderboard.md, .csv, .json, .tex, .html and a picture into `folder`; return the paths.

    The picture is left out where no row has a score.
    """
    folder = Path(folder)
    paths = []
    for suffix, form in (("md", "md"), ("csv", "csv"), ("json", "json"), ("tex", "latex"), ("html", "html")):
        path = folder / f"leaderboard.{suffix}"
        write_text(path, _RENDERERS[form](board).rstrip("\n") + "\n")
        paths.append(path)
    picture = folder / "leaderboard-cost.png"
    if cost_figure(board.tables, picture):
        paths.append(picture)
    return paths


def _as_markdown(board: Leaderboard) -> str:
    parts = ["# Leaderboard", *(_markdown_section(grid) for grid in grids(board))]
    if board.problems:
        parts.append("## Left out\n\n" + "\n".join(f"- `{p.path}`: {p.reason}" for p in board.problems))
    return "\n\n".join(parts) + "\n"


def _markdown_section(grid: Grid) -> str:
    from tabulate import tabulate

    rows = [[_plain(row[name]) for name in grid.columns] for row in grid.rows]
    align = ["left" if name in grid.words else "right" for name in grid.columns]
    headers = [_plain(name) for name in grid.columns]
    text = tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align)
    heading = "###" if grid.under else "##"
    parts = [
        f"{heading} {grid.title}",
        grid.facts,
        text,
        "\n".join(f"- {_plain(note)}" for note in grid.notes),
    ]
    if grid.unranked:
        parts.append("Not ranked:\n\n" + "\n".join(f"- {line}" for line in grid.unranked))
    return "\n\n".join(parts)


def _plain(text: str) -> str:
    """`text` without what Markdown takes for its own in a table or a note."""
    return text.replace("|", "\\|").replace("<", "&lt;")


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
            values = row_dict(row)
            # One patient or run a line would be another table: JSON has them in full.
            del values["patients"]
            values["settings"] = " ".join(f"{name}={value}" for name, value in row.settings.items())
            values["runs"] = ";".join(run["path"] for run in row.runs)
            rows.append({**dict(zip(shared, facts, strict=True)), **values})
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def _as_json(board: Leaderboard) -> str:
    return json.dumps(as_dict(board), indent=2, ensure_ascii=False, allow_nan=False)


def _as_html(board: Leaderboard) -> str:
    from usbench.board.page import html

    return html(as_dict(board))


_RENDERERS: dict[str, Callable[[Leaderboard], str]] = {
    "table": as_terminal,
    "md": _as_markdown,
    "csv": _as_csv,
    "json": _as_json,
    "latex": as_latex,
    "html": _as_html,
}
FORMATS = tuple(_RENDERERS)
