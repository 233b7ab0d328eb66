"""Tables of comparable results: folds and seeds averaged into rows, rows ranked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from usbench.board.collect import Problem, row_key, settings, table_key
from usbench.metrics import SCORES

if TYPE_CHECKING:
    from usbench.results import Result

RESAMPLES = 1000
"""Bootstrap resamples behind an interval."""

Patients = Mapping[str, Mapping[str, float]]
"""Scores by patient, then by name of the score; NaN where it is undefined."""


@dataclass(frozen=True)
class Row:
    """One method under one fusion protocol, over all its folds and seeds.

    rank: its place by DSC, None if it is not ranked; `status` then says why ("incomplete: ...").
    scores: mean over patients by name, None if undefined. interval: of DSC, 95 %, None below two
    patients. seeds: the fewest and the most seeds of a fold. patients: what the means are over.
    """

    rank: int | None
    status: str
    method: str
    label: str
    fusion: str
    scores: dict[str, float | None]
    interval: tuple[float, float] | None
    parameters: int
    trainable: int
    ms_per_slice: float
    cases: int
    folds_done: int
    folds: int
    seeds: tuple[int, int]
    weights: str
    data: str
    settings: dict[str, Any] = field(repr=False)
    patients: Patients = field(repr=False)


@dataclass(frozen=True)
class Table:
    """Rows that may be compared: one task, kind of data, data, protocol, modalities and classes."""

    title: str
    task: str
    kind: str
    preset: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    cases: int
    limit: int | None
    folds: int
    rule: str
    fingerprint: str
    protocol: str
    rows: tuple[Row, ...]

    @property
    def facts(self) -> str:
        """One line on what the rows share."""
        return (
            f"modalities {', '.join(self.modalities)}; classes {', '.join(self.classes)}; "
            f"{self.cases} cases, {self.folds} folds ({self.rule}); "
            f"data {self.fingerprint[:10]}, protocol {self.protocol}"
        )


@dataclass(frozen=True)
class Leaderboard:
    """The tables, and the runs that were left out of them."""

    tables: tuple[Table, ...]
    problems: list[Problem]


def make_tables(results: Sequence[Result]) -> tuple[Table, ...]:
    """One table for each group of comparable results, sorted by task, kind of data and title."""
    groups: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in results:
        groups[table_key(result.data)].append(result)
    members = list(groups.values())
    titles = _titles([group[0].data for group in members])
    tables = [_make_table(title, group) for title, group in zip(titles, members, strict=True)]
    kinds = ("real", "sample", "phantom")
    return tuple(
        sorted(
            tables, key=lambda t: (t.task, kinds.index(t.kind) if t.kind in kinds else 3, t.title, t.protocol)
        )
    )


def per_patient(results: Sequence[Result]) -> Patients:
    """Each patient's scores: the mean over classes, then over the seeds of the results given."""
    seeds: dict[str, list[list[float]]] = defaultdict(list)
    for result in results:
        classes: dict[str, list[list[float]]] = defaultdict(list)
        for row in result.cases:
            classes[row["case"]].append([row[name] for name in SCORES])
        for case, rows in classes.items():
            seeds[case].append([mean(values) for values in zip(*rows, strict=True)])
    return {
        case: dict(zip(SCORES, (mean(values) for values in zip(*rows, strict=True)), strict=True))
        for case, rows in sorted(seeds.items())
    }


def mean(values: Sequence[float]) -> float:
    """The mean without the NaN; NaN if nothing is left."""
    known = [v for v in values if not math.isnan(v)]
    return math.fsum(known) / len(known) if known else math.nan


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % percentile interval of the mean over patients (Efron 1979), None below two patients.

    The draws have a fixed seed, so a table never changes without its data.
    """
    if len(values) < 2:
        return None
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values)[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _make_table(title: str, results: Sequence[Result]) -> Table:
    data = results[0].data
    groups: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in results:
        groups[row_key(result.data)].append(result)
    rows = _rank(_label([_make_row(group) for _, group in sorted(groups.items())]))
    return Table(
        title=title,
        task=data["cell"]["task"],
        kind=data["data"]["kind"],
        preset=str(data["preset"]),
        modalities=tuple(data["task"]["modalities"]),
        classes=tuple(data["task"]["classes"]),
        cases=int(data["data"]["cases"]),
        limit=data["data"]["limit"],
        folds=int(data["split"]["folds"]),
        rule=str(data["split"]["rule"]),
        fingerprint=str(data["data"]["fingerprint"]),
        protocol=str(data["protocol"]),
        rows=tuple(rows),
    )


def _make_row(results: Sequence[Result]) -> Row:
    data = results[0].data
    patients = per_patient(results)
    by_name = {name: [p[name] for p in patients.values() if not math.isnan(p[name])] for name in SCORES}
    folds: dict[int, set[int]] = defaultdict(set)
    for result in results:
        folds[int(result.data["cell"]["fold"])].add(int(result.data["cell"]["seed"]))
    count = int(data["split"]["folds"])
    seeds = [len(found) for found in folds.values()]
    status = ""
    if not by_name["dsc"]:
        status = "not scored: no patient has any foreground"
    elif data["data"]["limit"] is not None:
        status = f"incomplete: --limit {data['data']['limit']}"
    elif set(folds) != set(range(count)):
        status = f"incomplete: {len(folds)} of {count} folds"
    scores = {name: mean(values) if values else None for name, values in by_name.items()}
    return Row(
        rank=None,
        status=status,
        method=data["cell"]["method"],
        label=data["cell"]["method"],
        fusion=data["cell"]["fusion"],
        scores={"miou" if name == "iou" else name: value for name, value in scores.items()},
        interval=bootstrap_interval(by_name["dsc"]),
        parameters=int(data["cost"]["parameters"]),
        trainable=int(data["cost"]["trainable"]),
        ms_per_slice=float(np.median([float(result.data["cost"]["ms_per_slice"]) for result in results])),
        cases=len(by_name["dsc"]),
        folds_done=len(folds),
        folds=count,
        seeds=(min(seeds), max(seeds)),
        weights=str(data["method"]["weights"]),
        data=data["data"]["kind"],
        settings=settings(data),
        patients=patients,
    )


def _label(rows: Sequence[Row]) -> list[Row]:
    """Name each row by method and weights, and by the settings in which it differs from its namesakes."""
    named = [
        replace(row, label=row.method if row.weights == "none" else f"{row.method} [{row.weights}]")
        for row in rows
    ]
    labelled = []
    for row in named:
        others = [r.settings for r in named if (r.label, r.fusion) == (row.label, row.fusion)]
        labelled.append(replace(row, label=row.label + _differences(row.settings, others)))
    return labelled


def _rank(rows: Sequence[Row]) -> list[Row]:
    """Complete rows by falling DSC, equal ones on one rank; below them the others, unranked."""

    def order(row: Row) -> tuple[float, str, str]:
        dsc = row.scores["dsc"]
        return (-dsc if dsc is not None else math.inf, row.label, row.fusion)

    ranked: list[Row] = []
    for place, row in enumerate(sorted((r for r in rows if not r.status), key=order), start=1):
        tied = ranked and ranked[-1].scores["dsc"] == row.scores["dsc"]
        ranked.append(replace(row, rank=ranked[-1].rank if tied else place))
    return ranked + sorted((r for r in rows if r.status), key=order)


def _titles(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """A title for each group; groups of one name also show the settings in which they differ."""
    names, details = [], []
    for data in groups:
        kind = data["data"]["kind"]
        name = data["cell"]["task"] + ("" if kind == "real" else f" ({kind})") + f", preset {data['preset']}"
        if data["data"]["limit"] is not None:
            name += f", limit {data['data']['limit']}"
        names.append(name)
        flat = {f"{part}.{key}": v for part in ("data", "train") for key, v in data["config"][part].items()}
        flat["modalities"] = "+".join(data["task"]["modalities"])
        flat["classes"] = "+".join(data["task"]["classes"])
        flat["precision"] = data["cost"].get("precision", "")
        flat["split"] = str(data["split"]["digest"])[:10]
        flat["content"] = str(data["data"]["fingerprint"])[:10]
        details.append(flat)
    titles = []
    for name, flat in zip(names, details, strict=True):
        titles.append(
            name + _differences(flat, [d for n, d in zip(names, details, strict=True) if n == name])
        )
    return titles


def _differences(own: Mapping[str, Any], namesakes: Sequence[Mapping[str, Any]]) -> str:
    """The entries of `own` that are not the same in all `namesakes`, as text to append to a name."""
    keys = sorted({key for one in namesakes for key in one})
    unlike = [key for key in keys if len({repr(one.get(key)) for one in namesakes}) > 1]
    return "".join(f", {key.split('.', 1)[-1]} {own[key]}" for key in unlike if key in own)
