"""The external track of a run: its network on the patients of another data set or scanner."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from usbench.contracts.names import safe_name
from usbench.datasets.store import prepare
from usbench.errors import UsbenchError
from usbench.pages.figures import PICTURED_CASES, cases_figure
from usbench.results.track_scores import track_means
from usbench.results.tracks import TrackResult, write_track
from usbench.runs.predict import read_mask
from usbench.runs.score import picture_of
from usbench.runtime.console import say
from usbench.scores.case import score_case
from usbench.scores.registry import all_scores
from usbench.scores.robustness import CLEAN
from usbench.tracks.data import Where, contents_of_run, other_data
from usbench.tracks.folder import TrackFolder, part_row, rows_of
from usbench.tracks.other_task import as_in_run
from usbench.tracks.robustness import describe, words_of

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.datasets.resolve import TaskData
    from usbench.datasets.store import Store
    from usbench.runs.network import TrainedNetwork


def evaluate(
    trained: TrainedNetwork,
    where: Where,
    *,
    labels: Mapping[str, str],
    name: str | None,
    overwrite: bool,
    cache_gb: float,
) -> tuple[TrackResult, bool]:
    """Evaluate a run's network on other data.

    Args:
        trained: The network.
        where: The other data.
        labels: The class of the data for each class of the run that has another name there.
        name: What the data is called; by default the name of its folder or task.
        overwrite: Whether to begin anew.
        cache_gb: Bound on stored features of frozen parts, in GB.

    Returns:
        The finished track, and whether it was computed now.

    Raises:
        UsbenchError: Where the data lacks a modality or a class, or is what the network was trained on.
    """
    task, found = other_data(trained, where)
    merged = trained.result.data["task"]["merge_labels"]
    task, known = as_in_run(task, trained.task, merged, labels, str(trained.result.path))
    store = prepare(task, found.root, trained.config.data)
    _require_unseen(trained, store, where)
    called = safe_name(name or _called(task, found, where))
    result = trained.result
    settings = {"fingerprint": store.fingerprint, "labels": known}
    folder = TrackFolder.of_run(result.path, f"external-{called}", result.data["digest"], settings)
    done = folder.finished()
    if done is not None and not overwrite:
        there = done.data["data"]
        if there["fingerprint"] == store.fingerprint and there["labels"] == known:
            return done, False
        what = (
            "other labels" if there["fingerprint"] == store.fingerprint else f"other data ({there['task']})"
        )
        raise UsbenchError(
            f"{folder.path}: is the track of {what}; give this one another --name, or replace that one with "
            "--overwrite"
        )
    data = {
        "kind": found.kind,
        "fingerprint": store.fingerprint,
        "cases": list(store.case_ids),
        "name": called,
        "task": task.name,
        "labels": known,
    }
    scores = [score.name for score in all_scores()]
    with folder.held(overwrite):
        parts = _cases(trained, store, folder, scores, cache_gb)
        rows = rows_of(parts)
        whole = describe(trained, "external", folder.path.name, [CLEAN], data, parts)
        means = {score.mean_name: None for score in all_scores()}
        whole["scores"] = track_means(TrackResult(folder.path, {**whole, "scores": means}, rows))
        _draw(trained, store, folder, rows)
        done = write_track(folder.path, whole, rows, scores)
        folder.done()
    return done, True


def _called(task: Task, found: TaskData, where: Where) -> str:
    if found.kind == "phantom" and where.scanner != 1:
        return f"{task.name}-scanner{where.scanner}"
    return where.task_dir.resolve().name if where.task_dir is not None else f"{task.name}-{found.root.name}"


def _require_unseen(trained: TrainedNetwork, store: Store, where: Where) -> None:
    """Refuse patients that the network was trained on, however they are called."""
    data, path = trained.result.data, trained.result.path
    if store.fingerprint == data["data"]["fingerprint"]:
        raise UsbenchError(
            f"{path}: this is the data that the run was computed on; its test fold is in cases.csv already, "
            "name other data"
        )
    own = contents_of_run(trained, where)
    if own is None:
        say(f"{path}: the data it was trained on is not here, so whether patients are in both is not known")
        return
    known = {own[case_id]: case_id for case_id in data["split"]["train"] if case_id in own}
    for case_id, content in store.contents.items():
        if content in known:
            raise UsbenchError(
                f"{path}: case {case_id} is case {known[content]}, which the network was trained on; take it "
                "out of the other data"
            )


def _cases(
    trained: TrainedNetwork, store: Store, folder: TrackFolder, scores: Sequence[str], cache_gb: float
) -> list[dict[str, Any]]:
    task = store.task
    masks = folder.mask(CLEAN.name, "x").parent

    def make(todo: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        start = time.perf_counter()
        for one in trained.predict_cases(store, todo, masks, cache_gb):
            case, mask = one.case, one.prediction
            found = score_case(
                mask.volume, case.truth(), task.class_names, case.spacing, task.nsd_tolerance_mm, task.regions
            )
            yield (
                case.case_id,
                {
                    "rows": [part_row(CLEAN.name, case.case_id, score, scores) for score in found],
                    "forward_seconds": mask.ms_per_slice * len(case.foreground) / 1000,
                    "seconds": time.perf_counter() - start,
                },
            )
            start = time.perf_counter()

    return folder.computed(store.case_ids, f"{words_of(trained)}: {folder.path.name}", make)


def _draw(
    trained: TrainedNetwork, store: Store, folder: TrackFolder, rows: Sequence[Mapping[str, Any]]
) -> None:
    task = trained.task
    pictures = []
    for case_id in store.case_ids[:PICTURED_CASES]:
        volume = read_mask(folder.mask(CLEAN.name, case_id))
        dsc = {row["class"]: row["dsc"] for row in rows if row["case"] == case_id}
        pictures.append(picture_of(store.case(case_id), volume, dsc, task.regions))
    names = task.modality_names, task.class_names
    cases_figure(folder.path / "figure.png", pictures, *names, regions=task.regions)


def parse_labels(text: str | None) -> dict[str, str]:
    """ "tumour=lesion,core=core" as a mapping.

    Raises:
        UsbenchError: For a part that is no pair, or a class that is named twice.
    """
    found: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        own, separator, other = (word.strip() for word in part.partition("="))
        if not (separator and own and other):
            raise UsbenchError(
                f"--labels '{part.strip()}' is no pair; write class of the run=class of the data"
            )
        if own in found:
            raise UsbenchError(f"--labels names {own} twice; name each class of the run once")
        found[own] = other
    return found
