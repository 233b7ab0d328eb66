"""What a submission is scored against: the task and its data here, and whether they are those of the runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.contracts.few import few_of
from usbench.errors import UsbenchError
from usbench.submissions.archive import refused
from usbench.submissions.checks import Submitted
from usbench.submissions.track_data import task_of_own

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.datasets.resolve import TaskData
    from usbench.datasets.splits import Split
    from usbench.datasets.store import Store

_FEWEST_DIGITS = 6
"""A SHA-256 has so many different hexadecimal digits but for less than one in 10^24."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """The masks that a group of runs is scored against."""

    task: Task
    task_data: TaskData
    store: Store
    split: Split


def reference_of(task: Task, task_data: TaskData) -> Reference:
    """The masks of a task's data and its splits."""
    from usbench.contracts.settings import DataSettings
    from usbench.datasets.splits import make_split
    from usbench.datasets.store import prepare

    # The smallest slices there are: only the masks and the digests of the cases are used.
    store = prepare(task, task_data.root, DataSettings(size=16))
    return Reference(task, task_data, store, make_split(task, store.case_ids))


def located(
    path: Path,
    one: Submitted,
    data_dir: str | Path | None,
    task_dirs: Sequence[str | Path],
    plugins: Sequence[str | Path],
) -> tuple[Task, TaskData]:
    """The task of a run and where its data is here."""
    from usbench.datasets.tasks import get_task, search_tasks, task_names

    said, kind = one.data["task"], one.data["data"]["kind"]
    own = {task.name: (task, folder) for task, folder in map(task_of_own, task_dirs)}
    folder = None
    if said["name"] in (*task_names(), *search_tasks(plugins).found):
        task = get_task(said["name"], plugins)
    elif said["name"] in own:
        task, folder = own[said["name"]]
    else:
        raise refused(
            path,
            f"is on task '{said['name']}', which is not built in",
            "give the folder of its data or its task file with --task-dir, or your plugin that brings it "
            "with --plugin",
        )
    try:
        task = task.with_modalities(said["modalities"]).merged(said["merge_labels"])
    except UsbenchError as error:
        raise refused(path, f"{one.folder}: {error}", "not accepted") from error
    for name, found in (("modalities", task.modality_names), ("classes", task.class_names)):
        if tuple(said[name]) != found:
            raise refused(
                path,
                f"{one.folder}: its {name} are {', '.join(said[name])}, those of the task {', '.join(found)}",
                "not accepted",
            )
    if said.get("regions") != task.thresholds:
        raise refused(
            path,
            f"{one.folder}: whether its classes are regions, or their thresholds, is not as in the task",
            "not accepted",
        )
    if said.get("definition") != task.definition:
        raise refused(
            path,
            f"{one.folder}: the values of its classes, their thresholds or its grid differ from the file",
            "not accepted",
        )
    if task.found is not None and said.get("words") != task.words:
        raise refused(path, f"{one.folder}: its words for prompts are not those of the task", "not accepted")
    cases = (*one.data["split"]["train"], *one.data["split"]["test"])
    task_data = _task_data(path, task, kind, data_dir, folder, cases)
    if task_data.kind != kind:
        raise refused(
            path,
            f"{one.folder}: was computed on {kind} data of {task.name}, {task_data.root} holds "
            f"{task_data.kind}",
            "give --data-dir with the data of the runs",
        )
    return task, task_data


def _task_data(
    path: Path,
    task: Task,
    kind: str,
    data_dir: str | Path | None,
    folder: Path | None,
    cases: Sequence[str],
) -> TaskData:
    from usbench.datasets.phantom import scanner_of
    from usbench.datasets.readers.layouts import locate
    from usbench.datasets.resolve import data_folder, find_data

    directory = data_folder(data_dir) if data_dir is not None else None
    if folder is not None:
        return find_data(task, None, "auto", folder)
    if kind != "phantom":
        try:
            return find_data(task, directory, "real")
        except UsbenchError as error:
            raise UsbenchError(f"{path}: cannot be verified without its data: {error}") from error
    if directory is not None and directory.is_dir() and locate(task, directory) is not None:
        found = find_data(task, directory, "auto")
        if found.kind == "phantom":
            return found
    return find_data(task, None, "phantom", scanner=scanner_of(task, cases))


def check_data(path: Path, one: Submitted, reference: Reference) -> list[str]:
    """Hold the cases, the folds and the fingerprint of a run against the data here; notes come back."""
    from usbench.datasets.splits import subset_of

    data, split, where = one.data, reference.split, one.folder
    fold, count = data["cell"]["fold"], len(split.folds)

    def no(why: str) -> UsbenchError:
        return refused(path, f"{where}: {why}", "not accepted")

    if data["data"]["cases"] != len(reference.store.case_ids):
        raise no(f"its data has {data['data']['cases']} cases, the data here {len(reference.store.case_ids)}")
    if data["split"]["folds"] != count or fold >= count:
        raise no(f"its split has {data['split']['folds']} folds, the task's has {count}")
    train, few = split.train(fold), few_of(data["split"])
    if few is not None:
        if data["split"]["of"] != len(train):
            raise no(f"fold {fold} has {len(train)} training patients, not {data['split']['of']}")
        train = subset_of(train, few.of(len(train)), data["cell"]["seed"])
    for part, wanted in (("test", split.test(fold)), ("train", train)):
        found = data["split"][part]
        if tuple(found) != wanted:
            odd = sorted(set(found) ^ set(wanted))
            which = f"they differ in {', '.join(odd[:3])}" if odd else "they differ in order or number"
            some = f", {few}" if few is not None and part == "train" else ""
            raise no(f"its {part} cases are not those of fold {fold} of the task's split{some}; {which}")
    if data["split"]["digest"] != split.digest or data["split"]["rule"] != split.rule:
        raise no("the digest or the rule of its split is not that of the task's split")
    stated = data["data"]["fingerprint"]
    if stated == reference.store.fingerprint:
        return []
    if not _SHA256.fullmatch(stated) or len(set(stated)) < _FEWEST_DIGITS:
        raise no(f"the fingerprint of its data is {stated[:10]}, which is no SHA-256 of any data")
    if reference.task_data.kind != "phantom":
        raise no(
            f"its data has fingerprint {data['data']['fingerprint'][:10]}, that in "
            f"{reference.task_data.root} has {reference.store.fingerprint[:10]}: other data"
        )
    return [
        f"{data['task']['name']}: its phantom has another fingerprint ({stated[:10]}) than the one made "
        "here, as happens where another processor rounds otherwise; masks and geometry were compared all the "
        "same, and tables count it as of the phantom here"
    ]
