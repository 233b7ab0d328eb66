"""Numbers in tables of other people's files: written as usbench writes them, whatever else Python reads."""

from __future__ import annotations

import csv
import io

from usbench.storage.tables import number, whole

TEXTS = frozenset(("case", "class", "condition", "edge"))
"""Columns of a cases.csv that hold words."""

_WHOLE = frozenset(("tp", "fp", "fn", "tn"))


def check_table(text: str) -> None:
    """Hold every number of a cases.csv against how usbench writes numbers.

    Python reads more as a number than anybody means: digits of other scripts, "1_000", " 1", "nan".

    Args:
        text: The whole file.

    Raises:
        ValueError: For the first that is written otherwise; its text is the end of a sentence about it.
        csv.Error: For a table that cannot be split into cells.
    """
    header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row] or [[]]
    for row in rows:
        for name, cell in zip(header, row, strict=False):
            if name in TEXTS or (cell == "" and name not in _WHOLE):
                continue
            if not _is_plain(cell, name in _WHOLE):
                raise ValueError(f"{name[:40]!a} holds {cell[:40]!a}, which is no plain number")


def _is_plain(cell: str, counted: bool) -> bool:
    try:
        value = whole(cell) if counted else number(cell)
    except ValueError:
        return False
    return cell == cell.strip() and (value >= 0 or not counted)
