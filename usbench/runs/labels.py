"""From logits to a mask: on the grid of the network, and on that of the patient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from usbench.contracts.classes import value_of

_CACHED = 1 << 20  # so many enlarged logits at a time stay in the cache of a processor


def to_labels(
    logits: Tensor, thresholds: Mapping[str, float] | None = None, side: int | None = None
) -> Tensor:
    """The mask that logits decide on, on their own grid or enlarged to another.

    Args:
        logits: float32 [B, K, H, W].
        thresholds: Of regions, in the order of the logits; None where classes exclude each other.
        side: Of the native slices in pixels, where the mask is to lie on them; None for [H, W].

    Returns:
        uint8 [B, H, W] or [B, side, side]. Of classes that exclude each other the most probable one whose
        sigmoid is above 0.5, the first of equals, else background; of regions all whose sigmoid is above
        their threshold.
    """
    if thresholds is not None:
        return _decided(_above, enlarged(logits, side), tuple(thresholds.values()))
    logits = logits.contiguous()  # some networks give a class beside the other, pixel by pixel
    own = tuple(logits.shape[2:])
    mask = logits.new_zeros((len(logits), *(own if side is None else (side, side))), dtype=torch.uint8)
    for some, classes in _neighbours(_ever_above_zero(logits), _CACHED // mask[0].numel()):
        if classes:  # The others need not be enlarged: between logits that are not above 0 none is.
            maps = logits[some] if len(classes) == logits.shape[1] else logits[some][:, classes]
            values = [value_of(index, regions=False) for index in classes]
            mask[some] = _decided(_most_probable, enlarged(maps, side), values)
    return mask


def enlarged(logits: Tensor, side: int | None) -> Tensor:
    """Logits on the native in-plane grid, bilinear.

    Args:
        logits: [B, K, S, S].
        side: Of the native slice, in pixels; None leaves them as they are.

    Returns:
        [B, K, side, side].
    """
    if side is None or logits.shape[-1] == side:
        return logits
    return functional.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)


def _ever_above_zero(logits: Tensor) -> list[list[int]]:
    """For each slice of logits [B, K, H, W] the classes that have a logit above 0, or NaN."""
    flat = logits.flatten(2)
    if flat.device.type == "cpu":
        highest = torch.from_numpy(flat.detach().numpy().max(axis=2))
    else:
        highest = flat.amax(dim=2)
    return [[index for index, yes in enumerate(row) if yes] for row in (~(highest <= 0)).tolist()]


def _neighbours(classes: Sequence[list[int]], maps: int) -> Iterator[tuple[slice, list[int]]]:
    """Slices one after the other that have the same classes, with at most so many maps together."""
    start = 0
    for same, group in groupby(classes):
        stop = start + len(list(group))
        step = max(1, maps // max(1, len(same)))
        for first in range(start, stop, step):
            yield slice(first, min(first + step, stop)), same
        start = stop


def _decided(
    decide: Callable[[Any, Any, Sequence[float]], Any], logits: Tensor, by: Sequence[float]
) -> Tensor:
    if logits.device.type == "cpu":  # NumPy compares three times as fast there.
        return torch.from_numpy(decide(np, logits.detach().numpy(), by))
    return torch.as_tensor(decide(torch, logits, by))


def _most_probable(of: Any, logits: Any, values: Sequence[float]) -> Any:
    """uint8 [B, H, W] with the value of the most probable class, by NumPy or torch (`of`).

    By comparisons, since the index of a maximum takes longer than a small network. Of the classes that were
    ever the most probable so far, the last one is the most probable of all, and values rise.
    """
    highest = logits[:, 0] + 0  # a copy
    said = of.greater(highest, 0)
    number = said.view(of.uint8)
    label = of.full_like(number, values[0])
    for index, value in enumerate(values[1:], start=1):
        one = logits[:, index]
        of.greater(one, highest, out=said)
        number *= value
        of.maximum(label, number, out=label)
        of.maximum(highest, one, out=highest)  # NaN where one of the two is
    of.greater(highest, 0, out=said)
    return label * number


def _above(of: Any, logits: Any, thresholds: Sequence[float]) -> Any:
    """uint8 [B, H, W] with the bit of each region above its threshold, by NumPy or torch (`of`)."""
    mask = of.zeros_like(logits[:, 0], dtype=of.uint8)
    for index, threshold in enumerate(thresholds):
        # Held against the logit, so that a sigmoid which rounds to 0 or 1 is not needed.
        said = of.greater(logits[:, index], math.log(threshold / (1 - threshold))).view(of.uint8)
        said *= value_of(index, regions=True)
        mask |= said
    return mask
