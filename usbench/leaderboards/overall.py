"""Rows across tasks: who does well everywhere, among runs of one preset, size and training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from usbench.errors import UsbenchError, unknown
from usbench.leaderboards.compare import score_matrix
from usbench.leaderboards.rows import Row, identity_key, label_rows
from usbench.leaderboards.stats import over_tasks
from usbench.leaderboards.stats.average import DECIMALS
from usbench.leaderboards.table import Table
from usbench.results.usable import settings_key

OF_TASK = ("mirror",)
"""Settings of training that follow the task: left and right are exchanged only where no class has a side."""


@dataclass(frozen=True)
class OverallRow:
    """One row over all tasks of its group; ranks and dsc are by task.

    Of the intervals, which hold for these tasks alone, see `usbench.leaderboards.stats.over_tasks`; None
    where a task has fewer than four patients.
    """

    rank: int
    method: str
    label: str
    fusion: str
    weights: str
    mean_rank: float
    rank_low: float | None
    rank_high: float | None
    mean_dsc: float
    dsc_low: float | None
    dsc_high: float | None
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
        rows: The rows, the best first; none where fewer than two tasks are left to count.
        left_out: Names of rows that are complete on some of the tasks only.
        open: Tasks that take no part since several tables of them would fit, and nobody chose one; a sentence
            each.
    """

    kind: str
    preset: str
    size: int | None
    train: dict[str, Any]
    tasks: tuple[str, ...]
    tables: tuple[str, ...]
    rows: tuple[OverallRow, ...]
    left_out: tuple[str, ...]
    open: tuple[str, ...]


def across_tasks(tables: Sequence[Table], chosen: Sequence[str] = ()) -> tuple[Overall, ...]:
    """Mean rank and mean DSC across tasks, for each group of tables of one kind, preset, size and training.

    Tables of few training patients take no part. Training is one where all its settings but those of
    `OF_TASK` are. A task takes part if any of its rows is complete; a group needs two tasks. Where a task has
    several tables (other modalities or classes, another protocol) the one that was chosen counts; without a
    choice the task takes no part, and says so. Rows are ranked anew among those complete on all tasks, equal
    means sharing the mean of their ranks (as in Demsar 2006, JMLR 7), and sorted by mean rank, then by mean
    DSC.

    Args:
        tables: Of a leaderboard.
        chosen: Titles or protocols of tables that count where a task has several.

    Returns:
        The groups.

    Raises:
        UsbenchError: For a choice that is no table, or does not tell between the tables of a task.
    """
    known = {name for table in tables for name in (table.title, table.protocol)}
    if lost := next((name for name in chosen if name not in known), None):
        raise unknown("table", lost, sorted(known), "give the title or the protocol of a table")
    groups: dict[tuple[Any, ...], dict[str, list[Table]]] = defaultdict(lambda: defaultdict(list))
    for table in tables:
        if table.few is not None or all(row.outside for row in table.rows):
            continue  # Of other programs alone, nothing says that rows of two tasks are of one recipe.
        train = settings_key(_shared(table))
        if table.ranked:
            by_task = groups[table.kind, table.preset, table.config["data"].get("size"), train]
            by_task[table.task].append(table)
    found = []
    for by_task in groups.values():
        one = {task: _choice(task, some, chosen) for task, some in by_task.items()}
        counted = [table for table in one.values() if table is not None]
        titles = {
            task: "; ".join(table.title for table in by_task[task]) for task in one if one[task] is None
        }
        open_tasks = tuple(
            f"{task} has several tables ({titles[task]}); choose one with --overall-table" for task in titles
        )
        if len(counted) > 1:
            found.append(_overall(counted, open_tasks))
        elif open_tasks and len(by_task) > 1:
            found.append(_described(next(iter(by_task.values()))[0], counted, (), (), open_tasks))
    return tuple(group for group in found if group is not None)


def _choice(task: str, tables: Sequence[Table], chosen: Sequence[str]) -> Table | None:
    """The table of a task that counts; None where several would, and none was chosen."""
    if len(tables) == 1:
        return tables[0]
    named = [table for table in tables if table.title in chosen or table.protocol in chosen]
    if len(named) > 1:
        titles = "; ".join(table.title for table in named)
        raise UsbenchError(
            f"--overall-table: names {len(named)} tables of {task} ({titles}); name one of them"
        )
    return named[0] if named else None


def _overall(tables: Sequence[Table], open_tasks: tuple[str, ...]) -> Overall | None:
    from scipy.stats import rankdata

    by_table = [{identity_key(row): row for row in table.ranked} for table in tables]
    common = [key for key in by_table[0] if all(key in rows for rows in by_table)]
    if not common:
        return None
    scores = [_common_scores([rows[key] for key in common]) for rows in by_table]
    found = over_tasks(scores)
    dsc = np.array([one.mean(axis=1) for one in scores])
    ranks = rankdata(-np.round(dsc, DECIMALS), axis=1)
    tasks = tuple(table.task for table in tables)
    labelled = label_rows([by_table[0][key] for key in common])
    places = sorted(range(len(common)), key=lambda i: (found.rank[i], -found.score[i], labelled[i].name))
    rows: list[OverallRow] = []
    for place, i in enumerate(places, start=1):
        mean_rank = float(found.rank[i])
        equal = rows and math.isclose(rows[-1].mean_rank, mean_rank, abs_tol=1e-9)
        row = labelled[i]
        low, high = found.rank_interval[i] if found.rank_interval else (None, None)
        rows.append(
            OverallRow(
                rank=rows[-1].rank if equal else place,
                method=row.method,
                label=row.label,
                fusion=row.fusion,
                weights=row.weights,
                mean_rank=mean_rank,
                rank_low=low,
                rank_high=high,
                mean_dsc=float(found.score[i]),
                dsc_low=found.score_interval[i].low,
                dsc_high=found.score_interval[i].high,
                ranks=dict(zip(tasks, ranks[:, i].tolist(), strict=True)),
                dsc=dict(zip(tasks, dsc[:, i].tolist(), strict=True)),
            )
        )
    partial = {row.name for table in by_table for key, row in table.items() if key not in common}
    return _described(tables[0], tables, rows, sorted(partial), open_tasks)


def _described(
    first: Table,
    tables: Sequence[Table],
    rows: Sequence[OverallRow],
    left_out: Sequence[str],
    open_tasks: tuple[str, ...],
) -> Overall:
    """A group with what its tables share, as the first of them has it."""
    return Overall(
        first.kind,
        first.preset,
        first.config["data"].get("size"),
        _shared(first),
        tuple(table.task for table in tables),
        tuple(table.title for table in tables),
        tuple(rows),
        tuple(left_out),
        open_tasks,
    )


def _common_scores(rows: Sequence[Row]) -> np.ndarray:
    """Scores [rows, patients] of the patients that all rows have."""
    scores = score_matrix(rows)
    return scores[:, ~np.isnan(scores).any(axis=0)]


def _shared(table: Table) -> dict[str, Any]:
    return {name: value for name, value in table.config["train"].items() if name not in OF_TASK}
