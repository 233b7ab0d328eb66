"""The statistics of the leaderboard, on plain arrays, usable alone. Every random draw has a fixed seed.

`separate` tests pairs of rows by flipping whole patients, `ruled_out` says which rows are not the best,
`rank_sets` which ranks a row may have; `score_interval` and `difference_interval` are the intervals of means,
`of_seeds` the variance between trainings, `over_tasks` means over tasks; `split_half` and `ranking_schemes`
say whether the order of rows would be another with other patients or another scheme.

    import numpy as np
    from usbench.leaderboards.stats import separate
    separate(np.array([[0.9, 0.8, 0.9, 0.7, 0.9, 0.8], [0.7, 0.7, 0.6, 0.6, 0.8, 0.5]])).p   # 1/32
"""

from __future__ import annotations

from usbench.leaderboards.stats.average import mean
from usbench.leaderboards.stats.flips import ALPHA, can_rule_out, can_separate, smallest_p
from usbench.leaderboards.stats.intervals import Interval, difference_interval, score_interval
from usbench.leaderboards.stats.large import MANY, Large, separate_many
from usbench.leaderboards.stats.over_tasks import OverTasks, over_tasks
from usbench.leaderboards.stats.ranks import rank_sets, split_half
from usbench.leaderboards.stats.schemes import Schemes, ranking_schemes
from usbench.leaderboards.stats.separation import Separation, ruled_out, separate
from usbench.leaderboards.stats.trainings import SEEDS, Noise, of_seeds

__all__ = [
    "ALPHA",
    "MANY",
    "SEEDS",
    "Interval",
    "Large",
    "Noise",
    "OverTasks",
    "Schemes",
    "Separation",
    "can_rule_out",
    "can_separate",
    "difference_interval",
    "mean",
    "of_seeds",
    "over_tasks",
    "rank_sets",
    "ranking_schemes",
    "ruled_out",
    "score_interval",
    "separate",
    "separate_many",
    "smallest_p",
    "split_half",
]
