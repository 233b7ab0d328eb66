"""The tasks of the benchmark, and tasks made from a user's own folder."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from usbench.contracts.data import Modality, Structure, Task
from usbench.datasets.readers.recognise import advice
from usbench.errors import UsbenchError
from usbench.plugins import search as brought
from usbench.plugins.search import Searched

# A task's file is called after it, with _ for -.
_BENCHMARK = ("chaos", "msd-prostate", "msd-brain")
_VARIANTS = ("msd-brain-regions",)
_BUILT_IN = (*_BENCHMARK, *_VARIANTS)

_FOLDER_TOLERANCE_MM = 2.0


def task_names() -> list[str]:
    """The names of the built-in tasks."""
    return list(_BUILT_IN)


def benchmark_tasks() -> list[str]:
    """The names of the tasks of the benchmark itself: no variants, whose patients would count twice."""
    return list(_BENCHMARK)


def search_tasks(plugins: Sequence[str | Path] = ()) -> Searched:
    """The tasks that plugins bring, by name, and the problems of others; built-in tasks are neither."""
    return brought.search(brought.TASK, plugins, taken=_BUILT_IN)


def names_file(name: str) -> bool:
    """Whether what a user gave as a task is a task file, and not the name of a task."""
    return name.lower().endswith((".yaml", ".yml"))


def get_task(name: str, plugins: Sequence[str | Path] = ()) -> Task:
    """The task called `name`. Raises `UsbenchError`, with the nearest name, for one that is not there,
    for a task of a plugin that cannot be used, and for a task file (its name ends in .yaml) with a fault."""
    if names_file(name):
        from usbench.datasets.tasks.task_file import load_task_file

        return load_task_file(name, _BUILT_IN)
    if name in _BUILT_IN:
        if plugins:
            search_tasks(plugins).refuse(name)
        task: Task = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").TASK
        return task
    searched = search_tasks(plugins)
    if name not in searched.found and Path(name).is_dir():
        remedy = advice(Path(name)) or "give it with --task-dir"
        raise UsbenchError(f"{name}: is a folder, not the name of a task; {remedy}")
    found = searched.get(name)
    from usbench.datasets.tasks.checks import check_task

    task = found.load()
    check_task(task, found.origin)
    return replace(task, found=found)


def task_from_folder(path: Path) -> Task:
    """The task that a folder in the MSD layout describes in its `dataset.json`.

    Modalities and foreground classes come from the file, under names that are safe on a command
    line (lower case, words joined by hyphens). The task is called after the folder. Raises
    `UsbenchError` naming the file and the entry that is missing or wrong.
    """
    from usbench.contracts.names import safe_name
    from usbench.datasets.readers.description import load_description

    path = Path(path)
    if not path.is_dir():
        raise UsbenchError(
            f"{path}: not a folder; give the folder that holds dataset.json, imagesTr and labelsTr"
        )
    if other := advice(path):
        raise UsbenchError(f"{path}: not in the layout of the Decathlon; {other}")
    description = load_description(path)
    name = safe_name(path.resolve().name)
    if not name:
        raise UsbenchError(f"{path}: the folder's name cannot name a task; rename it with letters and digits")
    if name in _BUILT_IN:
        raise UsbenchError(
            f"{path}: the folder's name is that of the built-in task '{name}', and their results would mix; "
            f"rename the folder, or run --task {name}"
        )
    return Task(
        name=name,
        title=description.title or path.resolve().name,
        modalities=tuple(
            Modality(safe_name(channel), f"{channel} image", aliases=(channel,))
            for channel in description.channels
        ),
        classes=tuple(
            Structure(safe_name(label), label, labels=values) for label, values in description.labels.items()
        ),
        nsd_tolerance_mm=_FOLDER_TOLERANCE_MM,
        tolerance_reason="as for the organs of the built-in tasks, since the folder states none",
        licence=description.licence or "not stated",
        citation=description.reference or "not stated",
    )
