"""`usbench evaluate`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.cli.echo import echo
from usbench.cli.options import some_options
from usbench.errors import UsbenchError


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUNS...")
@click.option(
    "--track",
    required=True,
    metavar="TRACK",
    help="robustness: the test fold with modalities missing, damaged and noisy. external: other data.",
)
@some_options("task", "task_dir", "data_dir", "data", "scanner")
@click.option(
    "--labels", metavar="A=B,...", help="External: class of the run = class of the data, where names differ."
)
@click.option("--name", help="External: what the data is called (default: its task or folder).")
@click.option("--no-masks", is_flag=True, help="Robustness: keep no masks; such a track cannot be submitted.")
@some_options("device", "plugins", "cache_gb")
@click.option("--overwrite", is_flag=True, help="Compute finished tracks again.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def evaluate(
    runs: tuple[Path, ...],
    track: str,
    task: str | None,
    task_dir: Path | None,
    data_dir: Path | None,
    data: str,
    scanner: int | str,
    labels: str | None,
    name: str | None,
    no_masks: bool,
    device: str,
    plugins: tuple[Path, ...],
    cache_gb: float | str,
    overwrite: bool,
    dry_run: bool,
) -> None:
    """Test the trained networks of finished runs on a track; what was stopped goes on.

    RUNS are run folders, or folders that hold them. The data of the runs is found as usbench run finds it; a
    folder of your own is named again. usbench leaderboard shows tracks in tables of their own.
    """
    from usbench.contracts.request import Request
    from usbench.tracks.data import Where
    from usbench.tracks.evaluate import evaluate_runs, planned
    from usbench.tracks.external import parse_labels

    given: dict[str, Any] = {"data": data, "scanner": scanner, "cache_gb": cache_gb}
    asked = Request(
        task=task,
        task_dir=task_dir,
        data_dir=data_dir,
        device=device,
        plugins=plugins,
        **given,
    )
    where = Where(asked.task, asked.task_dir, asked.data_dir, asked.data, asked.scanner, asked.plugins)
    if dry_run:
        for line in planned(runs, track, masks=not no_masks, overwrite=overwrite):
            echo(line)
        return
    done = evaluate_runs(
        runs,
        track,
        where,
        labels=parse_labels(labels),
        name=name,
        masks=not no_masks,
        device=asked.device,
        cache_gb=asked.cache_gb,
        overwrite=overwrite,
    )
    for one in done.tracks:
        cell, scores = one.data["cell"], one.data["scores"]
        first = {"robustness": ("clean", "emm_avg", "rmm_avg", "nm_gaussian", "nm_pepper")}.get(
            track, ("dsc",)
        )
        words = ", ".join(f"{key} {_number(scores.get(key))}" for key in first)
        echo(f"{cell['method']}, {cell['fusion']}, fold {cell['fold']}, seed {cell['seed']}: {words}")
        echo(f"  {one.path}/cases.csv, figure.png")
    if done.problems:
        for problem in done.problems[1:]:
            echo(problem, err=True)
        more = f" (and {len(done.problems) - 1} more, above)" if len(done.problems) > 1 else ""
        raise UsbenchError(f"{done.problems[0]}{more}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
