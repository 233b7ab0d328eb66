"""Tables of a view as LaTeX: a line a row, or a line a method and a group of columns a fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from usbench.leaderboards.columns import Column
from usbench.leaderboards.latex import MARKS, escape
from usbench.leaderboards.standing_text import unranked
from usbench.leaderboards.table import Table
from usbench.leaderboards.view import Cell, View, cells_of, methods_by_fusions, spread_note

if TYPE_CHECKING:
    from usbench.leaderboards.board import Leaderboard

_HEAD = r"""% Tables of usbench leaderboard. They need \usepackage[T1]{fontenc} and
% \usepackage{booktabs,graphicx}.
% Bold: the best ranked row of a score; underlined: the second best."""
_NOT_RANKED = r"\textsuperscript{*}"


def view_as_latex(board: Leaderboard, view: View) -> str:
    """Each table of a leaderboard as a table environment, as a view shows it.

    Args:
        board: With at least one table.
        view: Which columns, spread, layout, label and caption.

    Returns:
        LaTeX to be put into a paper; it needs booktabs and graphicx, and the T1 encoding of fonts.
    """
    parts = [_table(table, view, number, len(board.tables)) for number, table in enumerate(board.tables, 1)]
    return "\n\n".join([_HEAD, *parts]) + "\n"


def _table(table: Table, view: View, number: int, of: int) -> str:
    columns = view.shown()
    by_fusion = view.layout == "methods-by-fusions"
    align, head, lines = _grid(table, view, columns) if by_fusion else _rows(table, view, columns)
    caption = view.caption or table.title
    if view.caption and of > 1:
        caption += f" ({table.title})"
    label = view.label + (f"-{number}" if number > 1 else "")
    notes = [spread_note(view.spread), *(f"* Not ranked: {one}." for one in unranked(table.rows))]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            *([rf"\label{{{label}}}"] if label else []),
            r"\small",
            # Only a table that is wider than the page is made smaller.
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            *head,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            "",
            r"\medskip\footnotesize\raggedright",
            *(escape(note) + r"\par" for note in notes if note),
            r"\end{table}",
        ]
    )


def _rows(table: Table, view: View, columns: Sequence[Column]) -> tuple[str, list[str], list[str]]:
    cells = cells_of(table, columns, view.spread)
    align = "".join("l" if column.words else "r" for column in columns)
    head = [_line([escape(column.heading) for column in columns])]
    lines = []
    for line in cells:
        shown = [_cell(line[column.name]) for column in columns]
        if not line[columns[0].name].ranked:
            shown[0] += _NOT_RANKED
        lines.append(_line(shown))
    return align, head, lines


def _grid(table: Table, view: View, columns: Sequence[Column]) -> tuple[str, list[str], list[str]]:
    cells = cells_of(table, columns, view.spread)
    methods, fusions, places = methods_by_fusions(table.rows)
    width = len(columns)
    align = "l" + "".join("l" if column.words else "r" for column in columns) * len(fusions)
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{escape(fusion)}}}" for fusion in fusions]
    starts = [2 + width * i for i in range(len(fusions))]
    rules = " ".join(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start in starts)
    heads = [escape(column.heading) for column in columns] * len(fusions)
    lines = []
    for method in methods:
        shown = [escape(method)]
        for fusion in fusions:
            place = places.get((method, fusion))
            found = [] if place is None else [cells[place][column.name] for column in columns]
            texts = [_cell(one) for one in found] or ["--"] * width
            if found and not found[0].ranked:
                texts[0] += _NOT_RANKED
            shown += texts
        lines.append(_line(shown))
    return align, [_line(["", *groups]), rules, _line(["method", *heads])], lines


def _cell(cell: Cell) -> str:
    text = "--" if cell.text == "-" else MARKS.get(cell.mark, "%s") % escape(cell.text)
    return text + escape(cell.spread)


def _line(cells: Sequence[str]) -> str:
    # A cell that starts with a bracket would be taken for the argument of the line break before it.
    return "{}" * cells[0].startswith("[") + " & ".join(cells) + r" \\"
