"""Scores of how far two masks overlap (Taha and Hanbury 2015)."""

from __future__ import annotations

import math

from usbench.contracts.score import MeasuredClass, Score


def _dsc(of: MeasuredClass) -> float:
    return 2 * of.tp / (2 * of.tp + of.fp + of.fn)


def _iou(of: MeasuredClass) -> float:
    return of.tp / (of.tp + of.fp + of.fn)


def _sensitivity(of: MeasuredClass) -> float:
    return of.tp / of.true if of.true else math.nan


def _specificity(of: MeasuredClass) -> float:
    return of.tn / (of.tn + of.fp) if of.tn + of.fp else math.nan


OVERLAP = (
    Score(
        name="dsc",
        label="DSC",
        unit="",
        direction="higher",
        digits=3,
        sentence="Dice similarity coefficient, 2 TP / (2 TP + FP + FN)",
        function=_dsc,
        worst=0.0,
        in_summary=True,
    ),
    Score(
        name="iou",
        label="IoU",
        unit="",
        direction="higher",
        digits=3,
        sentence="intersection over union, TP / (TP + FP + FN)",
        function=_iou,
        worst=0.0,
        mean=("miou", "mIoU"),
        in_summary=True,
    ),
)

RATES = (
    Score(
        name="sensitivity",
        label="sensitivity",
        unit="",
        direction="higher",
        digits=3,
        sentence="share of the true voxels that were found, TP / (TP + FN)",
        function=_sensitivity,
        worst=0.0,
        in_leaderboard=False,
        in_summary=True,
    ),
    Score(
        name="specificity",
        label="specificity",
        unit="",
        direction="higher",
        digits=3,
        sentence="share of the voxels outside T that were left out, TN / (TN + FP)",
        function=_specificity,
        worst=0.0,
        in_leaderboard=False,
    ),
)
