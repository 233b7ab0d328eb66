"""`usbench weights`; heavy imports wait."""

from __future__ import annotations

import click

from usbench.cli.echo import echo
from usbench.cli.options import json_option, print_json
from usbench.errors import UsbenchError


@click.group()
def weights() -> None:
    """The pretrained weights: list, fetch, and check."""


@weights.command("list")
@json_option
def weights_list(as_json: bool) -> None:
    """Show every entry: its set, size, licence, and whether it is here, absent or damaged."""
    from dataclasses import asdict

    from usbench.weights.store import list_weights, render, weights_dir

    if as_json:
        print_json([asdict(row) for row in list_weights()])
        return
    echo(render(list_weights()))
    echo(f"folder: {weights_dir()}", err=True)


@weights.command("fetch")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--set", "of_set", metavar="SET", help="Fetch a whole set: bundled, paper or more.")
def weights_fetch(names: tuple[str, ...], of_set: str | None) -> None:
    """Fetch weights: resumes a partial file, verifies it, keeps what is here."""
    from usbench.weights.store import fetch_all

    for name, path in fetch_all(names, of_set):
        echo(f"{name}: {path}")


@weights.command("check")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def weights_check(names: tuple[str, ...], as_json: bool) -> None:
    """Verify the weights that are here; exit code 1 if any is damaged."""
    from dataclasses import asdict

    from usbench.weights.store import check_weights

    rows = check_weights(names)
    if as_json:
        print_json([asdict(row) for row in rows])
    for row in () if as_json else rows:
        echo(f"{row.name}: {row.state}{': ' + row.problem if row.problem else ''}")
    if damaged := sum(row.state == "damaged" for row in rows):
        raise UsbenchError(f"{damaged} damaged, listed above")
