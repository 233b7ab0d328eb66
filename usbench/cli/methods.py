"""`usbench methods`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path

import click

from usbench.cli.echo import echo
from usbench.cli.options import plugin_option


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--task", default="chaos", show_default=True, help="Count for the modalities and classes of this task."
)
@click.option(
    "--preset", default="paper", show_default=True, help="Count at the size and settings of this preset."
)
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def methods(names: tuple[str, ...], task: str, preset: str, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List the methods, or only those named: origin, parameters and GFLOPs under each fusion, what fails.

    Methods of installed packages are not imported unless they are named.
    """
    from usbench.methods.catalogue import catalogue, render
    from usbench.methods.registry import all_problems

    echo(render(catalogue(task, preset, plugins, names), "json" if as_json else "table"))
    for problem in all_problems():
        echo(problem.text, err=True)
