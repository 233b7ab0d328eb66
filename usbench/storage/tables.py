"""Tables of comma-separated values, and the numbers in them, read strictly."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

MOST_CELLS = 4_000_000
MOST_COLUMNS = 1_000
MOST_TABLE = 64 << 20
"""Bytes of a table: the scores of ten thousand patients with ten classes have half of it."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
# What `float` reads besides: nan and inf, digits in groups, ends of lines. Looked for one by one, which is
# ten times as fast as to look whether every character is one of a number.
_ODD = ("n", "N", "_", "\n", "\r", "\v", "\f", *map(chr, range(28, 32)))


def number(text: str) -> float:
    """A finite number in ASCII, spaces around it left out.

    Python's own `float` reads "1_000", "nan", "inf" and the digits of any alphabet, which others do not.

    Raises:
        ValueError: naming the text.
    """
    plain = text.strip(" \t")
    value = float(plain) if _NUMBER.fullmatch(plain) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"'{text[:40]}' is no finite number")
    return value


def whole(text: str) -> int:
    """A whole number of up to 18 digits in ASCII, spaces around it left out.

    Raises:
        ValueError: naming the text.
    """
    plain = text.strip(" \t")
    if not _WHOLE.fullmatch(plain):
        raise ValueError(f"'{text[:40]}' is no whole number of at most 18 digits")
    return int(plain)


def numbers(texts: Sequence[str]) -> list[float]:
    """A column of finite numbers, NaN for each empty text; as `number`, and as fast as `float`."""
    together = "".join(texts)
    if not together.isascii() or any(map(together.__contains__, _ODD)):
        return [number(text) if text else math.nan for text in texts]
    values = list(map(float, [text or "nan" for text in texts] if "" in texts else texts))
    if not math.isfinite(sum(values)) and any(map(math.isinf, values)):
        raise ValueError(f"'{texts[list(map(math.isinf, values)).index(True)][:40]}' is no finite number")
    return values


def counts(texts: Sequence[str]) -> list[int]:
    """A column of whole numbers from 0 on; as `whole`, and as fast as `int`."""
    together = "".join(texts)
    if together.isascii() and together.isdigit() and max(map(len, texts)) <= 18 and "" not in texts:
        return list(map(int, texts))
    values = [whole(text) for text in texts]
    if any(value < 0 for value in values):
        raise ValueError(f"{min(values)} is less than 0, and no number of voxels")
    return values


def parse_table(text: str, separator: str = ",") -> tuple[list[str], list[list[str]]]:
    """The columns and the rows of a table, empty lines left out; no column and no row for an empty text.

    Args:
        text: The whole table.
        separator: What divides the values of a row.

    Returns:
        The names of the columns, and a list of as many values for each row.

    Raises:
        ValueError: for quotes that do not end, a column that is there twice, a row with more or fewer values
            than columns, and for more than `MOST_COLUMNS` columns or `MOST_CELLS` values.
    """
    if len(text) > MOST_CELLS and text.count(separator) + text.count("\n") > MOST_CELLS:
        raise ValueError(f"it has more than {MOST_CELLS:,} values")
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        filled = [row for row in lines if row]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    header, *rows = filled or [[]]
    if len(header) > MOST_COLUMNS:
        raise ValueError(f"it has {len(header):,} columns, at most {MOST_COLUMNS:,} are read")
    if len(set(header)) < len(header):
        name = next(name for name, times in Counter(header).items() if times > 1)
        raise ValueError(f"the column '{name[:40]}' stands there twice")
    if set(map(len, rows)) - {len(header)}:
        place, row = next((n, row) for n, row in enumerate(rows, start=2) if len(row) != len(header))
        raise ValueError(f"row {place} has {len(row)} values for {len(header)} columns")
    return header, rows


def for_spreadsheet(value: T) -> T | str:
    """A value of a table for others; a text that a spreadsheet would compute is marked as text by a '.

    Such texts begin with = + - @, a tab or a carriage return. Numbers stay as they are.
    """
    if not isinstance(value, str) or len(value) < 2 or value[0] not in "=+-@\t\r" or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"
