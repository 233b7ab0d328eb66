"""What a DSC costs: which rows no other beats at their cost, and the best row under given limits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from usbench.errors import UsbenchError, unknown
from usbench.leaderboards.rows import Row
from usbench.leaderboards.table import Table
from usbench.leaderboards.words import TextTable, between, millions, number


@dataclass(frozen=True)
class CostAxis:
    """A cost that rows are compared by.

    Attributes:
        name: As in CSV and JSON.
        short: A short name by which it can be chosen too.
        heading: For people, with its unit.
        units: What a unit behind a limit makes of it, by unit in small letters; "" for a plain number.
    """

    name: str
    short: str
    heading: str
    units: Mapping[str, float]

    def of(self, row: Row) -> float | None:
        """The cost of a row; None where it is not known, and where it is a submitter's word alone."""
        value = getattr(row, self.name)
        return None if value is None or self.name in row.claimed else float(value)

    def words(self, value: float) -> str:
        """A cost for people."""
        if self.name == "parameters":
            return millions(int(value))
        return number(value, {"gflops": 2, "ms_per_slice": 1}.get(self.name, 0))


COST_AXES: tuple[CostAxis, ...] = (
    CostAxis("parameters", "parameters", "parameters", {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}),
    CostAxis("gflops", "gflops", "GFLOPs", {"": 1, "g": 1, "t": 1e3}),
    CostAxis("ms_per_slice", "ms", "ms per slice", {"": 1, "ms": 1, "s": 1e3}),
    CostAxis("memory_mb", "memory", "MB of memory", {"": 1, "mb": 1, "gb": 1e3}),
    CostAxis("train_seconds", "train", "seconds of training", {"": 1, "s": 1, "min": 60, "h": 3600}),
)
"""Every cost, in the order of the columns. Parameters are without frozen parts that made features."""


@dataclass(frozen=True)
class CostFront:
    """The rows that no other ranked row beats at their cost.

    Attributes:
        axis: The cost.
        rows: By rising cost, and so by rising DSC; equal ones in the order of the table.
        unknown: How many ranked rows are left out since this cost of theirs is not known.
    """

    axis: CostAxis
    rows: tuple[Row, ...]
    unknown: int


def cost_axis(name: str) -> CostAxis:
    """The cost with a name or short name.

    Raises:
        UsbenchError: For another name, with those that there are.
    """
    key = name.strip().lower().replace("-", "_")
    for axis in COST_AXES:
        if key in (axis.name, axis.short):
            return axis
    raise unknown("cost", name, [axis.short for axis in COST_AXES])


def cost_fronts(table: Table) -> tuple[CostFront, ...]:
    """The Pareto front of DSC against each cost.

    A row is on it if no other ranked row is at least as good in both, and better in one.

    Args:
        table: Of a leaderboard.

    Returns:
        A front for each cost that some ranked row states, in the order of `COST_AXES`.
    """
    fronts = []
    for axis in COST_AXES:
        points = [(row, cost, _dsc(row)) for row in table.ranked if (cost := axis.of(row)) is not None]
        if not points:
            continue
        on = [
            (row, cost)
            for row, cost, dsc in points
            if not any(
                other_cost <= cost and other >= dsc and (other_cost < cost or other > dsc)
                for _, other_cost, other in points
            )
        ]
        on.sort(key=lambda point: point[1])
        fronts.append(CostFront(axis, tuple(row for row, _ in on), len(table.ranked) - len(points)))
    return tuple(fronts)


def _dsc(row: Row) -> float:
    value = row.scores["dsc"]
    return -math.inf if value is None else value


Limits = dict[str, float]
"""The largest cost that is allowed, by the name of the cost; in the unit of CSV and JSON."""


def parse_limits(text: str) -> Limits:
    """Limits as a user writes them: "parameters=10M,ms=20,memory=2GB".

    Raises:
        UsbenchError: For another form, an unknown cost or unit, a cost named twice, and a limit that is no
            number above 0.
    """
    limits: Limits = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise UsbenchError(
                f"--under '{part.strip()}': is no limit; write for example parameters=10M,ms=20"
            )
        axis = cost_axis(name)
        if axis.name in limits:
            raise UsbenchError(f"--under: names {axis.short} twice; give one limit for each cost")
        found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*)", value.strip())
        units = [unit for unit in axis.units if unit]
        if found is None or not float(found[1]) > 0:
            raise UsbenchError(
                f"--under {part.strip()}: '{value.strip()}' is no number above 0; write 10 or 2.5"
            )
        if found[2].lower() not in axis.units:
            raise UsbenchError(
                f"--under {part.strip()}: '{found[2]}' is no unit of {axis.short}; leave it out or use "
                f"{', '.join(units)} (in capital or small letters)"
            )
        limits[axis.name] = float(found[1]) * axis.units[found[2].lower()]
    return limits


def best_under(table: Table, limits: Limits) -> Row | None:
    """The best ranked row that costs no more than all limits.

    Args:
        table: Of a leaderboard.
        limits: By name of the cost. A row whose cost is not known is not under its limit.

    Returns:
        None where no ranked row is.
    """
    axes = [(cost_axis(name), limit) for name, limit in limits.items()]
    for row in table.ranked:
        costs = [(axis.of(row), limit) for axis, limit in axes]
        if all(cost is not None and cost <= limit for cost, limit in costs):
            return row
    return None


def _score(row: Row) -> str:
    low, high = row.interval or (None, None)
    return between(number(row.scores["dsc"], 3), number(low, 3), number(high, 3))


def under_text(tables: Sequence[Table], limits: Limits) -> TextTable:
    """The best row under some limits of each table, as the section that is printed first."""
    axes = [cost_axis(name) for name in limits]
    rows = []
    for table in tables:
        row = best_under(table, limits)
        line = {"table": table.title, "method": "none", "fusion": "-", "DSC [95% CI]": "-"}
        costs: list[float | None] = [None] * len(axes)
        if row is not None:
            line |= {"method": row.label, "fusion": row.fusion, "DSC [95% CI]": _score(row)}
            costs = [axis.of(row) for axis in axes]
        shown = ["-" if cost is None else axis.words(cost) for axis, cost in zip(axes, costs, strict=True)]
        rows.append({**line, **{axis.heading: one for axis, one in zip(axes, shown, strict=True)}})
    words = ", ".join(f"{axis.heading} {axis.words(limits[axis.name])}" for axis in axes)
    return TextTable(
        title=f"Best under {words}",
        facts="of each table the ranked row with the best DSC that costs no more than every limit",
        columns=("table", "method", "fusion", "DSC [95% CI]", *(axis.heading for axis in axes)),
        words=("table", "method", "fusion"),
        rows=rows,
        notes=["A row whose cost is not known, or claimed by a submission alone, is not under its limit."],
    )


def cost_texts(tables: Sequence[Table]) -> list[TextTable]:
    """The section on cost of each table of two ranked rows or more."""
    return [_cost_text(table) for table in tables if len(table.ranked) > 1 and cost_fronts(table)]


def _cost_text(table: Table) -> TextTable:
    fronts = cost_fronts(table)
    rows = [
        {
            "cost": front.axis.heading,
            "best under": front.axis.words(front.axis.of(row) or 0.0),
            "method": row.label,
            "fusion": row.fusion,
            "DSC [95% CI]": _score(row),
        }
        for front in fronts
        for row in front.rows
    ]
    notes = [
        "A row of each line has the best DSC of all that cost no more; rows that others beat are left out."
    ]
    if unknown_costs := [f"{one.axis.heading} of {one.unknown}" for one in fronts if one.unknown]:
        notes.append(f"Not known: {', '.join(unknown_costs)}.")
    return TextTable(
        title=f"Cost: {table.title}",
        facts="Pareto fronts of DSC against each cost, ranked rows alone",
        columns=tuple(rows[0]),
        words=("cost", "method", "fusion"),
        rows=rows,
        notes=notes,
    )


def fronts_plain(table: Table) -> list[dict[str, object]]:
    """The fronts of a table as JSON-like values."""
    return [
        {
            "cost": front.axis.name,
            "unknown": front.unknown,
            "rows": [
                {
                    "label": row.label,
                    "fusion": row.fusion,
                    "dsc": row.scores["dsc"],
                    "at_most": front.axis.of(row),
                }
                for row in front.rows
            ],
        }
        for front in cost_fronts(table)
    ]


FRONTS_SCHEMA: list[dict[str, object]] = [
    {
        "cost": "name of a cost of rows, as parameters or ms_per_slice",
        "unknown": "number of ranked rows whose cost is not known",
        "rows": [
            {
                "label": "label of a row that no other ranked row beats at its cost",
                "fusion": "its fusion",
                "dsc": "its mean DSC",
                "at_most": "its cost: with this much to spend no row is better",
            }
        ],
    }
]
"""What the keys of `fronts_plain` say."""
