"""The tables of a leaderboard as the page holds them: small enough for thousands of rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

Intervals = Sequence[tuple[float, float] | None]

MANY_ROWS = 500
"""A page of more rows holds them as lists of values, and the details of as many rows as fit."""

DETAILS = 1_500_000
"""Characters that patients, runs and settings of rows may take on a page of many rows."""

_DETAILS = ("patients", "runs", "settings")


def compact_tables(
    tables: Sequence[Mapping[str, Any]], intervals: Sequence[Intervals | None]
) -> list[dict[str, Any]]:
    """The tables as plain data for the page's script.

    A row holds its patients' DSC as a list in the order of the table's "case_ids". "pairs" has for every pair
    of rows, in the order of `itertools.combinations`, the mean difference of DSC, its interval and p.

    Args:
        tables: Of the leaderboard, as plain data.
        intervals: For each table the interval of the difference of every pair; used where a table brings no
            "pairs" of its own.

    Returns:
        A mapping a table. On a page of more than `MANY_ROWS` rows "rows" are lists of the values of "keys",
        and "details" holds what else is known of the first rows of the table.
    """
    found = [_table(*one) for one in zip(tables, intervals, strict=True)]
    if sum(len(table["rows"]) for table in found) <= MANY_ROWS:
        return found
    left = DETAILS
    for i, table in enumerate(found):
        left -= _shorten(table, left // (len(found) - i))
    return found


def _table(table: Mapping[str, Any], intervals: Intervals | None) -> dict[str, Any]:
    case_ids = sorted({case for row in table["rows"] for case in row["patients"]})
    rows = [
        {**row, "patients": [_rounded(row["patients"].get(case)) for case in case_ids]}
        for row in table["rows"]
    ]
    pairs = table.get("pairs") or _pairs(rows, intervals)
    if pairs is not None:
        pairs = [None if pair is None else [_rounded(value) for value in pair] for pair in pairs]
    return {**table, "case_ids": case_ids, "rows": rows, "pairs": pairs}


def _pairs(rows: Sequence[Mapping[str, Any]], intervals: Intervals | None) -> list[Any] | None:
    """Mean difference and interval of every pair, without p."""
    if intervals is None:
        return None
    found: list[Any] = []
    for (a, b), ends in zip(combinations(rows, 2), intervals, strict=True):
        shared = [
            x - y
            for x, y in zip(a["patients"], b["patients"], strict=True)
            if x is not None and y is not None
        ]
        mean = math.fsum(shared) / len(shared) if shared else None
        found.append(None if mean is None else [mean, *(ends or (None, None)), None])
    return found


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
