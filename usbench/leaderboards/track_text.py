"""Tables of tracks as words, after the clean ones, and what is lost without each modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from usbench.leaderboards.costs import cost_texts
from usbench.leaderboards.flat import seeds
from usbench.leaderboards.reported_text import reported_texts
from usbench.leaderboards.standing_text import (
    best,
    difference_texts,
    fusion_text,
    ranks,
    standing,
    standing_notes,
    unranked,
)
from usbench.leaderboards.text import text_tables
from usbench.leaderboards.tracks import Mean, TrackRow, TrackTable
from usbench.leaderboards.words import BEST, SECOND, TextTable, between, number, p_value
from usbench.scores.registry import all_scores, beside_dsc
from usbench.scores.robustness import AVERAGES

if TYPE_CHECKING:
    from usbench.leaderboards.board import Leaderboard

_WORDS = ("method", "fusion", "told", "weights", "data")
_ROBUSTNESS = (
    "EMM: whole modalities are missing, the mean over every proper subset. RMM: a share of the voxels is, of "
    "every subset. NM: noise, Gaussian or salt and pepper. E(p): the expected DSC where each modality fails "
    "with a chance of p. Each is taken for every patient first."
)
_LOST = "Clean DSC less the DSC without the modality, paired over patients; below 0: better without it."
_EXTERNAL = (
    "DSC and the other scores are of the other data; the clean DSC is of the same networks on their own test "
    "folds. The loss is the difference of the two means: the patients are others, so nothing is paired."
)


def all_text_tables(board: Leaderboard, costs: bool = True) -> list[TextTable]:
    """Every section: those of `usbench.leaderboards.text`, cost, the tracks, what others report.

    Args:
        board: The leaderboard.
        costs: Whether the section on cost is among them.
    """
    reported = reported_texts(board.reported, board.shortened)
    fronts = cost_texts(board.tables) if costs else []
    clean = text_tables(board)
    # What is only claimed stands last of the clean sections.
    measured = len(clean) - bool(board.claims)
    return [
        *clean[:measured],
        *fronts,
        *clean[measured:],
        *track_texts(board.tracks, board.with_pairs),
        *reported,
    ]


def track_texts(tables: Sequence[TrackTable], with_pairs: bool = False) -> list[TextTable]:
    """Each table of a track, with what is lost without each modality and the effects of fusion."""
    found = []
    for table in tables:
        found.append(_robustness_text(table) if table.track == "robustness" else _external_text(table))
        found += difference_texts(table, with_pairs, table.ranked_as)
        if len(table.modalities) > 1 and table.track == "robustness":
            found.append(_lost_text(table))
        if table.fusion_effects:
            found.append(fusion_text(table.title, table.fusion_effects, table.tests, table.ranked_as))
    return found


def _cell(mean: Mean, digits: int = 3) -> str:
    return between(number(mean.value, digits), number(mean.low, digits), number(mean.high, digits))


Cells = dict[str, Callable[[TrackRow], str]]


def _before(ranked: str, name: str) -> Cells:
    return {
        "rank": lambda row: str(row.standing.rank or row.standing.status.partition(":")[0]),
        "standing": lambda row: standing(row.standing),
        "may be best": lambda row: best(row.standing),
        "method": _method,
        "fusion": lambda row: row.standing.fusion,
        f"{ranked} [95% CI]": _of(name),
        "p": lambda row: p_value(row.standing.p_leader),
        "ranks": lambda row: ranks(row.standing),
        "seed SD": lambda row: number(row.standing.seed_sd, 3),
    }


def _method(row: TrackRow) -> str:
    entry = row.standing.entry
    return row.standing.label + (f" (verified {entry.verified})" if entry else "")


_AFTER: Cells = {
    "told": lambda row: "yes" if row.told else "no",
    "cases": lambda row: str(row.standing.cases),
    "folds": lambda row: f"{row.standing.folds_done}/{row.standing.folds}",
    "seeds": lambda row: seeds(row.standing),
    "weights": lambda row: row.standing.weights,
    "data": lambda row: row.standing.data,
}
_DROPPED_FIRST = ("data", "weights", "seeds", "told", "seed SD", "ranks", "folds")


def _of(name: str, digits: int = 3) -> Callable[[TrackRow], str]:
    return lambda row: _cell(row.means[name], digits)


def _robustness_text(table: TrackTable) -> TextTable:
    averages = {label: name for name, (label, _) in AVERAGES.items() if name != table.ranked_by}
    before = _before(table.ranked_as, table.ranked_by)
    cells = {**before, **{label: _of(name) for label, name in averages.items()}, **_AFTER}
    main = ("clean", "RMM avg", "NM gauss", "NM s&p")
    others = [label for label in averages if label not in main]
    columns = {f"{table.ranked_as} [95% CI]": table.ranked_by, **averages}
    return _text(
        table,
        cells,
        dispensable=(
            *_DROPPED_FIRST,
            *others,
            "p",
            "cases",
            "NM s&p",
            "NM gauss",
            "RMM avg",
            "may be best",
            "standing",
        ),
        printed=("rank", "standing", "method", "fusion", f"{table.ranked_as} [95% CI]", "p", *main),
        marks=_marks(table, {column: (name, 3, -1) for column, name in columns.items()}),
    )


def track_notes(table: TrackTable) -> list[str]:
    """What stands below a table of a track, a sentence or two each."""
    standings = [row.standing for row in table.rows]
    own = [_EXTERNAL] if table.track == "external" else [_ROBUSTNESS, *_told_note(table)]
    return [*standing_notes(standings, table.tests, table.split_half, table.schemes), *own]


def _told_note(table: TrackTable) -> list[str]:
    if not any(row.told for row in table.rows):
        return []
    return ["Told: the network was told which modalities are there, where whole ones are missing."]


def _external_text(table: TrackTable) -> TextTable:
    scores = [score for score in beside_dsc() if any(score.name in row.means for row in table.rows)]
    cells = {
        **_before("DSC", "dsc"),
        "clean DSC": _of("clean"),
        "loss": lambda row: number(row.means["loss"].value, 3),
        **{
            score.mean_heading: (
                lambda row, score=score: (
                    number(row.means[score.name].value, score.digits)  # type: ignore[misc]
                    if score.name in row.means
                    else "-"
                )
            )
            for score in scores
        },
        **{name: cell for name, cell in _AFTER.items() if name != "told"},
    }
    signs = {"higher": -1, "lower": 1}
    ranked = {
        (score.mean_heading if score.name != "dsc" else "DSC [95% CI]"): score for score in all_scores()
    }
    heads = tuple(score.mean_heading for score in scores)
    return _text(
        table,
        cells,
        dispensable=(*_DROPPED_FIRST, *reversed(heads), "p", "cases", "may be best", "standing"),
        printed=("rank", "standing", "method", "fusion", "DSC [95% CI]", "p", "clean DSC", "loss", *heads),
        marks=_marks(
            table,
            {
                column: (score.name, score.digits, signs[score.direction])
                for column, score in ranked.items()
                if score.direction in signs and column in cells
            },
        ),
    )


def _text(
    table: TrackTable,
    cells: Cells,
    dispensable: tuple[str, ...],
    printed: tuple[str, ...],
    marks: dict[tuple[int, str], str],
) -> TextTable:
    rows = [{name: cell(row) for name, cell in cells.items()} for row in table.rows]
    standings = [row.standing for row in table.rows]
    return TextTable(
        title=table.title,
        facts=table.facts,
        columns=tuple(name for name in cells if any(row[name] != "-" for row in rows)),
        words=_WORDS,
        rows=rows,
        notes=track_notes(table),
        dispensable=dispensable,
        printed=printed,
        marks=marks,
        unranked=unranked(standings),
    )


def _marks(table: TrackTable, columns: dict[str, tuple[str, int, int]]) -> dict[tuple[int, str], str]:
    """The best and second best ranked rows of columns given as (mean, digits, -1 where higher is better)."""
    marks: dict[tuple[int, str], str] = {}
    if not table.tests.testable:
        return marks
    for column, (name, digits, sign) in columns.items():
        values = {
            i: sign * round(value, digits)
            for i, row in enumerate(table.rows)
            if row.standing.rank and name in row.means and (value := row.means[name].value) is not None
        }
        for mark, place in zip((BEST, SECOND), sorted(set(values.values()))[:2], strict=False):
            marks.update({(i, column): mark for i, value in values.items() if value == place})
    return marks


def _lost_text(table: TrackTable) -> TextTable:
    rows = [
        {
            "method": row.standing.label,
            "fusion": row.standing.fusion,
            **{f"without {name} [95% CI]": _cell(row.means[f"lost-{name}"]) for name in table.modalities},
            "patients": str(max(row.means[f"lost-{name}"].cases for name in table.modalities)),
        }
        for row in table.rows
    ]
    return TextTable(
        title=f"What is lost without: {table.title}",
        facts="mean paired difference of DSC, all modalities less all but one",
        columns=tuple(rows[0]),
        words=("method", "fusion"),
        rows=rows,
        notes=[_LOST],
        dispensable=("patients",),
        under=True,
    )
