"""`usbench run` and `usbench report`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.cli.options import debug_option, request_options
from usbench.contracts.request import Request, run_options


@click.command()
@request_options(run_options())
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@debug_option
def run(dry_run: bool, **options: Any) -> None:
    """Train and score one method under one fusion protocol on one task.

    A run that was stopped goes on from its checkpoint when it is started again with the
    same words; a finished one is not computed again.
    """
    request = Request(**options)
    if dry_run:
        from usbench.cli.summary import print_plan
        from usbench.runs.plan import make_plan

        print_plan(make_plan(request))
        return
    from usbench.cli.summary import print_results
    from usbench.runs.start import run_request
    from usbench.runtime.devices import is_first_process

    results = run_request(request)
    if is_first_process():
        print_results(results)


@click.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Where to write the page (default: report.html in the run's folder).",
)
@debug_option
def report(folder: Path, out: Path | None) -> None:
    """Show one finished run as a page: curves, scores, pictures, settings and where it comes from."""
    from usbench.pages.run_page import write_report

    click.echo(f"written: {write_report(folder, out)}")
