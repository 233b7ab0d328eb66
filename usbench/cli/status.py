"""`usbench status`; heavy imports wait."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from usbench.cli.echo import echo
from usbench.cli.options import json_option, print_json, some_options
from usbench.runtime.console import count

if TYPE_CHECKING:
    from rich.console import RenderableType

    from usbench.matrices.status import CellStatus, Status

_EVERY = 2.0  # seconds between two looks
_AGAIN = 60.0  # seconds after which the counts are said again where there is no terminal


@click.command()
@some_options("runs_dir")
@click.option("--watch", is_flag=True, help="Go on looking until Ctrl-C; with --json, a line a look.")
@json_option
def status(runs_dir: Path, as_json: bool, watch: bool) -> None:
    """Say of every cell whether it is done, runs, waits, was stopped or failed, and why.

    A running cell says its epoch, loss, time left, machine and process, whoever started it: run, matrix, a
    worker of a cluster, in another shell or on another machine that sees the folder. Nothing is changed.
    """
    from usbench.matrices.status import changes, look

    if not watch:
        found = look(runs_dir, {})
        print_json(found.to_dict()) if as_json else echo(text(found))
        return
    try:
        if as_json:
            for found in changes(runs_dir, _EVERY):
                echo(json.dumps(found.to_dict()))
        else:
            _watch(runs_dir)
    except KeyboardInterrupt:
        return  # That is how watching ends; cells go on.


def text(found: Status) -> str:
    """The cells as a table, a row each, and the totals."""
    from tabulate import tabulate

    rows = [[cell.state, cell.name, describe(cell)] for cell in found.cells]
    table = tabulate(rows, ["state", "cell", ""], disable_numparse=True, maxcolwidths=[None, 60, 90])
    return f"{table}\n{totals(found)}" if rows else totals(found)


def totals(found: Status) -> str:
    """How many cells are in which state, and how long those that run still take."""
    if not found.cells:
        if found.runs_dir.is_dir():
            return f"{found.runs_dir}: no cell was begun here"
        return f"{found.runs_dir}: is not there yet, no cell was begun; another folder: --runs-dir"
    counts = [f"{number} {state}" for state, number in found.counts.items() if number]
    line = f"{count(found.cells, 'cell')}: {', '.join(counts)}"
    left = found.seconds_left
    if left is not None:
        from usbench.runtime.console import duration

        line += f"; about {duration(left)} until those that run are trained"
    return line


def describe(cell: CellStatus) -> str:
    """What is known of one cell, in a line."""
    from usbench.runtime.console import duration

    if cell.state == "running":
        left = cell.seconds_left
        return str(cell.running) + ("" if left is None else f", about {duration(left)} left")
    if cell.state == "done":
        scored = "no score" if cell.dsc is None else f"DSC {cell.dsc:.3f}"
        return scored + ("" if cell.seconds is None else f", took {duration(cell.seconds)}")
    after = f"after epoch {cell.epoch}" + (f" of {cell.epochs}" if cell.epochs else "") if cell.epoch else ""
    if cell.state == "waiting":
        return ", ".join(part for part in (f"in the queue: job {cell.job}", after) if part)
    if cell.state == "failed":
        return cell.reason
    parts = [part for part in (after, cell.reason, "the same command goes on with it") if part]
    return "; ".join(parts)


def _watch(runs_dir: Path) -> None:
    from usbench.runtime.safe_console import SafeConsole

    console = SafeConsole(highlight=False)
    if console.is_terminal:
        _watch_live(runs_dir, console.height)
    else:
        _watch_lines(runs_dir)


def _watch_live(runs_dir: Path, height: int) -> None:
    from rich.live import Live

    from usbench.matrices.status import changes
    from usbench.runtime.safe_console import SafeConsole

    console = SafeConsole(highlight=False)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for found in changes(runs_dir, _EVERY):
            live.update(_rendered(found, height), refresh=True)


def _rendered(found: Status, height: int) -> RenderableType:
    """As many cells as a terminal of that height has lines for, those that run first; totals below."""
    from rich.console import Group
    from rich.text import Text

    room = max(1, height - 3)
    shown = found.cells if len(found.cells) <= room else found.cells[: room - 1]
    lines = [f"{cell.state:8} {cell.name}: {describe(cell)}" for cell in shown]
    if len(shown) < len(found.cells):
        lines.append(f"and {len(found.cells) - len(shown)} more")
    return Group(
        *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines),
        Text(totals(found), no_wrap=True, overflow="ellipsis"),
    )


def _watch_lines(runs_dir: Path) -> None:
    """A line for each cell whose state is another than before, and the counts now and then."""
    import time

    from usbench.matrices.status import changes

    before: dict[Path, str] = {}
    told = 0.0
    for found in changes(runs_dir, _EVERY):
        new = [cell for cell in found.cells if before.get(cell.folder) != cell.state]
        for cell in new:
            echo(f"{cell.state}: {cell.name}: {describe(cell)}")
        before = {cell.folder: cell.state for cell in found.cells}
        if new or time.monotonic() - told > _AGAIN:
            told = time.monotonic()
            echo(totals(found))
