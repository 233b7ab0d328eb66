"""Rows of a table: the runs of one method under one fusion protocol, averaged, named and ranked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from usbench.leaderboards.stats import bootstrap_interval, mean
from usbench.results.usable import Entry, Run, row_key, settings
from usbench.scores.registry import all_scores

OUTSIDE_WORDS = {"pipeline": "outside pipeline", "masks": "masks from elsewhere"}
"""How a row is marked whose masks another program made."""

Patients = Mapping[str, Mapping[str, float]]
"""Scores by patient, then by name of the score; NaN where it is undefined."""


@dataclass(frozen=True)
class Row:
    """One method under one fusion protocol, over all its folds and seeds.

    Of cost, parameters and memory_mb are the largest of its runs, the others medians; None where no run
    states them, as those of other programs may not.

    Attributes:
        rank: Its place by DSC, None if it is not ranked.
        status: Why it is not ranked ("incomplete: ...").
        scores: Mean over patients by name, None if undefined or if not all of its runs have it.
        interval: Of DSC, 95 %, None below two patients.
        seed_sd: Standard deviation of the mean DSC of its seeds, None below two seeds that have all of its
            folds.
        cases: How many patients the mean DSC is over.
        seeds: The fewest and the most seeds of a fold.
        patients: What the means are over.
        runs: What is behind it, a mapping a run.
        fusion_stated: What the first of them says of its fusion.
        entry: The submission that it comes from, None for a row of one's own runs.
        outside: "pipeline" or "masks" where another program made its masks, else "".
        program: What that program's result calls it, else "".
        tier: See `usbench.leaderboards.compare`.
        p_raw: Likewise.
        p_leader: Likewise.
        rank_interval: (median, low, high), likewise.
    """

    rank: int | None
    status: str
    method: str
    label: str
    fusion: str
    scores: dict[str, float | None]
    interval: tuple[float, float] | None
    seed_sd: float | None
    parameters: int | None
    trainable: int | None
    frozen_elsewhere: int | None
    gflops: float | None
    ms_per_slice: float | None
    memory_mb: float | None
    train_seconds: float | None
    device: str
    cases: int
    folds_done: int
    folds: int
    seeds: tuple[int, int]
    weights: str
    data: str
    settings: dict[str, Any] = field(repr=False)
    patients: Patients = field(repr=False)
    runs: tuple[dict[str, Any], ...] = field(repr=False)
    fusion_stated: dict[str, Any] = field(repr=False)
    tier: int | None = None
    p_raw: float | None = None
    p_leader: float | None = None
    rank_interval: tuple[int, int, int] | None = None
    entry: Entry | None = None
    outside: str = ""
    program: str = ""

    @property
    def name(self) -> str:
        """Label and fusion: what tells the row from the others of its table."""
        return f"{self.label}, {self.fusion}"


def make_rows(runs: Sequence[Run]) -> list[Row]:
    """The rows of comparable runs: ranked ones first, in order of rank, then the others.

    Runs of a submission are a row of their own, whatever else there is of the same method.
    """
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[*row_key(run.data), run.entry.name if run.entry else ""].append(run)
    return _rank(label_rows([_make_row(group) for _, group in sorted(groups.items())]))


def entry_key(row: Row) -> str:
    """What keeps the rows of a submission apart from one's own; submissions have names of their own."""
    return row.entry.name if row.entry else ""


def per_patient(runs: Sequence[Run]) -> tuple[list[str], np.ndarray]:
    """The patients of some runs, sorted, and their scores [patients, scores]: means over the runs.

    A run has the mean over the classes; NaN is left out at each step.
    """
    names, place = np.unique([case for run in runs for case in run.cases], return_inverse=True)
    values = np.concatenate([run.scores for run in runs])
    known = ~np.isnan(values)
    total, count = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
    np.add.at(total, place, np.where(known, values, 0.0))
    np.add.at(count, place, known)
    with np.errstate(invalid="ignore"):
        return names.tolist(), total / count


def differences(own: Mapping[str, Any], namesakes: Sequence[Mapping[str, Any]]) -> str:
    """The entries of `own` that are not the same in all `namesakes`, as text to append to a name."""
    keys = sorted({key for one in namesakes for key in one})
    unlike = [key for key in keys if len({repr(one.get(key)) for one in namesakes}) > 1]
    return "".join(f", {key.split('.', 1)[-1]} {own[key]}" for key in unlike if key in own)


def label_rows(rows: Sequence[Row]) -> list[Row]:
    """Name each row by method and weights, and by the settings in which it differs from its namesakes."""
    namesakes: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    named = []
    trainings = [_training(row) for row in rows if "volume.mode" in row.settings]
    for row in rows:
        called = row.program or row.method
        label = called if row.weights in ("none", "not known") else f"{called} [{row.weights}]"
        if dropout := row.settings.get("train.modality_dropout"):
            label += f", modality dropout {dropout:g}"
        if "volume.mode" in row.settings:
            # Such rows share no training, so each says in what its own is another one.
            label += _seen(row) + differences(_training(row), trainings)
        if row.outside:
            label += f" ({OUTSIDE_WORDS[row.outside]})"
        if row.entry is not None:
            label = f"{row.entry.name}: {label}"
        named.append(replace(row, label=label))
        namesakes[label, row.fusion].append(row.settings)
    return [
        replace(row, label=row.label + differences(_unsaid(row), namesakes[row.label, row.fusion]))
        for row in named
    ]


def _seen(row: Row) -> str:
    """What a network of volumes sees, as text to append to a name."""
    whole = row.settings["volume.mode"] == "whole"
    sizes = row.settings["volume.shape" if whole else "volume.patch"]
    return f", {'whole volumes' if whole else 'patches'} {'x'.join(map(str, sizes))}"


def _training(row: Row) -> dict[str, Any]:
    """The settings of training of a row of a network of volumes, but for what its label says anyway."""
    dropout = "train.modality_dropout"
    return {k: v for k, v in row.settings.items() if k.startswith("train.") and k != dropout}


def _unsaid(row: Row) -> dict[str, Any]:
    """The settings of a row that its label does not say yet."""
    said = _training(row) if "volume.mode" in row.settings else {}
    return {key: value for key, value in row.settings.items() if key not in said}


def _make_row(runs: Sequence[Run]) -> Row:
    data = runs[0].data
    outside = data.get("outside", {})
    names, values = per_patient(runs)
    dsc = values[:, _dsc_column()]
    known = dsc[~np.isnan(dsc)]
    folds: dict[int, set[int]] = defaultdict(set)
    for run in runs:
        folds[int(run.data["cell"]["fold"])].add(int(run.data["cell"]["seed"]))
    count = int(data["split"]["folds"])
    seeds = [len(found) for found in folds.values()]
    status = ""
    if not len(known):
        status = "not scored: no patient has any foreground"
    elif data["data"]["limit"] is not None:
        status = f"incomplete: --limit {data['data']['limit']}"
    elif set(folds) != set(range(count)):
        status = f"incomplete: {len(folds)} of {count} folds"
    cost = {name: _cost(runs, name) for name in _COSTS}
    return Row(
        rank=None,
        status=status,
        method=data["cell"]["method"],
        label=data["cell"]["method"],
        fusion=data["cell"]["fusion"],
        scores=_means(runs, values),
        interval=bootstrap_interval(known),
        seed_sd=_seed_sd(runs, folds),
        parameters=_largest(cost["parameters"]),
        trainable=_largest(cost["trainable"]),
        frozen_elsewhere=_largest(cost["frozen_elsewhere"]),
        gflops=_median(cost["gflops_per_slice"]),
        ms_per_slice=_median(cost["ms_per_slice"]),
        memory_mb=max(_cost([run for run in runs if _of_cell(run)], "peak_memory_mb"), default=None),
        train_seconds=_median(cost["train_seconds"]),
        device="; ".join(sorted({device for run in runs if (device := _device(run))})),
        cases=len(known),
        folds_done=len(folds),
        folds=count,
        seeds=(min(seeds), max(seeds)),
        weights=str(data["method"]["weights"]),
        data=data["data"]["kind"],
        settings=settings(data),
        patients={
            name: dict(zip((score.name for score in all_scores()), scores, strict=True))
            for name, scores in zip(names, values.tolist(), strict=True)
        },
        fusion_stated={**data.get("fusion", {}), "name": data["cell"]["fusion"]},
        runs=tuple(sorted((_origin(run) for run in runs), key=lambda one: (one["fold"], one["seed"]))),
        entry=runs[0].entry,
        outside=outside.get("kind", ""),
        program=outside.get("label", ""),
    )


def _dsc_column() -> int:
    return [score.name for score in all_scores()].index("dsc")


def _means(runs: Sequence[Run], values: np.ndarray) -> dict[str, float | None]:
    """The mean of each score over patients, `values` [patients, scores], by the name of the mean.

    None where it is undefined, and where a run lacks the score: a mean over some of the folds is no mean of
    the row.
    """
    means: dict[str, float | None] = {}
    for i, score in enumerate(all_scores()):
        value = math.nan if any(score.name in run.lacking for run in runs) else mean(values[:, i])
        means[score.mean_name] = None if math.isnan(value) else value
    return means


_COSTS = (
    "parameters",
    "trainable",
    "frozen_elsewhere",
    "gflops_per_slice",
    "ms_per_slice",
    "train_seconds",
)


def _cost(runs: Sequence[Run], name: str) -> list[float]:
    """What the runs state of a cost; results of an older usbench lack some."""
    values = [run.data["cost"].get(name) for run in runs]
    return [
        float(v)
        for v in values
        if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
    ]


def _of_cell(run: Run) -> bool:
    """Whether its peak memory is its own: of a process that computed others before, it may be theirs."""
    return bool(run.data["cost"].get("memory_since") == "cell")


def _largest(values: Sequence[float]) -> int | None:
    return int(max(values)) if values else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _device(run: Run) -> str:
    return str(run.data["cost"].get("device") or "")


def _origin(run: Run) -> dict[str, Any]:
    """Where the numbers of a run come from."""
    provenance = run.data["provenance"]
    return {
        "path": str(run.path),
        "hash": run.data["cell"].get("hash"),
        "commit": provenance.get("commit") if isinstance(provenance, dict) else None,
        "device": _device(run),
        "fold": int(run.data["cell"]["fold"]),
        "seed": int(run.data["cell"]["seed"]),
        "fingerprint": run.data["data"]["fingerprint"],
    }


def _seed_sd(runs: Sequence[Run], folds: Mapping[int, set[int]]) -> float | None:
    """Standard deviation (n - 1) of the mean DSC of the seeds that have every fold the row has."""
    whole = set.intersection(*folds.values())
    means = []
    for seed in sorted(whole):
        _, values = per_patient([run for run in runs if int(run.data["cell"]["seed"]) == seed])
        means.append(mean(values[:, _dsc_column()]))
    known = [value for value in means if not math.isnan(value)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def _rank(rows: Sequence[Row]) -> list[Row]:
    """Complete rows by falling DSC, equal ones on one rank; below them the others, unranked."""

    def order(row: Row) -> tuple[float, str, str]:
        dsc = row.scores["dsc"]
        # Means that agree to 12 decimals are equal: the rest is rounding.
        return (-round(dsc, 12) if dsc is not None else math.inf, row.label, row.fusion)

    ranked: list[Row] = []
    for place, row in enumerate(sorted((r for r in rows if not r.status), key=order), start=1):
        tied = ranked and order(ranked[-1])[0] == order(row)[0]
        ranked.append(replace(row, rank=ranked[-1].rank if tied else place))
    return ranked + sorted((r for r in rows if r.status), key=order)
