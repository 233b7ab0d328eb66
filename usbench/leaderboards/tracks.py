"""Tables of tracks: what trained networks do where modalities are missing or noisy, and on other data."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.names import DATA_KINDS, DataKind
from usbench.errors import reason_of
from usbench.leaderboards.averaging import make_rows, per_patient
from usbench.leaderboards.compare import Difference, FusionEffect, SplitHalf, Tests, compare
from usbench.leaderboards.rows import Row
from usbench.leaderboards.stats import Schemes, difference_interval, mean, score_interval
from usbench.leaderboards.table import titles_of, volumes_beside_slices
from usbench.results.digests import volumes_of_result
from usbench.results.running import running
from usbench.results.track_scores import check_rows, condition_scores, names_of, patient_averages
from usbench.results.tracks import (
    FILE,
    FOLDER,
    OVERLAPS,
    Track,
    TrackResult,
    load_track,
    track_folders,
    track_protocol,
)
from usbench.results.usable import EDGES, TRUTH, LeftOut, Run, cell_key, rows_of, run_folders
from usbench.runtime.console import count
from usbench.scores.registry import all_scores
from usbench.scores.robustness import AVERAGES, subsets


@dataclass(frozen=True)
class TrackRun:
    """A finished track and the run that it belongs to."""

    run: Run
    track: TrackResult


@dataclass(frozen=True)
class Mean:
    """A mean over patients.

    Attributes:
        value: The mean, None where it is undefined.
        low: Lower end of its 95 % interval over patients; None without one.
        high: Upper end.
        cases: The patients behind it.
    """

    value: float | None
    low: float | None
    high: float | None
    cases: int


@dataclass(frozen=True)
class TrackRow:
    """One method under one fusion protocol on a track, over all its folds and seeds.

    Attributes:
        standing: Name, rank, tests and cost, as a row of the clean tables has them; its DSC is what the table
            ranks by.
        told: Whether the network was told which modalities are there.
        means: Each number of the row by name, see `values_of`.
        folders: Of its tracks.
    """

    standing: Row
    told: bool
    means: Mapping[str, Mean] = field(repr=False)
    folders: tuple[Path, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class TrackTable:
    """Rows that may be compared on a track.

    Attributes:
        title: Tells it from the other tables.
        track: "robustness" or "external".
        data: What the other data of an external track is called; "" for the run's own test folds.
        task: Name of the task that the networks were trained on.
        kind: Of the data of the track.
        preset: The preset of settings.
        modalities: Names, in order.
        classes: Names of the foreground classes, in order.
        cases: How many patients were predicted.
        folds: How many folds the training data is split into.
        fingerprint: SHA-256 (hex) over the content of the data that was predicted.
        protocol: Digest of all that rows must share to be compared.
        ranked_by: The name of the mean that ranks.
        ranked_as: What tables call it.
        rows: The ranked ones first, in order of rank.
        tests: How the rows were tested against the best one.
        fusion_effects: Differences between the fusions of a method, of what ranks.
        split_half: Whether other patients would give the same order.
        schemes: Whether another way of ranking would.
        pairs: Every pair of ranked rows, None where there are too many.
        baseline: Each other ranked row less a named one; empty without one.
    """

    title: str
    track: Track
    data: str
    task: str
    kind: DataKind
    preset: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    cases: int
    folds: int
    fingerprint: str
    protocol: str
    ranked_by: str
    ranked_as: str
    rows: tuple[TrackRow, ...]
    tests: Tests
    fusion_effects: tuple[FusionEffect, ...]
    split_half: SplitHalf | None
    schemes: Schemes | None
    pairs: tuple[Difference, ...] | None
    baseline: tuple[Difference, ...]

    @property
    def facts(self) -> str:
        """One line on what the rows share."""
        where = f"{count(self.cases, 'case')}{f' of {self.data}' if self.data else ', the test folds'}"
        return (
            f"modalities {', '.join(self.modalities)}; classes {', '.join(self.classes)}; {where}; "
            f"trained on {self.folds} folds; data {self.fingerprint[:10]}, protocol {self.protocol}"
        )


def collect_tracks(runs: Sequence[Run], runs_dir: Path | None = None) -> tuple[list[TrackRun], list[LeftOut]]:
    """The finished tracks of some runs, and what was left out.

    A track counts if `load_track` accepts it as one of the result beside it, and its rows are complete.

    Args:
        runs: The runs that tables count; tracks of others are left out with them.
        runs_dir: The folder of the runs, below which tracks without a run are named too.

    Returns:
        The tracks in order of path, and the others with the reason.
    """
    found: list[TrackRun] = []
    left_out: list[LeftOut] = []
    for run in runs:
        finished = set(track_folders(run.path))
        for folder in sorted(path for path in (run.path / FOLDER).glob("*/") if path.name[:1] != "."):
            if folder not in finished:
                why = "not finished; the same usbench evaluate command goes on with it"
                left_out.append(LeftOut(folder, f"is running: {now}" if (now := running(folder)) else why))
                continue
            try:
                track = load_track(folder, str(run.data["digest"]))
                check_rows(track, run.data)
            except Exception as error:
                left_out.append(LeftOut(folder, reason_of(error).replace(f"{folder}/", "")))
                continue
            found.append(TrackRun(run, track))
    if runs_dir is not None:
        known = {folder for folder, _ in run_folders(runs_dir)}
        strays = {file.parent for file in runs_dir.rglob(f"{FOLDER}/*/{FILE}")}
        left_out += [
            LeftOut(folder, "the run that it belongs to is not there; remove it, or put its run back")
            for folder in sorted(strays)
            if folder.parent.parent not in known
        ]
    return found, left_out


def by_truth(tracks: Sequence[TrackRun], empty: str = TRUTH) -> list[TrackRun]:
    """Tracks whose rows have the scores that tables count, see `usbench.results.usable.rows_of`."""
    return [replace(one, track=replace(one.track, rows=rows_of(one.track.rows, empty))) for one in tracks]


def track_tables(
    tracks: Sequence[TrackRun], baseline: str | None = None
) -> tuple[tuple[TrackTable, ...], list[LeftOut]]:
    """One table for each group of comparable tracks: robustness first, then by task, kind and title.

    Args:
        tracks: With the scores that tables count, see `by_truth`.
        baseline: As for `usbench.leaderboards.compare.compare`.

    Returns:
        The tables, and tracks that were left out since the same cell has the same track twice.
    """
    left_out: list[LeftOut] = []
    groups: dict[tuple[Any, ...], list[TrackRun]] = defaultdict(list)
    seen: dict[tuple[Any, ...], Path] = {}
    for one in tracks:
        key = _table_key(one)
        own = (*key, cell_key(one.run.data), one.run.entry)
        if own in seen:
            left_out.append(LeftOut(one.track.path, f"the same track as {seen[own]}; remove one of the two"))
            continue
        seen[own] = one.track.path
        groups[key].append(one)
    named: dict[tuple[str, str], list[list[TrackRun]]] = defaultdict(list)
    for group in volumes_beside_slices(groups, lambda one: one.run.data, _of_volumes_key).values():
        named[group[0].track.data["track"], group[0].track.data["data"]["name"]].append(group)
    tables = []
    for (track, data), members in named.items():
        before = "Robustness" if track == "robustness" else f"External, {data}"
        titles = titles_of([group[0].run.data for group in members])
        tables += [
            _make_table(f"{before}: {title}", group, baseline)
            for (title, _), group in zip(titles, members, strict=True)
        ]
    order = ("robustness", "external")
    tables.sort(key=lambda t: (order.index(t.track), t.task, DATA_KINDS.index(t.kind), t.title, t.protocol))
    return tuple(tables), left_out


def _table_key(one: TrackRun, protocol: str | None = None) -> tuple[Any, ...]:
    """What tracks must share to stand in one table; with another protocol than their own, if it is given."""
    data = one.track.data
    name = data["data"]["name"] if data["track"] == "external" else ""
    shared = (tuple(data["modalities"]), tuple(data["classes"]), name)
    own = data["protocol"] if protocol is None else protocol
    return data["track"], data["cell"]["task"], data["data"]["kind"], own, *shared


def _of_volumes_key(one: TrackRun) -> tuple[Any, ...]:
    """The key of the table that the track would stand in if its network were one of volumes."""
    track, run = one.track.data, one.run.data
    content = run["data"] if track["track"] == "robustness" else track["data"]
    as_volumes = {**run, "protocol": volumes_of_result(run)}
    return _table_key(one, track_protocol(as_volumes, track["track"], content["fingerprint"]))


def _make_table(title: str, tracks: Sequence[TrackRun], baseline: str | None) -> TrackTable:
    track, run = tracks[0].track.data, tracks[0].run.data
    robust = track["track"] == "robustness"
    # With one modality none can be missing; what is left is a share of its voxels.
    ranked_by = "dsc" if not robust else "emm_avg" if len(track["modalities"]) > 1 else "rmm_avg"
    ranked_as = AVERAGES[ranked_by][0] if robust else "DSC"
    values = [values_of(one.track) for one in tracks]
    standings = [
        _standing(one.run, of_track, ranked_by) for one, of_track in zip(tracks, values, strict=True)
    ]
    compared = compare(make_rows(standings), ranked_as, baseline)
    by_path = {str(one.run.path): (one, of_track) for one, of_track in zip(tracks, values, strict=True)}
    rows = tuple(_make_row(row, [by_path[one["path"]] for one in row.runs]) for row in compared.rows)
    return TrackTable(
        title=title,
        track=track["track"],
        data="" if robust else track["data"]["name"],
        task=track["cell"]["task"],
        kind=track["data"]["kind"],
        preset=str(run["preset"]),
        modalities=tuple(track["modalities"]),
        classes=tuple(track["classes"]),
        cases=len({case for one in tracks for case in one.track.data["data"]["cases"]}),
        folds=int(run["split"]["folds"]),
        fingerprint=str(run["data"]["fingerprint"] if robust else track["data"]["fingerprint"]),
        protocol=str(track["protocol"]),
        ranked_by=ranked_by,
        ranked_as=ranked_as,
        rows=rows,
        tests=compared.tests,
        fusion_effects=compared.fusion_effects,
        split_half=compared.split_half,
        schemes=compared.schemes,
        pairs=compared.pairs,
        baseline=compared.baseline,
    )


Values = Mapping[str, Mapping[str, float]]
"""By case, then by name of the number."""


def values_of(track: TrackResult) -> dict[str, dict[str, float]]:
    """Every number that a row of a table has of each patient of a track.

    Args:
        track: A finished track.

    Returns:
        By case, then by name. Of a robustness track: the averages of `usbench.scores.robustness`, the DSC
        under "missing-A", "missing-A+B" and so on, and "lost-A", the clean DSC less that without A; of IoU
        the same with "iou_" before the name. Of an external one every score. NaN where it is undefined.
    """
    if track.data["track"] == "external":
        every = {name: condition_scores(track, name) for name in names_of(track)}
        return {
            case: {name: every[name][case]["clean"] for name in every} for case in track.data["data"]["cases"]
        }
    found: dict[str, dict[str, float]] = {case: {} for case in track.data["data"]["cases"]}
    missing = ["+".join(some) for some in subsets(track.data["modalities"], proper=True)]
    for score in OVERLAPS:
        before = "" if score == "dsc" else f"{score}_"
        means, scores = patient_averages(track, score), condition_scores(track, score)
        for case, values in found.items():
            values |= {before + name: value for name, value in means[case].items()}
            values |= {f"{before}missing-{some}": scores[case][f"missing-{some}"] for some in missing}
            values |= {
                f"{before}lost-{some}": scores[case]["clean"] - scores[case][f"missing-{some}"]
                for some in missing
                if some in track.data["modalities"]
            }
    return found


def _standing(run: Run, values: Values, ranked_by: str) -> Run:
    """The run with what the table ranks by in place of its DSC, and without other scores."""
    names = [score.name for score in all_scores()]
    scores = np.full((len(values), len(names)), np.nan)
    scores[:, names.index("dsc")] = [of_case[ranked_by] for of_case in values.values()]
    return replace(run, cases=tuple(values), scores=scores, edges=np.full((len(values), len(EDGES)), np.nan))


def _make_row(row: Row, members: Sequence[tuple[TrackRun, Values]]) -> TrackRow:
    tracks = [one for one, _ in members]
    means = means_of([values for _, values in members], [one.run for one in tracks])
    if tracks[0].track.data["track"] == "external":
        column = [score.name for score in all_scores()].index("dsc")
        _, scores = per_patient([one.run for one in tracks])
        means["clean"] = mean_of("dsc", scores[:, column])
        clean, there = means["clean"].value, means["dsc"].value
        loss = None if clean is None or there is None else clean - there
        # Other patients: nothing is paired, and so there is no interval.
        means["loss"] = Mean(loss, None, None, means["dsc"].cases)
    told = all(one.track.data["told"] for one in tracks)
    return TrackRow(row, told, means, tuple(one.track.path for one in tracks))


def means_of(values: Sequence[Values], runs: Sequence[Run]) -> dict[str, Mean]:
    """The mean over patients of each number, seeds and folds averaged within a patient first.

    Args:
        values: For each track what `values_of` gives.
        runs: The run of each of them.

    Returns:
        By name, in the order of the first track; a number that one of the tracks lacks is undefined.
    """
    names = list(next(iter(values[0].values())))
    there = set.intersection(*(set(next(iter(one.values()))) for one in values))
    filled = []
    for run, one in zip(runs, values, strict=True):
        rows = [[of_case.get(name, math.nan) for name in names] for of_case in one.values()]
        filled.append(replace(run, cases=tuple(one), scores=np.array(rows, dtype=float)))
    _, scores = per_patient(filled)
    nothing = Mean(None, None, None, 0)
    return {name: mean_of(name, scores[:, i]) if name in there else nothing for i, name in enumerate(names)}


_BOUNDED = ("dsc", "iou", "nsd", "sensitivity", "specificity")


def mean_of(name: str, values: np.ndarray) -> Mean:
    """The mean of values [patients] that are known, with the interval that fits what the number can be.

    Args:
        name: Of the number, see `values_of`: of a score between 0 and 1, a difference of two, or a distance
            or volume, which has no upper end.
        values: One a patient, NaN where it is undefined.
    """
    known = values[~np.isnan(values)]
    value = mean(known)
    beside = [score.name for score in all_scores() if score.name not in _BOUNDED]
    if "lost-" in name:
        interval = difference_interval(known)
    elif name in beside:
        interval = difference_interval(known, limits=(-1.0 if name == "rvd" else 0.0, math.inf))
    else:
        interval = score_interval(known)
    return Mean(None if math.isnan(value) else value, interval.low, interval.high, len(known))
