"""Rows across tasks: who does well everywhere, among runs of one preset, size and training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from usbench.leaderboards.rows import Row, entry_key, label_rows
from usbench.leaderboards.table import Table
from usbench.results.usable import settings_key

OF_TASK = ("mirror",)
"""Settings of training that follow the task: left and right are exchanged only where no class has a side."""


@dataclass(frozen=True)
class OverallRow:
    """One row over all tasks of its group; ranks and dsc are by task."""

    rank: int
    method: str
    label: str
    fusion: str
    weights: str
    mean_rank: float
    mean_dsc: float
    ranks: dict[str, float]
    dsc: dict[str, float]


@dataclass(frozen=True)
class Overall:
    """Rows that are complete on every task of one kind of data, under one preset, size and training.

    Attributes:
        kind: Of data.
        preset: The preset.
        size: Side of the slices in pixels.
        train: The settings of training that are shared, so without those of `OF_TASK`.
        tasks: Names of the tasks.
        tables: Titles of the tables that the ranks are from, one a task.
        rows: The rows, the best first.
        left_out: Names of rows that are complete on some of the tasks only.
    """

    kind: str
    preset: str
    size: int | None
    train: dict[str, Any]
    tasks: tuple[str, ...]
    tables: tuple[str, ...]
    rows: tuple[OverallRow, ...]
    left_out: tuple[str, ...]


def across_tasks(tables: Sequence[Table]) -> tuple[Overall, ...]:
    """Mean rank and mean DSC across tasks, for each group of tables of one kind, preset, size and training.

    Tables of few training patients take no part. Training is one where all its settings but those of
    `OF_TASK` are. A task takes part if any of its rows is complete; a group needs two tasks. Of several
    tables of one task (other modalities or classes, another protocol) the one with the most complete rows
    counts, of equal ones the first. Rows are ranked anew among those complete on all tasks, equal means
    sharing the mean of their ranks (as in Demsar 2006, JMLR 7), and sorted by mean rank, then by mean DSC.
    """
    groups: dict[tuple[Any, ...], dict[str, Table]] = defaultdict(dict)
    for table in tables:
        if table.few is not None or all(row.outside for row in table.rows):
            continue  # Of other programs alone, nothing says that rows of two tasks are of one recipe.
        train = settings_key(_shared(table))
        by_task = groups[table.kind, table.preset, table.config["data"].get("size"), train]
        best = by_task.get(table.task)
        if table.ranked and (best is None or len(table.ranked) > len(best.ranked)):
            by_task[table.task] = table
    found = [_overall(list(by_task.values())) for by_task in groups.values() if len(by_task) > 1]
    return tuple(group for group in found if group is not None)


def _overall(tables: Sequence[Table]) -> Overall | None:
    from scipy.stats import rankdata

    by_table = [{_identity(row): row for row in table.ranked} for table in tables]
    common = [key for key in by_table[0] if all(key in rows for rows in by_table)]
    if not common:
        return None
    dsc = np.array([[_dsc(rows[key]) for key in common] for rows in by_table])
    ranks = rankdata(-np.round(dsc, 12), axis=1)
    tasks = tuple(table.task for table in tables)
    labelled = label_rows([by_table[0][key] for key in common])
    places = sorted(
        range(len(common)), key=lambda i: (ranks[:, i].mean(), -dsc[:, i].mean(), labelled[i].name)
    )
    rows: list[OverallRow] = []
    for place, i in enumerate(places, start=1):
        mean_rank = float(ranks[:, i].mean())
        tied = rows and math.isclose(rows[-1].mean_rank, mean_rank, abs_tol=1e-9)
        row = labelled[i]
        rows.append(
            OverallRow(
                rows[-1].rank if tied else place,
                row.method,
                row.label,
                row.fusion,
                row.weights,
                mean_rank,
                math.fsum(dsc[:, i]) / len(tables),
                dict(zip(tasks, ranks[:, i].tolist(), strict=True)),
                dict(zip(tasks, dsc[:, i].tolist(), strict=True)),
            )
        )
    first = tables[0]
    partial = {row.name for found in by_table for key, row in found.items() if key not in common}
    return Overall(
        first.kind,
        first.preset,
        first.config["data"].get("size"),
        _shared(first),
        tasks,
        tuple(table.title for table in tables),
        tuple(rows),
        tuple(sorted(partial)),
    )


def _shared(table: Table) -> dict[str, Any]:
    return {name: value for name, value in table.config["train"].items() if name not in OF_TASK}


def _identity(row: Row) -> tuple[Any, ...]:
    return row.method, row.fusion, row.weights, settings_key(row.settings), entry_key(row)


def _dsc(row: Row) -> float:
    value = row.scores["dsc"]
    return math.nan if value is None else value
