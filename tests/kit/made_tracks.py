"""Finished tracks made by hand, below run folders made by hand: any scores, without a network."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kit.handmade import class_score
from usbench.results.tracks import (
    OVERLAPS,
    TRACK_SCHEMA,
    TRACK_VERSION,
    Track,
    TrackResult,
    track_protocol,
    write_track,
)
from usbench.scores.registry import all_scores
from usbench.scores.robustness import averages, conditions_of
from usbench.storage.files import digest_of

Scores = Callable[[str, str, str], float]
"""The DSC of a condition, a case and a class."""


def result_of(run: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return data


def make_track(
    run: Path,
    dsc: Scores,
    track: Track = "robustness",
    name: str | None = None,
    masks: Mapping[str, bytes] | None = None,
    cases: Sequence[str] | None = None,
    told: bool = False,
    fingerprint: str = "e" * 64,
    **changes: Any,
) -> TrackResult:
    """Write a track of the run in `run`, with IoU half of the DSC and counts that fit nothing.

    `masks`: content by name below predictions. `cases` and `fingerprint`: of the data of an external track.
    `changes`: of track.json, a key each, before its digest is made.
    """
    result = result_of(run)
    modalities, classes = result["task"]["modalities"], result["task"]["classes"]
    cases = list(cases or result["split"]["test"])
    conditions = conditions_of(modalities) if track == "robustness" else conditions_of(modalities)[:1]
    names = OVERLAPS if track == "robustness" else tuple(score.name for score in all_scores())
    rows = []
    for condition in conditions:
        for case in cases:
            for label in classes:
                value = dsc(condition.name, case, label)
                scored = class_score(label, value)
                rows.append(
                    {
                        "condition": condition.name, "case": case, "class": label,
                        **{one: scored.scores[one] for one in names},
                        "tp": 9, "fp": 1, "fn": 2, "tn": 88, "edge": scored.edge,
                    }
                )  # fmt: skip
    folder = run / "tracks" / (name or track)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (masks or {}).items():
        (folder / "predictions" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "predictions" / file).write_bytes(content)
    robust = track == "robustness"
    fingerprint = result["data"]["fingerprint"] if robust else fingerprint
    data = {
        "schema": TRACK_SCHEMA,
        "version": TRACK_VERSION,
        "usbench": result["usbench"],
        "track": track,
        "name": name or track,
        "of": result["digest"],
        "cell": result["cell"],
        "protocol": track_protocol(result, track, fingerprint),
        "modalities": modalities,
        "classes": classes,
        "conditions": [
            {"name": c.name, "kind": c.kind, "modalities": list(c.modalities), "level": c.level}
            for c in conditions
        ],
        "told": told,
        "data": {
            "kind": result["data"]["kind"], "fingerprint": fingerprint, "cases": cases,
            "name": "" if robust else (name or track).removeprefix("external-"),
            "task": result["cell"]["task"], "labels": {},
        },
        "scores": means_of_rows(rows, modalities, robust),
        "cost": {"seconds": 2.0, "forward_seconds": 1.0, "device": "CPU of the test"},
        "provenance": result["provenance"],
        **changes,
    }  # fmt: skip
    return write_track(folder, data, rows, names)


def means_of_rows(
    rows: Sequence[Mapping[str, Any]], modalities: Sequence[str], robust: bool
) -> dict[str, Any]:
    """The means of track.json, written out: classes, then averages of a patient, then patients."""
    by: dict[tuple[str, str, str], list[float]] = {}
    scores = OVERLAPS if robust else [score.name for score in all_scores() if score.name in rows[0]]
    for row in rows:
        for score in scores:
            by.setdefault((score, row["case"], row["condition"]), []).append(row[score])
    cases = sorted({row["case"] for row in rows})
    patients: dict[str, list[float]] = {}
    for score in scores:
        for case in cases:
            one = {key[2]: _mean(values) for key, values in by.items() if key[:2] == (score, case)}
            found = averages(one, modalities) if robust else {_mean_name(score): one["clean"]}
            for name, value in found.items():
                patients.setdefault(name if score != "iou" or not robust else f"iou_{name}", []).append(value)
    means = {name: _mean(values) for name, values in patients.items()}
    return {name: None if math.isnan(value) else value for name, value in means.items()}


def _mean_name(score: str) -> str:
    return next(one.mean_name for one in all_scores() if one.name == score)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def edit_track(folder: Path, change: Callable[[dict[str, Any]], object], seal: bool = True) -> None:
    """Change the track.json in a folder; `seal`: as somebody might who also makes its digest fit."""
    data = json.loads((folder / "track.json").read_text(encoding="utf-8"))
    change(data)
    if seal:
        data.pop("digest", None)
        data["digest"] = digest_of(data)
    (folder / "track.json").write_text(json.dumps(data), encoding="utf-8")


def packed(content: bytes) -> bytes:
    """A file packed as masks are, always alike."""
    return gzip.compress(content, mtime=0)
