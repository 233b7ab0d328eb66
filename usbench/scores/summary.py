"""Means of scores: over the classes of a case, then over cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from usbench.contracts.score import Score
from usbench.errors import UsbenchError
from usbench.scores.case import ClassScore
from usbench.scores.registry import all_scores


def summarise(cases: Iterable[Sequence[ClassScore]], scores: Sequence[Score] | None = None) -> dict[str, Any]:
    """Average the scores of several cases: the "scores" block of `result.json`.

    Macro order: the mean over the classes of a case, then over cases; NaN is left out at each step.
    "cases" counts the cases with at least one scored class, "unscored" the (case, class) pairs without a
    DSC. "classes" holds the means over cases of each class, with the number of cases behind them. A mean
    over classes has the name `Score.mean_name` ("miou"), that of one class `Score.name` ("iou").

    Args:
        cases: For each case its classes, as `score_case` gives them.
        scores: Which scores to average, all by default.

    Returns:
        JSON-like values; None stands for an undefined mean.

    Raises:
        UsbenchError: Where cases do not have the same classes.
    """
    scores = all_scores() if scores is None else scores
    rows = [list(case) for case in cases]
    names = [row.name for row in rows[0]] if rows else []
    for case in rows:
        if [row.name for row in case] != names:
            raise UsbenchError(
                f"scores: a case has the classes {[row.name for row in case]}, another {names}; "
                "average only cases of one task"
            )
    table = np.array(
        [[[row.scores[score.name] for score in scores] for row in case] for case in rows], dtype=float
    ).reshape(len(rows), len(names), len(scores))
    unscored = np.array([[math.isnan(row.scores["dsc"]) for row in case] for case in rows], dtype=bool)
    unscored = unscored.reshape(len(rows), len(names))
    overall, by_class = _mean(_mean(table, axis=1), axis=0), _mean(table, axis=0)
    block: dict[str, Any] = {
        score.mean_name: _defined(value) for score, value in zip(scores, overall, strict=True)
    }
    block["cases"] = int((~unscored).any(axis=1).sum())
    block["unscored"] = int(unscored.sum())
    block["classes"] = {
        name: {
            **{score.name: _defined(value) for score, value in zip(scores, by_class[i], strict=True)},
            "cases": int((~unscored[:, i]).sum()),
        }
        for i, name in enumerate(names)
    }
    return block


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean along `axis` without the NaN; NaN, and no warning, where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis)
    return mean


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
