"""What the text formats show: every section of a leaderboard as one table of words, with its notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from usbench.contracts.score import Score
from usbench.leaderboards.board import Leaderboard
from usbench.leaderboards.compare import FUSION_CORRECTION, FusionEffect, Tests, too_few
from usbench.leaderboards.flat import seeds
from usbench.leaderboards.learning import LEARNING_NOTE, Learning
from usbench.leaderboards.overall import Overall
from usbench.leaderboards.rows import Row
from usbench.leaderboards.stats import ALPHA, HALVES, RESAMPLES
from usbench.leaderboards.submitted import Claim
from usbench.leaderboards.table import Table
from usbench.scores.registry import all_scores, beside_dsc

BEST, SECOND = "best", "second"
WRAPPED = ("method", "as printed", "measured here", "weights", "entry", "why not")


@dataclass(frozen=True)
class TextTable:
    """A section of a leaderboard as words.

    Attributes:
        title: Its heading.
        facts: One line on what its rows share.
        columns: Those with anything in them; none where the section is its line of facts.
        words: The columns of text, the others are numbers; of those, WRAPPED may take several lines in a
            narrow terminal.
        rows: The cells of each row, by column.
        notes: A sentence each.
        dispensable: Columns that a narrow terminal can do without, the first to go first.
        printed: Columns that fit a printed page; all if empty.
        marks: BEST or SECOND by (row from 0, column), for columns of scores.
        unranked: What keeps rows from a rank, a reason a line.
        under: Whether the section belongs to the one before.
    """

    title: str
    facts: str
    columns: tuple[str, ...]
    words: tuple[str, ...]
    rows: list[dict[str, str]]
    notes: list[str]
    dispensable: tuple[str, ...] = ()
    printed: tuple[str, ...] = ()
    marks: dict[tuple[int, str], str] = field(default_factory=dict)
    unranked: list[str] = field(default_factory=list)
    under: bool = False


def text_tables(board: Leaderboard) -> list[TextTable]:
    """The sections of a leaderboard: each table with its effects of fusion, and what is across tasks."""
    found = []
    for table in board.tables:
        found.append(_score_text(table))
        if table.fusion_effects:
            found.append(fusion_text(table.title, table.fusion_effects, table.tests))
    found += [_curve_text(group) for group in board.curves]
    found += [_overall_text(group) for group in board.overall]
    if board.claims:
        found.append(_claims_text(board.claims))
    return found


def number(value: float | None, digits: int) -> str:
    """A number with so many digits after the point; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def p_value(value: float | None) -> str:
    """A p value with three digits, "<0.001" below that; "-" for None."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def millions(count: int | None) -> str:
    """A number of parameters in millions ("1.23M"), or as it is below 10,000; "-" where it is not known."""
    if count is None:
        return "-"
    return f"{count / 1e6:.2f}M" if count >= 10_000 else str(count)


def between(value: str, low: str, high: str) -> str:
    """A value with its interval; the value alone where there is none."""
    return value if low == "-" else f"{value} [{low}, {high}]"


def _dsc(row: Row) -> str:
    low, high = row.interval or (None, None)
    return between(number(row.scores["dsc"], 3), number(low, 3), number(high, 3))


def ranks(row: Row) -> str:
    """The median rank of a row and its interval; "-" where there is none."""
    if row.rank_interval is None:
        return "-"
    median, low, high = row.rank_interval
    return f"{median} [{low}, {high}]"


_DSC = "DSC [95% CI]"

Cells = dict[str, Callable[[Row], str]]
"""Columns by their heads: what stands in the cell of a row."""

_BEFORE_SCORES: Cells = {
    "rank": lambda row: str(row.rank) if row.rank else row.status.partition(":")[0],
    "tier": lambda row: str(row.tier or "-"),
    "method": lambda row: row.label + (f" (verified {row.entry.verified})" if row.entry else ""),
    "fusion": lambda row: row.fusion,
    _DSC: _dsc,
    "p": lambda row: p_value(row.p_leader),
    "rank [95%]": ranks,
    "seed SD": lambda row: number(row.seed_sd, 3),
}


def _parameters(row: Row) -> str:
    known = row.parameters is not None or row.trainable is not None
    return f"{millions(row.parameters)} ({millions(row.trainable)})" if known else "-"


_AFTER_SCORES: Cells = {
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
    "data", "weights", "frozen", "MB", "train s", "seeds", "GFLOPs", "seed SD", "rank [95%]", "ms/slice",
    "parameters (trained)", "folds",
)  # fmt: skip
_DROPPED_LAST = ("p", "cases", "tier")
# Columns of a printed page before and after scores.
_PRINTED_BEFORE = ("rank", "tier", "method", "fusion", _DSC, "p")
_PRINTED_AFTER = ("parameters (trained)", "ms/slice")


def _score_cell(score: Score) -> Callable[[Row], str]:
    return lambda row: number(row.scores[score.mean_name], score.digits)


def _score_text(table: Table) -> TextTable:
    scores = {score.mean_heading: _score_cell(score) for score in beside_dsc()}
    cells = {**_BEFORE_SCORES, **scores, **_AFTER_SCORES}
    rows = [{name: cell(row) for name, cell in cells.items()} for row in table.rows]
    return TextTable(
        title=table.title,
        facts=table.facts,
        columns=tuple(name for name in cells if any(row[name] != "-" for row in rows)),
        words=("method", "fusion", "weights", "data"),
        rows=rows,
        notes=_table_notes(table),
        dispensable=(*_DROPPED_FIRST, *reversed(scores), *_DROPPED_LAST),
        printed=(*_PRINTED_BEFORE, *scores, *_PRINTED_AFTER),
        marks=_marks(table),
        unranked=unranked(table.rows),
    )


def unranked(rows: Sequence[Row]) -> list[str]:
    """What keeps rows from a rank, a reason a line, with the names of the rows."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row.status:
            names.setdefault(row.status, []).append(row.name)
    return [f"{status}: {'; '.join(rows)}" for status, rows in names.items()]


def standing_notes(rows: Sequence[Row], tests: Tests, tau: float | None) -> list[str]:
    """What ranks, tests and intervals of the rows of a table mean, a sentence or two each.

    Args:
        rows: Of the table.
        tests: How they were tested.
        tau: Their split-half agreement.
    """
    notes = []
    if tests.comparisons:
        notes += [
            f"Tier 1: not separable from the leader, {tests.leader} (p >= {ALPHA}); tier 2: below it.",
            f"p: {tests.test}; corrected: {tests.correction}. {tests.note}",
        ]
    else:
        notes.append(tests.note)
    with_ranks = any(row.rank_interval for row in rows)
    notes.append(
        f"[95%]: percentile bootstrap over patients, {RESAMPLES} resamples"
        + ("; of the rank: over the patients that all ranked rows have." if with_ranks else ".")
    )
    if tau is not None:
        notes.append(
            f"Two random halves of the patients agree on the order with a Kendall's tau of "
            f"{tau:.2f} (mean over {HALVES} splits; 1: the same order, 0: none in common)."
        )
    return notes


def _table_notes(table: Table) -> list[str]:
    notes = standing_notes(table.rows, table.tests, table.split_half_tau)
    if any(row.frozen_elsewhere for row in table.rows):
        notes.append("Parameters leave out frozen parts that made features; those are counted as frozen.")
    if any(row.entry for row in table.rows):
        notes.append(
            "Verified: a submission whose masks were all scored anew on that day; its parameters, times and "
            "memory are the submitters' own account."
        )
    if devices := sorted({row.device for row in table.rows if row.device}):
        notes.append(f"Costs were measured on: {'; '.join(devices)}.")
    return notes


def _marks(table: Table) -> dict[tuple[int, str], str]:
    """The best and second best ranked rows of each column of scores, equal as printed."""
    columns = {(_DSC if s.name == "dsc" else s.mean_heading): s for s in all_scores() if s.in_leaderboard}
    marks = {}
    for column, score in columns.items():
        if score.direction == "neither":
            continue
        sign = -1 if score.direction == "higher" else 1
        values = {
            i: sign * round(value, score.digits)
            for i, row in enumerate(table.rows)
            if row.rank and (value := row.scores[score.mean_name]) is not None
        }
        for mark, place in zip((BEST, SECOND), sorted(set(values.values()))[:2], strict=False):
            marks.update({(i, column): mark for i, value in values.items() if value == place})
    return marks


def fusion_text(title: str, effects: Sequence[FusionEffect], tests: Tests, of: str = "DSC") -> TextTable:
    """The section of the effects of fusion.

    Args:
        title: Of the table.
        effects: At least one.
        tests: How its rows were tested.
        of: What the table ranks by.
    """
    rows = []
    for effect in effects:
        low, high = ("-" if end is None else f"{end:+.3f}" for end in (effect.low, effect.high))
        rows.append(
            {
                "method": effect.method,
                "difference of": f"{effect.a} - {effect.b}",
                f"{of} [95% CI]": between(f"{effect.difference:+.3f}", low, high),
                "patients": str(effect.n),
                "p": p_value(effect.p),
            }
        )
    notes = [f"p: {tests.test}; corrected: {FUSION_CORRECTION}."]
    if few := _all_too_few(effects):
        notes.append(f"{few}: no two fusions can be separated.")
    return TextTable(
        title=f"Effect of fusion: {title}",
        facts=f"mean paired difference of {of}, same method and settings",
        columns=tuple(rows[0]),
        words=("method", "difference of"),
        rows=rows,
        notes=notes,
        dispensable=("patients",),
        under=True,
    )


def _all_too_few(effects: Sequence[FusionEffect]) -> str:
    """Why no effect can be significant, by the one that comes nearest; "" where any can."""
    reasons = []
    for effect in effects:
        family = sum(other.method == effect.method for other in effects)
        reasons.append((effect.n, -family, too_few(effect.n, family)))
    return "" if any(not reason for *_, reason in reasons) else max(reasons)[2]


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
    rows = [
        {
            "rank": str(row.rank),
            "method": row.label,
            "fusion": row.fusion,
            "mean rank": f"{row.mean_rank:.2f}",
            "mean DSC": f"{row.mean_dsc:.3f}",
            **{f"{task}: rank (DSC)": f"{row.ranks[task]:g} ({row.dsc[task]:.3f})" for task in group.tasks},
        }
        for row in group.rows
    ]
    notes = ["Mean over tasks of the rank among the rows that are complete on all of them; tables: "
             f"{'; '.join(group.tables)}."]  # fmt: skip
    if group.left_out:
        notes.append(f"Not complete on all: {'; '.join(group.left_out)}.")
    return TextTable(
        title=f"Over all tasks ({group.kind} data, preset {group.preset}, size {group.size})",
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
