"""A leaderboard for a terminal: columns that do not fit are dropped, and named."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from usbench.leaderboards.track_text import all_text_tables
from usbench.leaderboards.words import WRAPPED, TextTable

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from usbench.leaderboards.board import Leaderboard

_NOTES = 110  # characters a line of notes where the output has no width


def as_terminal(board: Leaderboard) -> str:
    """The leaderboard as text that fits the width of the terminal; of a file or pipe there is none."""
    return tables_as_terminal(all_text_tables(board), board)


def tables_as_terminal(tables: Sequence[TextTable], board: Leaderboard) -> str:
    """Some sections of a leaderboard, as `as_terminal`, and what was left out of it."""
    parts = [_section(table) for table in tables]
    if board.problems:
        parts.append("\n".join(problem_lines(board)) + "\n")
    return "\n".join(parts).rstrip("\n")


def problem_lines(board: Leaderboard) -> list[str]:
    """What was left out, a line each under a line that counts them; none where nothing was."""
    if not board.problems:
        return []
    return [f"left out ({len(board.problems)}):", *(f"  {problem}" for problem in board.problems)]


def _section(table: TextTable) -> str:
    is_terminal = sys.stdout.isatty()
    if not table.columns:
        width = shutil.get_terminal_size((_NOTES, 24)).columns
        return (textwrap.fill(table.facts, width) if is_terminal else table.facts) + "\n"
    columns = list(table.columns)
    natural = _natural_width(table, columns)
    width = shutil.get_terminal_size((natural, 24)).columns if is_terminal else natural
    dropped = []
    for name in (name for name in table.dispensable if name in table.columns):
        if _natural_width(table, columns) <= width:
            break
        columns.remove(name)
        dropped.append(name)
    text = _printed(_rich_table(table, columns), width)
    if dropped:
        text += f"too narrow for: {', '.join(dropped)} (a wider terminal or --format md shows them)\n"
    line = min(width, _NOTES) if is_terminal else _NOTES
    for note in table.notes:
        text += textwrap.fill(note, line, subsequent_indent="  ", break_on_hyphens=False) + "\n"
    return f"{table.title}\n{table.facts}\n{text}"


def _rich_table(table: TextTable, columns: Sequence[str]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in columns:
        justify: Literal["left", "right"] = "left" if name in table.words else "right"
        shown.add_column(name, justify=justify, no_wrap=name not in WRAPPED)
    for row in table.rows:
        # As text: a label in square brackets is not markup.
        shown.add_row(*(Text(row[name]) for name in columns))
    return shown


def _natural_width(table: TextTable, columns: Sequence[str]) -> int:
    return sum(max(len(name), *(len(row[name]) for row in table.rows)) + 3 for name in columns)


def _printed(table: RichTable, width: int) -> str:
    from usbench.runtime.safe_console import SafeConsole

    out = io.StringIO()
    SafeConsole(file=out, width=width, color_system=None, highlight=False).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(line for line in lines if line) + "\n"
