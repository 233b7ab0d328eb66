"""The classes of a task, and how a mask holds them: the one place that knows the values of a mask.

Classes that exclude each other: a voxel of class i (from 0) has the value i + 1, all others 0. Regions, which
may overlap: bit i, of value 2**i, is set in every voxel of region i, and a voxel in no region is 0. Both fit
into uint8, so a task has at most `MOST_REGIONS` regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from usbench.errors import UsbenchError

MOST_REGIONS = 8
"""So many bits has a voxel of a mask."""


@dataclass(frozen=True)
class Structure:
    """One foreground class, such as the liver.

    Attributes:
        name: as in tables: lower-case letters, digits and hyphens.
        words: as in prompts and pictures.
        labels: the values in raw masks that make it up.
        ranges: used instead where a data set gives ranges of grey values (CHAOS): pairs of the lowest and
            the highest value, both included.
        threshold: of a region: where its sigmoid is above this, a voxel is in it. Between 0 and 1. Classes
            that exclude each other have no thresholds of their own.
    """

    name: str
    words: str
    labels: tuple[int, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    threshold: float = 0.5


def value_of(index: int, regions: bool) -> int:
    """What a mask holds for class `index` (from 0): a value of its own, or the value of its bit.

    Raises:
        UsbenchError: for a region beyond the eighth.
    """
    if not regions:
        return index + 1
    if index >= MOST_REGIONS:
        raise UsbenchError(
            f"a mask holds at most {MOST_REGIONS} regions, this task has more; split it into two tasks"
        )
    return 1 << index


def largest_value(classes: int, regions: bool) -> int:
    """The largest value that a mask of so many classes can hold."""
    return 2 * value_of(classes - 1, regions) - 1 if regions else classes


def is_class(mask: Any, index: int, regions: bool) -> Any:
    """Where a mask shows class `index` (from 0): bool, of the shape of `mask`, an array or a tensor."""
    value = value_of(index, regions)
    return (mask & value) != 0 if regions else mask == value


def class_maps(mask: np.ndarray, classes: int, regions: bool) -> np.ndarray:
    """A mask as one map a class: bool [K, ...] from integers [...]."""
    return np.stack([is_class(mask, index, regions) for index in range(classes)])


def add_class(mask: np.ndarray, index: int, where: np.ndarray, regions: bool) -> None:
    """Mark class `index` (from 0) in a uint8 mask, in place.

    Args:
        mask: uint8, [X, Y, Z] or any other shape. A class replaces another, a region joins those that are
            there.
        index: The class.
        where: bool, of the shape of `mask`.
        regions: Whether the classes of the task are regions.
    """
    value = np.uint8(value_of(index, regions))
    if regions:
        np.bitwise_or(mask, value, out=mask, where=where)
    else:
        np.copyto(mask, value, where=where)


def value_fault(mask: np.ndarray, names: Sequence[str], regions: bool) -> str:
    """What is wrong with the values of a uint8 mask [X, Y, Z], or "".

    names: of the classes. regions: whether they are regions.
    """
    most, allowed = int(mask.max()), largest_value(len(names), regions)
    if most <= allowed:
        return ""
    word = "region" if regions else "class"
    several = "" if len(names) == 1 else "s" if regions else "es"
    bound = f", whose bits make at most {allowed}" if regions else ""
    there = f"{len(names)} {word}{several} ({', '.join(names)}){bound}"
    return f"the mask holds {most}, but the task has {there}"


def mask_key(classes: Sequence[Structure], regions: bool) -> list[dict[str, Any]]:
    """All of some classes that decides what is in a mask: not their thresholds."""
    kept = [{k: v for k, v in asdict(one).items() if k != "threshold"} for one in classes]
    return [{**one, "region": True} for one in kept] if regions else kept


def class_faults(classes: Sequence[Structure], regions: bool) -> Iterator[str]:
    """What is wrong with the classes of a task as regions, or as none, each with its remedy."""
    if not isinstance(regions, bool):
        yield f"regions is {regions!r}; write True or False"
        return
    if regions and len(classes) > MOST_REGIONS:
        yield f"it has {len(classes)} regions, a mask holds at most {MOST_REGIONS}; split it into two tasks"
    for one in classes:
        number = isinstance(one.threshold, int | float) and not isinstance(one.threshold, bool)
        if not number or not 0 < one.threshold < 1:
            yield f"class {one.name} has threshold {one.threshold!r}; give a number between 0 and 1"
        elif one.threshold != 0.5 and not regions:
            yield (
                f"class {one.name} has threshold {one.threshold:g}, which only regions have; "
                "set regions=True, or leave the threshold out"
            )
