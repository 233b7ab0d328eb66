"""Numbers in tables of other people's files: written as usbench writes them, whatever else Python reads."""

from __future__ import annotations

import csv
import io
import re

TEXTS = frozenset(("case", "class", "condition", "edge"))
"""Columns of a cases.csv that hold words."""

_WHOLE = frozenset(("tp", "fp", "fn", "tn"))
_COUNT = re.compile(r"[0-9]{1,15}")
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,40})?(e[+-]?[0-9]{1,3})?")


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
            if (_COUNT if name in _WHOLE else _NUMBER).fullmatch(cell) is None:
                raise ValueError(f"{name[:40]!a} holds {cell[:40]!a}, which is no plain number")


def plain_number(cell: str) -> bool:
    """Whether a cell of a history.csv is a finite number as usbench writes it."""
    return _NUMBER.fullmatch(cell) is not None
