"""What a network loses where modalities are missing, damaged or noisy: conditions, and averages over them.

Liao et al.: Benchmarking Multi-modal Semantic Segmentation under Sensor Failures: Missing and Noisy Modality
Robustness (CVPR workshops 2025) asks it for cameras and depth; here it is asked for the scans of a patient. A
trained network is tested, nothing is trained again. Every average is taken for each patient first, so that
intervals and tests over patients are those of any other score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

Kind = Literal["clean", "missing", "random", "gaussian", "salt-pepper"]

SHARES = (0.25, 0.5, 0.75)
"""Random missing: the share of the voxels of a damaged modality that are set to the missing value."""

SIGMAS = (0.1, 0.2, 0.5)
"""Gaussian noise: its standard deviation, as a share of that of the foreground."""

PEPPER = (0.05, 0.1, 0.2)
"""Salt and pepper: the share of voxels that get the highest or the lowest value of their scan."""

FAILURE = (0.2, 0.1, 0.05)
"""The chances p with which a modality fails, each by itself, in the expected averages."""


@dataclass(frozen=True)
class Condition:
    """One way in which the scans of a patient are damaged.

    Attributes:
        kind: "clean", "missing" (whole modalities), "random" (a share of their voxels), "gaussian" or
            "salt-pepper" (noise).
        modalities: Names of those that are damaged, in the task's order.
        level: The share or sigma; None where there is none.
    """

    kind: Kind
    modalities: tuple[str, ...] = ()
    level: float | None = None

    @property
    def name(self) -> str:
        """What it is called in files: "clean", "missing-t1+t2", "random-0.25-t1", "gaussian-0.1-t1+t2"."""
        parts = [self.kind, *([] if self.level is None else [f"{self.level:g}"]), "+".join(self.modalities)]
        return "-".join(part for part in parts if part)


CLEAN = Condition("clean")


def subsets(modalities: Sequence[str], proper: bool) -> list[tuple[str, ...]]:
    """The non-empty subsets of some modalities, smaller ones first; `proper` leaves out the whole set."""
    sizes = range(1, len(modalities) + (0 if proper else 1))
    return [tuple(some) for size in sizes for some in combinations(modalities, size)]


def conditions_of(modalities: Sequence[str]) -> list[Condition]:
    """All conditions of the track, the clean one first.

    Entire missing: every proper subset of modalities. Random missing: every subset, at each share, all
    modalities at once too, since what is left of them still shows something. Noise: each modality alone and
    all together, at each level.

    Args:
        modalities: Names of the M modalities, in the task's order.

    Returns:
        1 + (2^M - 2) + 3 (2^M - 1) + 6 (M + 1) conditions; for M = 1 noise on all is that on the one.
    """
    alone = [(name,) for name in modalities]
    noisy = alone if len(modalities) == 1 else [*alone, tuple(modalities)]
    found = [CLEAN]
    found += [Condition("missing", some) for some in subsets(modalities, proper=True)]
    found += [Condition("random", some, r) for r in SHARES for some in subsets(modalities, proper=False)]
    found += [Condition("gaussian", some, sigma) for sigma in SIGMAS for some in noisy]
    return found + [Condition("salt-pepper", some, share) for share in PEPPER for some in noisy]


AVERAGES: dict[str, tuple[str, str]] = {
    "clean": ("clean", "nothing is damaged"),
    "emm_avg": ("EMM avg", "entire modalities missing: the mean over every proper subset that is missing"),
    **{
        f"emm_e{100 * p:02.0f}": (
            f"EMM E({p:g})",
            f"entire modalities missing, each with a chance of {p:g}: the expected score; that none is "
            "missing counts, that all are does not",
        )
        for p in FAILURE
    },
    "rmm_avg": ("RMM avg", "a share of voxels missing: the mean over every subset damaged and every share"),
    **{
        f"rmm_e{100 * p:02.0f}": (
            f"RMM E({p:g})",
            f"a share of voxels missing in each modality with a chance of {p:g}: the expected score, the "
            "case that none is damaged among them, mean over the shares",
        )
        for p in FAILURE
    },
    "nm_gaussian": ("NM gauss", "Gaussian noise: the mean over where it is and how strong"),
    "nm_pepper": ("NM s&p", "salt and pepper: the mean over where it is and how much"),
}
"""The averages of the track by name, in order: what tables call each, and a sentence."""


def averages(scores: Mapping[str, float], modalities: Sequence[str]) -> dict[str, float]:
    """The averages of one patient.

    Args:
        scores: A score (DSC, IoU) by name of the condition; NaN where it is undefined.
        modalities: Names of the M modalities.

    Returns:
        By the names of `AVERAGES`; NaN where no condition of it has a score, as with one modality, of which
        none can be missing.
    """
    every, proper = subsets(modalities, proper=False), subsets(modalities, proper=True)
    whole = scores["clean"]
    missing = {some: scores[Condition("missing", some).name] for some in proper}
    damaged = {
        some: _mean([scores[Condition("random", some, share).name] for share in SHARES]) for some in every
    }
    found = {"clean": whole, "emm_avg": _mean(missing.values())}
    found |= {f"emm_e{100 * p:02.0f}": _expected(whole, missing, len(modalities), p) for p in FAILURE}
    found["rmm_avg"] = _mean(damaged.values())
    found |= {f"rmm_e{100 * p:02.0f}": _expected(whole, damaged, len(modalities), p) for p in FAILURE}
    noise = {"nm_gaussian": "gaussian", "nm_pepper": "salt-pepper"}
    for name, kind in noise.items():
        found[name] = _mean([scores[one.name] for one in conditions_of(modalities) if one.kind == kind])
    return found


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _expected(whole: float, damaged: Mapping[tuple[str, ...], float], count: int, p: float) -> float:
    """The mean with weights p^k (1 - p)^(M - k) for k damaged modalities, renormalised over what is there.

    The undamaged scan (k = 0) is part of it.
    """
    if not damaged:
        return math.nan
    terms = [((1 - p) ** count, whole)]
    terms += [(p ** len(some) * (1 - p) ** (count - len(some)), value) for some, value in damaged.items()]
    known = [(weight, value) for weight, value in terms if not math.isnan(value)]
    total = math.fsum(weight for weight, _ in known)
    return math.fsum(weight * value for weight, value in known) / total if known else math.nan
