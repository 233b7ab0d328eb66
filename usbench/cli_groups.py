"""The groups of the command line: `usbench data`, `usbench weights`, `usbench zeus`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.errors import UsbenchError
from usbench.options import data_dir_option, debug_option, plugin_option, split_names


@click.group()
def data() -> None:
    """The data sets: list, download, check, prepare, and make phantoms."""


task_option = click.option("--task-dir", type=click.Path(path_type=Path), help="A folder in MSD layout.")


@data.command("list")
@data_dir_option
@plugin_option
@debug_option
def data_list(data_dir: Path | None, plugins: tuple[Path, ...]) -> None:
    """Show every task: modalities, classes, cases, licence, size, and whether its data is here."""
    from usbench.datasets.commands import list_tasks

    list_tasks(data_dir, plugins)


@data.command("download")
@click.argument("task")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Target folder (default: $USBENCH_DATA).")
@click.option("--url", help="Another address of the same archive; size and checksum are still verified.")
@debug_option
def data_download(task: str, data_dir: Path | None, url: str | None) -> None:
    """Download a data set: resumes a partial file, verifies it, extracts it."""
    from usbench.datasets.commands import download_task

    download_task(task, data_dir, url)


@data.command("check")
@click.argument("task", required=False)
@task_option
@data_dir_option
@click.option("--modalities", help="Check only these, comma-separated.")
@plugin_option
@debug_option
def data_check(
    task: str | None,
    task_dir: Path | None,
    data_dir: Path | None,
    modalities: str | None,
    plugins: tuple[Path, ...],
) -> None:
    """Walk a data set and report everything that is wrong in it; exit code 1 if anything is."""
    from usbench.datasets.commands import check_task

    check_task(task, task_dir, data_dir, split_names(modalities), plugins)


@data.command("prepare")
@click.argument("task", required=False)
@task_option
@data_dir_option
@click.option("--modalities", help="Prepare only these, comma-separated.")
@click.option("--merge-labels", metavar="NAME", help="Merge all labels into one foreground of this name.")
@click.option("--preset", default="quick", show_default=True, help="paper, quick or smoke.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a data setting.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes (default: one a core).")
@click.option("--overwrite", is_flag=True, help="Prepare again what is there.")
@plugin_option
@debug_option
def data_prepare(modalities: str | None, **options: Any) -> None:
    """Prepare a data set for training; `run` does this by itself when it is needed."""
    from usbench.datasets.commands import prepare_task

    prepare_task(modalities=split_names(modalities), **options)


@data.command("phantom")
@click.argument("task")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--cases", default=10, show_default=True, type=click.IntRange(min=1), help="Number of patients."
)
@click.option("--seed", default=0, show_default=True, help="Seed; the same seed makes the same patients.")
@debug_option
def data_phantom(task: str, folder: Path, cases: int, seed: int) -> None:
    """Write digital patients to FOLDER in the layout of the task's real data."""
    from usbench.datasets.commands import write_phantom

    write_phantom(task, folder, cases, seed)


@click.group()
def weights() -> None:
    """The pretrained weights: list, fetch, and check."""


@weights.command("list")
@debug_option
def weights_list() -> None:
    """Show every entry: its set, size, licence, and whether it is here, absent or damaged."""
    from usbench.weights import list_weights, render, weights_dir

    click.echo(render(list_weights()))
    click.echo(f"folder: {weights_dir()}", err=True)


@weights.command("fetch")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--set", "of_set", metavar="SET", help="Fetch a whole set: bundled or paper.")
@debug_option
def weights_fetch(names: tuple[str, ...], of_set: str | None) -> None:
    """Fetch weights: resumes a partial file, verifies it, keeps what is here."""
    from usbench.weights import fetch_all

    for name, path in fetch_all(names, of_set):
        click.echo(f"{name}: {path}")


@weights.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@debug_option
def weights_check(names: tuple[str, ...]) -> None:
    """Verify the weights that are here; exit code 1 if any is damaged."""
    from usbench.weights import check_weights

    damaged = 0
    for row in check_weights(names):
        click.echo(f"{row.name}: {row.state}{': ' + row.problem if row.problem else ''}")
        damaged += row.state == "damaged"
    if damaged:
        raise UsbenchError(f"{damaged} damaged, listed above")


@click.group()
def zeus() -> None:
    """Zeus: the instructions of its language model, and the ablations of its paper."""


@zeus.command("instructions")
@click.option("--task", help="Name of a task.")
@click.option("--task-dir", type=click.Path(path_type=Path), help="A folder in MSD layout.")
@data_dir_option
@click.option("--data", default="auto", show_default=True, help="auto, real or phantom, as for run.")
@click.option("--modalities", help="Use only these, comma-separated.")
@click.option("--merge-labels", metavar="NAME", help="Merge all labels into one foreground of this name.")
@click.option("--preset", help="paper, quick or smoke, as for run.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@plugin_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N cases only.")
@click.option("--cache-gb", default=50.0, show_default=True, help="Bound on stored features, as for run.")
@click.option("--format", "form", default="table", type=click.Choice(["table", "csv", "json"]))
@debug_option
def zeus_instructions(assignments: tuple[str, ...], modalities: str | None, **options: Any) -> None:
    """Show what the language model says of each modality and class, as `run` with the same words uses it."""
    from usbench.config import parse_assignments
    from usbench.methods.zeus.commands import show_instructions

    show_instructions(settings=parse_assignments(assignments), modalities=split_names(modalities), **options)


@zeus.command("ablation", context_settings={"ignore_unknown_options": True})
@click.argument("table", type=click.Choice(["3", "4", "5"]))
@click.option("--weights", default="paper", show_default=True, help="Set of weights: paper or bundled.")
@click.option("--fusion", default="late", show_default=True, help="hybrid or late.")
@click.option("--dry-run", is_flag=True, help="List the commands, run nothing.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@debug_option
def zeus_ablation(table: str, weights: str, fusion: str, dry_run: bool, options: tuple[str, ...]) -> None:
    """Run the rows of the paper's Table 3, 4 or 5; OPTIONS are added to every `usbench run`."""
    from usbench.methods.zeus.commands import run_ablation

    run_ablation(int(table), weights, fusion, dry_run, options)
