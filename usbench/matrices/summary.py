"""What `usbench matrix` prints: the list of a dry run, and what became of the cells."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from usbench.matrices.failures import NAME, Failures
from usbench.results.network_file import is_outside, network_state
from usbench.results.running import running
from usbench.runs.disk import dry_run_line, network_line, size_words
from usbench.runtime.console import count, duration

if TYPE_CHECKING:
    from usbench.matrices.failures import Table
    from usbench.matrices.plan import PlannedCell
    from usbench.matrices.start import Matrix


def summary(matrix: Matrix) -> str:
    """How many cells were computed, were there and failed, why, and what to do next."""
    failed = matrix.failed
    counts = [f"{matrix.computed} computed", f"{matrix.before} finished before"]
    if elsewhere := len(matrix.results) - matrix.computed - matrix.before:
        counts.append(f"{elsewhere} computed by another process")
    counts.append(f"{len(failed) - len(matrix.lost)} failed")
    lines = [f"not applicable: {one}" for one in matrix.not_applicable]
    lines += [f"failed: {name}: {reason}" for name, reason in failed.items()]
    lines.append(f"{count(matrix.cells, 'cell')}: {', '.join(counts)}")
    if matrix.evaluated or matrix.lost:
        lines.append(f"tracks: {matrix.evaluated} computed, {len(matrix.lost)} failed")
    lines += _without_network(matrix)
    if failed:
        lines.append(
            f"reasons: {matrix.runs_dir / NAME}; the same command computes what is missing, and nothing twice"
        )
    if matrix.results:
        lines.append(f"usbench leaderboard --runs-dir {shlex.quote(str(matrix.runs_dir))}")
    return "\n".join(lines)


def listing(matrix: Matrix) -> str:
    """The cells of a dry run, a row each, with what finished cells say of the time and size of the others."""
    from tabulate import tabulate

    known = Failures(matrix.runs_dir).read()
    # Where nobody asked for a part of the training patients, nothing is said of it.
    parted = any(planned.few for planned in matrix.cells)
    rows = []
    for planned in matrix.cells:
        plan, measured = planned.plan, matrix.measured.get(planned)
        size = _size(planned, matrix)
        cost = [duration(measured.seconds), size_words(size)] if measured else ["unknown"] * 2
        rows.append(
            [
                plan.task.name,
                plan.method.name,
                plan.fusion,
                *([planned.few or "all"] if parted else []),
                planned.fold,
                planned.seed,
                *(cost if planned.result is None else ["", ""]),
                _state(planned, matrix, known),
            ]
        )
    part = ["train on"] if parted else []
    headers = ["task", "method", "fusion", *part, "fold", "seed", "time", "disk", "state"]
    widths = [*[None] * (len(headers) - 1), 60]
    lines: list[str] = [tabulate(rows, headers, disable_numparse=True, maxcolwidths=widths)]
    lines += [f"not applicable: {one}" for one in matrix.not_applicable]
    lines += [f"failed: {name}: {reason}" for name, reason in matrix.broken.items()]
    todo = [planned for planned in matrix.cells if planned.result is None]
    done = len(matrix.cells) - len(todo)
    now = sum(planned.folder is not None and running(planned.folder) is not None for planned in todo)
    counts = [f"{done} done", *([f"{now} running"] if now else []), f"{len(todo) - now} to do"]
    lines.append(f"{count(matrix.cells, 'cell')}: {', '.join(counts)}{_total(matrix, todo)}")
    lines += matrix.features
    lines += _networks(matrix)
    lines.append(dry_run_line(planned.plan for planned in matrix.cells))
    return "\n".join(lines)


def _size(planned: PlannedCell, matrix: Matrix) -> float:
    """The bytes of a cell by finished cells, with its network where that is kept."""
    measured = matrix.measured.get(planned)
    return (measured.bytes if measured else 0) + matrix.networks.get(planned, 0)


def _networks(matrix: Matrix) -> list[str]:
    """What a dry run says of networks: those that will be kept, and finished cells that have none."""
    line = network_line(list(matrix.networks.values()), matrix.runs_dir, matrix.unknown)
    return [*([line] if line else []), *_without_network(matrix)]


def _without_network(matrix: Matrix) -> list[str]:
    """One line on all finished cells that have no network though networks are kept."""
    results = [result for result in matrix.results if not is_outside(result)]
    states = [network_state(result) for result in results] if matrix.keep else []
    count, removed = sum(state != "kept" for state in states), states.count("removed")
    if not count:
        return []
    since = f" ({removed} removed since)" if removed else ""
    return [
        f"{count} of the finished cells ha{'s' if count == 1 else 've'} no network{since}; "
        "usbench run --overwrite computes one again and keeps it"
    ]


def _state(planned: PlannedCell, matrix: Matrix, known: Table) -> str:
    if planned.reason:
        return f"failed: {planned.reason}"
    if planned.result is not None:
        return "done"
    if planned.folder is None:
        return "to do (what is finished shows when its data is prepared)"
    if (now := running(planned.folder)) is not None:
        left = None if now.progress is None else now.progress.seconds_left()
        # Whatever was written down of it before.
        return f"running: {now}" + ("" if left is None else f", about {duration(left)} left")
    row = known.get(planned.folder.relative_to(matrix.runs_dir).as_posix())
    return f"to do, failed before: {row['reason']}" if row else "to do"


def _total(matrix: Matrix, todo: list[PlannedCell]) -> str:
    if not todo:
        return ""
    found = [measured for planned in todo if (measured := matrix.measured.get(planned))]
    if not found:
        return "; time and disk are unknown, no cell of the same settings is finished here"
    seconds = sum(one.seconds for one in found)
    size = sum(_size(planned, matrix) for planned in todo if planned in matrix.measured)
    at_once = min(matrix.workers, len(todo))
    text = f"about {duration(seconds / at_once)}"
    text += f" with {at_once} at once ({duration(seconds)} in all)" if at_once > 1 else ""
    text += f" and {size_words(size)}, by finished cells of the same settings"
    missing = len(todo) - len(found)
    return f"; {text}" + (f"; unknown for {missing} of them" if missing else "")
