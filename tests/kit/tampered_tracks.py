"""The example submission with robustness tracks of made-up masks, and a tamperer's tools for them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import nibabel
import numpy as np

from kit.made_tracks import means_of_rows
from kit.tampering import Members, folder_of_fold, image, taken_apart
from usbench.contracts.settings import DataSettings
from usbench.datasets.resolve import find_data
from usbench.datasets.store import Store, prepare
from usbench.datasets.tasks import get_task
from usbench.results.tracks import (
    OVERLAPS,
    TRACK_SCHEMA,
    TRACK_VERSION,
    Track,
    parse_tracks_csv,
    track_protocol,
    tracks_csv,
)
from usbench.scores.registry import all_scores
from usbench.scores.robustness import conditions_of
from usbench.storage.files import digest_of

FOLDER = "tracks/robustness"


def store() -> Store:
    """The phantom that the example was computed on."""
    task = get_task("msd-prostate")
    return prepare(task, find_data(task, None, "phantom").root, DataSettings(size=16))


def counted(mask: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Overlap of one class, written out."""
    tp, fp = int((mask & truth).sum()), int((mask & ~truth).sum())
    fn = int((~mask & truth).sum())
    tn = mask.size - tp - fp - fn
    assert truth.any()
    dsc, iou = 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn)
    return {
        "dsc": dsc, "iou": iou, "tp": tp, "fp": fp, "fn": fn, "tn": tn,
        "edge": "" if mask.any() else "prediction-empty",
    }  # fmt: skip


def with_tracks(prepared: Store) -> Members:
    """The example with a robustness track on every fold: masks that lose more and more slabs."""
    members = taken_apart()
    for fold in range(5):
        run = folder_of_fold(members, fold)
        result = json.loads(members[f"{run}/result.json"])
        conditions = conditions_of(result["task"]["modalities"])
        rows: list[dict[str, Any]] = []
        for place, condition in enumerate(conditions):
            for case in result["split"]["test"]:
                content = members[f"{run}/predictions/{case}.nii.gz"]
                if place:
                    made = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
                    labels = np.asarray(made.dataobj).copy()
                    labels[: labels.shape[0] // 3 + place] = 0
                    content = gzip.compress(image(labels, made.affine).to_bytes(), mtime=0)
                members[f"{run}/{FOLDER}/predictions/{condition.name}/{case}.nii.gz"] = content
                labels = np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)
                scored = counted(labels == 1, prepared.case(case).truth() == 1)
                rows.append({"condition": condition.name, "case": case, "class": "prostate", **scored})
        put_track(members, run, rows, track_data(result, "robustness", result["data"]["fingerprint"]))
    return members


def track_data(
    result: Mapping[str, Any], track: Track, fingerprint: str, name: str = "", **data: Any
) -> dict[str, Any]:
    """What a track.json says before its means, files and digest."""
    robust = track == "robustness"
    conditions = conditions_of(result["task"]["modalities"])[: None if robust else 1]
    return {
        "schema": TRACK_SCHEMA,
        "version": TRACK_VERSION,
        "usbench": result["usbench"],
        "track": track,
        "name": "robustness" if robust else f"external-{name}",
        "of": result["digest"],
        "cell": result["cell"],
        "protocol": track_protocol(result, track, fingerprint),
        "modalities": result["task"]["modalities"],
        "classes": result["task"]["classes"],
        "conditions": [
            {"name": c.name, "kind": c.kind, "modalities": list(c.modalities), "level": c.level}
            for c in conditions
        ],
        "told": False,
        "data": {
            "kind": result["data"]["kind"], "fingerprint": fingerprint, "cases": result["split"]["test"],
            "name": name, "task": result["task"]["name"], "labels": {}, **data,
        },
        "cost": {"seconds": 2.0, "forward_seconds": 1.0, "device": "CPU of the test"},
        "provenance": result["provenance"],
    }  # fmt: skip


def put_track(members: Members, run: str, rows: list[dict[str, Any]], data: dict[str, Any]) -> None:
    """Put cases.csv and track.json of a track into the archive; means, files and digest are made to fit."""
    folder = f"{run}/tracks/{data['name']}"
    robust = data["track"] == "robustness"
    names = OVERLAPS if robust else tuple(score.name for score in all_scores() if score.name in rows[0])
    members[f"{folder}/cases.csv"] = tracks_csv(rows, names).encode()
    data["scores"] = means_of_rows(rows, data["modalities"], robust)
    seal_track(members, folder, data)


def seal_track(members: Members, folder: str, data: dict[str, Any]) -> None:
    """Put `data` in place of the track.json in `folder`, with the digests of what lies beside it."""
    data["files"] = {
        name.removeprefix(f"{folder}/"): hashlib.sha256(content).hexdigest()
        for name, content in members.items()
        if name.startswith(f"{folder}/") and not name.endswith("/track.json")
    }
    data.pop("digest", None)
    data["digest"] = digest_of(data)
    members[f"{folder}/track.json"] = json.dumps(data).encode()


def change_track(
    members: Members,
    change: Callable[[dict[str, Any], list[dict[str, Any]]], object] = lambda data, rows: None,
    masks: Callable[[Members, str], object] = lambda members, folder: None,
    fit: bool = True,
) -> None:
    """Change track.json, the rows of cases.csv and the masks of the first fold's track.

    Masks of cases and conditions that track.json no longer names are dropped with them. Digests are made to
    fit; `fit`: the means too.
    """
    folder = f"{folder_of_fold(members)}/{FOLDER}"
    data = json.loads(members[f"{folder}/track.json"])
    rows = parse_tracks_csv(members[f"{folder}/cases.csv"].decode(), "cases.csv")
    masks(members, f"{folder}/predictions")
    change(data, rows)
    members[f"{folder}/cases.csv"] = tracks_csv(rows, OVERLAPS).encode()
    for name in [name for name in members if name.startswith(f"{folder}/predictions/")]:
        condition, _, case = (
            name.removeprefix(f"{folder}/predictions/").removesuffix(".nii.gz").partition("/")
        )
        kept = {one["name"] for one in data["conditions"]}
        if condition not in kept or case not in data["data"]["cases"]:
            members.pop(name)
    if fit:
        kept = {one["name"] for one in data["conditions"]}
        if kept == {one.name for one in conditions_of(data["modalities"])}:
            data["scores"] = means_of_rows(rows, data["modalities"], True)
    seal_track(members, folder, data)
