"""A leaderboard as LaTeX tables to be put into a paper; they need the packages booktabs and graphicx."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from usbench.leaderboards.track_text import all_text_tables
from usbench.leaderboards.words import BEST, SECOND, TextTable
from usbench.runtime.terminal_text import shown

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
# Greek letters that LaTeX has no command for, since they look as Latin ones.
_GREEK_AS_LATIN = {
    "Alpha": "A", "Beta": "B", "Epsilon": "E", "Zeta": "Z", "Eta": "H", "Iota": "I", "Kappa": "K", "Mu": "M",
    "Nu": "N", "Omicron": "O", "Rho": "P", "Tau": "T", "Chi": "X", "omicron": "o",
}  # fmt: skip
# Of the range of Latin letters, those that the T1 encoding of fonts lacks.
_NOT_IN_T1 = "\u0126\u0127\u0138\u013f\u0140\u0149\u0166\u0167\u017f"
_SYMBOLS = {
    "\N{PLUS-MINUS SIGN}": r"\ensuremath{\pm}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "\N{MIDDLE DOT}": r"\ensuremath{\cdot}",
    "\N{MICRO SIGN}": r"\ensuremath{\mu}",
    "\N{DEGREE SIGN}": r"\ensuremath{^\circ}",
    "\N{LESS-THAN OR EQUAL TO}": r"\ensuremath{\leq}",
    "\N{GREATER-THAN OR EQUAL TO}": r"\ensuremath{\geq}",
    "\N{SUPERSCRIPT TWO}": r"\textsuperscript{2}",
    "\N{SUPERSCRIPT THREE}": r"\textsuperscript{3}",
    "\N{RIGHTWARDS ARROW}": r"\ensuremath{\rightarrow}",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{NO-BREAK SPACE}": "~",
}
MARKS = {BEST: r"\textbf{%s}", SECOND: r"\underline{%s}"}
_HEAD = r"""% Tables of usbench leaderboard. They need \usepackage[T1]{fontenc} and
% \usepackage{booktabs,graphicx}.
% Bold: the best ranked row of a column of scores; underlined: the second best."""


def as_latex(board: Leaderboard) -> str:
    """Every section as a table environment with booktabs rules, best score bold and second underlined.

    A section that is one line is a comment.
    """
    return "\n\n".join([_HEAD, *(_table(table) for table in all_text_tables(board, costs=False))]) + "\n"


def escape(text: str) -> str:
    """`text` with every character that LaTeX takes for its own made to print as itself.

    Letters of Latin scripts that the T1 encoding has are left, Greek ones and usual signs become commands; of
    what pdflatex could not print at all the number in Unicode is printed.
    """
    plain = " ".join(shown(unicodedata.normalize("NFC", text)).splitlines())
    return "".join(_SPECIAL.get(one) or _beyond_ascii(one) for one in plain)


def _beyond_ascii(character: str) -> str:
    if character.isascii():
        return character
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if "\u00c0" <= character <= "\u017e" and character not in _NOT_IN_T1:
        return character
    name = unicodedata.name(character, "")
    found = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", name.replace("LAMDA", "LAMBDA"))
    if found:
        letter = found[2].lower() if found[1] == "SMALL" else found[2].capitalize()
        return _GREEK_AS_LATIN.get(letter) or rf"\ensuremath{{\{letter}}}"
    return f"(U+{ord(character):04X})"


def _table(table: TextTable) -> str:
    if not table.columns:
        return f"% {' '.join(shown(table.facts).split())}"
    columns = [name for name in table.columns if name in (table.printed or table.columns)]
    lines = []
    for i, row in enumerate(table.rows):
        cells = [MARKS.get(table.marks.get((i, name), ""), "%s") % escape(row[name]) for name in columns]
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
