"""`usbench prune`; heavy imports wait."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usbench.cli.options import debug_option, request_options
from usbench.contracts.options import options_of
from usbench.contracts.pruning import Rules
from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usbench.runs.prune import Removal


@click.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@request_options(options_of(Rules))
@click.option("--yes", is_flag=True, help="Remove without asking.")
@click.option("--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")
@debug_option
def prune(paths: tuple[Path, ...], yes: bool, dry_run: bool, **rules: Any) -> None:
    """Remove by rule what runs below PATHS need no more; it is listed, and asked for, before.

    Name one of --networks, --checkpoints, --unfinished and --tracks-masks. Results, tables, logs, pictures
    and the masks of finished cells are never removed, nor is a cell that another process computes.
    """
    from usbench.runs.disk import size_words
    from usbench.runs.prune import find, remove

    found = find(paths, Rules(**rules))
    for line in found.left:
        click.echo(line, err=True)
    told = len(found.left)
    if not found.found:
        click.echo(f"nothing to remove: {found.runs} run{'' if found.runs == 1 else 's'} looked at")
        return
    for one in found.found:
        click.echo(f"{size_words(one.bytes):>10}  {one.what}: {one.path}")
    click.echo(f"{size_words(found.bytes)} in all: {_counts(found.found)}")
    if dry_run:
        click.echo("dry run: nothing was removed")
        return
    if not (yes or _agreed(f"{size_words(found.bytes)} in {_counts(found.found)}")):
        click.echo("nothing was removed")
        return
    remove(found)
    for line in found.left[told:]:
        click.echo(line, err=True)
    removed = sum(one.bytes for one in found.removed)
    click.echo(f"removed: {size_words(removed)}, {_counts(found.removed) or 'nothing'}")
    if found.failed:
        for line in found.failed:
            click.echo(line, err=True)
        raise UsbenchError(f"{len(found.failed)} could not be removed, listed above")


def _agreed(what: str) -> bool:
    """Whether a person at the terminal says yes."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsbenchError(f"{what}; nobody is there to be asked: add --yes to remove them")
    click.echo(f"remove {what}? [y/N] ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _counts(removals: Iterable[Removal]) -> str:
    """How many of what, as in "2 x network, 1 x unfinished cell"."""
    return ", ".join(f"{count} x {what}" for what, count in Counter(one.what for one in removals).items())
