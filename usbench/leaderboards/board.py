"""The leaderboard of a folder of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.errors import UsbenchError, unknown
from usbench.leaderboards.flat import frame, html_of
from usbench.leaderboards.learning import Learning, learning_curves
from usbench.leaderboards.overall import Overall, across_tasks
from usbench.leaderboards.reported import Reported, beside_reported
from usbench.leaderboards.table import Table, make_tables
from usbench.results.usable import LeftOut, collect

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
        reported: Published scores, each beside a row of ours where there is one.
        claims: Of submissions that are not verified, never part of a table; None without submissions.
        curves: Learning curves, where there are tables of few training patients.
    """

    tables: tuple[Table, ...]
    problems: list[LeftOut]
    overall: tuple[Overall, ...] = ()
    reported: tuple[Reported, ...] = ()
    claims: tuple[Claim, ...] | None = None
    curves: tuple[Learning, ...] = ()

    def to_frame(self) -> DataFrame:
        """Every row of every table as a data frame.

        Returns:
            The columns of leaderboard.csv, see `docs/leaderboard.md`: `table` names the table of a row; NaN
            stands for what is undefined or was not recorded.
        """
        return frame(self.tables, self.claims is not None)

    def __repr__(self) -> str:
        rows = sum(len(table.rows) for table in self.tables)
        return f"<Leaderboard: {len(self.tables)} tables, {rows} rows, {len(self.problems)} runs left out>"

    def _repr_html_(self) -> str:
        """The tables, short, for a notebook."""
        return html_of(self.tables)


def build(
    runs_dir: str | Path = "runs",
    task: str | None = None,
    submissions: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
) -> Leaderboard:
    """Read every finished run in a folder and rank them, one table for each comparable group.

    Results that cannot be trusted (edited, half-written, of another schema, not of usbench) are left out and
    listed in `problems`. What the statistics are stands in docs/leaderboard.md.

    Args:
        runs_dir: The folder of the runs.
        task: Only the tables of this task; None for all.
        submissions: A folder of archives of `usbench submit`; those that `usbench verify --record` has
            verified are rows beside the runs, others are listed in `claims`.
        plugins: Python files whose tasks say under which name published tables list them.

    Raises:
        UsbenchError: Where no result is left, for a task without a run, and for a folder of submissions that
            is not there.
    """
    runs_dir = Path(runs_dir)
    command = f"usbench run --method unet --fusion late --task {task or 'chaos'} --runs-dir {runs_dir}"
    remedy = f"make one with: {command}"
    runs, problems = collect(runs_dir)
    claims: tuple[Claim, ...] | None = None
    if submissions is not None:
        from usbench.leaderboards.submitted import collect_submissions

        verified, found = collect_submissions(Path(submissions))
        runs += verified
        claims = tuple(claim for claim in found if task in (None, claim.task, ""))
    if not runs and not claims:
        why = (
            f"none of {len(problems)} can be used, the first: {problems[0]}" if problems else "there is none"
        )
        raise UsbenchError(f"{runs_dir}: no finished run, {why}; {remedy}")
    names = {run.data["cell"]["task"] for run in runs}
    if task is not None and task not in names and not any(claim.task == task for claim in claims or ()):
        raise unknown("task of the runs", task, names, f"{runs_dir} has {', '.join(sorted(names))}; {remedy}")
    tables = make_tables([run for run in runs if task in (None, run.data["cell"]["task"])])
    curves = learning_curves(tables)
    return Leaderboard(
        tables, problems, across_tasks(tables), beside_reported(tables, plugins), claims, curves
    )
