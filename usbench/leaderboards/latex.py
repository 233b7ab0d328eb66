"""A leaderboard as LaTeX tables to be put into a paper; they need the packages booktabs and graphicx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usbench.leaderboards.track_text import all_text_tables
from usbench.leaderboards.words import BEST, SECOND, TextTable

if TYPE_CHECKING:
    from usbench.leaderboards.board import Leaderboard

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}
_MARKS = {BEST: r"\textbf{%s}", SECOND: r"\underline{%s}"}
_HEAD = r"""% Tables of usbench leaderboard. They need \usepackage[T1]{fontenc} and
% \usepackage{booktabs,graphicx}.
% Bold: the best ranked row of a column of scores; underlined: the second best."""


def as_latex(board: Leaderboard) -> str:
    """Every section as a table environment with booktabs rules, best score bold and second underlined.

    A section that is one line is a comment.
    """
    return "\n\n".join([_HEAD, *(_table(table) for table in all_text_tables(board))]) + "\n"


def escape(text: str) -> str:
    """`text` with every character that LaTeX takes for its own made to print as itself."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _table(table: TextTable) -> str:
    if not table.columns:
        return f"% {table.facts}"
    columns = [name for name in table.columns if name in (table.printed or table.columns)]
    lines = []
    for i, row in enumerate(table.rows):
        cells = [_MARKS.get(table.marks.get((i, name), ""), "%s") % escape(row[name]) for name in columns]
        # A cell that starts with a bracket would be taken for the argument of the line break before it.
        lines.append("{}" * cells[0].startswith("[") + " & ".join(cells) + r" \\")
    align = "".join("l" if name in table.words else "r" for name in columns)
    notes = [table.facts + ".", *(f"Not ranked: {one}." for one in table.unranked), *table.notes]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{escape(table.title)}}}",
            r"\small",
            # Only a table that is wider than the page is made smaller.
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            " & ".join(escape(name) for name in columns) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            "",
            r"\medskip\footnotesize\raggedright",
            *(escape(note) + r"\par" for note in notes),
            r"\end{table}",
        ]
    )
