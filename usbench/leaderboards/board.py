"""The leaderboard of a folder of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.errors import UsbenchError, unknown
from usbench.leaderboards.compare import check_baseline
from usbench.leaderboards.flat import frame, html_of
from usbench.leaderboards.learning import Learning, learning_curves
from usbench.leaderboards.overall import Overall, across_tasks
from usbench.leaderboards.reported import AUTO, CHOICES, Reported, beside_reported, is_small
from usbench.leaderboards.table import Table, make_tables
from usbench.leaderboards.tracks import TrackTable, by_truth, collect_tracks, track_tables
from usbench.results.tracks import FOLDER
from usbench.results.usable import EMPTY, TRUTH, LeftOut, collect
from usbench.runtime.console import count

if TYPE_CHECKING:
    from pandas import DataFrame

    from usbench.leaderboards.submitted import Claim


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """The tables, the runs that were left out of them, and what is said across tables.

    Attributes:
        tables: One for each group of comparable runs.
        problems: Runs that were left out, with the reason.
        overall: Ranks over all tasks, where several tasks were run alike.
        reported: What publications report on the same tasks, beside our rows.
        shortened: Whether formats of text say in one line that there are such figures.
        claims: Of submissions that are not verified, never part of a table; None without submissions.
        tracks: Tables of what networks do where modalities are missing or noisy, and on other data; never
            mixed with the others.
        curves: Learning curves, where there are tables of few training patients.
        with_pairs: Whether every pair of rows is printed and written.
        empty: Who decides what a class scores that the truth does not have, one of
            `usbench.results.usable.EMPTY`.
    """

    tables: tuple[Table, ...]
    problems: list[LeftOut]
    overall: tuple[Overall, ...] = ()
    reported: tuple[Reported, ...] = ()
    shortened: bool = False
    claims: tuple[Claim, ...] | None = None
    tracks: tuple[TrackTable, ...] = ()
    curves: tuple[Learning, ...] = ()
    with_pairs: bool = False
    empty: str = TRUTH

    def to_frame(self) -> DataFrame:
        """Every row of every table as a data frame.

        Returns:
            The columns of leaderboard.csv, see `docs/leaderboard.md`: `table` names the table of a row; NaN
            stands for what is undefined or was not recorded.
        """
        return frame(self.tables, self.claims is not None)

    def __repr__(self) -> str:
        rows = sum(len(table.rows) for table in self.tables)
        tracks = f"{count(self.tracks, 'table')} of tracks, " if self.tracks else ""
        left_out = f"{count(self.problems, 'run')} left out"
        return f"<Leaderboard: {count(self.tables, 'table')}, {count(rows, 'row')}, {tracks}{left_out}>"

    def _repr_html_(self) -> str:
        """The tables, short, for a notebook."""
        return html_of(self.tables)


TRACKS = ("clean", "robustness", "external")


def build(
    runs_dir: str | Path = "runs",
    task: str | None = None,
    submissions: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    track: str | None = None,
    reported: str = AUTO,
    baseline: str | None = None,
    pairs: bool = False,
    overall_tables: Sequence[str] = (),
    empty: str = TRUTH,
) -> Leaderboard:
    """Read every finished run in a folder and rank them, one table for each comparable group.

    Results that cannot be trusted (edited, half-written, of another schema, not of usbench) are left out and
    listed in `problems`, and so are tracks. What the statistics are stands in docs/leaderboard.md.

    Args:
        runs_dir: The folder of the runs.
        task: Only the tables of this task; None for all.
        submissions: A folder of archives of `usbench submit`; those that `usbench verify --record` has
            verified are rows beside the runs, others are listed in `claims`.
        plugins: Python files whose tasks say under which name publications list them.
        track: Only "clean" tables, or only those of the track "robustness" or "external"; None for all.
        reported: Which published figures stand beside the rows: "fitting", those of the tasks and methods of
            the tables; "all", those of the tasks, whatever the method; "none"; "auto" as "fitting", but in
            formats of text a small leaderboard says in one line that there are any.
        baseline: A row that each other one of its table is held against, as METHOD-FUSION or by its whole
            name.
        pairs: Whether every pair of rows of tables of up to 60 is printed and written.
        overall_tables: Titles or protocols of tables that count over all tasks where a task has several.
        empty: What a class scores that the truth does not have: "truth", nothing, for any row; "brats", 1
            where it is not predicted either and 0 else.

    Raises:
        UsbenchError: Where no result is left, for a task or track without a run, for a folder of
            submissions or a baseline that is not there, and for another choice of `reported` or `empty`.
    """
    runs_dir = Path(runs_dir)
    if empty not in EMPTY:
        raise unknown("rule for empty masks", empty, EMPTY)
    if track not in (None, *TRACKS):
        raise unknown("track", str(track), TRACKS)
    if reported not in CHOICES:
        raise unknown("choice of reported figures", str(reported), CHOICES)
    command = f"usbench run --method unet --fusion late --task {task or 'chaos'} --runs-dir {runs_dir}"
    remedy = f"make one with: {command}"
    runs, problems = collect(runs_dir, empty)
    tracks, left_out = collect_tracks(runs, runs_dir)
    claims: tuple[Claim, ...] | None = None
    if submissions is not None:
        from usbench.leaderboards.submitted import collect_submissions

        verified, submitted, found = collect_submissions(Path(submissions), empty)
        runs, tracks = [*runs, *verified], [*tracks, *submitted]
        claims = tuple(claim for claim in found if task in (None, claim.task, ""))
    if not runs and not claims:
        why = (
            f"none of {len(problems)} can be used, the first: {problems[0]}" if problems else "there is none"
        )
        raise UsbenchError(f"{runs_dir}: no finished run, {why}; {remedy}")
    names = {run.data["cell"]["task"] for run in runs}
    if task is not None and task not in names and not any(claim.task == task for claim in claims or ()):
        raise unknown("task of the runs", task, names, f"{runs_dir} has {', '.join(sorted(names))}; {remedy}")
    tables = make_tables([run for run in runs if task in (None, run.data["cell"]["task"])], baseline)
    counted = [one for one in tracks if task in (None, one.run.data["cell"]["task"])]
    tested, twice = track_tables(by_truth(counted, empty), baseline)
    ranked = [row for table in tables for row in table.ranked]
    ranked += [row.standing for table in tested for row in table.rows if row.standing.rank is not None]
    check_baseline([name for row in ranked for name in (row.short_name, row.name)], baseline)
    beside = () if reported == "none" else beside_reported(tables, plugins, reported == "all")
    board = Leaderboard(
        tables,
        [*problems, *left_out, *twice],
        across_tasks(tables, overall_tables),
        beside,
        bool(beside) and reported == AUTO and is_small(tables, beside),
        claims,
        tested,
        learning_curves(tables),
        pairs,
        empty,
    )
    return board if track is None else _only(board, track, runs_dir)


def _only(board: Leaderboard, track: str, runs_dir: Path) -> Leaderboard:
    """The clean tables alone, or the tables of one track."""
    if track == "clean":
        return replace(board, tracks=())
    tables = tuple(table for table in board.tracks if table.track == track)
    if not tables:
        lost = [one for one in board.problems if one.path.parent.name == FOLDER]
        why = f", and {len(lost)} track{'s' * (len(lost) > 1)} left out, the first: {lost[0]}" if lost else ""
        raise UsbenchError(
            f"{runs_dir}: no finished {track} track{why}; make one with: "
            f"usbench evaluate {runs_dir} --track {track}"
        )
    return replace(board, tables=(), overall=(), reported=(), claims=None, tracks=tables, curves=())
