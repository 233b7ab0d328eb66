"""Published figures beside our rows: not measured here, never ranked and never subtracted."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.errors import UsbenchError
from usbench.leaderboards.reported.publications import Printed, Publication, publications
from usbench.leaderboards.table import Table

if TYPE_CHECKING:
    from usbench.contracts.data import Task

AUTO = "auto"
CHOICES = (AUTO, "none", "fitting", "all")
SMALL = 10
"""A leaderboard with fewer rows than this, of tasks that publications report on, says in a line of text that
there are published figures and how to see them; its page has them folded, as every page."""


@dataclass(frozen=True)
class Measured:
    """A row of ours beside a published line.

    Attributes:
        table: Title of its table.
        label: Method, weights, and the settings in which rows differ.
        fusion: Of the row.
        status: Why the row is not ranked, "" if it is.
        dsc: Of the row, mean over patients; None if undefined.
        scores: Likewise, of the scores that the line has figures for, by name.
    """

    table: str
    label: str
    fusion: str
    status: str
    dsc: float | None
    scores: dict[str, float | None]


@dataclass(frozen=True)
class Line:
    """One line of a published table, and the rows of ours that it stands beside.

    Attributes:
        task: Name of the task in usbench.
        printed_task: The task, as printed.
        part: The class or region that the figures are of; "" for the task as a whole.
        method: The method, as printed.
        fusion: The fusion, as printed; "" where none is.
        table: Where it stands in the publication.
        parameters: As printed; "" where none are.
        scores: Each figure as printed, by the name of the mean in our rows.
        units: The unit of each, as printed.
        our_method: The method's name in usbench, "" where it has none.
        measured: Rows of ours of the same task and method, and of the same fusion where one is printed.
    """

    task: str
    printed_task: str
    part: str
    method: str
    fusion: str
    table: str
    parameters: str
    scores: dict[str, str]
    units: dict[str, str]
    our_method: str
    measured: tuple[Measured, ...]


@dataclass(frozen=True)
class Reported:
    """What a publication reports on the tasks of a leaderboard.

    Attributes:
        title: Authors and name.
        reference: In full.
        address: DOI or address, "" where it is not known.
        second_hand: Where the figures were read, if not in the publication itself; else "".
        differs: What its protocol does not share with ours.
        lines: At least one.
    """

    title: str
    reference: str
    address: str
    second_hand: str
    differs: tuple[str, ...]
    lines: tuple[Line, ...]


def beside_reported(
    tables: Sequence[Table], plugins: Sequence[str | Path] = (), every_method: bool = False
) -> tuple[Reported, ...]:
    """The published figures of the tasks that have a table, each line beside the rows of ours that fit it.

    Tables of few training patients and rows of submissions have no part in it.

    Args:
        tables: The tables of a leaderboard.
        plugins: Python files with tasks. A task's `published` is the name under which publications list it.
        every_method: Whether lines are wanted that no row of ours fits.
    """
    tasks = _published_tasks({table.task for table in tables}, plugins)
    found = []
    for publication in publications() if tasks else ():
        lines = [
            _beside(task, printed, tables)
            for task in tasks
            for printed in publication.lines
            if task.published in printed.published
        ]
        if shown := tuple(line for line in lines if every_method or line.measured):
            found.append(_reported(publication, shown))
    return tuple(found)


def is_small(tables: Sequence[Table], reported: Sequence[Reported]) -> bool:
    """Whether a leaderboard has few rows of the tasks that publications report on, see `SMALL`."""
    tasks = {line.task for one in reported for line in one.lines}
    return sum(len(table.rows) for table in tables if table.task in tasks) < SMALL


def _published_tasks(names: set[str], plugins: Sequence[str | Path]) -> list[Task]:
    """The tasks of these names that publications may list, built-in ones first."""
    from usbench.datasets.tasks import get_task, task_names

    order = [name for name in task_names() if name in names]
    tasks = []
    for name in (*order, *sorted(names - set(order))):
        # The task of a user's folder, or of a plugin that is not here, is in no publication.
        with contextlib.suppress(UsbenchError):
            tasks.append(get_task(name, plugins))
    return [task for task in tasks if task.published]


def _beside(task: Task, printed: Printed, tables: Sequence[Table]) -> Line:
    measured = tuple(
        Measured(
            table.title,
            row.label,
            row.fusion,
            row.status,
            row.scores["dsc"],
            {name: row.scores.get(name) for name in printed.scores},
        )
        for table in tables
        if table.task == task.name and table.few is None
        for row in table.rows
        if row.method == printed.our_method and row.entry is None and printed.fusion in ("", row.fusion)
    )
    return Line(
        task.name,
        printed.task,
        printed.part,
        printed.method,
        printed.fusion,
        printed.table,
        printed.parameters,
        printed.scores,
        printed.units,
        printed.our_method,
        measured,
    )


def _reported(publication: Publication, lines: tuple[Line, ...]) -> Reported:
    return Reported(
        publication.short,
        publication.reference,
        publication.address,
        publication.second_hand,
        publication.differs,
        lines,
    )
