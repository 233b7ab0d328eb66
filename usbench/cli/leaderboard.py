"""`usbench leaderboard`; heavy imports wait."""

from __future__ import annotations

from pathlib import Path

import click

from usbench.cli.options import debug_option, plugin_option
from usbench.errors import UsbenchError


@click.command()
@click.option("--runs-dir", default="runs", show_default=True, type=click.Path(path_type=Path))
@click.option("--task", help="Only this task.")
@click.option(
    "--track",
    metavar="NAME",
    help="Only the clean tables (clean), or those of one track: robustness or external.",
)
@click.option(
    "--format", "form", default="table", show_default=True, help="table, md, csv, json, latex or html."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write leaderboard.md, .csv, .json, .tex, .html and a picture of score against cost here; of tracks "
    "leaderboard-robustness.csv, leaderboard-external.csv and robustness.png too.",
)
@click.option("--no-pictures", is_flag=True, help="With --out: no slices of cases in the page.")
@click.option(
    "--keep-results",
    is_flag=True,
    help="With --out: copy result.json and cases.csv of every run there too, and those of its tracks.",
)
@click.option(
    "--check",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Only compute what --out FOLDER --keep-results wrote anew from its results, and compare.",
)
@click.option(
    "--submissions",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Archives of usbench submit: verified ones are ranked, others listed apart.",
)
@click.option(
    "--reported",
    default="auto",
    show_default=True,
    metavar="WHICH",
    help="Published figures beside the rows: fitting (of the tasks and methods of the tables), "
    "all (of the tasks), none; auto is fitting, in one line where the leaderboard is small.",
)
@click.option(
    "--baseline",
    metavar="ROW",
    help="Hold each row against this one, METHOD-FUSION (unet-early) or its whole name.",
)
@click.option(
    "--pairs", is_flag=True, help="Show the difference of every pair of rows, of tables of up to 60."
)
@click.option(
    "--overall-table",
    "overall_tables",
    multiple=True,
    metavar="TABLE",
    help="Title or protocol of the table of a task that counts over all tasks, where it has several.",
)
@click.option(
    "--empty",
    default="truth",
    show_default=True,
    metavar="RULE",
    help="What a class scores that the truth does not have: truth, nothing for any row; brats, 1 where it is "
    "not predicted either and 0 else.",
)
@plugin_option
@debug_option
def leaderboard(
    runs_dir: Path,
    submissions: Path | None,
    task: str | None,
    track: str | None,
    form: str,
    out: Path | None,
    no_pictures: bool,
    keep_results: bool,
    folders: tuple[Path, ...],
    reported: str,
    baseline: str | None,
    pairs: bool,
    overall_tables: tuple[str, ...],
    empty: str,
    plugins: tuple[Path, ...],
) -> None:
    """Rank the finished runs: one table for each task, data and protocol.

    Each row has an interval, a test against the leader and the ranks that it may have; below
    are the effect of fusion, ranks across tasks, and what publications report beside it. What networks do
    without a modality, under noise and on other data (usbench evaluate) has tables of its own below.
    """
    from usbench.leaderboards import check, render, write, write_kept
    from usbench.leaderboards.board import build

    if submissions is not None and (folders or keep_results):
        raise UsbenchError(
            "--submissions does not go with --keep-results or --check, which hold runs of your own alone; "
            "drop one of the two"
        )
    if track is not None and keep_results:
        raise UsbenchError(
            "--track does not go with --keep-results, which keeps all tables; drop one of the two"
        )
    if reported != "auto" and (folders or keep_results):
        raise UsbenchError(
            "--reported does not go with --keep-results or --check, whose tables are the same for everybody; "
            "drop one of the two"
        )
    if (baseline or pairs or overall_tables or empty != "truth") and (folders or keep_results):
        raise UsbenchError(
            "--baseline, --pairs, --overall-table and --empty do not go with --keep-results or --check, "
            "whose tables are the same for everybody; drop one of the two"
        )
    for folder in folders:
        check(folder, plugins)
        click.echo(f"{folder}: every number follows from its results")
    if folders:
        return
    if out is None and (no_pictures or keep_results):
        raise UsbenchError("--no-pictures and --keep-results say what --out writes; add --out FOLDER")
    board = build(
        runs_dir, task, submissions, plugins, track, reported, baseline, pairs, overall_tables, empty
    )
    click.echo(render(board, form))
    if out is not None:
        pictures = not no_pictures
        if keep_results:
            paths = write_kept(board, runs_dir, out, pictures, plugins)
        else:
            paths = write(board, out, pictures)
        for path in paths:
            click.echo(f"written: {path}", err=True)
