"""`usbench run` and `usbench report`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.cli.options import cell_options, debug_option, split_names


@click.command()
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
        from usbench.cli.summary import print_plan
        from usbench.runs.plan import make_plan

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
    from usbench.cli.summary import print_results
    from usbench.runs.start import run as run_cells
    from usbench.runtime.devices import is_first_process

    results = run_cells(**options)
    if is_first_process():
        print_results(results)


@click.command()
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
    from usbench.pages.run_page import write_report

    click.echo(f"written: {write_report(folder, out)}")
