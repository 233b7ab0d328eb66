"""`usbench figure`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path

import click

from usbench.cli.echo import echo
from usbench.cli.options import split_names


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUNS...", type=click.Path(path_type=Path))
@click.option(
    "--cases",
    required=True,
    metavar="ID[:SLICE],...",
    help="A row each: a test case, and which slice (from 1; default: where most of the truth is).",
)
@click.option(
    "--out", required=True, metavar="FILE", type=click.Path(path_type=Path), help="fig.pdf, .svg or .png."
)
@click.option("--methods", metavar="A,B", help="METHOD-FUSION of each column, as unet-early (default: all).")
@click.option("--modalities", metavar="A,B", help="Which to show (default: all); masks lie on the first.")
@click.option("--width", default=7.0, show_default=True, help="Of the figure in inches.")
def figure(
    runs: tuple[Path, ...], cases: str, out: Path, methods: str | None, modalities: str | None, width: float
) -> None:
    """Draw patients for a paper: modalities, truth and the mask of each method, with its DSC.

    RUNS are folders of finished runs, or folders that hold some.
    """
    from usbench.pages.paper_figure import figure as draw

    path = draw(
        runs, split_names(cases) or [], out, split_names(methods) or (), split_names(modalities) or (), width
    )
    echo(f"written: {path}")
