"""Late fusion of masks that are no longer logits: every modality has a vote on every voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from usbench.contracts.classes import add_class, class_maps


def vote(masks: Sequence[np.ndarray], classes: int, regions: bool) -> np.ndarray:
    """Merge the masks of M modalities.

    As in the merge "vote" of late fusion a region is where more than half of the modalities say so; of
    classes that exclude each other a voxel is the one that most modalities say, background among them. There
    a tie goes by the mean logit; hard masks have none, so a tie is background: nothing is marked that is not
    more likely than its alternative. With two modalities that is where both agree.

    Args:
        masks: uint8 [X, Y, Z] each, as `Case.mask` has them.
        classes: K.
        regions: Whether they may overlap.

    Returns:
        uint8 [X, Y, Z], likewise.
    """
    counts = np.zeros((classes, *masks[0].shape), dtype=np.uint16)
    for mask in masks:
        counts += class_maps(mask, classes, regions)
    merged = np.zeros(masks[0].shape, dtype=np.uint8)
    for index in range(classes):
        if regions:
            wins = 2 * counts[index] > len(masks)
        else:
            rivals = [counts[other] for other in range(classes) if other != index]
            rivals.append(len(masks) - counts.sum(axis=0, dtype=np.uint16))
            wins = counts[index] > np.max(rivals, axis=0)
        add_class(merged, index, wins, regions)
    return merged
