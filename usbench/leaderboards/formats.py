"""A leaderboard as text: for a terminal, as Markdown, CSV, JSON and LaTeX; and all of them as files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError, unknown
from usbench.fusions.looks import looks_of
from usbench.leaderboards.cost_plot import USUAL, cost_figure
from usbench.leaderboards.costs import Limits, under_text
from usbench.leaderboards.flat import flat_rows, pairs_list
from usbench.leaderboards.latex import as_latex
from usbench.leaderboards.latex_view import view_as_latex
from usbench.leaderboards.learning_plot import learning_figure
from usbench.leaderboards.plain import as_dict
from usbench.leaderboards.subgroup_plot import subgroup_figure
from usbench.leaderboards.subgroups import SubgroupTable, subgroup_rows, subgroup_texts, subgroups_plain
from usbench.leaderboards.terminal import as_terminal, problem_lines, tables_as_terminal
from usbench.leaderboards.text import table_notes
from usbench.leaderboards.track_figure import robustness_figure, robustness_picture
from usbench.leaderboards.track_plain import flat_track_rows
from usbench.leaderboards.track_text import all_text_tables, track_notes
from usbench.leaderboards.view import View, view_rows, view_texts
from usbench.leaderboards.words import TextTable
from usbench.runtime.terminal_text import shown
from usbench.storage.files import write_text
from usbench.storage.tables import for_spreadsheet

if TYPE_CHECKING:
    from usbench.leaderboards.board import Leaderboard

__all__ = ["FORMATS", "as_dict", "render", "write"]


_TRACKS = ("robustness", "external")


def render(
    board: Leaderboard, form: str = "table", view: View | None = None, under: Limits | None = None
) -> str:
    """The leaderboard as text.

    CSV holds the rows alone, each with the table it belongs to; what was left out then goes to standard
    error, as it does for LaTeX. Tracks have other columns than clean tables and so are another CSV: of a
    leaderboard of one track alone (`build(track="robustness")`) CSV holds its rows.

    Args:
        board: The leaderboard.
        form: One of `FORMATS`: "table" (fits the width of the terminal), "md", "csv", "json", "latex" or
            "html".
        view: Chosen columns and their layout, one table for each of `board.tables` and nothing else; None for
            every section.
        under: The largest costs that are allowed, as `parse_limits` gives them: the best row under
            them is the first section. Of "table" and "md" alone.

    Raises:
        UsbenchError: For another format, and for a view that cannot be printed in it or has no table.
    """
    if form not in _RENDERERS:
        raise unknown("format", form, FORMATS)
    if form in ("csv", "latex"):
        from usbench.runtime.console import say

        for line in problem_lines(board):
            say(line)
        if form == "csv" and board.tables and board.tracks:
            say("tracks are tables of their own: --track robustness or --track external prints theirs")
    if under is not None and form not in ("table", "md"):
        raise UsbenchError(
            f"--under is printed in the formats table and md, not in {form}; choose one of the two"
        )
    first = [] if under is None else [under_text(board.tables, under)]
    if view is not None:
        return _render_view(board, form, view, first)
    if first:
        return _sections([*first, *all_text_tables(board)], board, form)
    return _RENDERERS[form](board)


def render_subgroups(tables: Sequence[SubgroupTable], board: Leaderboard, form: str) -> str:
    """The subgroups of the tables of a leaderboard as text.

    Args:
        tables: As `usbench.leaderboards.subgroups.subgroup_tables` gives them.
        board: Whose tables they are of.
        form: "table", "md", "csv" or "json".

    Raises:
        UsbenchError: For another format.
    """
    if form == "csv":
        return _csv_of(subgroup_rows(tables))
    if form == "json":
        return json.dumps(subgroups_plain(tables), indent=2, ensure_ascii=False, allow_nan=False)
    if form not in ("table", "md"):
        raise UsbenchError(
            f"--subgroups is printed as table, md, csv or json, not as {form}; choose one of them"
        )
    return _sections(subgroup_texts(tables), board, form)


def write_subgroups(tables: Sequence[SubgroupTable], board: Leaderboard, folder: Path) -> list[Path]:
    """Draw the subgroups of the tables of a leaderboard as `folder`/leaderboard-subgroups.png.

    Args:
        tables: As for `render_subgroups`.
        board: Whose tables they are of.
        folder: Where the file goes.

    Returns:
        The path; nothing where there is no score.

    Raises:
        UsbenchError: Where it cannot be written.
    """
    path = folder / "leaderboard-subgroups.png"
    looks = looks_of(row.fusion_stated for table in board.tables for row in table.rows)
    return [path] if subgroup_figure(tables, looks, path) else []


def _sections(texts: Sequence[TextTable], board: Leaderboard, form: str) -> str:
    return _markdown(texts, board) if form == "md" else tables_as_terminal(texts, board)


def _render_view(board: Leaderboard, form: str, view: View, first: Sequence[TextTable]) -> str:
    view.checked(form)
    if not board.tables:
        raise UsbenchError(
            "there is no clean table to choose columns of; drop --columns, --spread, --layout, --label and "
            "--caption, which do not change tables of tracks"
        )
    if form == "csv":
        return _csv_of(view_rows(board, view))
    if form == "latex":
        return view_as_latex(board, view)
    return _sections([*first, *view_texts(board, view)], board, form)


def write(
    board: Leaderboard, folder: str | Path, pictures: bool = True, cost_axes: Sequence[str] = USUAL
) -> list[Path]:
    """Write leaderboard.md, .csv, .json, .tex, .html, and plots of score against cost and of learning curves.

    Where runs have tracks, there are leaderboard-robustness.csv, leaderboard-external.csv and robustness.png,
    the DSC against what is missing, besides.

    Args:
        board: The leaderboard.
        folder: Where the files go.
        pictures: Whether the page shows slices of cases.
        cost_axes: Which costs the plot of score against cost shows, a panel each.

    Returns:
        The paths; a plot is left out where it would show nothing.

    Raises:
        UsbenchError: Where a file cannot be written, and for a cost that there is not.
    """
    return write_texts(board, Path(folder), board if pictures else None, cost_axes)


def write_texts(
    board: Leaderboard, folder: Path, pictured: Leaderboard | None, cost_axes: Sequence[str] = USUAL
) -> list[Path]:
    """Write every format of the leaderboard, the plot of score against cost, and that of learning curves.

    Args:
        board: The leaderboard.
        folder: Where the files go.
        pictured: As for `text_of`.
        cost_axes: As for `write`.

    Returns:
        The paths; a plot is left out where it would show nothing.

    Raises:
        UsbenchError: Where a file cannot be written.
    """
    paths = []
    for name in file_names(board):
        write_text(folder / name, text_of(board, name.removeprefix("leaderboard").lstrip("."), pictured))
        paths.append(folder / name)
    if cost_figure(board.tables, folder / "leaderboard-cost.png", cost_axes):
        paths.append(folder / "leaderboard-cost.png")
    if robustness_figure(board.tracks, folder / "robustness.png"):
        paths.append(folder / "robustness.png")
    curves = folder / "learning.png"
    rows = (row for table in board.tables for row in table.rows)
    if learning_figure(board.curves, looks_of(row.fusion_stated for row in rows), curves):
        paths.append(curves)
    return paths


def file_names(board: Leaderboard) -> list[str]:
    """The names of the files of words that a leaderboard is written to."""
    tracks = [name for name in _TRACKS if any(table.track == name for table in board.tracks)]
    suffixes = [".md", ".csv", *(f"-{track}.csv" for track in tracks), ".json", ".tex", ".html"]
    if not board.tables and board.tracks:
        suffixes.remove(".csv")
    return [f"leaderboard{suffix}" for suffix in suffixes]


def text_of(board: Leaderboard, suffix: str, pictured: Leaderboard | None = None) -> str:
    """What one of the files of a leaderboard holds.

    Args:
        board: The leaderboard.
        suffix: Of the file: "md", "csv", "json", "tex" or "html", and "-robustness.csv" or "-external.csv"
            for the rows of a track.
        pictured: The same leaderboard with paths at which the masks of its runs are found, for the page's
            pictures; None for a page without pictures.
    """
    form = "latex" if suffix == "tex" else suffix
    track = suffix.removeprefix("-").removesuffix(".csv")
    if track in _TRACKS:
        text = _csv_of(flat_track_rows([table for table in board.tracks if table.track == track]))
    else:
        text = _page(board, pictured) if form == "html" else _RENDERERS[form](board)
    return text.rstrip("\n") + "\n"


def _as_markdown(board: Leaderboard) -> str:
    return _markdown(all_text_tables(board), board)


_OF_MARKDOWN = re.compile(r"[\\`|<&\n\t]|\[(?=[^\]]*\][(\[:])")
_WRITTEN = {"<": "&lt;", "&": "&amp;", "\n": " ", "\t": " "}


def _markdown(tables: Sequence[TextTable], board: Leaderboard) -> str:
    parts = ["# Leaderboard", *(_markdown_section(table) for table in tables)]
    if board.problems:
        parts.append(
            "## Left out\n\n"
            + "\n".join(f"- {_plain(str(p.path))}: {_plain(p.reason)}" for p in board.problems)
        )
    return "\n\n".join(parts) + "\n"


def _markdown_section(table: TextTable) -> str:
    if not table.columns:
        return _plain(table.facts)
    from tabulate import tabulate

    rows = [[_plain(row[name]) for name in table.columns] for row in table.rows]
    align = ["left" if name in table.words else "right" for name in table.columns]
    headers = [_plain(name) for name in table.columns]
    text = tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align)
    heading = "###" if table.under else "##"
    parts = [
        f"{heading} {_plain(table.title)}",
        _plain(table.facts),
        text,
        "\n".join(f"- {_plain(note)}" for note in table.notes),
    ]
    if table.unranked:
        parts.append("Not ranked:\n\n" + "\n".join(f"- {_plain(line)}" for line in table.unranked))
    return "\n\n".join(parts)


def _plain(text: str) -> str:
    """`text` without what Markdown takes for its own in a table, a heading or a note."""
    return _OF_MARKDOWN.sub(lambda found: _WRITTEN.get(found[0], f"\\{found[0]}"), shown(text))


def _as_csv(board: Leaderboard) -> str:
    tracks = () if board.tables else board.tracks
    return _csv_of(flat_rows(board.tables, board.claims is not None) or flat_track_rows(tracks))


def _csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writerow({name: for_spreadsheet(name) for name in rows[0]})
    writer.writerows({name: for_spreadsheet(value) for name, value in row.items()} for row in rows)
    return out.getvalue().rstrip("\n")


def _as_json(board: Leaderboard) -> str:
    return json.dumps(as_dict(board), indent=2, ensure_ascii=False, allow_nan=False)


def _as_html(board: Leaderboard) -> str:
    return _page(board, board)


def _page(board: Leaderboard, pictured: Leaderboard | None) -> str:
    from usbench.pages.leaderboard_page import html

    pairs = [pairs_list(table) for table in board.tables]
    rows = [row for table in board.tables for row in table.rows]
    rows += [row.standing for table in board.tracks for row in table.rows]
    looks = {name: asdict(look) for name, look in looks_of(row.fusion_stated for row in rows).items()}
    plots = [robustness_picture(table) for table in board.tracks]
    notes = [table_notes(table, board.empty) for table in board.tables]
    notes += [track_notes(table) for table in board.tracks]
    shown = None if pictured is None else as_dict(pictured)
    return html(as_dict(board), shown, pairs, looks, plots, notes)


_RENDERERS: dict[str, Callable[[Leaderboard], str]] = {
    "table": as_terminal,
    "md": _as_markdown,
    "csv": _as_csv,
    "json": _as_json,
    "latex": as_latex,
    "html": _as_html,
}
FORMATS = tuple(_RENDERERS)
