"""The numbers of a track as tables and checks need them: scores of patients, and the means in track.json."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from usbench.errors import UsbenchError
from usbench.results.tracks import CASES, FILE, OVERLAPS, TrackResult, track_protocol
from usbench.scores.registry import all_scores
from usbench.scores.robustness import averages, conditions_of

TOLERANCE = 1e-6
"""The largest difference between a mean in track.json and what the rows of cases.csv give."""

_AGAIN = "evaluate the run again with --overwrite"


def names_of(track: TrackResult) -> tuple[str, ...]:
    """The names of the scores in the rows of a track, in order."""
    there = set(track.rows[0]) if track.rows else set(OVERLAPS)
    return tuple(score.name for score in all_scores() if score.name in there)


def check_rows(track: TrackResult, result: Mapping[str, Any]) -> None:
    """Hold a track against the result that it belongs to, and its rows against what it says of itself.

    Args:
        track: As `usbench.results.tracks.load_track` gives it.
        result: The result.json of its run.

    Raises:
        UsbenchError: Naming the file and the first thing that is wrong: another cell, other modalities or
            classes, conditions or cases that are not those of the track, a row that is absent or there twice,
            a number that is infinite, a mean that is not that of the rows.
    """
    data, where = track.data, track.path / FILE
    if problem := _odd(data, result):
        raise UsbenchError(f"{where}: {problem}; {_AGAIN}")
    wanted = [
        (one["name"], case, name)
        for one in data["conditions"]
        for case in data["data"]["cases"]
        for name in data["classes"]
    ]
    found = Counter((row["condition"], row["case"], row["class"]) for row in track.rows)
    table = track.path / CASES
    if lost := [key for key in wanted if key not in found]:
        condition, case, name = lost[0]
        raise UsbenchError(f"{table}: lacks case {case}, class {name} of condition {condition}; {_AGAIN}")
    if len(track.rows) != len(wanted):
        extra = next((key for key in found if key not in set(wanted) or found[key] > 1), wanted[0])
        raise UsbenchError(f"{table}: has a row too many, of {', '.join(extra)}; {_AGAIN}")
    for row in track.rows:
        for name in names_of(track):
            if math.isinf(row[name]):
                raise UsbenchError(f"{table}: {name} of case {row['case']} is infinite; {_AGAIN}")
    if problem := means_problem(data["scores"], track_means(track)):
        raise UsbenchError(f"{where}: {problem}; {_AGAIN}")


def _odd(data: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """What a track says that does not fit its result or its kind; "" where all fits."""
    if data["of"] != result["digest"] or data["cell"] != result["cell"]:
        return "is of another result than the run beside it"
    for name in ("modalities", "classes"):
        if list(data[name]) != list(result["task"][name]):
            return f"its {name} are not those of its run"
    known = conditions_of(data["modalities"])
    if data["track"] == "external":
        known = known[:1]
    stated = [
        (one["name"], one["kind"], tuple(one["modalities"]), one["level"]) for one in data["conditions"]
    ]
    if stated != [(one.name, one.kind, one.modalities, one.level) for one in known]:
        return f"its {len(stated)} conditions are not the {len(known)} of the {data['track']} track"
    if len(set(data["data"]["cases"])) != len(data["data"]["cases"]):
        return "names a case twice"
    if data["track"] == "external":
        return ""
    if sorted(data["data"]["cases"]) != sorted(result["split"]["test"]):
        return "its cases are not those of the test fold of its run"
    if data["protocol"] != track_protocol(result, "robustness", result["data"]["fingerprint"]):
        return "its protocol is not that of its run"
    return ""


def condition_scores(track: TrackResult, name: str) -> dict[str, dict[str, float]]:
    """One score of every patient under every condition.

    Args:
        track: The track.
        name: Of the score: "dsc", "iou" or, of an external track, another.

    Returns:
        By case, then by name of the condition: the mean over the classes that have one, NaN where none has.
    """
    values: dict[str, dict[str, list[float]]] = {case: {} for case in track.data["data"]["cases"]}
    for row in track.rows:
        values[row["case"]].setdefault(row["condition"], []).append(row[name])
    return {case: {one: _mean(found) for one, found in by.items()} for case, by in values.items()}


def patient_averages(track: TrackResult, name: str) -> dict[str, dict[str, float]]:
    """The averages of `usbench.scores.robustness` for every patient of a robustness track, by case."""
    return {
        case: averages(scores, track.data["modalities"])
        for case, scores in condition_scores(track, name).items()
    }


def track_means(track: TrackResult) -> dict[str, float | None]:
    """What the "scores" of a track.json say, from the rows of its cases.csv.

    Returns:
        Of a robustness track the mean over patients of each average of DSC and, with "iou_" before its name,
        of IoU; of an external one the mean over patients of every score. None where it is undefined.
    """
    found: dict[str, list[float]] = {}
    if track.data["track"] == "robustness":
        for name in OVERLAPS:
            before = "" if name == "dsc" else f"{name}_"
            for values in patient_averages(track, name).values():
                for average, value in values.items():
                    found.setdefault(before + average, []).append(value)
    else:
        means = {score.name: score.mean_name for score in all_scores()}
        for name in names_of(track):
            said = means[name] if means[name] in track.data["scores"] else name
            found[said] = [scores["clean"] for scores in condition_scores(track, name).values()]
    values_of = {name: _mean(values) for name, values in found.items()}
    return {name: None if math.isnan(value) else value for name, value in values_of.items()}


def means_problem(said: Mapping[str, Any], found: Mapping[str, float | None]) -> str:
    """The first mean of a track.json that its rows do not give, as the end of a sentence; "" where all do."""
    if lost := sorted(set(found) ^ set(said)):
        return f"its means and its rows do not have the same scores ({lost[0]})"
    for name, value in found.items():
        claim = said[name]
        same = claim is value if claim is None or value is None else abs(claim - value) <= TOLERANCE
        if not same:
            return f"its mean {name} is {claim}, its rows give {value}"
    return ""


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
