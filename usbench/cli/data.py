"""`usbench data`: list, download, check and prepare data sets, and make phantoms; heavy imports wait."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usbench.cli.echo import echo
from usbench.cli.imports import data_export, data_import
from usbench.cli.options import (
    WholeRange,
    data_dir_option,
    json_option,
    plugin_option,
    print_json,
    some_options,
)
from usbench.contracts.request import Request
from usbench.errors import UsbenchError
from usbench.runtime.console import count, say

if TYPE_CHECKING:
    from usbench.contracts.data import Task


def _chosen_task(request: Request) -> Task:
    from usbench.runs.plan import make_task

    if (request.task is None) == (request.task_dir is None):
        raise UsbenchError("name a task (see usbench data list), a task file or --task-dir, one of them")
    return make_task(request)


def _name_older_stores() -> None:
    from usbench.datasets.older import older_notice

    if notice := older_notice():
        say(notice)


def download_task(task: str, data_dir: Path | None, url: str | None, plugins: Sequence[Path] = ()) -> None:
    """Download a task's data into the data folder and say what to do next."""
    from usbench.datasets.download import download
    from usbench.datasets.resolve import data_folder
    from usbench.datasets.tasks import get_task

    folder = data_folder(data_dir)
    if folder is None:
        raise UsbenchError(
            f"no target folder; use 'usbench data download {task} --data-dir DIR' or set USBENCH_DATA"
        )
    root = download(get_task(task, plugins), folder, url)
    say(f"{task}: extracted to {root}; check it with 'usbench data check {task} --data-dir {folder}'")


def check_task(request: Request, as_json: bool = False) -> None:
    """Report everything that is wrong in a data set; raises `UsbenchError` with the count if anything is."""
    from dataclasses import asdict

    from usbench.datasets.check import check
    from usbench.datasets.resolve import data_folder, find_data

    the_task = _chosen_task(request)
    # A folder that was named is checked as it is: finding out its kind would stop at the first fault.
    own = the_task.files.folder if the_task.files else request.task_dir
    root = own or data_folder(request.data_dir) or find_data(the_task).root
    problems = check(the_task, root)
    if as_json:
        print_json({"folder": root, "problems": [asdict(problem) for problem in problems]})
    for problem in () if as_json else problems:
        echo(str(problem))
    if problems:
        raise UsbenchError(f"{root}: {count(problems, 'problem')}, listed above")
    if not as_json:
        echo(f"{root}: nothing wrong found")


def prepare_task(request: Request, workers: int | None, overwrite: bool, verify: bool) -> None:
    """Prepare a data set and say where it is and how well two annotations agree, where there are two."""
    from usbench.config import make_config
    from usbench.datasets.store import prepare
    from usbench.runs.plan import find_task_data

    config = make_config(request.preset or "quick", {}, {}, request.settings)
    the_task = _chosen_task(request)
    task_data = find_task_data(the_task, request)
    say(task_data.notice)
    store = prepare(
        the_task, task_data.root, config.data, workers=workers, overwrite=overwrite, verify=verify
    )
    for case_id in store.case_ids:
        agreement = store.case(case_id).agreement
        if agreement:
            words = ", ".join(f"{name} {value:.3f}" for name, value in agreement.items())
            echo(f"case {case_id}: the two annotations agree, as Dice: {words}")
    echo(f"{count(store.case_ids, 'case')} prepared in {store.path}, fingerprint {store.fingerprint[:16]}")
    _name_older_stores()


def write_phantom(
    task: str, folder: Path, cases: int, seed: int, plugins: Sequence[Path] = (), scanner: int = 1
) -> None:
    """Write digital patients into a folder that is empty or not there yet."""
    from usbench.datasets.phantom import make_phantom
    from usbench.datasets.tasks import get_task

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsbenchError(f"{folder}: is not an empty folder; name a new one")
    make_phantom(get_task(task, plugins), folder, cases, seed, scanner)
    echo(f"{count(cases, 'digital patient')} written to {folder}; use them with --data-dir {folder}")


@click.group()
def data() -> None:
    """The data sets: list, download, check, prepare, import, export, and make phantoms."""


data.add_command(data_import)
data.add_command(data_export)


@data.command("list")
@data_dir_option
@plugin_option
@json_option
def data_list(data_dir: Path | None, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Show every task: modalities, classes, cases, licence, size, and whether its data is here."""
    from usbench.datasets.listing import list_tasks, task_lines

    rows, problems = list_tasks(data_dir, plugins)
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            for line in task_lines(row):
                echo(line)
    for problem in problems:
        echo(problem, err=True)
    _name_older_stores()


@data.command("download")
@click.argument("task")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Target folder (default: $USBENCH_DATA).")
@click.option("--url", help="Another address of the same archive; size and checksum are still verified.")
@plugin_option
def data_download(task: str, data_dir: Path | None, url: str | None, plugins: tuple[Path, ...]) -> None:
    """Download a data set: resumes a partial file, verifies it, extracts it."""
    download_task(task, data_dir, url, plugins)


@data.command("check")
@click.argument("task", required=False)
@some_options("task_dir", "data_dir", "modalities", "plugins")
@json_option
def data_check(as_json: bool, **options: Any) -> None:
    """Walk a data set and report everything that is wrong in it; exit code 1 if anything is."""
    check_task(Request(**options), as_json)


@data.command("prepare")
@click.argument("task", required=False)
@some_options("task_dir", "data_dir", "modalities", "merge_labels")
@click.option("--preset", default="quick", show_default=True, help="paper, quick or smoke.")
@some_options("settings")
@click.option("--workers", type=WholeRange(min=1), help="Processes (default: one a core).")
@click.option("--overwrite", is_flag=True, help="Prepare again what is there.")
@click.option(
    "--verify", is_flag=True, help="Read every raw and prepared file, and prepare again what is damaged."
)
@plugin_option
def data_prepare(workers: int | None, overwrite: bool, verify: bool, **options: Any) -> None:
    """Prepare a data set for training; `run` does this by itself when it is needed."""
    prepare_task(Request(**options), workers, overwrite, verify)


@data.command("phantom")
@click.argument("task")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--cases", default=10, show_default=True, type=WholeRange(min=1), help="Number of patients.")
@click.option("--seed", default=0, show_default=True, help="Seed; the same seed makes the same patients.")
@some_options("scanner")
@plugin_option
def data_phantom(
    task: str, folder: Path, cases: int, seed: int, scanner: str, plugins: tuple[Path, ...]
) -> None:
    """Write digital patients to FOLDER in the layout of the task's real data."""
    write_phantom(task, folder, cases, seed, plugins, int(scanner))
