"""The words for where a row stands, and for how it was tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usbench.leaderboards.rows import Row
from usbench.leaderboards.stats import ALPHA, SEEDS, can_separate, smallest_p
from usbench.leaderboards.stats.flips import EXACT, FLIPS
from usbench.leaderboards.stats.large import FLIPS as FLIPS_OF_MANY
from usbench.runtime.console import count

LEADER = "leader"
BELOW = "below the leader"
NOT_SEPARATED = "not separated"
NOT_TESTABLE = "not testable"

TEST = (
    "flips of the signs of whole patients' differences of {}, over the patients that both rows have, "
    "two-sided"
)
CORRECTION = "step-down maxT (Westfall and Young 1993) over the {} pairs of {} ranked rows"
CORRECTION_OF_MANY = "single-step maxT (Westfall and Young 1993) over the {} pairs of {} ranked rows"
FUSION_CORRECTION = "step-down maxT over all pairs of fusions of one method in the table"
NULL = "The null is that differences between two rows are symmetric about 0."
OF_THESE_NETWORKS = "Claims are of these trained networks; another seed may reverse them."
SHARED_TRAINING = (
    "The networks of two folds share most of their training patients, which no test here counts."
)


@dataclass(frozen=True)
class Tests:
    """How the ranked rows of a table were tested; every text is one sentence or two.

    Attributes:
        leader: Name of the best row, None if none is ranked.
        test: The test, in words.
        correction: The correction for several comparisons, in words.
        family: The number of pairs that p is corrected for.
        patients: How many all ranked rows share.
        flips: Patterns of signs that were tried.
        smallest_p: The smallest p that so many patients can give.
        testable: Whether that is small enough to separate anything.
        note: What is exact, and whether so few patients can separate anything.
        seeds: What the claims say of other trainings.
    """

    leader: str | None
    test: str
    correction: str
    family: int
    patients: int
    flips: int
    smallest_p: float
    testable: bool
    note: str
    seeds: str


def standing_word(place: int, p: float, patients: int, gap: float, rows: int) -> str:
    """Where a ranked row stands.

    Args:
        place: From 0, the leader's.
        p: Corrected, against the leader.
        patients: That the row and the leader share.
        gap: The leader's mean over them less that of the row.
        rows: How many are ranked.

    Returns:
        `LEADER`, `BELOW`, `NOT_SEPARATED` or `NOT_TESTABLE`; "" for a row alone.
    """
    if rows < 2:
        return ""
    if not can_separate(patients):
        return NOT_TESTABLE
    if place == 0:
        return LEADER
    return BELOW if p <= ALPHA and gap > 0 else NOT_SEPARATED


def not_testable(patients: int) -> str:
    """Why so few patients separate nothing; "" where they can."""
    if can_separate(patients):
        return ""
    return f"not testable (n = {patients}: smallest p {smallest_p(patients):.3g})"


def words_of_tests(ranked: Sequence[Row], patients: int, of: str, stepped: bool) -> Tests:
    """How the ranked rows were tested.

    Args:
        ranked: In order.
        patients: How many all of them share.
        of: What the table ranks by.
        stepped: Whether by the step-down procedure, not by the single step of large tables.
    """
    rows = len(ranked)
    family = rows * (rows - 1) // 2
    random = FLIPS if stepped else FLIPS_OF_MANY
    flips = 2 ** max(patients - 1, 0) if patients <= EXACT else random + 1
    correction = (CORRECTION if stepped else CORRECTION_OF_MANY).format(f"{family:,}", f"{rows:,}")
    return Tests(
        leader=ranked[0].name if ranked else None,
        test=TEST.format(of),
        correction=correction,
        family=family,
        patients=patients,
        flips=flips,
        smallest_p=smallest_p(patients),
        testable=can_separate(patients),
        note=_note(rows, patients, flips),
        seeds=_of_seeds(ranked),
    )


def _note(rows: int, patients: int, flips: int) -> str:
    if rows < 2:
        return "Fewer than two complete rows: nothing is compared."
    if few := not_testable(patients):
        return f"{few[0].upper()}{few[1:]}: no row is separated from another."
    patterns = f"{flips:,} patterns of signs of {count(patients, 'patient')}"
    if patients <= EXACT:
        return f"p is exact: all {patterns}."
    return f"p is of {patterns}, the observed one among them."


def _of_seeds(ranked: Sequence[Row]) -> str:
    """What is said of other trainings than these."""
    if len(ranked) < 2:
        return ""
    known = sum(row.noise is not None for row in ranked)
    if known == len(ranked):
        return (
            f"The spread between seeds is counted in every claim (at least {SEEDS} in every fold of each "
            f"row). {SHARED_TRAINING}"
        )
    if known:
        return (
            f"The spread between seeds is counted for {known} of {len(ranked)} rows, those of at least "
            f"{SEEDS} seeds in every fold. Of the others: {OF_THESE_NETWORKS} {SHARED_TRAINING}"
        )
    return f"{OF_THESE_NETWORKS} {SHARED_TRAINING}"
