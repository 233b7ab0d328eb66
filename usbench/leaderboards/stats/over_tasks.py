"""Means over tasks, with intervals for these tasks: patients are drawn again, tasks are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usbench.leaderboards.stats.average import DECIMALS
from usbench.leaderboards.stats.intervals import LEAST, LEVEL, Interval
from usbench.leaderboards.stats.trainings import Noise, together

RESAMPLES = 1000
"""Draws of patients behind the interval of a mean rank."""


@dataclass(frozen=True)
class OverTasks:
    """Of each row.

    Attributes:
        rank: Mean over the tasks of its rank by mean score, equal means sharing the mean of their ranks.
        rank_interval: 95 % percentile interval of it; None where a task has fewer than `LEAST` patients.
        score: Mean over the tasks of its mean score.
        score_interval: 95 % interval of it.
    """

    rank: np.ndarray
    rank_interval: tuple[tuple[float, float], ...] | None
    score: np.ndarray
    score_interval: tuple[Interval, ...]


def over_tasks(tasks: Sequence[np.ndarray]) -> OverTasks:
    """Mean rank and mean score over several tasks.

    Tasks count alike (as in Demsar 2006, JMLR 7). For the interval of the mean rank the patients of each task
    are drawn with replacement, the same for all rows. The interval of the mean score is m +- t s, with s^2
    the sum of SD_i^2 / n_i over T^2 and Satterthwaite's degrees of freedom, cut off at 0 and 1. Both hold for
    these tasks alone: a handful of tasks supports no claim about others.

    Args:
        tasks: For each task the scores [rows, patients] of the same rows, none NaN.

    Returns:
        What is known of each row.
    """
    from scipy.stats import rankdata

    means = np.array([scores.mean(axis=1) for scores in tasks])
    ranks = rankdata(-np.round(means, DECIMALS), axis=1).mean(axis=0)
    return OverTasks(ranks, _rank_intervals(tasks), means.mean(axis=0), _score_intervals(tasks, means))


def _rank_intervals(tasks: Sequence[np.ndarray]) -> tuple[tuple[float, float], ...] | None:
    from scipy.stats import rankdata

    if min(scores.shape[1] for scores in tasks) < LEAST:
        return None
    rng = np.random.default_rng(0)
    total = np.zeros((len(tasks[0]), RESAMPLES))
    for scores in tasks:
        n = scores.shape[1]
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        total += rankdata(-np.round(scores @ drawn.T / n, DECIMALS), axis=0)
    low, high = np.quantile(total / len(tasks), ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=1)
    return tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))


def _score_intervals(tasks: Sequence[np.ndarray], means: np.ndarray) -> tuple[Interval, ...]:
    from scipy.stats import t as student

    count = len(tasks)
    patients = min(scores.shape[1] for scores in tasks)
    if patients < LEAST:
        return tuple(Interval(None, None, patients, "too few patients") for _ in tasks[0])
    found = []
    for row, middle in enumerate(means.mean(axis=0).tolist()):
        full = together(
            Noise(float(np.var(scores[row], ddof=1)) / scores.shape[1] / count**2, scores.shape[1] - 1)
            for scores in tasks
        )
        if full.variance == 0:
            found.append(Interval(None, None, patients, "no spread"))
            continue
        width = float(student.ppf((1 + LEVEL) / 2, full.df)) * full.variance**0.5
        found.append(Interval(max(0.0, middle - width), min(1.0, middle + width), patients))
    return tuple(found)
