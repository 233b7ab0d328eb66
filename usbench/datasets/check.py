"""Looking through a whole data set for everything that would break or spoil a run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from usbench.contracts.data import Reader, Task
from usbench.contracts.names import natural_key
from usbench.contracts.problem import DataError, DataProblem
from usbench.datasets.readers.layouts import open_reader
from usbench.errors import UsbenchError
from usbench.runtime.console import count, say, track

__all__ = ["DataProblem", "absent_cases", "check"]

# Reading waits for the disk and for unpacking, which threads share; each holds one case in memory.
_MOST_THREADS = 4
_MASK = "its mask"


def absent_cases(task: Task, present: Sequence[str]) -> list[str]:
    """The cases of the full data set that are not `present`, in the task's order."""
    return [case_id for case_id in task.case_ids if case_id not in set(present)]


def check(task: Task, root: Path, workers: int | None = None) -> list[DataProblem]:
    """Read every case of a task's data and list every problem.

    Found are: absent, truncated or invalid files, missing or uneven slices, images and masks on
    different grids, unknown mask values, NaN, constant images, masks without any foreground, and
    the same image under two cases or modalities. Cases of the full data set that are not there and the same
    mask under two cases are no problem: they are noted on standard error.

    Args:
        task: whose data.
        root: the data folder.
        workers: how many cases are read at a time, where the reader is thread-safe.

    Returns:
        The problems, sorted by case; empty where nothing is wrong.
    """
    try:
        reader = open_reader(task, Path(root))
    except UsbenchError as error:
        return [_as_problem(error)]
    problems: list[DataProblem] = []
    try:
        names = reader.survey(problems.append)
    except UsbenchError as error:
        return [_as_problem(error)]
    absent = absent_cases(task, names)
    if absent and names:
        shown = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
        here = f"{len(names)} of the {count(task.case_ids, 'case')} of {task.name} are here"
        say(f"{here}; absent, which is no problem: {shown}")
    seen: dict[str, tuple[str, str]] = {}
    threads = (workers or min(_MOST_THREADS, os.cpu_count() or 1)) if reader.thread_safe else 1
    with ThreadPoolExecutor(threads) as pool:
        looked = pool.map(lambda case_id: _look(reader, case_id), names)
        for case_id, (found, digests, notices) in zip(
            names, track(looked, f"checking {task.name}", len(names)), strict=True
        ):
            problems += found
            for notice in notices:
                say(notice)
            problems += _twins(case_id, digests, seen)
    return sorted(dict.fromkeys(problems), key=lambda p: natural_key(p.case_id or ""))


def _look(reader: Reader, case_id: str) -> tuple[list[DataProblem], dict[str, str], tuple[str, ...]]:
    """The problems of one case, the digests of its images and of its mask, and its notices."""
    found: list[DataProblem] = []
    try:
        case = reader.examine(case_id, found.append)
    except UsbenchError as error:
        return [*found, _as_problem(error, case_id)], {}, ()
    if case is None:
        return found, {}, ()
    if not case.mask.any():
        what = "the mask is empty, no voxel belongs to a class"
        remedy = "drop the case, or correct its mask"
        found.append(DataProblem(case_id, reader.mask_file(case_id), what, remedy))
    digests = {}
    if case.mask.any():
        digests[_MASK] = hashlib.sha256(repr(case.mask.shape).encode() + case.mask.tobytes()).hexdigest()
    for name, image in zip(reader.task.modality_names, case.images, strict=True):
        digests[name] = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
    return found, digests, case.notices


def _twins(case_id: str, digests: dict[str, str], seen: dict[str, tuple[str, str]]) -> list[DataProblem]:
    """The images and the mask of this case that were `seen` before; adds the others."""
    same: dict[str, list[str]] = {}
    for modality, digest in digests.items():
        first_case, first_modality = seen.setdefault(digest, (case_id, modality))
        if (first_case, first_modality) != (case_id, modality):
            where = f"case {first_case}" if first_case != case_id else "the same case"
            what = modality if modality == first_modality else f"{modality} (there {first_modality})"
            same.setdefault(where, []).append(what)
    found = []
    for where, names in same.items():
        images = [name for name in names if name != _MASK]
        if images:
            what = f"the same image as {where}: {', '.join(images)}"
            found.append(DataProblem(case_id, None, what, "keep one of the two"))
        if _MASK in names:
            # No error: small or made-up masks may be alike.
            say(f"case {case_id} has the same mask as {where}, voxel by voxel; check that this is meant")
    return found


def _as_problem(error: UsbenchError, case_id: str | None = None) -> DataProblem:
    if isinstance(error, DataError):
        return error.problem
    what, _, remedy = str(error).rpartition("; ")
    return DataProblem(case_id, None, what or str(error), remedy)
