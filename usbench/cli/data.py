"""`usbench data`: list, download, check and prepare data sets, and make phantoms; heavy imports wait."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usbench.cli.imports import data_export, data_import
from usbench.cli.options import data_dir_option, debug_option, plugin_option, some_options
from usbench.contracts.request import Request
from usbench.errors import UsbenchError
from usbench.runtime.console import say

if TYPE_CHECKING:
    from usbench.contracts.data import Task


def _chosen_task(request: Request) -> Task:
    from usbench.runs.plan import make_task

    if (request.task is None) == (request.task_dir is None):
        raise UsbenchError("name a task, a task file or --task-dir, one of them")
    return make_task(request)


def list_tasks(data_dir: Path | None, plugins: Sequence[Path] = ()) -> None:
    """Print every task with its facts and whether its data is below the data folder.

    plugins: Python files with tasks. A task of a package that cannot be used, or whose name is taken, is
    named with the reason on standard error.
    """
    from usbench.datasets.resolve import data_folder
    from usbench.datasets.tasks import get_task, search_tasks, task_names

    folder = data_folder(data_dir)
    searched = search_tasks(plugins)
    for name in (*task_names(), *sorted(searched.found)):
        try:
            task = get_task(name, plugins)
        except UsbenchError as error:
            click.echo(str(error), err=True)
            continue
        without = "runs use the phantom" if task.phantom else "no run is possible, there is no phantom"
        state = f"no data folder given (--data-dir or USBENCH_DATA): {without}"
        if folder is not None:
            state = _state(task, folder) or f"not found in {folder}: {without}"
        click.echo(f"{task.name}: {task.title}")
        if task.found is not None:
            click.echo(f"  from        {task.found.origin}")
        click.echo(f"  modalities  {', '.join(task.modality_names)}")
        click.echo(f"  {'regions' if task.regions else 'classes'}     {', '.join(task.class_names)}")
        click.echo(
            f"  cases       {f'{len(task.case_ids)} with public masks' if task.case_ids else 'not stated'}"
        )
        click.echo(f"  tolerance   {task.nsd_tolerance_mm:g} mm of NSD, {task.tolerance_reason}")
        click.echo(f"  licence     {task.licence}")
        click.echo(f"  citation    {task.citation}")
        click.echo(f"  homepage    {task.homepage or 'not stated'}")
        if task.download is not None:
            size = f"{task.download.bytes:,} bytes" if task.download.bytes else "size stated by the server"
            click.echo(f"  download    {task.download.url} ({size})")
        click.echo(f"  here        {state}")
    for problem in searched.problems:
        click.echo(problem.text, err=True)
    _name_older_stores()


def _name_older_stores() -> None:
    from usbench.datasets.older import older_notice

    if notice := older_notice():
        say(notice)


def _state(task: Task, folder: Path) -> str:
    """What there is of a task's data in a data folder; "" where there is nothing."""
    from usbench.datasets.readers.layouts import locate, open_reader

    root = None
    try:
        root = locate(task, folder)
        return "" if root is None else f"{len(open_reader(task, folder).case_ids())} cases in {root}"
    except UsbenchError as error:
        return f"in {root or folder}, but: {error}"


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


def check_task(request: Request) -> None:
    """Report everything that is wrong in a data set; raises `UsbenchError` with the count if anything is."""
    from usbench.datasets.check import check
    from usbench.datasets.resolve import data_folder, find_data

    the_task = _chosen_task(request)
    # A folder that was named is checked as it is: finding out its kind would stop at the first fault.
    own = the_task.files.folder if the_task.files else request.task_dir
    root = own or data_folder(request.data_dir) or find_data(the_task).root
    problems = check(the_task, root)
    for problem in problems:
        click.echo(str(problem))
    if problems:
        raise UsbenchError(f"{root}: {len(problems)} problem{'s' if len(problems) > 1 else ''}, listed above")
    click.echo(f"{root}: nothing wrong found")


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
            click.echo(f"case {case_id}: the two annotations agree, as Dice: {words}")
    click.echo(f"{len(store.case_ids)} cases prepared in {store.path}, fingerprint {store.fingerprint[:16]}")
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
    click.echo(f"{cases} digital patients written to {folder}; use them with --data-dir {folder}")


@click.group()
def data() -> None:
    """The data sets: list, download, check, prepare, import, export, and make phantoms."""


data.add_command(data_import)
data.add_command(data_export)


@data.command("list")
@data_dir_option
@plugin_option
@debug_option
def data_list(data_dir: Path | None, plugins: tuple[Path, ...]) -> None:
    """Show every task: modalities, classes, cases, licence, size, and whether its data is here."""
    list_tasks(data_dir, plugins)


@data.command("download")
@click.argument("task")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Target folder (default: $USBENCH_DATA).")
@click.option("--url", help="Another address of the same archive; size and checksum are still verified.")
@plugin_option
@debug_option
def data_download(task: str, data_dir: Path | None, url: str | None, plugins: tuple[Path, ...]) -> None:
    """Download a data set: resumes a partial file, verifies it, extracts it."""
    download_task(task, data_dir, url, plugins)


@data.command("check")
@click.argument("task", required=False)
@some_options("task_dir", "data_dir", "modalities", "plugins")
@debug_option
def data_check(**options: Any) -> None:
    """Walk a data set and report everything that is wrong in it; exit code 1 if anything is."""
    check_task(Request(**options))


@data.command("prepare")
@click.argument("task", required=False)
@some_options("task_dir", "data_dir", "modalities", "merge_labels")
@click.option("--preset", default="quick", show_default=True, help="paper, quick or smoke.")
@some_options("settings")
@click.option("--workers", type=click.IntRange(min=1), help="Processes (default: one a core).")
@click.option("--overwrite", is_flag=True, help="Prepare again what is there.")
@click.option(
    "--verify", is_flag=True, help="Read every raw and prepared file, and prepare again what is damaged."
)
@plugin_option
@debug_option
def data_prepare(workers: int | None, overwrite: bool, verify: bool, **options: Any) -> None:
    """Prepare a data set for training; `run` does this by itself when it is needed."""
    prepare_task(Request(**options), workers, overwrite, verify)


@data.command("phantom")
@click.argument("task")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--cases", default=10, show_default=True, type=click.IntRange(min=1), help="Number of patients."
)
@click.option("--seed", default=0, show_default=True, help="Seed; the same seed makes the same patients.")
@some_options("scanner")
@plugin_option
@debug_option
def data_phantom(
    task: str, folder: Path, cases: int, seed: int, scanner: str, plugins: tuple[Path, ...]
) -> None:
    """Write digital patients to FOLDER in the layout of the task's real data."""
    write_phantom(task, folder, cases, seed, plugins, int(scanner))
