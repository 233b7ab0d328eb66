"""Scores that compare nothing but the volumes of two masks."""

from __future__ import annotations

import math

from usbench.contracts.score import MeasuredClass, Score


def _relative_difference(of: MeasuredClass) -> float:
    return (of.predicted - of.true) / of.true if of.true else math.nan


def _false_volume(of: MeasuredClass) -> float:
    return math.nan if of.true else of.predicted * of.voxel_mm3 / 1000


VOLUME = (
    Score(
        name="rvd",
        label="RVD",
        unit="",
        direction="neither",
        digits=3,
        sentence="relative volume difference, (volume of P - volume of T) / volume of T; "
        "below 0: too little was predicted",
        function=_relative_difference,
        added="0.2.0",
    ),
    Score(
        name="ravd",
        label="RAVD",
        unit="",
        direction="lower",
        digits=3,
        sentence="relative absolute volume difference, |volume of P - volume of T| / volume of T",
        function=lambda of: abs(_relative_difference(of)),
        added="0.2.0",
    ),
    Score(
        name="false_ml",
        label="false volume",
        unit="ml",
        direction="lower",
        digits=2,
        sentence="volume of P in ml where T is empty, which no other score of a table counts",
        function=_false_volume,
        in_leaderboard=False,
        of_empty_truth=True,
        added="0.3.0",
    ),
)
