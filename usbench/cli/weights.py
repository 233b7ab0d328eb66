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

    from usbench.weights.listing import list_weights, render
    from usbench.weights.store import weights_dir

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
@click.option("--set", "of_set", metavar="SET", help="Check a whole set: bundled, paper or more.")
@json_option
def weights_check(names: tuple[str, ...], of_set: str | None, as_json: bool) -> None:
    """Verify the weights that are here; exit code 1 if any is damaged, or any that is named is absent.

    Without a name or a set, all are looked at, and absent ones are no fault.
    """
    from dataclasses import asdict

    from usbench.weights.listing import check_weights
    from usbench.weights.needed import line
    from usbench.weights.store import find_weight

    rows = check_weights(names, of_set)
    if as_json:
        print_json([asdict(row) for row in rows])
    asked = bool(names or of_set)
    for row in () if as_json else rows:
        if row.state == "absent" and asked:
            echo(f"absent: {line(find_weight(row.name))}")
        else:
            echo(f"{row.name}: {row.state}{': ' + row.problem if row.problem else ''}")
    wrong = [
        f"{number} {state}"
        for state in ("damaged", "absent")
        if (asked or state == "damaged") and (number := sum(row.state == state for row in rows))
    ]
    if wrong:
        raise UsbenchError(f"{' and '.join(wrong)}, listed above")
