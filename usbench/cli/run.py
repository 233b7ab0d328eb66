"""`usbench run` and `usbench report`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.cli.echo import echo
from usbench.cli.options import request_options, some_options
from usbench.contracts.request import Request, run_options
from usbench.errors import UsbenchError


@click.command()
@request_options(run_options())
@click.option("--dry-run", is_flag=True, help="Say what would be done, and train nothing.")
def run(dry_run: bool, **options: Any) -> None:
    """Train and score one method under one fusion protocol on one task.

    A run that was stopped goes on from its checkpoint when it is started again with the
    same words; a finished one is not computed again.
    """
    request = Request(**options)
    if dry_run:
        from usbench.cli.summary import print_plan
        from usbench.runs.plan import make_plan

        print_plan(make_plan(request, weights=True))
        return
    from usbench.cli.summary import print_results
    from usbench.runs.start import run_request
    from usbench.runtime.devices import is_first_process

    results = run_request(request)
    if is_first_process():
        print_results(results)


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUNS]...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Where to write the page of one run (default: report.html in its folder).",
)
@some_options("runs_dir")
def report(runs: tuple[Path, ...], out: Path | None, runs_dir: Path) -> None:
    """Show finished runs as pages: curves, scores, pictures, settings and where they come from.

    RUNS are run folders, or folders that hold them; without any, the newest run below --runs-dir.
    """
    from usbench.pages.run_page import write_report
    from usbench.results.usable import named_runs, newest_run

    folders = named_runs(runs) if runs else [newest_run(runs_dir)]
    if out is not None and len(folders) > 1:
        raise UsbenchError(
            f"--out {out}: is one page, and {len(folders)} runs are named; leave it out, or name one"
        )
    for folder in folders:
        echo(f"written: {write_report(folder, out)}")
