"""Tables with a row a case: CSV and TSV files as people write them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from usbench.errors import UsbenchError, unknown
from usbench.storage.regular import read_text
from usbench.storage.tables import MOST_TABLE, parse_table

TABLES = (".csv", ".tsv")
"""How the names of such files end."""


@dataclass(frozen=True)
class CaseTable:
    """A table.

    Attributes:
        columns: the other columns, in order.
        rows: by case, its values by column, spaces around them removed.
    """

    columns: tuple[str, ...]
    rows: dict[str, dict[str, str]]


def read_case_table(path: Path, case_column: str = "case") -> CaseTable:
    """Read a table. Commas, semicolons or tabs separate columns, whichever the first line has most of.

    Args:
        path: of the file, UTF-8 with or without a byte order mark.
        case_column: the column that names the cases.

    Raises:
        UsbenchError: naming the line of what is ambiguous: a column or a case that is there twice, a row with
            more or fewer values than columns, a row without a case.
    """
    try:
        text = read_text(path, MOST_TABLE)
    except OSError as error:
        raise UsbenchError(f"{path}: cannot read the table ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        what = f"the table is not UTF-8 text (byte {error.start})"
        raise UsbenchError(f"{path}: {what}; save it as UTF-8") from error
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        header, lines = parse_table(text, separator)
    except ValueError as error:
        remedy = "save it as CSV, with quotes around a value that has a comma"
        raise UsbenchError(f"{path}: not a table ({error}); {remedy}") from error
    lines = [line for line in lines if any(line)]
    if not lines:
        raise UsbenchError(f"{path}: has no row below its columns; write a row a case")
    columns = [name.strip() for name in header]
    for name, count in Counter(columns).items():
        if count > 1 or not name:
            what = f"column '{name}' is there twice" if name else "a column has no name"
            raise UsbenchError(f"{path}: {what}; give each column its own")
    if case_column not in columns:
        raise UsbenchError(
            f"{path}: {unknown('column', case_column, columns, 'add a column that names the case')}"
        )
    return CaseTable(
        tuple(name for name in columns if name != case_column), _rows(path, columns, lines, case_column)
    )


def _rows(
    path: Path, columns: list[str], lines: list[list[str]], case_column: str
) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for number, line in enumerate(lines, start=2):
        values = {name: value.strip() for name, value in zip(columns, line, strict=True)}
        case = values.pop(case_column)
        if not case:
            raise UsbenchError(f"{path}: row {number} names no case; fill in column {case_column}")
        if case in rows:
            raise UsbenchError(f"{path}: case {case} is in two rows; keep one of them")
        rows[case] = values
    return rows
