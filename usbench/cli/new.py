"""`usbench new`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path

import click

from usbench.cli.echo import echo
from usbench.cli.options import Whole


@click.command()
@click.argument("name")
@click.option(
    "--kind",
    default="encoder-decoder",
    show_default=True,
    help="encoder-decoder: every fusion follows. segmenter: a whole network that declares its fusions.",
)
@click.option(
    "--dims", default=2, show_default=True, type=Whole(), help="What its network sees: 2, slices. 3, volumes."
)
@click.option("--pip", is_flag=True, help="An installable package with a test, instead of one file.")
@click.option(
    "--folder", default=".", show_default=True, type=click.Path(path_type=Path), help="Where to write it."
)
def new(name: str, kind: str, dims: int, pip: bool, folder: Path) -> None:
    """Start a method of your own: a small network that works, in a file or package to be changed.

    Nothing that is there is ever overwritten.
    """
    from usbench.methods.scaffold import new as write
    from usbench.methods.scaffold import run_command

    paths = write(name, kind, pip, folder, dims)
    for path in paths:
        echo(f"written: {path}")
    root = folder / name
    echo("try it:")
    if pip:
        echo(f"  pip install -e '{root}[test]' && pytest {root}")
    words = f"--method {name}" if pip else f"--plugin {paths[0]} --method {name}"
    echo(f"  usbench check {name if pip else paths[0]}")
    echo(f"  {run_command(words)}")
