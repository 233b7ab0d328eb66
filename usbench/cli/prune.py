"""`usbench prune`; heavy imports wait."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usbench.cli.echo import echo
from usbench.cli.options import json_option, print_json, request_options
from usbench.contracts.options import options_of
from usbench.contracts.pruning import Rules
from usbench.errors import UsbenchError
from usbench.runtime.console import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from usbench.runs.prune import Pruning, Removal


@click.command()
@click.argument("paths", metavar="PATHS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@request_options(options_of(Rules))
@click.option("--yes", is_flag=True, help="Remove without asking.")
@click.option("--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")
@json_option
def prune(paths: tuple[Path, ...], yes: bool, dry_run: bool, as_json: bool, **rules: Any) -> None:
    """Remove by rule what runs below PATHS need no more; it is listed, and asked for, before.

    Name one of --networks, --checkpoints, --unfinished and --tracks-masks. Results, tables, logs, pictures
    and the masks of finished cells are never removed, nor is a cell that another process computes.
    """
    from usbench.runs.disk import size_words
    from usbench.runs.prune import find, remove

    found = find(paths, Rules(**rules))
    tell: Callable[[str], None] = _nothing if as_json else echo
    for line in found.left:
        echo(line, err=True)
    told = len(found.left)
    for one in found.found:
        tell(f"{size_words(one.bytes):>10}  {one.what}: {one.path}")
    what = f"{size_words(found.bytes)} in {_counts(found.found)}"
    if not found.found:
        tell(f"nothing to remove: {count(found.runs, 'run')} looked at")
    elif dry_run:
        tell(f"{size_words(found.bytes)} in all: {_counts(found.found)}")
        tell("dry run: nothing was removed")
    else:
        tell(f"{size_words(found.bytes)} in all: {_counts(found.found)}")
        if yes or agreed(what):
            remove(found)
            removed = sum(one.bytes for one in found.removed)
            tell(f"removed: {size_words(removed)}, {_counts(found.removed) or 'nothing'}")
        else:
            tell("nothing was removed")
    for line in (*found.left[told:], *found.failed):
        echo(line, err=True)
    if as_json:
        print_json(_as_dict(found, dry_run))
    if found.failed:
        raise UsbenchError(f"{len(found.failed)} could not be removed, listed above")


def _nothing(line: str) -> None:
    """Where JSON is printed, nothing else is."""


def _as_dict(found: Pruning, dry_run: bool) -> dict[str, Any]:
    """What was found and removed, with stable keys."""

    def rows(removals: Iterable[Removal]) -> list[dict[str, Any]]:
        return [{"run": one.run, "path": one.path, "what": one.what, "bytes": one.bytes} for one in removals]

    return {
        "dry_run": dry_run,
        "runs": found.runs,
        "bytes": found.bytes,
        "found": rows(found.found),
        "removed": rows(found.removed),
        "left": found.left,
        "failed": found.failed,
    }


def agreed(what: str) -> bool:
    """Whether a person at the terminal says yes."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsbenchError(f"{what}; nobody is there to be asked: add --yes to remove them")
    echo(f"remove {what}? [y/N] ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _counts(removals: Iterable[Removal]) -> str:
    """How many of what, as in "2 x network, 1 x unfinished cell"."""
    return ", ".join(f"{count} x {what}" for what, count in Counter(one.what for one in removals).items())
