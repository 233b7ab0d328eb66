"""Runs become rows: those of one method under one fusion protocol averaged, folded, named and ranked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from usbench.leaderboards.folding import fold
from usbench.leaderboards.rows import Row, label_rows
from usbench.leaderboards.stats import Noise, mean, of_seeds, score_interval
from usbench.leaderboards.stats.average import DECIMALS
from usbench.results.usable import Run, row_key, settings
from usbench.scores.registry import all_scores


def make_rows(runs: Sequence[Run]) -> list[Row]:
    """The rows of comparable runs: ranked ones first, in order of rank, then the others.

    Runs of a submission are a row of their own, whatever else there is of the same method, unless every score
    is that of another row; older code is folded under newer.
    """
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[*row_key(run.data), run.entry.name if run.entry else ""].append(run)
    return _rank(label_rows(fold([_make_row(group) for _, group in sorted(groups.items())])))


def per_patient(runs: Sequence[Run]) -> tuple[list[str], np.ndarray]:
    """The patients of some runs, sorted, and their scores [patients, scores]: means over the runs.

    A run has the mean over the classes; NaN is left out at each step. Here scores are rounded, once, to
    `DECIMALS`: ranks, tests, intervals and marks all compare these numbers.
    """
    names, place = np.unique([case for run in runs for case in run.cases], return_inverse=True)
    values = np.concatenate([run.scores for run in runs])
    known = ~np.isnan(values)
    total, count = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
    np.add.at(total, place, np.where(known, values, 0.0))
    np.add.at(count, place, known)
    with np.errstate(invalid="ignore"):
        return names.tolist(), np.round(total / count, DECIMALS)


def edges_of(runs: Sequence[Run]) -> np.ndarray:
    """Counts of empty masks by patient, [patients, 4] in the order of `usbench.results.usable.EDGES`."""
    _, values = per_patient([replace(run, scores=run.edges) for run in runs])
    return values


def _noise(runs: Sequence[Run]) -> Noise | None:
    """The variance of the mean DSC from training, see `usbench.leaderboards.stats.of_seeds`."""
    folds: dict[int, list[float]] = defaultdict(list)
    patients: dict[int, int] = {}
    for run in runs:
        dsc = run.scores[:, _dsc_column()]
        if (known := int((~np.isnan(dsc)).sum())) > 0:
            fold = int(run.data["cell"]["fold"])
            folds[fold].append(mean(dsc))
            patients[fold] = known
    return of_seeds(list(folds.values()), [patients[fold] for fold in folds])


def _make_row(runs: Sequence[Run]) -> Row:
    data = runs[0].data
    outside = data.get("outside", {})
    names, values = per_patient(runs)
    dsc = values[:, _dsc_column()]
    known = dsc[~np.isnan(dsc)]
    noise = _noise(runs)
    interval = score_interval(known, noise)
    edges = edges_of(runs)
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
        interval=interval.ends,
        interval_note=interval.why,
        noise=noise,
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
        empty_cases=int((edges[:, 0] > 0).sum()),
        false_cases=int((edges[:, 1] > 0).sum()),
        hd95_penalised=int((edges[:, 2] > 0).sum()),
        hd95_found=None if math.isnan(found := mean(edges[:, 3])) else found,
        finished=max(str(run.data["provenance"].get("finished", "")) for run in runs),
        entry=runs[0].entry,
        outside=outside.get("kind", ""),
        program=outside.get("label", ""),
        members=tuple(runs),
        claimed=frozenset().union(*(run.claimed for run in runs)),
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
        means[score.mean_name] = None if math.isnan(value) else round(value, DECIMALS)
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
        return (-dsc if dsc is not None else math.inf, row.label, row.fusion)

    ranked: list[Row] = []
    for place, row in enumerate(sorted((r for r in rows if not r.status), key=order), start=1):
        tied = ranked and order(ranked[-1])[0] == order(row)[0]
        ranked.append(replace(row, rank=ranked[-1].rank if tied else place))
    return ranked + sorted((r for r in rows if r.status), key=order)
