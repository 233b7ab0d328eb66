"""What the text formats show: every section of a leaderboard as one table of words, with its notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from usbench.contracts.score import Score
from usbench.leaderboards.board import Leaderboard
from usbench.leaderboards.columns import best_and_second
from usbench.leaderboards.flat import seeds
from usbench.leaderboards.learning import LEARNING_NOTE, Learning
from usbench.leaderboards.overall import Overall
from usbench.leaderboards.rows import Row
from usbench.leaderboards.standing_text import (
    best,
    difference_texts,
    fusion_text,
    ranks,
    standing,
    standing_notes,
    unranked,
)
from usbench.leaderboards.stats.over_tasks import RESAMPLES
from usbench.leaderboards.submitted import Claim
from usbench.leaderboards.table import Table
from usbench.leaderboards.words import BEST, SECOND, TextTable, between, millions, number, p_value
from usbench.results.usable import TRUTH
from usbench.scores.registry import all_scores, beside_dsc


def text_tables(board: Leaderboard) -> list[TextTable]:
    """The sections of a leaderboard: each table with its effects of fusion, and what is across tasks."""
    found = []
    for table in board.tables:
        found.append(_score_text(table, board.empty))
        found += difference_texts(table, board.with_pairs)
        if table.fusion_effects:
            found.append(fusion_text(table.title, table.fusion_effects, table.tests))
    found += [_curve_text(group) for group in board.curves]
    found += [_overall_text(group) for group in board.overall]
    if board.claims:
        found.append(_claims_text(board.claims))
    return found


def _dsc(row: Row) -> str:
    low, high = row.interval or (None, None)
    return between(number(row.scores["dsc"], 3), number(low, 3), number(high, 3))


_DSC = "DSC [95% CI]"

Cells = dict[str, Callable[[Row], str]]
"""Columns by their heads: what stands in the cell of a row."""

_BEFORE_SCORES: Cells = {
    "rank": lambda row: str(row.rank) if row.rank else row.status.partition(":")[0],
    "standing": standing,
    "may be best": best,
    "method": lambda row: row.label + (f" (verified {row.entry.verified})" if row.entry else ""),
    "fusion": lambda row: row.fusion,
    _DSC: _dsc,
    "p": lambda row: p_value(row.p_leader),
    "ranks": ranks,
    "seed SD": lambda row: number(row.seed_sd, 3),
}


def _parameters(row: Row) -> str:
    known = row.parameters is not None or row.trainable is not None
    return f"{millions(row.parameters)} ({millions(row.trainable)})" if known else "-"


def _false(row: Row) -> str:
    """How many patients have a class predicted that the truth does not have, of how many, and how much."""
    if not row.empty_cases:
        return "-"
    volume = row.scores.get("false_ml")
    return f"{row.false_cases}/{row.empty_cases}" + ("" if volume is None else f" ({volume:.2f} ml)")


_AFTER_SCORES: Cells = {
    "HD95 found": lambda row: number(row.hd95_found, 2) if row.hd95_penalised else "-",
    "HD95 penalised": lambda row: str(row.hd95_penalised) if row.hd95_penalised else "-",
    "false on empty": _false,
    "parameters (trained)": _parameters,
    "frozen": lambda row: millions(row.frozen_elsewhere) if row.frozen_elsewhere else "-",
    "GFLOPs": lambda row: number(row.gflops, 2),
    "ms/slice": lambda row: number(row.ms_per_slice, 1),
    "MB": lambda row: number(row.memory_mb, 0),
    "train s": lambda row: number(row.train_seconds, 0),
    "cases": lambda row: str(row.cases),
    "folds": lambda row: f"{row.folds_done}/{row.folds}",
    "seeds": seeds,
    "weights": lambda row: row.weights,
    "data": lambda row: row.data,
}

# Columns that a narrow terminal drops before scores, and after them; the label names the weights, and the
# title the data.
_DROPPED_FIRST = (
    "data", "weights", "frozen", "MB", "train s", "seeds", "GFLOPs", "seed SD", "ranks", "HD95 penalised",
    "HD95 found", "false on empty", "ms/slice", "parameters (trained)", "folds",
)  # fmt: skip
_DROPPED_LAST = ("p", "cases", "may be best", "standing")
# Columns of a printed page before and after scores.
_PRINTED_BEFORE = ("rank", "standing", "method", "fusion", _DSC, "p")
_PRINTED_AFTER = ("parameters (trained)", "ms/slice")


def _score_cell(score: Score) -> Callable[[Row], str]:
    return lambda row: number(row.scores[score.mean_name], score.digits)


def _score_text(table: Table, empty: str) -> TextTable:
    scores = {score.mean_heading: _score_cell(score) for score in beside_dsc()}
    cells = {**_BEFORE_SCORES, **scores, **_AFTER_SCORES}
    rows = [{name: cell(row) for name, cell in cells.items()} for row in table.rows]
    return TextTable(
        title=table.title,
        facts=table.facts,
        columns=tuple(name for name in cells if any(row[name] != "-" for row in rows)),
        words=("method", "fusion", "weights", "data"),
        rows=rows,
        notes=table_notes(table, empty),
        dispensable=(*_DROPPED_FIRST, *reversed(scores), *_DROPPED_LAST),
        printed=(*_PRINTED_BEFORE, *scores, *_PRINTED_AFTER),
        marks=_marks(table),
        unranked=unranked(table.rows),
    )


def _score_notes(rows: Sequence[Row], empty: str) -> list[str]:
    """What is said of empty masks in scores and distances."""
    notes = []
    if any(row.empty_cases for row in rows):
        rule = (
            "is scored for no row" if empty == TRUTH else "scores 1 where it is not predicted either, else 0"
        )
        notes.append(
            f"A class that the truth does not have {rule}; false on empty: patients in whom it was "
            "predicted, of those without it, and its mean volume in them."
        )
    if any(row.hd95_penalised for row in rows):
        notes.append(
            "HD95 penalised: patients whose HD95 counts the diagonal of the volume, since nothing of a class "
            "was predicted; HD95 found: the mean where both masks hold something."
        )
    return notes


def table_notes(table: Table, empty: str) -> list[str]:
    """What stands below a table, a sentence or two each.

    Args:
        table: Clean.
        empty: One of `usbench.results.usable.EMPTY`.
    """
    notes = [*table.notes, *standing_notes(table.rows, table.tests, table.split_half, table.schemes)]
    notes += _score_notes(table.rows, empty)
    if any(row.frozen_elsewhere for row in table.rows):
        notes.append("Parameters leave out frozen parts that made features; those are counted as frozen.")
    if any(row.entry for row in table.rows):
        notes.append(
            "Verified: a submission whose masks were all scored anew on that day, with those scores; its "
            "times and memory are the submitters' own account, and so are its parameters unless usbench "
            "could build the network. Such costs are shown and not compared."
        )
    if devices := sorted({row.device for row in table.rows if row.device}):
        notes.append(f"Costs were measured on: {'; '.join(devices)}.")
    return notes


def _marks(table: Table) -> dict[tuple[int, str], str]:
    """The best and second best ranked rows of each column of scores, equal as printed.

    None where so few patients separate nothing: bold would claim what cannot be shown.
    """
    if not table.tests.testable:
        return {}
    columns = {(_DSC if s.name == "dsc" else s.mean_heading): s for s in all_scores() if s.in_leaderboard}
    marks = {}
    for column, score in columns.items():
        for mark, places in zip((BEST, SECOND), best_and_second(table.rows, score), strict=True):
            marks.update({(place, column): mark for place in places})
    return marks


def _curve_text(group: Learning) -> TextTable:
    rows = [
        {
            "method": curve.label,
            "fusion": curve.fusion,
            "trained on": point.trained_on,
            "patients": str(point.most) if point.least == point.most else f"{point.least}-{point.most}",
            _DSC: between(number(point.dsc, 3), number(point.low, 3), number(point.high, 3)),
            "cases": str(point.cases),
            "folds": f"{point.folds_done}/{point.folds}",
        }
        for curve in group.curves
        for point in curve.points
    ]
    return TextTable(
        title=f"Learning curves: {group.title}",
        facts="the rows of tables that differ in the part of the training patients alone",
        columns=tuple(rows[0]),
        words=("method", "fusion", "trained on"),
        rows=rows,
        notes=[LEARNING_NOTE],
        dispensable=("folds", "cases"),
    )


def _overall_text(group: Overall) -> TextTable:
    title = f"Over all tasks ({group.kind} data, preset {group.preset}, size {group.size})"
    if not group.rows:
        return TextTable(title, f"{title}: {'; '.join(group.open)}.", (), (), [], [])
    rows = [
        {
            "rank": str(row.rank),
            "method": row.label,
            "fusion": row.fusion,
            "mean rank [95% CI]": between(
                f"{row.mean_rank:.2f}", number(row.rank_low, 2), number(row.rank_high, 2)
            ),
            "mean DSC [95% CI]": between(
                f"{row.mean_dsc:.3f}", number(row.dsc_low, 3), number(row.dsc_high, 3)
            ),
            **{f"{task}: rank (DSC)": f"{row.ranks[task]:g} ({row.dsc[task]:.3f})" for task in group.tasks},
        }
        for row in group.rows
    ]
    notes = ["Mean over tasks of the rank among the rows that are complete on all of them; tables: "
             f"{'; '.join(group.tables)}."]  # fmt: skip
    notes.append(
        f"Intervals: patients drawn again within each task ({RESAMPLES} times), the tasks are these; so few "
        "tasks support no claim about others."
    )
    notes += [f"Not counted: {one}." for one in group.open]
    if group.left_out:
        notes.append(f"Not complete on all: {'; '.join(group.left_out)}.")
    return TextTable(
        title=title,
        facts=f"tasks {', '.join(group.tasks)}",
        columns=tuple(rows[0]),
        words=("method", "fusion"),
        rows=rows,
        notes=notes,
        dispensable=tuple(f"{task}: rank (DSC)" for task in reversed(group.tasks)),
    )


def _claims_text(claims: Sequence[Claim]) -> TextTable:
    rows = [
        {
            "entry": claim.entry,
            "task": claim.task + (f" ({claim.data})" if claim.data not in ("", "real") else "") or "-",
            "method": claim.method or "-",
            "fusion": claim.fusion or "-",
            "claimed DSC": number(claim.claimed_dsc, 3),
            "cases": "-" if claim.claimed_cases is None else str(claim.claimed_cases),
            "why not": claim.reason,
        }
        for claim in claims
    ]
    return TextTable(
        title="Reported, not verified",
        facts="submissions whose masks nobody has scored anew here; never part of a ranking",
        columns=tuple(rows[0]),
        words=("entry", "task", "method", "fusion", "why not"),
        rows=rows,
        notes=["What is claimed is the submitters' own account; usbench verify --record checks it."],
        dispensable=("cases",),
    )
