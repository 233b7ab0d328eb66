"""`usbench weights`; heavy imports wait."""

from __future__ import annotations

import click

from usbench.cli.options import debug_option
from usbench.errors import UsbenchError


@click.group()
def weights() -> None:
    """The pretrained weights: list, fetch, and check."""


@weights.command("list")
@debug_option
def weights_list() -> None:
    """Show every entry: its set, size, licence, and whether it is here, absent or damaged."""
    from usbench.weights.store import list_weights, render, weights_dir

    click.echo(render(list_weights()))
    click.echo(f"folder: {weights_dir()}", err=True)


@weights.command("fetch")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--set", "of_set", metavar="SET", help="Fetch a whole set: bundled, paper or more.")
@debug_option
def weights_fetch(names: tuple[str, ...], of_set: str | None) -> None:
    """Fetch weights: resumes a partial file, verifies it, keeps what is here."""
    from usbench.weights.store import fetch_all

    for name, path in fetch_all(names, of_set):
        click.echo(f"{name}: {path}")


@weights.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@debug_option
def weights_check(names: tuple[str, ...]) -> None:
    """Verify the weights that are here; exit code 1 if any is damaged."""
    from usbench.weights.store import check_weights

    damaged = 0
    for row in check_weights(names):
        click.echo(f"{row.name}: {row.state}{': ' + row.problem if row.problem else ''}")
        damaged += row.state == "damaged"
    if damaged:
        raise UsbenchError(f"{damaged} damaged, listed above")
