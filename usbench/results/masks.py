"""What a mask is, whatever file it lies in: a digest of its voxels; and whose masks are the same."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from usbench.storage.nifti_masks import load_mask

FOLDER = "predictions"
"""The folder of the masks of a run, in that of the run."""


def mask_digest(labels: np.ndarray) -> str:
    """The digest of a mask: of its shape and its voxels, not of the header or of how it was packed.

    Args:
        labels: Whole numbers [X, Y, Z] on the grid of the patient.

    Returns:
        SHA-256, hex.
    """
    shape = "x".join(map(str, labels.shape))
    voxels = np.ascontiguousarray(labels.astype(np.uint8, copy=False).T)
    return hashlib.sha256(f"{shape};".encode() + voxels.tobytes()).hexdigest()


def masks_of_run(run: Path, cases: Sequence[str]) -> Mapping[str, str] | None:
    """The digest of each mask of a run by case; None where one was not kept or cannot be read.

    Args:
        run: The folder of the run.
        cases: The ids of its test cases.
    """
    found = {}
    for case in cases:
        try:
            found[case] = mask_digest(load_mask(run / FOLDER / f"{case}.nii.gz")[0])
        except (OSError, ValueError):
            return None
    return found


Unit = Mapping[str, Hashable]
"""What stands for the masks of one training: by patient a digest or counts of voxels, without empty masks."""


@dataclass(frozen=True)
class Twins:
    """Trainings that have the same masks.

    Attributes:
        places: Which ones, by number.
        same: In how many patients, at least.
        shared: How many patients with a mask that holds something they share, at most.
    """

    places: tuple[int, ...]
    same: int
    shared: int

    @property
    def words(self) -> str:
        """In how many patients, for people."""
        return (
            f"all {self.shared} patients"
            if self.same == self.shared
            else f"{self.same} of {self.shared} patients"
        )


def find_twins(units: Sequence[Unit]) -> list[Twins]:
    """Trainings that have the same mask in at least half of the patients that they share, and in two or more.

    Networks that were trained apart differ in some voxel of nearly every patient.

    Args:
        units: One a training, that is a row and a seed.

    Returns:
        Groups of two or more, in order.
    """
    exact: dict[frozenset[tuple[str, Hashable]], list[int]] = defaultdict(list)
    for place, unit in enumerate(units):
        if unit:
            exact[frozenset(unit.items())].append(place)
    heads = [places[0] for places in exact.values()]
    where: dict[tuple[str, Hashable], list[int]] = defaultdict(list)
    for head in heads:
        for item in units[head].items():
            where[item].append(head)
    alike: Counter[tuple[int, int]] = Counter()
    for members in where.values():
        alike.update(combinations(members, 2))
    found = [
        Twins(tuple(places), len(units[places[0]]), len(units[places[0]]))
        for places in exact.values()
        if len(places) > 1 and len(units[places[0]]) >= _FEWEST
    ]
    for (one, other), same in sorted(alike.items()):
        shared = len(units[one].keys() & units[other].keys())
        if same >= _FEWEST and 2 * same >= shared:
            found.append(Twins((one, other), same, shared))
    return sorted(found, key=lambda twins: twins.places)


_FEWEST = 2
"""One patient may have the same mask by chance: of a small lesion, say."""
