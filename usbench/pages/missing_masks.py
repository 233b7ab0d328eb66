"""The masks that a run's network predicted without one modality, as its robustness track kept them."""

from __future__ import annotations

import math
from pathlib import Path

from usbench.errors import UsbenchError
from usbench.results.result import Result
from usbench.results.track_scores import condition_scores
from usbench.results.tracks import FOLDER, MASKS, TrackResult, load_track
from usbench.storage.files import sha256_file

Without = tuple[str, Path, float | None]
"""A modality, the mask that was predicted without it, and its DSC, None where that is undefined."""


def masks_without(result: Result, case_id: str) -> list[Without]:
    """The masks of a case that were predicted without each single modality.

    Args:
        result: Of the run.
        case_id: Of one of its test cases.

    Returns:
        In the task's order; nothing where the run has no such track, or not of this very result. A mask that
        was not kept, or is not as the evaluation wrote it, is left out.
    """
    try:
        track = load_track(result.path / FOLDER / "robustness", result.data["digest"])
    except UsbenchError:
        return []
    if case_id not in track.data["data"]["cases"] or len(track.data["modalities"]) < 2:
        return []
    scores = condition_scores(track, "dsc")[case_id]
    found = []
    for modality in track.data["modalities"]:
        file = kept_mask(track, f"missing-{modality}", case_id)
        dsc = scores.get(f"missing-{modality}", math.nan)
        if file is not None:
            found.append((modality, file, None if math.isnan(dsc) else dsc))
    return found


def kept_mask(track: TrackResult, condition: str, case_id: str) -> Path | None:
    """The file of a mask; None if it is absent or not what the evaluation wrote."""
    name = f"{MASKS}/{condition}/{case_id}.nii.gz"
    return as_evaluated(track, name)


def as_evaluated(track: TrackResult, name: str) -> Path | None:
    """The file `name` of the folder of a track; None if it is absent or not what the evaluation wrote."""
    file, digest = track.path / name, track.data["files"].get(name)
    if digest is None or not file.resolve().is_relative_to(track.path.resolve()) or not file.is_file():
        return None
    return file if sha256_file(file) == digest else None
