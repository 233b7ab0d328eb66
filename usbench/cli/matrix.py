"""`usbench matrix`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.cli.echo import echo
from usbench.cli.options import request_options
from usbench.errors import UsbenchError
from usbench.matrices.request import MatrixRequest, matrix_options, read_file


def _words_of_file(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """Take the words of FILE.yaml as defaults; settings are kept apart, since those are merged."""
    if value is None:
        return
    options = matrix_options()
    found = read_file(value, options)
    context.meta["usbench.settings"] = found.pop("settings", {})
    context.default_map = found


@click.command()
@click.argument(
    "file",
    required=False,
    type=click.Path(path_type=Path),
    metavar="[FILE.yaml]",
    is_eager=True,
    expose_value=False,
    callback=_words_of_file,
)
@request_options(matrix_options())
@click.option("--dry-run", is_flag=True, help="List the cells and their state, and compute none.")
def matrix(dry_run: bool, **options: Any) -> None:
    """Compute a whole table: methods x fusions x tasks x folds x seeds, what is finished left out.

    FILE.yaml holds the same words ("methods: [unet, zeus]"); the command line wins over it. A cell that
    fails stops no other; the same command goes on with what is missing.
    """
    request = MatrixRequest.of(**options)

    from usbench.matrices.start import compute_matrix
    from usbench.matrices.summary import listing, summary

    made = compute_matrix(request, dry_run)
    echo(listing(made) if dry_run else summary(made))
    if made.failed:
        raise UsbenchError(f"{len(made.failed)} failed, listed above")
