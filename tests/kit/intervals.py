"""Intervals of means as scipy has them: on the logit scale by the delta method, and of paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.special import expit, logit


def of_scores(values: Sequence[float]) -> tuple[float, float]:
    """95 % of the mean of scores between 0 and 1: Student's interval of its logit, mapped back."""
    mean = np.mean(values)
    scale = stats.sem(values) / (mean * (1 - mean))
    low, high = expit(stats.t.interval(0.95, len(values) - 1, loc=logit(mean), scale=scale))
    return float(low), float(high)


def of_differences(values: Sequence[float]) -> tuple[float, float]:
    """95 % of the mean of paired differences: Student's interval."""
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return float(low), float(high)
