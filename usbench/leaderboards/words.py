"""A section of a leaderboard as one table of words, and how its numbers are written."""

from __future__ import annotations

from dataclasses import dataclass, field

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
