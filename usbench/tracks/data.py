"""The data that a run was computed on, found and prepared again; and other data for its network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usbench.contracts.data import Task
    from usbench.contracts.request import Request
    from usbench.datasets.resolve import TaskData
    from usbench.datasets.store import Store
    from usbench.runs.network import TrainedNetwork


@dataclass(frozen=True)
class Where:
    """Where data is, as the options of `usbench run` say it.

    Attributes:
        task: Name of a task or a task file; None for the run's own.
        task_dir: A folder in MSD layout.
        data_dir: The folder that holds the data sets.
        data: "auto", "real" or "phantom".
        scanner: Of a phantom.
        plugins: Python files that may bring the task.
    """

    task: str | None = None
    task_dir: Path | None = None
    data_dir: Path | None = None
    data: str = "auto"
    scanner: int = 1
    plugins: Sequence[Path] = ()


def own_store(trained: TrainedNetwork, where: Where) -> Store:
    """The prepared data of a run, known by its fingerprint.

    Args:
        trained: Its network.
        where: Where its data is; of phantoms and of built-in tasks below USBENCH_DATA nothing need be said.

    Raises:
        UsbenchError: Where the data is not found, or is not that of the run.
    """
    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.store import prepare

    task, found = own_data(trained, where)
    said = trained.result.data["data"]
    case_ids = open_reader(task, found.root).case_ids()[: said["limit"]] if said["limit"] else None
    store = prepare(task, found.root, trained.config.data, case_ids=case_ids)
    if store.fingerprint != said["fingerprint"]:
        raise UsbenchError(
            f"{found.root}: is not the data that {trained.result.path} was computed on (fingerprint "
            f"{store.fingerprint[:10]}, the run has {said['fingerprint'][:10]}); name it with --data-dir or "
            "--task-dir"
        )
    return store


def contents_of_run(trained: TrainedNetwork, where: Where) -> Mapping[str, str] | None:
    """The digests of what the patients of a run hold, by case id; None where nothing tells them.

    They are known wherever the data is still prepared, whatever folder it came from; else it is looked for as
    `usbench run` does.

    Args:
        trained: The network.
        where: Of which the plugins count.
    """
    from usbench.datasets.notes import case_folder, read_meta
    from usbench.storage.files import cache_dir, digest_of

    data = trained.result.data
    split = [*data["split"]["train"], *data["split"]["test"]]
    for path in sorted((cache_dir() / "prepared").glob(f"{trained.task.name}-*")):
        every = [folder.name for folder in path.glob("cases/*") if not folder.name.startswith(".")]
        for case_ids in (every, split):
            metas = {case_id: read_meta(case_folder(path, case_id)) for case_id in case_ids}
            contents = {case_id: str(meta["content"]) for case_id, meta in metas.items() if meta}
            if digest_of(contents) == data["data"]["fingerprint"]:
                return contents
    try:
        return own_store(trained, Where(plugins=where.plugins)).contents
    except UsbenchError:
        return None


def own_data(trained: TrainedNetwork, where: Where) -> tuple[Task, TaskData]:
    """The task of a run with a reader, and where its data is.

    Raises:
        UsbenchError: Where the data is not found.
    """
    from usbench.datasets.phantom import scanner_of
    from usbench.datasets.resolve import find_data
    from usbench.datasets.tasks import get_task, task_from_folder

    data = trained.result.data
    said, kind, path = data["task"], data["data"]["kind"], trained.result.path
    if where.task_dir is not None:
        task = task_from_folder(where.task_dir)
    elif where.task is not None or said.get("origin") not in ("folder", None):
        origin = str(said.get("origin", ""))
        file = origin.removeprefix("file ")
        of_file = origin.startswith("file ") and said.get("definition") is not None
        task = get_task(where.task or (file if of_file else said["name"]), where.plugins)
    elif said.get("origin") == "folder":
        raise UsbenchError(f"{path}: its data is a folder of your own; name it with --task-dir")
    else:
        task = get_task(said["name"], where.plugins)
    task = task.with_modalities(said["modalities"]).merged(said["merge_labels"])
    for what, here, then in (
        ("modalities", task.modality_names, trained.task.modality_names),
        ("classes", task.class_names, trained.task.class_names),
    ):
        if here != then:
            raise UsbenchError(
                f"{path}: its {what} are {', '.join(then)}, those of task {task.name} are {', '.join(here)}; "
                "name the data of the run with --task or --task-dir"
            )
    if kind == "phantom" and where.data_dir is None and where.task_dir is None:
        cases = (*data["split"]["train"], *data["split"]["test"])
        return task, find_data(task, None, "phantom", scanner=scanner_of(task, cases))
    mode: Any = "real" if kind != "phantom" and where.task_dir is None and task.files is None else "auto"
    return task, find_data(task, where.data_dir, mode, where.task_dir)


def other_data(trained: TrainedNetwork, where: Where) -> tuple[Task, TaskData]:
    """Another data set for a run's network: its task and where it lies.

    Raises:
        UsbenchError: Where nothing is named, or it is not found.
    """
    from usbench.datasets.resolve import find_data
    from usbench.datasets.tasks import get_task, task_from_folder

    if where.task_dir is not None:
        task = task_from_folder(where.task_dir)
    else:
        task = get_task(where.task or trained.task.name, where.plugins)
    if where.task is None and where.task_dir is None and where.data_dir is None and where.scanner == 1:
        raise UsbenchError(
            "--track external needs other data: name it with --task-dir, --task, --data-dir or --scanner 2"
        )
    mode: Any = where.data
    found = find_data(task, where.data_dir, mode, where.task_dir, where.scanner)
    return task, found


def data_named(text: str | None, request: Request) -> Where:
    """Other data for the cells of a matrix.

    Args:
        text: A task, a task file or a folder in MSD layout; None for the second scanner of phantoms.
        request: Of a cell: where data sets are, and plugins.
    """
    from usbench.datasets.tasks import names_file

    plugins = request.plugins
    if text is None:
        return Where(data="phantom", scanner=2, plugins=plugins)
    if not names_file(text) and Path(text).is_dir():
        return Where(task_dir=Path(text), plugins=plugins)
    return Where(task=text, data_dir=request.data_dir, data=request.data, plugins=plugins)
