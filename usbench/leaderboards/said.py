"""What must be said of a table besides its numbers: the same masks under two names, a table of one's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from usbench.leaderboards.rows import Row
from usbench.results.masks import find_twins, masks_of_run
from usbench.results.usable import Run

_ROUNDING = 1e-3
"""Numbers that differ by less, relative to the larger, are one setting written twice."""


def same_masks(rows: Sequence[Row]) -> list[str]:
    """A sentence for each group of trainings, rows or seeds of a row, that have the same masks.

    The same counts of voxels in every class are a strong sign by themselves; where the masks of all are
    known, from records or from folders of runs, their voxels decide.

    Args:
        rows: Of a table, with the names that it gives them.
    """
    units: list[tuple[Row, int, list[Run]]] = []
    for row in rows:
        seeds: dict[int, list[Run]] = defaultdict(list)
        for run in row.members:
            seeds[int(run.data["cell"]["seed"])].append(run)
        units += [(row, seed, runs) for seed, runs in sorted(seeds.items())]
    notes = []
    for twins in find_twins([_counts(runs) for _, _, runs in units]):
        some = [units[place] for place in twins.places]
        names = [row.name + (f", seed {seed}" if len(_seeds(row)) > 1 else "") for row, seed, _ in some]
        masks = [_masks(runs) for _, _, runs in some]
        known = [one for one in masks if one]
        if len(known) == len(masks):
            by_voxel = find_twins(known)
            if not by_voxel:
                continue
            what = f"the same masks, voxel by voxel, in {by_voxel[0].words}"
        else:
            what = f"the same counts of voxels in every class, as the same masks have, in {twins.words}"
        notes.append(f"{what[0].upper()}{what[1:]}: {'; '.join(names)}.")
    return notes


def _seeds(row: Row) -> set[int]:
    return {int(run.data["cell"]["seed"]) for run in row.members}


def _counts(runs: Sequence[Run]) -> dict[str, Hashable]:
    """What stands for the mask of each patient in whom something was predicted: scores and counts."""
    found: dict[str, Hashable] = {}
    for run in runs:
        predicted = run.by_class[:, :, 1:3].sum(axis=(1, 2)) > 0
        values = run.by_class.copy()
        values[:, :, 0] = np.nan_to_num(np.round(values[:, :, 0], 9), nan=-1.0)
        found.update(
            (case, one.tobytes())
            for case, one, holds in zip(run.cases, values, predicted, strict=False)
            if holds
        )
    return found


def _masks(runs: Sequence[Run]) -> dict[str, str]:
    """The digest of each mask of some runs that holds something; empty where one is not known."""
    found: dict[str, str] = {}
    for run in runs:
        masks = run.masks
        if masks is None and run.entry is None:
            masks = masks_of_run(run.path, run.cases)
        if masks is None or set(run.cases) - set(masks):
            return {}
        found.update({case: masks[case] for case in _counts([run])})
    return found


def near_tables(details: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> list[list[str]]:
    """For each table a sentence on every other one that differs in what nobody means to compare.

    Args:
        details: For each table what its rows share, by name; "content" is the fingerprint of the data, and
            "task", "kind" and "few" are never near.
        titles: Of the tables.

    Returns:
        The sentences, none for most tables.
    """
    notes: list[list[str]] = [[] for _ in details]
    alike: dict[tuple[Hashable, ...], list[int]] = defaultdict(list)
    for place, one in enumerate(details):
        alike[tuple(str(one.get(name)) for name in _SHARED)].append(place)
    for places in alike.values():
        for i in places:
            notes[i] += [
                f"{words} from the table '{titles[j]}', whose rows it is not compared with."
                for j in places
                if i != j and (words := _near(details[i], details[j]))
            ]
    return notes


_SHARED = ("task", "kind", "limit", "modalities", "classes", "split")


def _near(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """In what little two tables differ, as the beginning of a sentence; "" where they differ in more."""
    keys = sorted({*one, *other})
    unlike = [key for key in keys if repr(one.get(key)) != repr(other.get(key))]
    content = "content" in unlike
    settings = [key for key in unlike if key != "content"]
    if not unlike or not all(_rounded(one.get(key), other.get(key)) for key in settings):
        return ""
    said = [f"{key.split('.', 1)[-1]} {one.get(key)!r} and {other.get(key)!r}" for key in settings]
    if content:
        said.insert(0, f"the fingerprint of the data ({one['content']} and {other['content']})")
    what = " and ".join(said) if len(said) < 3 else "; ".join(said)
    return f"Differs in nothing but {what}{', equal within rounding,' if settings else ''}"


def _rounded(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_rounded, one, other))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    whole = isinstance(one, int) and isinstance(other, int)
    return numbers and abs(one - other) <= (0 if whole else _ROUNDING * max(abs(one), abs(other)))
