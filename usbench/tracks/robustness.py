"""The robustness track of a run: its test fold with modalities missing, damaged and noisy."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usbench import __version__
from usbench.pages.figures import pick_slice
from usbench.results.track_scores import condition_scores, track_means
from usbench.results.tracks import (
    OVERLAPS,
    TRACK_SCHEMA,
    TRACK_VERSION,
    TrackResult,
    track_protocol,
    write_track,
)
from usbench.runs.predict import read_mask, write_mask
from usbench.runs.score import drawn_slice
from usbench.runtime.console import count
from usbench.runtime.devices import device_name
from usbench.runtime.machine import provenance
from usbench.scores.case import score_case
from usbench.scores.robustness import Condition, conditions_of
from usbench.tracks.folder import TrackFolder, part_row, rows_of
from usbench.tracks.predicting import Predictor

if TYPE_CHECKING:
    from usbench.datasets.store import Store
    from usbench.runs.network import TrainedNetwork

NAME = "robustness"


def folder_of(trained_data: Mapping[str, Any], run: Path, masks: bool) -> TrackFolder:
    """Where the robustness track of a run goes.

    Args:
        trained_data: The result.json of the run.
        run: Its folder.
        masks: Whether masks are kept.
    """
    return TrackFolder.of_run(run, NAME, trained_data["digest"], {"masks": masks})


def evaluate(
    trained: TrainedNetwork, store: Store, *, masks: bool, overwrite: bool, cache_gb: float
) -> TrackResult:
    """Evaluate a run on its test fold under every condition; one that was stopped goes on.

    Args:
        trained: The network of the run.
        store: The prepared data of the run.
        masks: Whether masks are kept, which a submission needs.
        overwrite: Whether to begin anew.
        cache_gb: Bound on stored features of frozen parts, in GB.

    Returns:
        The finished track.

    Raises:
        UsbenchError: Where another process computes it, and for a full disk.
    """
    result = trained.result
    folder = folder_of(result.data, result.path, masks)
    conditions = conditions_of(trained.task.modality_names)
    test = result.data["split"]["test"]
    with folder.held(overwrite):
        parts = _cases(trained, store, folder, conditions, test, masks, cache_gb)
        rows = rows_of(parts)
        data = describe(
            trained,
            "robustness",
            NAME,
            conditions,
            {
                "kind": result.data["data"]["kind"],
                "fingerprint": result.data["data"]["fingerprint"],
                "cases": list(test),
                "name": "",
                "task": trained.task.name,
                "labels": {},
            },
            parts,
        )
        data["scores"] = track_means(TrackResult(folder.path, data, rows))
        draw(trained, store, folder, TrackResult(folder.path, data, rows), masks)
        done = write_track(folder.path, data, rows, OVERLAPS)
        folder.done()
    return done


def _cases(
    trained: TrainedNetwork,
    store: Store,
    folder: TrackFolder,
    conditions: Sequence[Condition],
    case_ids: Sequence[str],
    masks: bool,
    cache_gb: float,
) -> list[dict[str, Any]]:
    """What every case gives, those from before as they were kept."""

    def make(todo: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        predictor = Predictor(trained, store, todo, cache_gb)
        for case_id in todo:
            yield case_id, _case(predictor, folder, conditions, case_id, masks)

    words = f"{words_of(trained)}: {count(conditions, 'condition')}"
    return folder.computed(case_ids, words, make)


def words_of(trained: TrainedNetwork) -> str:
    """A run in words, for progress bars."""
    cell = trained.result.data["cell"]
    return f"{cell['task']} {cell['method']} {cell['fusion']} fold {cell['fold']}"


def _case(
    predictor: Predictor, folder: TrackFolder, conditions: Sequence[Condition], case_id: str, masks: bool
) -> dict[str, Any]:
    task = predictor.trained.task
    start, before = time.perf_counter(), predictor.seconds
    case = predictor.store.case(case_id)
    predicted = predictor.predict(case, conditions)
    truth = case.truth()
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(max_workers=1) as writer:
        written = []
        for condition in conditions:
            volume = predicted.volume(condition.name)
            if masks:
                file = folder.mask(condition.name, case_id)
                file.parent.mkdir(parents=True, exist_ok=True)
                written.append(writer.submit(write_mask, volume, case.affine, file))
            scores = score_case(
                volume, truth, task.class_names, case.spacing, 0.0, task.regions, only=OVERLAPS
            )
            rows += [part_row(condition.name, case_id, score, OVERLAPS) for score in scores]
        for job in written:
            job.result()
    return {
        "rows": rows,
        "forward_seconds": predictor.seconds - before,
        "seconds": time.perf_counter() - start,
    }


def describe(
    trained: TrainedNetwork,
    track: Any,
    name: str,
    conditions: Sequence[Condition],
    data: Mapping[str, Any],
    parts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """All that track.json says but the scores.

    Args:
        trained: The network.
        track: "robustness" or "external".
        name: Of the folder.
        conditions: In order.
        data: The block "data".
        parts: What the cases gave: "forward_seconds" and "seconds" of each.
    """
    from usbench.fusions.segmenter import takes_present

    result = trained.result.data
    return {
        "schema": TRACK_SCHEMA,
        "version": TRACK_VERSION,
        "usbench": __version__,
        "track": track,
        "name": name,
        "of": result["digest"],
        "cell": result["cell"],
        "protocol": track_protocol(result, track, str(data["fingerprint"])),
        "modalities": list(trained.task.modality_names),
        "classes": list(trained.task.class_names),
        "conditions": [
            {"name": one.name, **asdict(one), "modalities": list(one.modalities)} for one in conditions
        ],
        "told": takes_present(trained.network),
        "data": dict(data),
        "cost": {
            "seconds": math.fsum(part["seconds"] for part in parts),
            "forward_seconds": math.fsum(part["forward_seconds"] for part in parts),
            "device": device_name(trained.device),
        },
        "provenance": provenance(),
    }


def draw(trained: TrainedNetwork, store: Store, folder: TrackFolder, track: TrackResult, masks: bool) -> None:
    """Draw figure.png: DSC against what is missing, and a patient with each modality missing.

    Args:
        trained: The network.
        store: The prepared data.
        folder: Of the track.
        track: Its data and rows.
        masks: Whether the masks are there to be drawn.
    """
    from usbench.pages.track_figure import TrackPicture, track_figure

    task = trained.task
    missing = [one for one in conditions_of(task.modality_names) if one.kind in ("clean", "missing")]
    scores = condition_scores(track, "dsc")
    shown = []
    if masks:
        case = store.case(track.data["data"]["cases"][0])
        truth = np.asarray(case.mask)
        z = pick_slice(truth, task.regions)
        images = np.asarray(case.images[z], dtype=np.float32)
        for one in missing:
            if one.kind == "clean" or len(one.modalities) == 1:
                volume = read_mask(folder.mask(one.name, case.case_id))
                drawn = drawn_slice(case, volume, z)
                shown.append(TrackPicture(one.modalities, drawn, scores[case.case_id][one.name]))
        picture = (case.case_id, images, truth[z], shown)
    else:
        picture = None
    track_figure(
        folder.path / "figure.png",
        [(one.modalities, [patient[one.name] for patient in scores.values()]) for one in missing],
        picture,
        (task.modality_names, task.class_names),
        task.regions,
    )
