"""Every score, in the order of the columns. A new one is an entry in one of the modules named here."""

from __future__ import annotations

from usbench.contracts.score import Score
from usbench.scores.overlap import OVERLAP, RATES
from usbench.scores.surface import SURFACE
from usbench.scores.volume import VOLUME

SCORES: tuple[Score, ...] = (*OVERLAP, *SURFACE, *RATES, *VOLUME)


def all_scores() -> tuple[Score, ...]:
    """The scores of a case and class, in the order of the columns of `cases.csv`."""
    return SCORES


def beside_dsc() -> tuple[Score, ...]:
    """The scores that leaderboards show beside the DSC, which they rank by, in order."""
    return tuple(score for score in SCORES if score.in_leaderboard and score.name != "dsc")
