"""Signs for whole patients: what the differences between rows could be as well if rows were equal."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

EXACT = 12
"""Up to so many patients every pattern of signs is taken."""

FLIPS = 9_999
"""Random patterns for more patients, besides the one that was observed."""

ALPHA = 0.05
"""A corrected p of at most so much separates two rows."""


@lru_cache(maxsize=4)
def signs(patients: int, flips: int = FLIPS) -> np.ndarray:
    """Patterns of signs, one sign a patient, the observed one (all +1) first: [patterns, patients].

    A pattern and its opposite give the same two-sided statistic, so of up to `EXACT` patients it is every
    pattern whose first sign is +1, 2^(n-1) of them; of more, `flips` random ones of a fixed seed besides the
    first.
    """
    if patients <= EXACT:
        places = np.arange(2 ** max(patients - 1, 0))[:, None]
        rest = 1 - 2 * ((places >> np.arange(max(patients - 1, 0))) & 1)
        found = np.concatenate([np.ones((len(places), min(patients, 1)), dtype=int), rest], axis=1)
    else:
        drawn = np.random.default_rng(0).integers(0, 2, size=(flips, patients), dtype=np.int8)
        found = np.concatenate([np.ones((1, patients), dtype=np.int8), 1 - 2 * drawn])
    found = found.astype(np.float32)
    found.setflags(write=False)
    return found


def smallest_p(patients: int) -> float:
    """The smallest p that so many patients can give: 2^(1-n), one pattern of signs of all of them."""
    return min(1.0, 2.0 ** (1 - patients))


def can_separate(patients: int) -> bool:
    """Whether so many patients can separate anything at all: from 6 on."""
    return smallest_p(patients) <= ALPHA


def can_rule_out(patients: int) -> bool:
    """Whether so many patients can rule a row out as best, one-sided: from 5 on."""
    return smallest_p(patients) / 2 <= ALPHA
