"""`usbench matrix`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.cli.options import cell_options, debug_option, split_names, words_of_file
from usbench.errors import UsbenchError


@click.command()
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
    from usbench.matrices.start import matrix as compute
    from usbench.matrices.summary import listing, summary

    settings = {**context.meta.get("usbench.settings", {}), **parse_assignments(assignments)}
    made = compute(settings=settings, modalities=split_names(modalities), dry_run=dry_run, **options)
    click.echo(listing(made) if dry_run else summary(made))
    if made.failed:
        raise UsbenchError(f"{len(made.failed)} failed, listed above")
