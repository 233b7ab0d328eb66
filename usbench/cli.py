"""The command line. Every command calls the function that the Python API has; heavy imports wait."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from usbench import __version__
from usbench.errors import UsbenchError
from usbench.options import cell_options, debug_option, split_names, words_of_file
from usbench.process import settle

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name="usbench")
def main() -> None:
    """Benchmark of multimodal medical image segmentation: several aligned scans in, one mask out."""


@main.command()
@click.option("--method", default="unet", show_default=True, help="Name of a method.")
@click.option("--fusion", default="late", show_default=True, help="early, hybrid or late.")
@click.option("--task", help="Name of a task: chaos, msd-prostate, msd-brain.")
@click.option(
    "--task-dir", type=click.Path(path_type=Path), help="A folder in MSD layout, instead of --task."
)
@cell_options
@click.option("--seed", default=0, show_default=True, help="Seed of every random draw.")
@click.option("--devices", default=1, show_default=True, help="How many devices train together on a node.")
@click.option(
    "--nodes", default=1, show_default=True, help="How many nodes train together; start this on each of them."
)
@click.option("--overwrite", is_flag=True, help="Compute finished cells again.")
@click.option("--keep-weights", is_flag=True, help="Keep the trained weights beside the result.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@debug_option
def run(dry_run: bool, assignments: tuple[str, ...], modalities: str | None, **options: Any) -> None:
    """Train and score one method under one fusion protocol on one task.

    A run that was stopped goes on from its last finished epoch when it is started again with the
    same words; a finished one is not computed again.
    """
    from usbench.config import parse_assignments

    options["settings"] = parse_assignments(assignments)
    options["modalities"] = split_names(modalities)
    if dry_run:
        from usbench.report import print_plan
        from usbench.running import make_plan

        folds = options["folds"]
        for name in (
            "folds",
            "seed",
            "devices",
            "nodes",
            "precision",
            "runs_dir",
            "limit",
            "overwrite",
            "keep_weights",
            "cache_gb",
        ):
            options.pop(name)
        print_plan(make_plan(**options), folds)
        return
    from usbench.report import print_results
    from usbench.running import is_first_process
    from usbench.running import run as run_cells

    results = run_cells(**options)
    if is_first_process():
        print_results(results)


@main.command()
@click.argument(
    "file",
    required=False,
    type=click.Path(path_type=Path),
    metavar="[FILE.yaml]",
    is_eager=True,
    expose_value=False,
    callback=words_of_file,
)
@click.option("--methods", default="all", show_default=True, help="all, or names such as unet,zeus.")
@click.option("--fusions", default="all", show_default=True, help="all, or early, hybrid, late.")
@click.option(
    "--tasks", help="all, or names such as chaos,msd-brain (default: all, or none with --task-dir)."
)
@click.option(
    "--task-dir",
    "task_dirs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder in MSD layout; may be repeated.",
)
@cell_options
@click.option("--seeds", default="0", show_default=True, help="Numbers such as 0,1,2.")
@click.option("--devices", default=1, show_default=True, help="How many devices train one cell together.")
@click.option("--address", help="A Ray cluster: ray://HOST:10001, HOST:6379, or auto on one of its nodes.")
@click.option("--workers", type=int, help="How many cells at once (default: as many as fit; needs Ray).")
@click.option("--cpus-per-run", type=int, help="Cores of one cell (default: 1; all with one worker).")
@click.option("--gpus-per-run", type=float, help="GPUs of one cell (default: 0.5).")
@click.option("--dry-run", is_flag=True, help="List the cells and their state, and do nothing.")
@debug_option
@click.pass_context
def matrix(
    context: click.Context,
    /,
    dry_run: bool,
    assignments: tuple[str, ...],
    modalities: str | None,
    **options: Any,
) -> None:
    """Compute a whole table: methods x fusions x tasks x folds x seeds, what is finished left out.

    FILE.yaml holds the same words ("methods: [unet, zeus]"); the command line wins over it. A cell that
    fails stops no other; the same command goes on with what is missing.
    """
    from usbench.config import parse_assignments
    from usbench.grid.command import matrix as compute
    from usbench.grid.summary import listing, summary

    settings = {**context.meta.get("usbench.settings", {}), **parse_assignments(assignments)}
    made = compute(settings=settings, modalities=split_names(modalities), dry_run=dry_run, **options)
    click.echo(listing(made) if dry_run else summary(made))
    if made.failed:
        raise UsbenchError(f"{len(made.failed)} failed, listed above")


@main.command()
@click.option("--runs-dir", default="runs", show_default=True, type=click.Path(path_type=Path))
@click.option("--task", help="Only this task.")
@click.option(
    "--format", "form", default="table", show_default=True, help="table, md, csv, json, latex or html."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write leaderboard.md, .csv, .json, .tex, .html and a picture of score against cost here.",
)
@debug_option
def leaderboard(runs_dir: Path, task: str | None, form: str, out: Path | None) -> None:
    """Rank the finished runs: one table for each task, data and protocol.

    Each row has an interval, a paired test against the leader and the stability of its rank; below
    are the effect of fusion, ranks across tasks, and the paper's numbers beside ours.
    """
    from usbench.board import build, render, write

    board = build(runs_dir, task)
    click.echo(render(board, form))
    if out is not None:
        for path in write(board, out):
            click.echo(f"written: {path}", err=True)


@main.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Where to write the page (default: report.html in the run's folder).",
)
@debug_option
def report(folder: Path, out: Path | None) -> None:
    """Show one finished run as a page: curves, scores, pictures, settings and where it comes from."""
    from usbench.board.run_page import write_report

    click.echo(f"written: {write_report(folder, out)}")


@main.command()
@click.option(
    "--task", default="chaos", show_default=True, help="Count for the modalities and classes of this task."
)
@click.option(
    "--preset", default="paper", show_default=True, help="Count at the size and settings of this preset."
)
@click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="Python file with a METHOD."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@debug_option
def methods(task: str, preset: str, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List the methods: origin, parameters and GFLOPs under each fusion, what cannot be imported."""
    from usbench.catalogue import catalogue, render
    from usbench.methods.registry import shadowed

    click.echo(render(catalogue(task, preset, plugins), "json" if as_json else "table"))
    for line in shadowed():
        click.echo(line, err=True)


@main.group()
def data() -> None:
    """The data sets: list, download, check, prepare, and make phantoms."""


task_option = click.option("--task-dir", type=click.Path(path_type=Path), help="A folder in MSD layout.")
data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the data sets are (default: $USBENCH_DATA)."
)


@data.command("list")
@data_dir_option
@debug_option
def data_list(data_dir: Path | None) -> None:
    """Show every task: modalities, classes, cases, licence, size, and whether its data is here."""
    from usbench.datasets.commands import list_tasks

    list_tasks(data_dir)


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
@debug_option
def data_check(
    task: str | None, task_dir: Path | None, data_dir: Path | None, modalities: str | None
) -> None:
    """Walk a data set and report everything that is wrong in it; exit code 1 if anything is."""
    from usbench.datasets.commands import check_task

    check_task(task, task_dir, data_dir, split_names(modalities))


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


@main.group()
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


@main.group()
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


def entry() -> None:
    """The console script: errors are one line and exit code 1."""
    settle()
    debug = "--debug" in sys.argv[1:]
    try:
        main.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted; nothing finished is lost, the same command goes on", 130, debug)
    except click.ClickException as error:
        _fail(error.format_message().replace("\n", " "), 1, debug)
    except UsbenchError as error:
        _fail(str(error), 1, debug)
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        line = " ".join(str(error).split()) or "no message"
        _fail(f"unexpected {type(error).__name__}: {line}; --debug shows the traceback", 1, debug)


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    entry()
