"""Tables as a reader asks for them: chosen columns, a spread, a layout, a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from usbench.errors import UsbenchError, unknown
from usbench.fusions.registry import BUILT_IN
from usbench.leaderboards.columns import (
    SPREADS,
    Column,
    best_and_second,
    chosen_columns,
    flat_columns,
    spread_values,
    spread_words,
)
from usbench.leaderboards.rows import Row
from usbench.leaderboards.standing_text import unranked
from usbench.leaderboards.table import Table
from usbench.leaderboards.words import BEST, SECOND, TextTable

if TYPE_CHECKING:
    from usbench.leaderboards.board import Leaderboard

Layout = Literal["rows", "methods-by-fusions"]
LAYOUTS: tuple[Layout, ...] = ("rows", "methods-by-fusions")
FORMS = ("table", "md", "csv", "latex")
"""The formats that a view can be printed in; the others hold everything anyway."""

_DEFAULT = ("dsc", "hd95", "parameters")
_BY_FUSION = ("dsc", "hd95")


@dataclass(frozen=True)
class View:
    """What a reader asks of a table.

    Attributes:
        columns: Names of columns, as in CSV; none for DSC, HD95 and, a line a row, the parameters.
        spread: What stands beside the mean of a score: "none", "sd" or "interval".
        layout: "rows", a line for each, or "methods-by-fusions", a line a method and columns of each fusion.
        label: Of LaTeX's \\label, "" for none. Of several tables the second gets "-2", and so on.
        caption: In place of the title, "" for that. Of several tables each adds its title.
    """

    columns: tuple[str, ...] = ()
    spread: str = "none"
    layout: str = "rows"
    label: str = ""
    caption: str = ""

    def checked(self, form: str) -> View:
        """The view itself, if it can be printed in a format.

        Raises:
            UsbenchError: For an unknown column, spread or layout, a format that a view has no place in, and a
                label that LaTeX could not refer to.
        """
        chosen_columns(self.columns)
        if self.spread not in SPREADS:
            raise unknown("spread", self.spread, SPREADS)
        if self.layout not in LAYOUTS:
            raise unknown("layout", self.layout, LAYOUTS)
        if form not in FORMS:
            raise UsbenchError(
                f"--format {form} holds everything, in its own layout; --columns, --spread, --layout, "
                f"--label and --caption go with {', '.join(FORMS)}"
            )
        if self.layout != "rows" and form == "csv":
            raise UsbenchError(
                "--layout methods-by-fusions: CSV has a line a row; drop it or choose --format latex"
            )
        if (self.label or self.caption) and form != "latex":
            raise UsbenchError(f"--label and --caption are of LaTeX, not of {form}; add --format latex")
        if strange := sorted(
            {one for one in self.label if not (one.isascii() and one.isalnum()) and one not in ":-._"}
        ):
            raise UsbenchError(
                f"--label '{self.label}': LaTeX cannot refer to a label with {strange[0]!r}; use letters, "
                "digits and : - . _"
            )
        return self

    def shown(self) -> list[Column]:
        """Its columns in order; of rows method and fusion first, of methods by fusions without the two."""
        by_fusion = self.layout == "methods-by-fusions"
        names = self.columns or (_BY_FUSION if by_fusion else _DEFAULT)
        columns = chosen_columns(names)
        named = {column.name for column in columns}
        if by_fusion:
            return [column for column in columns if column.name not in ("method", "fusion")]
        first = [name for name in ("method", "fusion") if name not in named]
        return [*chosen_columns(first), *columns]


@dataclass(frozen=True)
class Cell:
    """A cell of a table: the mean or the word, its spread, its mark and whether its row is ranked.

    Attributes:
        text: The mean of a score, else what the column shows.
        spread: What follows the mean, "" for nothing.
        mark: BEST, SECOND or "".
        ranked: Whether the row has a rank.
    """

    text: str
    spread: str = ""
    mark: str = ""
    ranked: bool = True


def cells_of(table: Table, columns: Sequence[Column], spread: str) -> list[dict[str, Cell]]:
    """The cells of the rows of a table by the names of columns.

    Best and second best are marked, but not where so few patients separate nothing.
    """
    rows, marked = table.rows, table.tests.testable
    found: list[dict[str, Cell]] = [{} for _ in rows]
    for column in columns:
        best, second = best_and_second(rows, column.score) if column.score and marked else (set(), set())
        for place, row in enumerate(rows):
            more = ""
            if column.score is not None:
                more = spread_words(spread_values(row, column.score, spread), column.score.digits)
            mark = BEST if place in best else SECOND if place in second else ""
            found[place][column.name] = Cell(column.cell(row), more, mark, row.rank is not None)
    return found


def methods_by_fusions(rows: Sequence[Row]) -> tuple[list[str], list[str], dict[tuple[str, str], int]]:
    """Rows as a grid.

    Args:
        rows: Of one table.

    Returns:
        The labels of methods in the order of their best rows; the fusions, those of usbench first; and
        the place of each row by label and fusion.
    """
    fusions = {row.fusion for row in rows}
    ordered = [one for one in BUILT_IN if one in fusions] + sorted(fusions - set(BUILT_IN))
    places = {(row.label, row.fusion): place for place, row in enumerate(rows)}
    return list(dict.fromkeys(row.label for row in rows)), ordered, places


def spread_note(spread: str) -> str:
    """What stands beside the mean of a score, a sentence; "" where nothing does."""
    return {
        "none": "Scores are means over patients.",
        "sd": "Scores are means over patients ± standard deviation over patients (n - 1).",
        "interval": "Scores are means over patients [95% interval of the mean].",
    }[spread]


def view_texts(board: Leaderboard, view: View) -> list[TextTable]:
    """Each table of a leaderboard as a view shows it, for the terminal and Markdown."""
    make = _grid_text if view.layout == "methods-by-fusions" else _rows_text
    return [make(table, view) for table in board.tables]


def _rows_text(table: Table, view: View) -> TextTable:
    columns = view.shown()
    cells = cells_of(table, columns, view.spread)
    return TextTable(
        title=table.title,
        facts=table.facts,
        columns=tuple(column.heading for column in columns),
        words=tuple(column.heading for column in columns if column.words),
        rows=[
            {column.heading: line[column.name].text + line[column.name].spread for column in columns}
            for line in cells
        ],
        notes=[spread_note(view.spread)],
        unranked=unranked(table.rows),
    )


def _grid_text(table: Table, view: View) -> TextTable:
    columns = view.shown()
    cells = cells_of(table, columns, view.spread)
    methods, fusions, places = methods_by_fusions(table.rows)
    rows = []
    for method in methods:
        line = {"method": method}
        for fusion in fusions:
            found = cells[places[method, fusion]] if (method, fusion) in places else {}
            for place, column in enumerate(columns):
                cell = found.get(column.name, Cell("-"))
                star = "" if cell.ranked or place else "*"
                line[f"{fusion}: {column.heading}"] = cell.text + cell.spread + star
        rows.append(line)
    return TextTable(
        title=table.title,
        facts=table.facts,
        columns=tuple(rows[0]),
        words=("method", *(f"{fusion}: {one.heading}" for fusion in fusions for one in columns if one.words)),
        rows=rows,
        notes=[spread_note(view.spread), *(f"* Not ranked: {one}." for one in unranked(table.rows))],
    )


def view_rows(board: Leaderboard, view: View) -> list[dict[str, Any]]:
    """Each row of each table with the chosen columns as plain values, for CSV."""
    columns = view.shown()
    return [
        {"table": table.title, **flat_columns(row, columns, view.spread)}
        for table in board.tables
        for row in table.rows
    ]
