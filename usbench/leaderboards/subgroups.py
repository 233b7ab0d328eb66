"""DSC of parts of a table: by class, by groups of patients, by how large the organ or lesion is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usbench.errors import UsbenchError, unknown
from usbench.leaderboards.columns import interval_of
from usbench.leaderboards.rows import Row
from usbench.leaderboards.table import Table
from usbench.leaderboards.words import TextTable, between, number
from usbench.storage.nifti_masks import load_affine

KINDS = ("class", "group", "size")
FEW = 4
"""Below so many patients there is no interval, and the values are listed."""

_REMEDY = (
    "name with --groups the task file that states them, or a CSV file with a column 'case' and one for each "
    "group"
)
_SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class SubgroupScore:
    """A row of a table in one subgroup.

    Attributes:
        label: Of the row.
        fusion: Of the row.
        status: Why the row is not ranked, "" where it is.
        subgroup: A class, NAME=VALUE of a group, or a class and a size.
        n: How many patients have a DSC there.
        dsc: Their mean, None without any.
        low: Lower end of its 95 % interval; None below `FEW` patients.
        high: Upper end of it.
        values: The DSC of each patient, sorted, where there are fewer than `FEW`; else empty.
    """

    label: str
    fusion: str
    status: str
    subgroup: str
    n: int
    dsc: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class SubgroupTable:
    """The subgroups of a table.

    Attributes:
        title: Of the table.
        kind: One of `KINDS`.
        scores: A row after another, the subgroups of each in the same order.
        notes: A sentence each.
    """

    title: str
    kind: str
    scores: tuple[SubgroupScore, ...]
    notes: tuple[str, ...]


Scores = dict[str, dict[str, float]]
"""DSC of a row by subgroup, then by patient, NaN where it is undefined."""


def subgroup_tables(
    tables: Sequence[Table], kind: str, groups: str | Path | None = None
) -> tuple[SubgroupTable, ...]:
    """The DSC of every row of some tables in each subgroup.

    A patient counts once in a subgroup: the mean over seeds, as in the table.

    Args:
        tables: Of a leaderboard.
        kind: "class": a subgroup each class. "group": each value of the groups of patients in `groups`; the
            DSC is the mean over classes. "size": of each class its patients in thirds by
            true volume in ml, over all patients of the table in whom it is there.
        groups: The task file (.yaml) with "groups", or a CSV or TSV file with a column "case", whose other
            columns are groups.

    Raises:
        UsbenchError: For another kind, groups that are nowhere stated, a run that cannot be read, and where
            the size of voxels is not known since the masks of a run were not kept.
    """
    if kind not in KINDS:
        raise unknown("kind of subgroup", kind, KINDS)
    if groups is not None and kind != "group":
        raise UsbenchError(f"{groups}: a file of groups goes with --subgroups group, not with {kind}")
    make = {"class": _by_class, "group": _by_group, "size": _by_size}[kind]
    return tuple(make(table, groups) for table in tables)


def _per_class(row: Row) -> Scores:
    """The DSC of each class and patient: the mean over seeds, NaN where it is undefined in all."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in row.members:
        for case, values in zip(run.cases, run.by_class, strict=True):
            for name, dsc in zip(run.data["task"]["classes"], values[:, 0].tolist(), strict=True):
                found[name][case].append(dsc)
    return {
        name: {
            case: _mean([value for value in values if not math.isnan(value)])
            for case, values in cases.items()
        }
        for name, cases in found.items()
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _by_class(table: Table, groups: str | Path | None) -> SubgroupTable:
    return _table(table, "class", list(table.classes), [_per_class(row) for row in table.rows], ())


def _by_group(table: Table, groups: str | Path | None) -> SubgroupTable:
    if groups is None:
        raise UsbenchError(
            f"--subgroups group: which patient is in which group is not in the runs; {_REMEDY}"
        )
    values = _groups_of(Path(groups))
    patients = {case for row in table.rows for case in row.patients}
    members: dict[str, set[str]] = {}
    for name, of_case in values.items():
        for value in sorted(set(of_case.values())):
            inside = {case for case in patients if of_case.get(case) == value}
            if inside:
                members[f"{name}={value}"] = inside
    if not members:
        raise UsbenchError(
            f"{groups}: none of its groups names a patient of the table '{table.title}', such as "
            f"{min(patients)}; correct the cases of the groups"
        )
    found = [
        {
            name: {case: scores["dsc"] for case, scores in row.patients.items() if case in inside}
            for name, inside in members.items()
        }
        for row in table.rows
    ]
    notes = []
    for name, of_case in values.items():
        if lost := sorted(patients - set(of_case)):
            notes.append(f"Without a value of {name}: {', '.join(lost)}.")
    return _table(table, "group", list(members), found, notes)


def _groups_of(file: Path) -> dict[str, dict[str, str]]:
    """The value of each patient by group, of a task file or a table."""
    from usbench.datasets.case_table import read_case_table
    from usbench.datasets.tasks import get_task, names_file

    if names_file(str(file)):
        files = get_task(str(file)).files
        if files is None or not files.groups:
            raise UsbenchError(f"{file}: states no groups of patients; add 'groups', or {_REMEDY}")
        return {group.name: dict(group.values) for group in files.groups}
    table = read_case_table(file, "case")
    return {
        name: {case: row[name] for case, row in table.rows.items() if row[name]} for name in table.columns
    }


def _by_size(table: Table, groups: str | Path | None) -> SubgroupTable:
    volumes = _volumes(table)
    found: list[Scores] = [{} for _ in table.rows]
    names = []
    per_class = [_per_class(row) for row in table.rows]
    for one in table.classes:
        there = {case: volume for case, volume in volumes[one].items() if volume > 0}
        if not there:
            continue
        for name, inside in _thirds(there).items():
            names.append(f"{one}, {name}")
            for scores, own in zip(found, per_class, strict=True):
                scores[names[-1]] = {case: dsc for case, dsc in own[one].items() if case in inside}
    notes = ("Patients in thirds by the true volume of the class; patients without it are left out.",)
    return _table(table, "size", names, found, notes)


def _thirds(volumes: Mapping[str, float]) -> dict[str, set[str]]:
    """Patients by name of the third of their volume in ml; thirds that nobody is in are left out."""
    low, high = (float(value) for value in np.quantile(list(volumes.values()), (1 / 3, 2 / 3)))
    words = (f"up to {_ml(low)}", f"to {_ml(high)}", f"over {_ml(high)}")
    found: dict[str, set[str]] = {f"{size} ({said})": set() for size, said in zip(_SIZES, words, strict=True)}
    names = list(found)
    for case, volume in volumes.items():
        found[names[(volume > low) + (volume > high)]].add(case)
    return {name: inside for name, inside in found.items() if inside}


def _ml(volume: float) -> str:
    return f"{volume:.0f} ml" if volume >= 100 else f"{volume:.3g} ml"


def _volumes(table: Table) -> dict[str, dict[str, float]]:
    """The true volume in ml of each class and patient of a table: true voxels times the size of a voxel."""
    found: dict[str, dict[str, float]] = {name: {} for name in table.classes}
    sizes: dict[str, float] = {}
    for run in (run for row in table.rows for run in row.members):
        for case, values in zip(run.cases, run.by_class, strict=True):
            if case not in sizes:
                size = _voxel_ml(run.path, case)
                if size is None:
                    continue
                sizes[case] = size
            for name, (_, tp, _, fn, _) in zip(run.data["task"]["classes"], values.tolist(), strict=True):
                found[name][case] = (tp + fn) * sizes[case]
    patients = {case for row in table.rows for case in row.patients}
    if lost := sorted(patients - set(sizes)):
        raise UsbenchError(
            f"{table.title}: how large a voxel of case {lost[0]} is stands in its mask, which no run kept; "
            "give --runs-dir with whole runs, not with results alone"
        )
    return found


def _voxel_ml(run: Path, case: str) -> float | None:
    """The volume of a voxel of a case in ml, by the header of its mask; None where that is not to be read."""
    try:
        affine = load_affine(run / "predictions" / f"{case}.nii.gz")
    except (OSError, ValueError):
        return None
    return float(abs(np.linalg.det(affine[:3, :3]))) / 1000


def _table(
    table: Table, kind: str, names: Sequence[str], found: Sequence[Scores], notes: Sequence[str]
) -> SubgroupTable:
    scores = tuple(
        _score(row, name, own.get(name, {}).values())
        for row, own in zip(table.rows, found, strict=True)
        for name in names
    )
    return SubgroupTable(table.title, kind, scores, tuple(notes))


def _score(row: Row, name: str, values: Any) -> SubgroupScore:
    known = sorted(value for value in values if not math.isnan(value))
    few = len(known) < FEW
    low, high = (None if few else interval_of(known)) or (None, None)
    mean = _mean(known) if known else None
    listed = tuple(known) if few else ()
    return SubgroupScore(row.label, row.fusion, row.status, name, len(known), mean, low, high, listed)


def subgroup_texts(tables: Sequence[SubgroupTable]) -> list[TextTable]:
    """The subgroups of each table as words, a line a row and subgroup."""
    return [_text(table) for table in tables]


def _text(table: SubgroupTable) -> TextTable:
    rows = [
        {
            "method": one.label,
            "fusion": one.fusion,
            "subgroup": one.subgroup,
            "n": str(one.n),
            "DSC [95% CI]": between(number(one.dsc, 3), number(one.low, 3), number(one.high, 3)),
            "values": ", ".join(number(value, 3) for value in one.values) or "-",
        }
        for one in table.scores
    ]
    columns = ["method", "fusion", "subgroup", "n", "DSC [95% CI]"]
    if any(one.values for one in table.scores):
        columns.append("values")
    notes = [f"n: patients. Below {FEW} there is no interval, and the values are listed.", *table.notes]
    unranked = dict.fromkeys(f"{one.status}: {one.label}, {one.fusion}" for one in table.scores if one.status)
    return TextTable(
        title=f"By {table.kind}: {table.title}",
        facts="mean DSC over the patients of each subgroup; nothing is ranked or tested within one",
        columns=tuple(columns),
        words=("method", "fusion", "subgroup", "values"),
        rows=rows,
        notes=notes,
        unranked=list(unranked),
    )


def subgroup_rows(tables: Sequence[SubgroupTable]) -> list[dict[str, Any]]:
    """Every row and subgroup as plain values, for CSV; listed values with semicolons between."""
    return [
        {"table": table.title, "kind": table.kind, **asdict(one), "values": ";".join(map(str, one.values))}
        for table in tables
        for one in table.scores
    ]


def subgroups_plain(tables: Sequence[SubgroupTable]) -> list[dict[str, Any]]:
    """The subgroups of each table as JSON-like values."""
    return [{**asdict(table), "scores": [asdict(one) for one in table.scores]} for table in tables]
