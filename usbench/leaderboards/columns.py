"""The columns that a reader can choose by name, and the spread of scores over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from usbench.contracts.score import Score
from usbench.errors import unknown
from usbench.leaderboards.flat import row_dict
from usbench.leaderboards.rows import Row
from usbench.leaderboards.standing_text import best, standing
from usbench.leaderboards.stats import score_interval
from usbench.leaderboards.words import millions, number, p_value
from usbench.scores.registry import all_scores

Spread = Literal["none", "sd", "interval"]
SPREADS: tuple[Spread, ...] = ("none", "sd", "interval")
"""What stands beside the mean of a score: nothing, its standard deviation over patients, or its interval."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: By which it is chosen; of the same column in CSV and JSON.
        heading: At its head.
        score: What its numbers are the mean of, None for costs, counts and words.
        words: Whether it holds words.
        cell: What stands in the cell of a row, "-" for what is not known; of a score the mean alone.
    """

    name: str
    heading: str
    score: Score | None
    words: bool
    cell: Callable[[Row], str]


def known_columns() -> dict[str, Column]:
    """Every column that can be chosen, by name: words and ranks, the scores, costs and counts."""
    scores = [Column(one.mean_name, one.mean_heading, one, False, _mean_of(one)) for one in all_scores()]
    columns = [
        _plain("rank", "rank", lambda row: str(row.rank or "-")),
        _plain("standing", "standing", standing, words=True),
        _plain("best", "may be best", best, words=True),
        _plain("method", "method", lambda row: row.label, words=True),
        _plain("fusion", "fusion", lambda row: row.fusion, words=True),
        *scores,
        _plain("p_leader", "p", lambda row: p_value(row.p_leader)),
        _plain("seed_sd", "seed SD", lambda row: number(row.seed_sd, 3)),
        _plain("parameters", "parameters", lambda row: millions(row.parameters)),
        _plain("trainable", "trained", lambda row: millions(row.trainable)),
        _plain("frozen_elsewhere", "frozen", lambda row: millions(row.frozen_elsewhere)),
        _plain("gflops", "GFLOPs", lambda row: number(row.gflops, 2)),
        _plain("ms_per_slice", "ms/slice", lambda row: number(row.ms_per_slice, 1)),
        _plain("memory_mb", "MB", lambda row: number(row.memory_mb, 0)),
        _plain("train_seconds", "train s", lambda row: number(row.train_seconds, 0)),
        _plain("cases", "cases", lambda row: str(row.cases)),
        _plain("weights", "weights", lambda row: row.weights, words=True),
    ]  # fmt: skip
    return {column.name: column for column in columns}


def chosen_columns(names: Sequence[str]) -> list[Column]:
    """The columns of some names, in that order.

    Args:
        names: As in CSV and JSON; capital letters and hyphens for underscores do not matter.

    Raises:
        UsbenchError: For a name that no column has, with those that there are.
    """
    known = known_columns()
    found = []
    for name in names:
        key = name.strip().lower().replace("-", "_")
        if key not in known:
            raise unknown("column", name, known)
        found.append(known[key])
    return found


def _plain(name: str, heading: str, cell: Callable[[Row], str], words: bool = False) -> Column:
    return Column(name, heading, None, words, cell)


def _mean_of(score: Score) -> Callable[[Row], str]:
    return lambda row: number(row.scores[score.mean_name], score.digits)


def spread_values(row: Row, score: Score, spread: str) -> tuple[float, ...] | None:
    """The spread of a row's score over its patients.

    Args:
        row: Of a table.
        score: Whose mean it shows.
        spread: Which: "sd", "interval" or "none".

    Returns:
        (standard deviation with n - 1,) or (low, high) of the 95 % interval; None where there is none: no
        mean, fewer than two patients, or "none".
    """
    if spread == "none" or row.scores[score.mean_name] is None:
        return None
    values = known_values(row, score.name)
    if len(values) < 2:
        return None
    if spread == "sd":
        return (float(np.std(values, ddof=1)),)
    return interval_of(values)


def known_values(row: Row, name: str) -> np.ndarray:
    """The scores of a row's patients that are defined, [patients], by the name of the score in cases.csv."""
    values = [scores[name] for scores in row.patients.values()]
    return np.array([value for value in values if not math.isnan(value)], dtype=float)


def interval_of(values: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """The 95 % interval of a mean over patients, as everywhere in the leaderboard.

    Args:
        values: One a patient, [patients], none NaN.

    Returns:
        (low, high); None below four patients and without any spread.
    """
    return score_interval(values).ends


def spread_words(found: tuple[float, ...] | None, digits: int) -> str:
    """A spread as words to stand after the mean, "" for none: " ± 0.052" or " [0.712, 0.874]"."""
    if found is None:
        return ""
    numbers = [number(value, digits) for value in found]
    return f" ± {numbers[0]}" if len(numbers) == 1 else f" [{', '.join(numbers)}]"


def best_and_second(rows: Sequence[Row], score: Score) -> tuple[set[int], set[int]]:
    """Which rows are the best ranked ones by a score, and which the second best, equal as printed.

    Args:
        rows: Of one table.
        score: To compare by.

    Returns:
        The places of the rows, from 0; empty for a score of which no value is better than another.
    """
    if score.direction == "neither":
        return set(), set()
    sign = -1 if score.direction == "higher" else 1
    values = {
        place: sign * round(value, score.digits)
        for place, row in enumerate(rows)
        if row.rank and (value := row.scores[score.mean_name]) is not None
    }
    best, second = [*sorted(set(values.values())), None, None][:2]
    places = [{place for place, value in values.items() if value == one} for one in (best, second)]
    return places[0], places[1]


def flat_columns(row: Row, columns: Sequence[Column], spread: str) -> dict[str, Any]:
    """The chosen columns of a row as plain values, unrounded.

    Args:
        row: Of a table.
        columns: The chosen ones.
        spread: What scores have beside them: NAME_sd, or NAME_low and NAME_high.

    Returns:
        By name; None for what is not known. The method is the row's label, and its name of its own.
    """
    plain = row_dict(row)
    values: dict[str, Any] = {}
    for column in columns:
        values[column.name] = row.label if column.name == "method" else plain[column.name]
        if column.score is not None and spread != "none":
            found = spread_values(row, column.score, spread)
            suffixes = ("sd",) if spread == "sd" else ("low", "high")
            ends = found or (None,) * len(suffixes)
            values |= {f"{column.name}_{end}": value for end, value in zip(suffixes, ends, strict=True)}
    return values
