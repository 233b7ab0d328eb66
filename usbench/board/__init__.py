"""The leaderboard: finished runs collected, averaged, ranked, compared and printed.

from usbench.board import build, render
print(render(build("runs"), "md"))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from usbench.board.collect import Problem, collect
from usbench.board.kept import check
from usbench.board.overall import across_tasks
from usbench.board.render import FORMATS, render, write, write_kept
from usbench.board.reported import beside_reported
from usbench.board.table import Leaderboard, Row, Table, make_tables
from usbench.errors import UsbenchError, unknown

if TYPE_CHECKING:
    from usbench.board.submitted import Claim

__all__ = [
    "FORMATS",
    "Leaderboard",
    "Problem",
    "Row",
    "Table",
    "build",
    "check",
    "render",
    "write",
    "write_kept",
]


def build(
    runs_dir: str | Path = "runs", task: str | None = None, submissions: str | Path | None = None
) -> Leaderboard:
    """Read every finished run below `runs_dir` and rank them, one table for each comparable group.

    task: only the tables of this task. submissions: a folder of archives of `usbench submit`; those that
    `usbench verify --record` has verified are rows beside the runs, others are listed in `claims`.
    Results that cannot be trusted (edited, half-written, of another schema, not of usbench) are left out
    and listed in `problems`. Raises `UsbenchError` where no result is left. What the statistics are stands
    in docs/leaderboard.md.
    """
    runs_dir = Path(runs_dir)
    command = f"usbench run --method unet --fusion late --task {task or 'chaos'} --runs-dir {runs_dir}"
    remedy = f"make one with: {command}"
    runs, problems = collect(runs_dir)
    claims: tuple[Claim, ...] | None = None
    if submissions is not None:
        from usbench.board.submitted import collect_submissions

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
    return Leaderboard(tables, problems, across_tasks(tables), beside_reported(tables), claims)
