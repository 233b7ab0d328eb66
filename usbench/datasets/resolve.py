"""Which data a task runs on: a user's folder, the real data set, or the task's phantom."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from usbench.contracts.data import Task
from usbench.contracts.names import DATA_MODES, DataKind
from usbench.errors import UsbenchError, unknown
from usbench.runtime.console import count
from usbench.storage.files import at_home
from usbench.storage.in_use import use

ENVIRONMENT = "USBENCH_DATA"


@dataclass(frozen=True)
class TaskData:
    """Where a task's data is and what a score on it is worth.

    Attributes:
        kind: "real" if every case of the full data set is there, "sample" for fewer and for a user's own
            folder, "phantom" for simulated patients. Results of different kinds are never mixed.
        root: the data folder for `usbench.datasets.readers.layouts.open_reader`.
        notice: one line for the user.
    """

    kind: DataKind
    root: Path
    notice: str

    def words(self, task: Task) -> str:
        """The kind as people read it: of data that no full data set is known of, "own data"."""
        return "own data" if self.kind == "sample" and not task.case_ids else self.kind


def data_folder(given: str | Path | None = None) -> Path | None:
    """The folder that holds the data sets, for every command alike.

    Args:
        given: what the user gave as `--data-dir` or `data_dir`.

    Returns:
        `given`, else the folder that USBENCH_DATA names, else None; "~" stands for the user's home.

    Raises:
        UsbenchError: for "~NAME" where the machine knows no user of that name.
    """
    named = given if given is not None else os.environ.get(ENVIRONMENT, "").strip() or None
    return None if named is None else at_home(named)


def find_data(
    task: Task,
    data_dir: Path | None = None,
    mode: Literal["auto", "real", "phantom"] = "auto",
    task_dir: Path | None = None,
    scanner: int = 1,
) -> TaskData:
    """The data of a task: in a folder of the user's, below the folder of the data sets, or its phantom.

    Args:
        task: whose data.
        data_dir: the folder of the data sets; without it, the one that USBENCH_DATA names.
        mode: "auto" takes real data where it is and else the phantom, "real" never takes the phantom,
            "phantom" takes nothing else.
        task_dir: the folder of the cases itself.
        scanner: of the phantom; real data has no choice of scanners.

    Raises:
        UsbenchError: with the command that downloads the data, for an explicit `data_dir` or `task_dir`
            without the task's data, in mode "real" for its absence, and for a task without a phantom where
            one is needed.
    """
    found = _find(task, data_dir, mode, task_dir, scanner)
    if scanner != 1 and found.kind != "phantom":
        raise UsbenchError(f"{found.root}: --scanner {scanner} is for phantoms, this is data; leave it out")
    return found


def _find(task: Task, data_dir: Path | None, mode: str, task_dir: Path | None, scanner: int) -> TaskData:
    from usbench.datasets.readers.layouts import locate

    if mode not in DATA_MODES:
        raise unknown("kind of data", mode, DATA_MODES)
    if task_dir is not None:
        return _own_folder(task, at_home(task_dir), mode)
    if task.files is not None:
        # The file names its folder; that of other data sets has nothing to do with it.
        return _described(task, task.files.folder, mode)
    if mode == "phantom":
        return _phantom(task, "as asked", scanner)
    folder = data_folder(data_dir)
    if folder is None:
        if mode == "real":
            where = f"give --data-dir DIR or set {ENVIRONMENT}"
            raise UsbenchError(f"{task.name}: no data folder given; {where}{_fetch(task)}")
        return _phantom(task, f"no data folder given (--data-dir or {ENVIRONMENT})", scanner)
    origin = "--data-dir" if data_dir is not None else ENVIRONMENT
    if not folder.is_dir():
        raise UsbenchError(f"{folder}: there is no such folder ({origin}); check it{_fetch(task, folder)}")
    if locate(task, folder) is None:
        if mode == "real" or data_dir is not None:
            raise UsbenchError(
                f"{folder}: no data of task {task.name} ({origin}); give the folder that holds "
                f"{task.folder}{_fetch(task, folder)}"
            )
        return _phantom(task, f"no data of it in {folder} ({ENVIRONMENT})", scanner)
    return _on_disk(task, folder, mode)


def _own_folder(task: Task, folder: Path, mode: str) -> TaskData:
    if mode == "phantom":
        raise UsbenchError(f"{folder}: a folder of your own (--task-dir) has no phantom; drop one of the two")
    if not folder.is_dir():
        raise UsbenchError(f"{folder}: there is no such folder (--task-dir); check the path")
    return _on_disk(task, folder, mode)


def _described(task: Task, folder: Path, mode: str) -> TaskData:
    if mode == "phantom":
        raise UsbenchError(f"task {task.name} is described by a file and has no phantom; drop --data phantom")
    if not folder.is_dir():
        raise UsbenchError(f"{folder}: there is no such folder (task {task.name}); correct its task file")
    return _on_disk(task, folder, mode)


def _on_disk(task: Task, folder: Path, mode: str) -> TaskData:
    from usbench.datasets.readers.layouts import open_reader

    reader = open_reader(task, folder)
    present, known = set(reader.case_ids()), set(task.case_ids)
    if reader.is_phantom():
        if mode == "real":
            raise UsbenchError(f"{folder}: these are phantoms made by usbench, not patients{_fetch(task)}")
        notice = f"{task.name}: {folder} holds phantoms of usbench: scores say nothing about real patients"
        return TaskData("phantom", folder, notice)
    here = f"{count(present, 'case')} in {folder}"
    if not known:
        return TaskData("sample", folder, f"{task.name}: own data, {here}")
    if known <= present:
        return TaskData("real", folder, f"{task.name}: the full data set, {here}")
    notice = f"{task.name}: a sample of {here}, the full data set has {len(known)}"
    return TaskData("sample", folder, notice)


def _phantom(task: Task, why: str, scanner: int) -> TaskData:
    from usbench.datasets.phantom import phantom_root

    if task.phantom is None:
        which = "this task" if task.found is None else f"this task ({task.found.origin})"
        raise UsbenchError(
            f"{task.name}: {why}, and {which} has no phantom; "
            f"give the folder of its data with --data-dir{_fetch(task)}"
        )
    which = "its phantom" if scanner == 1 else f"its phantom of scanner {scanner}"
    notice = f"{task.name}: {why}, using {which}: scores say nothing about real patients"
    use(phantom_root(task, scanner))
    # Made once more, should it have been cleared just now.
    return TaskData("phantom", phantom_root(task, scanner), notice)


def _fetch(task: Task, folder: Path | None = None) -> str:
    from usbench.datasets.readers.layouts import download_command

    return (
        "" if task.download is None else f", or get it with: {download_command(task, folder or Path('DIR'))}"
    )
