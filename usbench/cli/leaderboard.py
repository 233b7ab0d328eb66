"""`usbench leaderboard`; heavy imports wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from usbench.cli.echo import echo
from usbench.cli.options import plugin_option, split_names
from usbench.errors import UsbenchError, reason_of, unknown

if TYPE_CHECKING:
    from usbench.leaderboards.board import Leaderboard
    from usbench.leaderboards.subgroups import SubgroupTable
    from usbench.leaderboards.view import View


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
    "--columns",
    metavar="A,B",
    help="Print these columns alone, one table for each table: dsc,hd95,parameters,... as CSV names them.",
)
@click.option(
    "--spread", metavar="WHICH", help="Beside each mean of a score: sd (over patients), interval or none."
)
@click.option(
    "--layout", metavar="NAME", help="rows (a line each), or methods-by-fusions: a group of columns a fusion."
)
@click.option("--label", metavar="KEY", help="With --format latex: the label of the table.")
@click.option("--caption", metavar="TEXT", help="With --format latex: the caption of the table.")
@click.option(
    "--subgroups",
    metavar="KIND",
    help="Print the DSC of parts of the tables alone: class, group (of patients, see --groups) or size "
    "(of each class, in thirds by volume); with --out also leaderboard-subgroups.png.",
)
@click.option(
    "--groups",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --subgroups group: a task file with groups, or a CSV file with a column case.",
)
@click.option(
    "--under",
    metavar="LIMITS",
    help="Print first which row is the best under these costs: parameters=10M,ms=20 (also gflops, memory, "
    "train).",
)
@click.option(
    "--cost-axis",
    metavar="A,B",
    help="With --out: the costs of the picture, a panel each: parameters, gflops, ms, memory, train.",
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
def leaderboard(
    runs_dir: Path,
    submissions: Path | None,
    task: str | None,
    track: str | None,
    form: str,
    columns: str | None,
    spread: str | None,
    layout: str | None,
    label: str | None,
    caption: str | None,
    subgroups: str | None,
    groups: Path | None,
    under: str | None,
    cost_axis: str | None,
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
    from usbench.leaderboards import FORMATS, check, render, write, write_kept
    from usbench.leaderboards.board import build
    from usbench.leaderboards.cost_plot import USUAL
    from usbench.leaderboards.costs import cost_axis as axis
    from usbench.leaderboards.costs import parse_limits
    from usbench.leaderboards.formats import render_subgroups, write_subgroups

    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    _check_kept(bool(folders), keep_results, submissions, track, reported)
    if (baseline or pairs or overall_tables or empty != "truth") and (folders or keep_results):
        raise UsbenchError(
            "--baseline, --pairs, --overall-table and --empty do not go with --keep-results or --check, "
            "whose tables are the same for everybody; drop one of the two"
        )
    if folders:
        _check_each(folders, check, plugins)
        return
    if out is None and (no_pictures or keep_results or cost_axis):
        raise UsbenchError(
            "--no-pictures, --keep-results and --cost-axis say what --out writes; add --out FOLDER"
        )
    axes = [axis(name).name for name in split_names(cost_axis) or USUAL]
    limits = None if under is None else parse_limits(under)
    if subgroups is not None and (columns or spread or layout or label or caption or under):
        raise UsbenchError(
            "--subgroups prints tables of its own, without --columns, --spread, --layout, --label, "
            "--caption and --under; drop one of the two"
        )
    view = _view(columns, spread, layout, label, caption)
    if view is not None:
        view.checked(form)
    board = build(
        runs_dir, task, submissions, plugins, track, reported, baseline, pairs, overall_tables, empty
    )
    parts = _parts(board, subgroups, groups)
    if parts is None:
        echo(render(board, form, view, limits))
    else:
        echo(render_subgroups(parts, board, form))
    if out is not None:
        pictures = not no_pictures
        if keep_results:
            paths = write_kept(board, runs_dir, out, pictures, plugins, axes)
        else:
            paths = write(board, out, pictures, axes)
        if parts is not None:
            paths += write_subgroups(parts, board, out)
        for path in paths:
            echo(f"written: {path}", err=True)


def _check_each(
    folders: tuple[Path, ...], check: Callable[[Path, tuple[Path, ...]], None], plugins: tuple[Path, ...]
) -> None:
    """Check kept tables, each folder of them, whatever is wrong with another.

    Raises:
        UsbenchError: At the end, where one did not pass.
    """
    reasons = []
    for folder in folders:
        try:
            check(folder, plugins)
        except Exception as error:
            reasons.append(reason_of(error, folder))
            continue
        echo(f"{folder}: every number follows from its results")
    if len(reasons) == 1:
        raise UsbenchError(reasons[0])
    if reasons:
        for reason in reasons:
            echo(reason, err=True)
        raise UsbenchError(f"{len(reasons)} of {len(folders)} do not pass; the first: {reasons[0]}")


def _check_kept(
    checking: bool, keep_results: bool, submissions: Path | None, track: str | None, reported: str
) -> None:
    """Refuse what does not go with results that are kept, or checked against their tables."""
    if submissions is not None and (checking or keep_results):
        raise UsbenchError(
            "--submissions does not go with --keep-results or --check, which hold runs of your own alone; "
            "drop one of the two"
        )
    if track is not None and keep_results:
        raise UsbenchError(
            "--track does not go with --keep-results, which keeps all tables; drop one of the two"
        )
    if reported != "auto" and (checking or keep_results):
        raise UsbenchError(
            "--reported does not go with --keep-results or --check, whose tables are the same for everybody; "
            "drop one of the two"
        )


def _parts(
    board: Leaderboard, subgroups: str | None, groups: Path | None
) -> tuple[SubgroupTable, ...] | None:
    """The subgroups that the options ask for; None where none are."""
    from usbench.leaderboards.subgroups import subgroup_tables

    if subgroups is None:
        if groups is not None:
            raise UsbenchError(f"--groups {groups}: goes with --subgroups group; add it")
        return None
    return subgroup_tables(board.tables, subgroups, groups)


def _view(
    columns: str | None, spread: str | None, layout: str | None, label: str | None, caption: str | None
) -> View | None:
    """What the options ask of the printed tables; None where none of them is given."""
    from usbench.leaderboards.view import View

    if (columns, spread, layout, label, caption) == (None,) * 5:
        return None
    names = split_names(columns)
    if columns is not None and not names:
        raise UsbenchError("--columns: names no column; write for example --columns dsc,hd95")
    return View(tuple(names or ()), spread or "none", layout or "rows", label or "", caption or "")
