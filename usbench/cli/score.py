"""`usbench score`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.cli.options import some_options
from usbench.cli.submissions import listed_problems


@click.command()
@click.option(
    "--predictions",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder of CASE.nii.gz, or nnU-Net's results with fold_0/validation and so on.",
)
@click.option("--name", required=True, help="What the row is called; no name of a method of usbench.")
@some_options("task", "task_dir", "data_dir", "data", "scanner", "modalities", "merge_labels")
@click.option("--folds", help="all, or numbers such as 0,2 (default: those of which any mask is there).")
@click.option(
    "--card", type=click.Path(path_type=Path), metavar="CARD.yaml", help="Who made the masks and with what."
)
@click.option(
    "--fusion",
    default="early",
    show_default=True,
    help="How modalities were joined: early, hybrid, late.",
)
@click.option(
    "--labels",
    metavar="A=B,...",
    help="Class of the task = its value in the masks (2, 1+2), or its name in their dataset.json.",
)
@some_options("runs_dir", "limit", "plugins")
@click.option("--overwrite", is_flag=True, help="Replace results of this name that are of other masks.")
def score(predictions: Path, labels: str | None, **options: Any) -> None:
    """Score masks that were made elsewhere: they become results, which tables mark so.

    Without --labels and without a dataset.json beside them, masks hold 1 to K in the order of the task's
    classes. A case without a mask gets the scores of an empty one. That no test case was trained on is a
    claim, and the tables say so.
    """
    from usbench.cli.summary import print_results
    from usbench.submissions.elsewhere import score as start
    from usbench.tracks.external import parse_labels

    with listed_problems(f"{predictions}: not scored"):
        results = start(predictions, labels=parse_labels(labels), **options)
    print_results(results)
