"""`usbench check`: does a method keep the contract?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.cli.echo import echo
from usbench.cli.options import some_options, split_names


@click.command()
@click.argument("method", metavar="NAME|FILE.py")
@click.option("--fusion", "fusions", help="Only these protocols, comma-separated (default: all it declares).")
@click.option("--only", "checks", help="Only these checks, comma-separated, and what they need.")
@click.option("--preset", default="smoke", show_default=True, help="Settings of this preset: smoke is small.")
@some_options("settings", "plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    method: str,
    fusions: str | None,
    checks: str | None,
    preset: str,
    settings: dict[str, Any],
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Check a method, or all methods of a plugin file, on synthetic slices; exit code 1 if any check fails.

    Each line says pass, FAIL with what was seen and what to change, or n/a and why.
    """
    from usbench.checks.suite import check as run
    from usbench.checks.suite import render, require_passed

    verdicts = run(
        method,
        fusions=split_names(fusions),
        checks=split_names(checks),
        preset=preset,
        settings=settings,
        plugins=plugins,
    )
    echo(render(verdicts, "json" if as_json else "text"))
    require_passed(verdicts)
