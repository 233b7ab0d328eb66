"""`usbench cache`: what lies in the cache folder, and clearing it; heavy imports wait."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usbench.cli.echo import echo
from usbench.cli.options import NumberRange, json_option, print_json, split_names
from usbench.cli.prune import agreed
from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.caches.clearing import Clearing
    from usbench.caches.contents import Entry


@click.group()
def cache() -> None:
    """The cache folder: what lies in it, and clearing it.

    It holds prepared data, phantoms, features of frozen parts and weights. USBENCH_CACHE names the folder,
    USBENCH_WEIGHTS another one for weights.
    """


@cache.command("list")
@click.argument("kinds", nargs=-1, metavar="[WHAT]...")
@click.option("--task", metavar="A,B", help="Only of these tasks.")
@json_option
def cache_list(kinds: tuple[str, ...], task: str | None, as_json: bool) -> None:
    """Show what lies in the cache: its kind and task, its size, and when it was last used.

    WHAT is prepared, phantoms, features, views, converted, instructions, weights or other (default: all).
    """
    from usbench.caches.contents import contents

    entries = contents(kinds, _names(task))
    folders = _folders()
    if as_json:
        print_json({**folders, "bytes": _bytes(entries), "entries": _rows(entries)})
        return
    for line in _lines(entries):
        echo(line)
    echo(f"in all: {_words(entries)}")
    for name, folder in folders.items():
        echo(f"{name}: {folder}", err=True)


@cache.command("clear")
@click.argument("kinds", nargs=-1, metavar="[WHAT]...")
@click.option("--task", metavar="A,B", help="Only of these tasks.")
@click.option(
    "--older-than",
    type=NumberRange(min=0),
    metavar="DAYS",
    help="Only what was not used for so many days.",
)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@click.option("--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")
@json_option
def cache_clear(
    kinds: tuple[str, ...],
    task: str | None,
    older_than: float | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove what lies in the cache; it is listed, and asked for, before. Results are not in the cache.

    WHAT is prepared, phantoms, features, views, converted, instructions, weights or other. By default it is
    all that usbench makes again by itself: not instructions, weights and other. What a process uses or writes
    stays.
    """
    from usbench.caches.clearing import clear, find

    found = find(kinds, _names(task), older_than)
    told = len(found.left)
    for line in found.left:
        echo(line, err=True)
    if not as_json:
        for line in _lines(found.found):
            echo(line)
    said = "nothing to remove"
    if found.found:
        said = f"dry run: nothing was removed, it would be {_words(found.found)}"
        if not dry_run:
            said = "nothing was removed"
            if yes or agreed(_words(found.found)):
                clear(found)
                said = f"removed: {_words(found.removed)}"
    for line in (*found.left[told:], *found.failed):
        echo(line, err=True)
    if as_json:
        print_json(_cleared(found, dry_run))
    else:
        echo(said)
    if found.failed:
        raise UsbenchError(f"{len(found.failed)} could not be removed, listed above")


def _names(text: str | None) -> tuple[str, ...] | None:
    names = split_names(text)
    return None if names is None else tuple(names)


def _folders() -> dict[str, Path]:
    from usbench.storage.files import cache_dir
    from usbench.weights.store import weights_dir

    return {"cache": cache_dir(), "weights": weights_dir()}


def _bytes(entries: Iterable[Entry]) -> int:
    return sum(entry.bytes for entry in entries)


def _rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Entries with stable keys."""
    return [
        {
            "kind": entry.kind,
            "task": entry.task or None,
            "path": entry.path,
            "bytes": entry.bytes,
            "last_used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.used)),
        }
        for entry in entries
    ]


def _cleared(found: Clearing, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "bytes": found.bytes,
        "found": _rows(found.found),
        "removed": _rows(found.removed),
        "left": found.left,
        "failed": found.failed,
    }


def _lines(entries: Iterable[Entry]) -> list[str]:
    """Entries for people: size, last use, kind, task and path."""
    from usbench.runs.disk import size_words

    return [
        f"{size_words(entry.bytes):>10}  {time.strftime('%Y-%m-%d', time.localtime(entry.used))}  "
        f"{entry.kind:<12}  {entry.task or '-':<17}  {entry.path}"
        for entry in entries
    ]


def _words(entries: Iterable[Entry]) -> str:
    """Size and number of entries, as in "1.2 GB: 3 x prepared, 1 x weights"."""
    from usbench.runs.disk import size_words

    several = list(entries)
    counts = Counter(entry.kind for entry in several)
    listed = ", ".join(f"{number} x {kind}" for kind, number in counts.items())
    return f"{size_words(_bytes(several))}: {listed}" if several else "nothing"
