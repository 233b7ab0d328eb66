"""The command line. Every command calls the function that the Python API has; heavy imports wait."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from usbench import __version__
from usbench.cli_check import check
from usbench.cli_groups import data, weights, zeus
from usbench.cli_new import new
from usbench.cli_submissions import submit, verify
from usbench.errors import UsbenchError
from usbench.options import cell_options, debug_option, plugin_option, split_names, words_of_file
from usbench.process import settle

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name="usbench")
def main() -> None:
    """Benchmark of multimodal medical image segmentation: several aligned scans in, one mask out."""


@main.command()
@click.option("--method", default="unet", show_default=True, help="Name of a method.")
@click.option("--fusion", default="late", show_default=True, help="early, hybrid, late, or one of a plugin.")
@click.option("--task", help="Name of a task: chaos, msd-prostate, msd-brain, or one of a plugin.")
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
@click.option("--fusions", default="all", show_default=True, help="all three, or names.")
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
@click.option("--no-pictures", is_flag=True, help="With --out: no slices of cases in the page.")
@click.option(
    "--keep-results", is_flag=True, help="With --out: copy result.json and cases.csv of every run there too."
)
@click.option(
    "--check",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Only compute what --out FOLDER --keep-results wrote anew from its results, and compare.",
)
@click.option(
    "--submissions",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Archives of usbench submit: verified ones are ranked, others listed apart.",
)
@debug_option
def leaderboard(
    runs_dir: Path,
    submissions: Path | None,
    task: str | None,
    form: str,
    out: Path | None,
    no_pictures: bool,
    keep_results: bool,
    folders: tuple[Path, ...],
) -> None:
    """Rank the finished runs: one table for each task, data and protocol.

    Each row has an interval, a paired test against the leader and the stability of its rank; below
    are the effect of fusion, ranks across tasks, and the paper's numbers beside ours.
    """
    from usbench.board import build, check, render, write, write_kept

    if submissions is not None and (folders or keep_results):
        raise UsbenchError(
            "--submissions does not go with --keep-results or --check, which hold runs of your own alone; "
            "drop one of the two"
        )
    for folder in folders:
        check(folder)
        click.echo(f"{folder}: every number follows from its results")
    if folders:
        return
    if out is None and (no_pictures or keep_results):
        raise UsbenchError("--no-pictures and --keep-results say what --out writes; add --out FOLDER")
    board = build(runs_dir, task, submissions)
    click.echo(render(board, form))
    if out is not None:
        pictures = not no_pictures
        paths = write_kept(board, runs_dir, out, pictures) if keep_results else write(board, out, pictures)
        for path in paths:
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
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--task", default="chaos", show_default=True, help="Count for the modalities and classes of this task."
)
@click.option(
    "--preset", default="paper", show_default=True, help="Count at the size and settings of this preset."
)
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@debug_option
def methods(names: tuple[str, ...], task: str, preset: str, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List the methods, or only those named: origin, parameters and GFLOPs under each fusion, what fails.

    Methods of installed packages are not imported unless they are named.
    """
    from usbench.catalogue import catalogue, render
    from usbench.methods.registry import all_problems

    click.echo(render(catalogue(task, preset, plugins, names), "json" if as_json else "table"))
    for problem in all_problems():
        click.echo(problem.text, err=True)


for command in (data, weights, zeus, new, check, submit, verify):
    main.add_command(command)


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
