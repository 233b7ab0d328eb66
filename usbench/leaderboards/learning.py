"""Learning curves: what rows score with few training patients, and with all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from usbench.leaderboards.rows import Row, identity_key, label_rows
from usbench.leaderboards.table import Table

LEARNING_NOTE = (
    "Patients: how many a run was trained on; smaller sets lie within larger ones of the same seed. Test "
    "patients, settings and epochs are the same, so a network takes fewer steps with fewer patients."
)
"""What a reader of a learning curve has to know."""


@dataclass(frozen=True)
class Point:
    """A row of one table as a point of its curve.

    Attributes:
        trained_on: "30%", "5 patients" or "all", as it was asked for.
        least, most: The fewest and the most patients that a run of its table was trained on.
        dsc: Mean over test patients, that of the row.
        low, high: Its 95 % interval, that of the row; None where it has none.
        cases: How many test patients the mean is over.
        folds_done: How many folds have a run.
        folds: How many there are.
        table: Title of its table.
    """

    trained_on: str
    least: int
    most: int
    dsc: float
    low: float | None
    high: float | None
    cases: int
    folds_done: int
    folds: int
    table: str


@dataclass(frozen=True)
class Curve:
    """One method under one fusion, with few training patients and with all.

    Attributes:
        method: Name of the method.
        label: Method, weights, and the settings in which curves differ.
        fusion: Name of the fusion.
        points: In order of the number of patients trained on.
    """

    method: str
    label: str
    fusion: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Learning:
    """The curves of tables that differ in nothing but the part of the training patients.

    Attributes:
        title: That of the table of all training patients, or what its title would be.
        task: Name of the task.
        data: Kind of the data.
        curves: In order of the best mean DSC that each reaches, highest first.
    """

    title: str
    task: str
    data: str
    curves: tuple[Curve, ...]


def learning_curves(tables: Sequence[Table]) -> tuple[Learning, ...]:
    """The learning curves of some tables; none of a table that no table of few patients belongs to.

    A point is a row of a table: its mean and its interval are those that stand there. A row without a score
    has no point.

    Args:
        tables: Those of a leaderboard.

    Returns:
        One entry for each group of tables that differ in the part of the training patients alone, in the
        order of the tables.
    """
    groups: dict[tuple[Any, ...], list[Table]] = defaultdict(list)
    for table in tables:
        key = (table.task, table.kind, table.fingerprint, table.modalities, table.classes)
        groups[*key, table.of_all_patients].append(table)
    found = [_learning(group) for group in groups.values() if any(table.few for table in group)]
    return tuple(one for one in found if one.curves)


def _learning(tables: Sequence[Table]) -> Learning:
    points: dict[tuple[Any, ...], list[tuple[Point, Row]]] = defaultdict(list)
    for table in tables:
        for row in table.rows:
            if row.scores["dsc"] is not None:
                points[identity_key(row)].append((_point(table, row), row))
    # Rows are named anew: a setting may tell two rows of one table apart, and none of another.
    names = label_rows([members[0][1] for members in points.values()])
    curves = [
        Curve(row.method, row.label, row.fusion, _in_order([point for point, _ in members]))
        for row, members in zip(names, points.values(), strict=True)
    ]
    curves.sort(key=lambda curve: (-max(point.dsc for point in curve.points), curve.label, curve.fusion))
    return Learning(tables[0].base_title, tables[0].task, tables[0].kind, tuple(curves))


def _point(table: Table, row: Row) -> Point:
    low, high = row.interval or (None, None)
    dsc = row.scores["dsc"]
    assert dsc is not None
    return Point(
        trained_on=_asked(table),
        least=table.trained_on[0],
        most=table.trained_on[1],
        dsc=dsc,
        low=low,
        high=high,
        cases=row.cases,
        folds_done=row.folds_done,
        folds=row.folds,
        table=table.title,
    )


def _asked(table: Table) -> str:
    few = table.few
    if few is None:
        return "all"
    if few.share is not None:
        return f"{100 * few.share:.10g}%"
    return f"{few.cases} patient{'' if few.cases == 1 else 's'}"


def _in_order(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple(sorted(points, key=lambda one: (one.least + one.most, one.trained_on)))
