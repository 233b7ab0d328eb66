"""Whose masks are the same: of two fusions, settings or seeds of a submission, or of a run of one's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.results.io import load_result, parse_cases
from usbench.results.masks import find_twins, masks_of_run
from usbench.results.usable import row_key, run_folders
from usbench.submissions.content import Submission
from usbench.submissions.record import Found, Training


def trainings_of(submission: Submission, found: Mapping[str, Found]) -> list[Training]:
    """The trainings of a submission, from what its verification found."""
    groups: dict[tuple[Any, ...], Training] = {}
    for one in submission.runs:
        cell, key = one.data["cell"], (*one.reference, row_key(one.data), one.data["cell"]["seed"])
        name = f"{submission.entry}: {cell['method']}, {cell['fusion']}, seed {cell['seed']}"
        made = found[one.folder]
        training = groups.setdefault(key, Training(name, cell["task"], {}))
        training.masks.update(_not_empty(made.masks, parse_cases(made.cases, one.folder)))
    return list(groups.values())


def own_trainings(runs_dir: Path, submission: Submission) -> list[Training]:
    """The trainings below a folder of runs on the tasks of a submission whose masks were kept.

    Raises:
        UsbenchError: Where there is no such folder.
    """
    if not runs_dir.is_dir():
        raise UsbenchError(f"{runs_dir}: no such folder of runs; check --runs-dir")
    tasks = {one.data["cell"]["task"] for one in submission.runs}
    groups: dict[Hashable, Training] = {}
    for folder, finished in run_folders(runs_dir):
        if not finished:
            continue
        try:
            result = load_result(folder)
            cell = result.data["cell"]
            masks = masks_of_run(folder, result.data["split"]["test"]) if cell["task"] in tasks else None
        except Exception:
            continue  # A leaderboard names it.
        if masks is not None:
            name = f"{folder.parent} (yours), seed {cell['seed']}"
            key = (folder.parent, row_key(result.data), cell["seed"])
            groups.setdefault(key, Training(name, cell["task"], {})).masks.update(
                _not_empty(masks, result.rows)
            )
    return list(groups.values())


def notes_of_twins(submitted: Sequence[Training], others: Sequence[Training] = ()) -> list[str]:
    """A sentence for each group of trainings with the same masks; those of `others` alone are not named."""
    notes = []
    by_task: dict[str, list[Training]] = defaultdict(list)
    for one in (*submitted, *others):
        by_task[one.task].append(one)
    theirs = {id(one) for one in submitted}
    for task, members in by_task.items():
        for twins in find_twins([one.masks for one in members]):
            some = [members[place] for place in twins.places]
            if any(id(one) in theirs for one in some):
                names = "; ".join(one.name for one in some)
                notes.append(f"{task}: the same masks, voxel by voxel, in {twins.words}: {names}")
    return notes


def _not_empty(masks: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The masks that hold anything: two networks that found nothing are no copies."""
    holding = {row["case"] for row in rows if row["tp"] + row["fp"] > 0}
    return {case: digest for case, digest in masks.items() if case in holding}
