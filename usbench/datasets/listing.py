"""The tasks as a list: what each is, and whether its data is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError
from usbench.runtime.console import count

if TYPE_CHECKING:
    from usbench.contracts.data import Task


def list_tasks(
    data_dir: Path | None = None, plugins: Sequence[Path] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """Every task, built in or of a plugin, with its facts and whether its data is below the data folder.

    Args:
        data_dir: The folder of the data sets; without it, the one that USBENCH_DATA names.
        plugins: Python files with tasks.

    Returns:
        A dict a task: name, title, origin ("built in", or of which plugin), modalities, classes, regions
        (whether the classes may overlap), cases (of the full data set, None where that is not stated),
        tolerance_mm (of NSD) and tolerance_reason, licence, citation, homepage (None where there is none),
        download (None, or url and bytes, None where the server states them), phantom (whether there is one),
        data_dir (None where there is none), and here: folder and cases, None where nothing is found, and
        problem, None or what is wrong. And a line for each task of a plugin that cannot be used.
    """
    from usbench.datasets.resolve import data_folder
    from usbench.datasets.tasks import get_task, search_tasks, task_names

    folder = data_folder(data_dir)
    searched = search_tasks(plugins)
    rows, problems = [], []
    for name in (*task_names(), *sorted(searched.found)):
        try:
            rows.append(_row(get_task(name, plugins), folder))
        except UsbenchError as error:
            problems.append(str(error))
    return rows, [*problems, *(problem.text for problem in searched.problems)]


def _row(task: Task, folder: Path | None) -> dict[str, Any]:
    download = task.download
    return {
        "name": task.name,
        "title": task.title,
        "origin": "built in" if task.found is None else task.found.origin,
        "modalities": list(task.modality_names),
        "classes": list(task.class_names),
        "regions": task.regions,
        "cases": len(task.case_ids) or None,
        "tolerance_mm": task.nsd_tolerance_mm,
        "tolerance_reason": task.tolerance_reason,
        "licence": task.licence,
        "citation": task.citation,
        "homepage": task.homepage or None,
        "download": None if download is None else {"url": download.url, "bytes": download.bytes},
        "phantom": task.phantom is not None,
        "data_dir": folder,
        "here": {"folder": None, "cases": None, "problem": None} if folder is None else _here(task, folder),
    }


def _here(task: Task, folder: Path) -> dict[str, Any]:
    """What there is of a task's data in a data folder."""
    from usbench.datasets.readers.layouts import locate, open_reader

    root = None
    try:
        root = locate(task, folder)
        cases = None if root is None else len(open_reader(task, folder).case_ids())
        return {"folder": root, "cases": cases, "problem": None}
    except UsbenchError as error:
        return {"folder": root or folder, "cases": None, "problem": str(error)}


def task_lines(row: Mapping[str, Any]) -> list[str]:
    """A row of `list_tasks` as lines for people."""
    without = "runs use the phantom" if row["phantom"] else "no run is possible, there is no phantom"
    here = row["here"]
    if row["data_dir"] is None:
        state = f"no data folder given (--data-dir or USBENCH_DATA): {without}"
    elif here["problem"] is not None:
        state = f"in {here['folder']}, but: {here['problem']}"
    elif here["folder"] is None:
        state = f"not found in {row['data_dir']}: {without}"
    else:
        state = f"{count(here['cases'], 'case')} in {here['folder']}"
    facts = {
        "from": None if row["origin"] == "built in" else row["origin"],
        "modalities": ", ".join(row["modalities"]),
        "regions" if row["regions"] else "classes": ", ".join(row["classes"]),
        "cases": f"{row['cases']} with public masks" if row["cases"] else "not stated",
        "tolerance": f"{row['tolerance_mm']:g} mm of NSD, {row['tolerance_reason']}",
        "licence": row["licence"],
        "citation": row["citation"],
        "homepage": row["homepage"] or "not stated",
    }
    if row["download"] is not None:
        size = row["download"]["bytes"]
        words = f"{size:,} bytes" if size else "size stated by the server"
        facts["download"] = f"{row['download']['url']} ({words})"
    facts["here"] = state
    lines = [f"  {name:<11} {text}" for name, text in facts.items() if text is not None]
    return [f"{row['name']}: {row['title']}", *lines]
