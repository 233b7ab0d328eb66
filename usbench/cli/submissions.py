"""`usbench submit` and `usbench verify`; heavy imports wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usbench.cli.echo import echo
from usbench.cli.options import data_dir_option, plugin_option
from usbench.errors import UsbenchError, reason_of

if TYPE_CHECKING:
    from usbench.submissions.record import Verification


@contextmanager
def listed_problems(outcome: str) -> Iterator[None]:
    """Where several things are missing, a line for each of them, and then the outcome as the error.

    Args:
        outcome: What did not happen, such as "FILE.zip: not written".
    """
    from usbench.submissions.pack import Incomplete

    try:
        yield
    except Incomplete as error:
        if len(error.reasons) == 1:
            raise
        for reason in error.reasons:
            echo(reason, err=True)
        raise UsbenchError(f"{outcome}, {len(error.reasons)} problems, listed above") from error


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="RUNS...")
@click.option(
    "--card", type=click.Path(path_type=Path), metavar="CARD.yaml", help="The method card, filled in."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.zip", help="The archive to write.")
@click.option(
    "--template",
    type=click.Path(path_type=Path),
    metavar="CARD.yaml",
    help="Only write a card to fill in, with what RUNS know of it.",
)
@click.option(
    "--tracks",
    default="",
    metavar="NAMES",
    help="Tracks of the runs to bring too: robustness, external, or both with a comma.",
)
def submit(
    runs: tuple[Path, ...], card: Path | None, out: Path | None, template: Path | None, tracks: str
) -> None:
    """Pack finished runs for the leaderboard: scores, masks, the method card; no code, weights or images.

    RUNS are run folders, or folders that hold them. Everything that is missing is listed at once.
    """
    from usbench.submissions.pack import results_of
    from usbench.submissions.pack import submit as pack
    from usbench.submissions.tracks import asked_tracks

    asked = asked_tracks(tracks)
    if template is not None:
        from usbench.submissions.card import write_template

        if card is not None or out is not None:
            raise UsbenchError("--template only writes a card; drop --card and --out")
        write_template(template, results_of(runs))
        echo(f"written: {template}; fill it in, then: usbench submit RUNS... --card {template}")
        return
    if not runs or card is None or out is None:
        raise UsbenchError(
            "name the runs, --card and --out: usbench submit RUNS... --card CARD.yaml --out FILE.zip"
        )
    with listed_problems(f"{out}: not written"):
        path = pack(runs, card, out, asked)
    echo(f"written: {path} ({path.stat().st_size:,} bytes); check it with: usbench verify {path}")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE.zip...")
@data_dir_option
@click.option(
    "--task-dir",
    "task_dirs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder in MSD layout or a task file, for a task that is not built in; may be repeated.",
)
@click.option(
    "--external-data",
    "external",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder or task file of the data of external tracks, which else stay claims; may be repeated.",
)
@plugin_option
@click.option(
    "--runs-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Runs of your own: says where a submission has the very masks of one of them.",
)
@click.option("--record", is_flag=True, help="Write FILE.verified.json beside each archive that passes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(
    files: tuple[Path, ...],
    data_dir: Path | None,
    task_dirs: tuple[Path, ...],
    external: tuple[Path, ...],
    plugins: tuple[Path, ...],
    runs_dir: Path | None,
    record: bool,
    as_json: bool,
) -> None:
    """Check submissions, and score every mask in them anew from the reference masks.

    Nothing of a submission is executed. Exit code 1 where one is refused, with the first reason.
    """
    import json

    from usbench.submissions.verify import verify as check
    from usbench.submissions.verify import write_record

    reports = []
    reasons = []
    trainings: list[Any] = []
    for file in files:
        try:
            found = check(file, data_dir, task_dirs, plugins, external, runs_dir, trainings)
        except Exception as error:
            reason = reason_of(error, file)
            reasons.append(reason)
            reports.append({"path": str(file), "verified": False, "reason": reason})
            continue
        trainings += found.trainings
        reports.append({"verified": True, **found.as_dict()})
        if not as_json:
            echo(
                f"{file}: verified, {found.entry}: {found.predictions} masks of {found.runs} runs scored "
                f"anew, largest difference {found.largest_difference:.1e}; {_costs(found)}"
            )
            if found.tracks:
                echo(f"  {len(found.tracks)} tracks scored anew, their masks are among these")
            for name in found.not_rescored:
                echo(f"  not scored anew, its data is not given (--external-data DIR): {name}")
            for note in found.notes:
                echo(f"  note: {note}")
        if record:
            echo(f"written: {write_record(found)}", err=True)
    if as_json:
        echo(json.dumps(reports, indent=2, ensure_ascii=False))
    if reasons:
        if len(reasons) > 1 and not as_json:
            for reason in reasons:
                echo(reason, err=True)
        raise UsbenchError(
            reasons[0] if len(reasons) == 1 else f"{len(reasons)} refused; the first: {reasons[0]}"
        )


def _costs(found: Verification) -> str:
    """Which costs of a verified submission are usbench's own."""
    counted = bool(found.found) and all(one.costs for one in found.found.values())
    return "parameters counted anew, other costs are claims" if counted else "costs are claims"
