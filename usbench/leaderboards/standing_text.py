"""What the text formats say of standings, tests and differences, for clean tables and tracks alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from usbench.leaderboards.compare import FUSION_CORRECTION, Difference, FusionEffect, SplitHalf, Tests
from usbench.leaderboards.rows import Row
from usbench.leaderboards.standing import NOT_TESTABLE, NULL, not_testable
from usbench.leaderboards.stats import ALPHA, Schemes, can_separate
from usbench.leaderboards.stats.intervals import FEW, LEAST
from usbench.leaderboards.stats.ranks import HALVES
from usbench.leaderboards.table import Table
from usbench.leaderboards.tracks import TrackTable
from usbench.leaderboards.words import TextTable, between, number, p_value


def ranks(row: Row) -> str:
    """The ranks that a row may have, "2" or "1-4"; "-" where that cannot be said."""
    if row.rank_set is None or row.standing in ("", NOT_TESTABLE):
        return "-"
    low, high = row.rank_set
    return f"{low}" if low == high else f"{low}-{high}"


def standing(row: Row) -> str:
    """Where a row stands against the leader, in words; "-" for a row that is not ranked."""
    return row.standing or "-"


def best(row: Row) -> str:
    """Whether a row may be the best one; "-" where that cannot be said."""
    return "-" if row.best is None else "yes" if row.best else "no"


def unranked(rows: Sequence[Row]) -> list[str]:
    """What keeps rows from a rank, a reason a line, with the names of the rows."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row.status:
            names.setdefault(row.status, []).append(row.name)
    return [f"{status}: {'; '.join(rows)}" for status, rows in names.items()]


def standing_notes(
    rows: Sequence[Row], tests: Tests, half: SplitHalf | None, schemes: Schemes | None
) -> list[str]:
    """What standing, tests and intervals of the rows of a table mean, a sentence or two each.

    Args:
        rows: Of the table.
        tests: How they were tested.
        half: Whether other patients would give the same order.
        schemes: Whether another way of ranking would.
    """
    notes = []
    if tests.family and tests.testable:
        notes += [
            f"Below the leader: separated from {tests.leader} (p <= {ALPHA}) and lower on average. Not "
            "separated: no such difference was found, which does not say that there is none.",
            f"p: {tests.test}; corrected: {tests.correction}. {tests.note} {NULL}",
            "Ranks: from 1 + the rows separated above a row to the number of rows less those separated "
            "below it.",
        ]
    else:
        notes.append(tests.note)
    if any(row.best is not None for row in rows):
        notes.append(
            "May be best: no other row is above it by more than chance (Hsu 1984, one-sided, 5 %); the best "
            "row is among these with a chance of at least 95 %."
        )
    if tests.seeds:
        notes.append(tests.seeds)
    notes += _interval_notes(rows)
    if half is not None:
        notes.append(_half_note(half))
    if schemes is not None:
        notes += _scheme_notes(rows, schemes)
    notes += [f"Under {row.name}: {_folded(row)}." for row in rows if row.also]
    return notes


def _interval_notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    known = [row for row in rows if row.interval is not None]
    if known:
        few = ", of few patients: it may cover less" if any(row.interval_note for row in known) else ""
        notes.append(f"[95% CI]: of the mean over patients, on the logit scale (n < {FEW}{few}).")
        if not few:
            notes[-1] = "[95% CI]: of the mean over patients, on the logit scale."
    if any(row.interval_note == "too few patients" for row in rows):
        notes.append(f"Fewer than {LEAST} patients have no interval.")
    return notes


def _half_note(half: SplitHalf) -> str:
    """What the split-half agreement says, with what it is where rows are equal."""
    equal = "" if half.low is None else f"; of equal rows {half.low:.2f} to {half.high:.2f}"
    return (
        f"Other patients: two random halves agree on the order with 2 tau / (1 + tau) = {half.agreement:.2f} "
        f"(Kendall's tau, mean over {HALVES} splits; 1: the same order{equal})."
    )


def _scheme_notes(rows: Sequence[Row], schemes: Schemes) -> list[str]:
    """Whether another way of ranking gives another order."""
    if not schemes.agreement:
        return []
    ranked = [row for row in rows if row.rank is not None]
    firsts = {
        "mean of ranks": schemes.by_ranks,
        "rows separated": schemes.by_wins,
    }
    said = []
    for name, found in firsts.items():
        if found is not None and found.count(1) == 1:
            said.append(f"first by {name}: {ranked[found.index(1)].name}")
    taus = ", ".join(f"{name} {tau:.2f}" for name, tau in schemes.agreement.items())
    return [f"Other rankings ({'; '.join(said) or 'no single first'}); Kendall's tau between {taus}."]


def _folded(row: Row) -> str:
    return "; ".join(f"{one.name}, {one.why}, DSC {number(one.dsc, 3)}" for one in row.also)


def difference_texts(table: Table | TrackTable, with_pairs: bool, of: str = "DSC") -> list[TextTable]:
    """The rows of a table against a named one, and every pair of them where that is wanted.

    Args:
        table: Clean, or of a track.
        with_pairs: Whether every pair is wanted; there is none of more than 60 ranked rows.
        of: What the table ranks by.
    """
    found = []
    if table.baseline:
        found.append(
            _difference_text(
                f"Against {table.baseline[0].b}: {table.title}",
                f"mean paired difference of {of}, each row less {table.baseline[0].b}",
                table.baseline,
                of,
                f"p: {table.tests.test}; corrected over the {len(table.baseline)} rows (step-down maxT).",
                lambda one: {"row": one.a},
            )
        )
    if with_pairs and table.pairs:
        found.append(
            _difference_text(
                f"All pairs: {table.title}",
                f"mean paired difference of {of}, a row less one below it",
                table.pairs,
                of,
                f"p: {table.tests.test}; corrected: {table.tests.correction}.",
                lambda one: {"row": one.a, "less": one.b},
            )
        )
    return found


def _difference_text(
    title: str, facts: str, pairs: Sequence[Difference], of: str, note: str,
    heads: Callable[[Difference], dict[str, str]],
) -> TextTable:  # fmt: skip
    rows = [
        {
            **heads(one),
            f"{of} [95% CI]": difference(one),
            "patients": str(one.n),
            "p": p_value(one.p),
            "separated": _separated(one),
        }
        for one in pairs
    ]
    return TextTable(
        title=title,
        facts=facts,
        columns=tuple(rows[0]),
        words=("row", "less", "separated"),
        rows=rows,
        notes=[note],
        dispensable=("patients",),
        under=True,
    )


def difference(one: Difference | FusionEffect) -> str:
    """A mean difference with its sign and interval."""
    if one.difference is None:
        return "-"
    low, high = ("-" if end is None else f"{end:+.3f}" for end in (one.low, one.high))
    return between(f"{one.difference:+.3f}", low, high)


def _separated(one: Difference | FusionEffect) -> str:
    if not can_separate(one.n):
        return NOT_TESTABLE
    return "yes" if one.p <= ALPHA else "no"


def fusion_text(title: str, effects: Sequence[FusionEffect], tests: Tests, of: str = "DSC") -> TextTable:
    """The section of the effects of fusion.

    Args:
        title: Of the table.
        effects: At least one.
        tests: How its rows were tested.
        of: What the table ranks by.
    """
    rows = [
        {
            "method": effect.method,
            "difference of": f"{effect.a} - {effect.b}",
            f"{of} [95% CI]": difference(effect),
            "patients": str(effect.n),
            "p": p_value(effect.p),
            "separated": _separated(effect),
        }
        for effect in effects
    ]
    notes = [f"p: {tests.test}; corrected: {FUSION_CORRECTION}."]
    if few := not_testable(max(effect.n for effect in effects)):
        notes.append(f"{few[0].upper()}{few[1:]}: no two fusions are separated.")
    return TextTable(
        title=f"Effect of fusion: {title}",
        facts=f"mean paired difference of {of}, same method and settings",
        columns=tuple(rows[0]),
        words=("method", "difference of", "separated"),
        rows=rows,
        notes=notes,
        dispensable=("patients",),
        under=True,
    )
