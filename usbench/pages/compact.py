"""The tables of a leaderboard as the page holds them: small enough for thousands of rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Pairs = Sequence[Sequence[float | None]]
"""Mean difference, low, high and p of every pair of ranked rows, in the order of `itertools.combinations`."""

MANY_ROWS = 500
"""A page of more rows holds them as lists of values, and the details of as many rows as fit."""

DETAILS = 1_500_000
"""Characters that patients, runs and settings of rows may take on a page of many rows."""

_DETAILS = ("patients", "runs", "settings")


def compact_tables(
    tables: Sequence[Mapping[str, Any]], pairs: Sequence[Pairs | None]
) -> list[dict[str, Any]]:
    """The tables as plain data for the page's script.

    A row holds its patients' DSC as a list in the order of the table's "case_ids"; "pairs" are the `Pairs` of
    its ranked rows, which stand first.

    Args:
        tables: Of the leaderboard, as plain data.
        pairs: For each table those of its ranked rows, None where there are too many.

    Returns:
        A mapping a table. On a page of more than `MANY_ROWS` rows "rows" are lists of the values of "keys",
        and "details" holds what else is known of the first rows of the table.
    """
    found = [_table(*one) for one in zip(tables, pairs, strict=True)]
    if sum(len(table["rows"]) for table in found) <= MANY_ROWS:
        return found
    left = DETAILS
    for i, table in enumerate(found):
        left -= _shorten(table, left // (len(found) - i))
    return found


def _table(table: Mapping[str, Any], pairs: Pairs | None) -> dict[str, Any]:
    case_ids = sorted({case for row in table["rows"] for case in row["patients"]})
    rows = [
        {**row, "patients": [_rounded(row["patients"].get(case)) for case in case_ids]}
        for row in table["rows"]
    ]
    rounded = None if pairs is None else [[_rounded(value) for value in pair] for pair in pairs]
    return {**table, "case_ids": case_ids, "rows": rows, "pairs": rounded}


def _shorten(table: dict[str, Any], share: int) -> int:
    """Make rows lists of values, with details of the first within `share` characters; returns their size."""
    rows, used = table["rows"], 0
    details: list[dict[str, Any]] = []
    for row in rows:
        one = {name: row[name] for name in _DETAILS if name in row}
        used += len(json.dumps(one))
        if used > share:
            break
        details.append(one)
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in _DETAILS]
    table |= {
        "keys": keys,
        "rows": [[_short(row.get(key)) for key in keys] for row in rows],
        "details": details,
    }
    return min(used, share)


def _short(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) and math.isfinite(value) else value


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 6)
