"""Rows that are one: the same scores twice, and older code beside newer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from usbench.leaderboards.rows import Folded, Row
from usbench.results.usable import settings_key

SAME = "the same scores"
OLDER = "older code"
_OF_CODE = ("code", "version", "fusion-code", "fusion-version")


def fold(rows: Sequence[Row]) -> list[Row]:
    """Fold rows that are one.

    Two rows of one recipe with the same score for every patient are the same networks: a submission of one's
    own runs, or a copy. One's own newest row stays, of submissions the first. Of rows that differ in the code
    of the method or fusion alone the newest stays, and the older are folded where it has all their folds.

    Args:
        rows: Of one table, not ranked yet.

    Returns:
        Those that stay, in order, each with what is folded under it.
    """
    kept: list[Row] = []
    same: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        same[_scores_key(row)].append(row)
    for group in same.values():
        newest_first = sorted(group, key=lambda row: row.finished, reverse=True)
        first, *others = sorted(
            newest_first, key=lambda row: (row.entry is not None, row.entry.name if row.entry else "")
        )
        kept.append(_over(first, others, SAME))
    versions: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in kept:
        versions[*_recipe(row), row.entry.name if row.entry else ""].append(row)
    found = []
    for group in versions.values():
        newest = max(group, key=lambda row: row.finished)
        older = [row for row in group if row is not newest and _folds(row) <= _folds(newest)]
        found += [
            _over(newest, older, OLDER),
            *(row for row in group if row is not newest and row not in older),
        ]
    places = {id(run): i for i, row in enumerate(rows) for run in row.runs}
    return sorted(found, key=lambda row: places[id(row.runs[0])])


def _folds(row: Row) -> set[int]:
    return {int(run["fold"]) for run in row.runs}


def _scores_key(row: Row) -> tuple[Any, ...]:
    scores = tuple(
        (case, tuple(None if math.isnan(value) else value for value in values.values()))
        for case, values in sorted(row.patients.items())
    )
    return *_recipe(row), row.folds_done, row.seeds, scores


def _recipe(row: Row) -> tuple[Any, ...]:
    """What rows of one method have in common, whatever their code."""
    settings = {name: value for name, value in row.settings.items() if name not in _OF_CODE}
    return row.method, row.fusion, row.weights, settings_key(settings)


def _over(row: Row, others: Sequence[Row], why: str) -> Row:
    if not others:
        return row
    folded = [Folded(_name(one, row, why), one.scores["dsc"], why, one.runs) for one in others]
    return replace(row, also=(*row.also, *folded, *(below for one in others for below in one.also)))


def _name(row: Row, over: Row, why: str) -> str:
    if row.entry is not None and why == SAME:
        return f"submission {row.entry.name}"
    unlike = [name for name in _OF_CODE if row.settings.get(name) != over.settings.get(name)]
    said = ", ".join(f"{name} {row.settings.get(name)}" for name in unlike)
    return said or f"another copy ({row.runs[0]['path']})"
