"""Re-scoring the masks of a track, every condition of every case, against the reference masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usbench.contracts.classes import largest_value
from usbench.contracts.data import Task
from usbench.contracts.settings import DataSettings
from usbench.datasets.store import Store, prepare
from usbench.errors import UsbenchError
from usbench.results.track_scores import names_of
from usbench.results.tracks import COUNTS, OVERLAPS, TrackResult, tracks_csv
from usbench.runs.of_result import task_of
from usbench.scores.case import score_case
from usbench.submissions.checks import Submitted
from usbench.submissions.score import Rescored, difference_of, read_mask
from usbench.submissions.tracks import mask_name, track_member
from usbench.tracks.other_task import as_in_run


@dataclass(frozen=True)
class TrackReference:
    """What a track is scored against: a task with the classes of the run, in order, and its data."""

    task: Task
    store: Store


def rescore_track(
    one: Submitted,
    track: TrackResult,
    read: Callable[[str], bytes],
    reference: TrackReference,
    advance: Callable[[], None],
) -> Rescored:
    """Score every mask of a track anew and compare each number of its cases.csv.

    That its means and averages are those of its rows has been checked where it was read.

    Args:
        one: The run.
        track: Its track.
        read: Gives the content of a file of the track by its name.
        reference: What it is scored against.
        advance: Called after each mask.

    Returns:
        What the masks give, which counts from here on in place of what is claimed.

    Raises:
        UsbenchError: One line that names case and condition, for a mask that is no NIfTI volume on the grid
            of its case with values of the task's classes, and for a claim that is not what its mask gives.
    """
    task, where = reference.task, track_member(one, track)
    names = names_of(track)
    only = OVERLAPS if track.data["track"] == "robustness" else None
    claimed = {(row["condition"], row["case"], row["class"]): row for row in track.rows}
    most = largest_value(len(task.classes), task.regions)
    largest, rows = 0.0, []
    for case_id in track.data["data"]["cases"]:
        case = reference.store.case(case_id)
        truth = case.truth()
        for condition in (stated["name"] for stated in track.data["conditions"]):
            what = f"case {case_id}, condition {condition}"
            try:
                mask = read_mask(read(mask_name(condition, case_id)), truth.shape, case.affine, most)
            except ValueError as error:
                raise UsbenchError(f"{where}: the mask of {what} {error}") from error
            for found in score_case(
                mask, truth, task.class_names, case.spacing, task.nsd_tolerance_mm, task.regions, only
            ):
                row = claimed[condition, case_id, found.name]
                values = {name: found.scores[name] for name in names}
                values |= {name: getattr(found, name) for name in (*COUNTS, "edge")}
                rows.append({"condition": condition, "case": case_id, "class": found.name, **values})
                for column, value in values.items():
                    text = f"{where}: {column} of {what}, class {found.name}"
                    largest = max(largest, difference_of(text, value, row[column]))
            advance()
    count = len(track.data["data"]["cases"]) * len(track.data["conditions"])
    return Rescored(count, largest, tracks_csv(rows, names), {})


def clean_note(one: Submitted, track: TrackResult) -> str:
    """What to note where the clean rows of a robustness track are not those of its run; "" where they are."""
    own = {(row["case"], row["class"]): row for row in one.rows}
    clean = [row for row in track.rows if row["condition"] == "clean"]
    off = [row["case"] for row in clean if any(row[n] != own[row["case"], row["class"]][n] for n in COUNTS)]
    if track.data["track"] != "robustness" or not off:
        return ""
    return (
        f"{track_member(one, track)}: with nothing damaged, case {off[0]} has another mask than in the run, "
        "as happens where another device rounds otherwise"
    )


def external_reference(
    one: Submitted, track: TrackResult, candidates: Sequence[tuple[Task, Path]]
) -> TrackReference:
    """The reference masks of an external track, with the classes and modalities of the run.

    Args:
        one: The run.
        track: Its external track.
        candidates: Tasks that read the data, and the folder of each.

    Raises:
        UsbenchError: Where none of them holds the very data of the track.
    """
    said = track.data["data"]
    seen = []
    for task, root in candidates:
        try:
            merged = one.data["task"]["merge_labels"]
            adapted, _ = as_in_run(task, task_of(one.data), merged, said["labels"], track_member(one, track))
        except UsbenchError as error:
            seen.append(str(error))
            continue
        # The smallest slices there are: only the masks and the digests of the cases are used.
        store = prepare(adapted, root, DataSettings(size=16))
        if store.fingerprint == said["fingerprint"] and set(said["cases"]) <= set(store.case_ids):
            return TrackReference(adapted, store)
        seen.append(f"{root} has {store.fingerprint[:10]}")
    found = f"; {', '.join(seen)}" if seen else ""
    raise UsbenchError(
        f"{track_member(one, track)}: its data, of task {said['task']}, has fingerprint "
        f"{said['fingerprint'][:10]}, and no --external-data holds it{found}"
    )
