"""From the values of a raw mask to the classes of a task."""

from __future__ import annotations

import numpy as np

from usbench.contracts.classes import add_class
from usbench.contracts.data import Task

# A value this close to an integer is that integer: what scaling and floats make of it.
_WITHIN = 1e-3

_SHOWN = 8


def class_mask(raw: np.ndarray, task: Task) -> tuple[np.ndarray | None, str]:
    """The classes of a task in a raw mask.

    Args:
        raw: the values of the file, [X, Y, Z], numbers of any type. One that lies within 0.001 of an integer
            is that integer; any other is refused.
        task: its classes name the values that make them up.

    Returns:
        uint8 [X, Y, Z], with classes or regions as `Case.mask` has them, and ""; or None and what is wrong.
    """
    of_class: dict[int, list[int]] = {0: []}
    for index, structure in enumerate(task.classes):
        for value in structure.labels:
            of_class.setdefault(value, []).append(index)
    whole = raw.dtype.kind in "iub"
    mask = np.zeros_like(raw, dtype=np.uint8)
    unknown: dict[str, float] = {}
    for k in range(raw.shape[-1]):  # a slice at a time, so that a large mask of floats is not held twice
        values = raw[..., k] if whole else np.rint(raw[..., k])
        known = np.zeros(values.shape, dtype=bool)
        for value, indices in of_class.items():
            here = values == value
            known |= here
            for index in indices:
                add_class(mask[..., k], index, here, task.regions)
        if not whole:
            known &= np.abs(raw[..., k] - np.where(known, values, 0)) <= _WITHIN
        if not known.all():
            found = np.unique(raw[..., k][~known])
            unknown |= {_shown(v): float(v) for v in (*found[: _SHOWN + 1], found[-1])}
    if not unknown:
        return mask, ""
    listed = sorted(unknown, key=lambda shown: (np.isnan(unknown[shown]), unknown[shown]))
    shown = ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")
    allowed = ", ".join(str(v) for v in sorted(of_class))
    nearly = "" if whole else f", each to within {_WITHIN:g}"
    return None, f"mask values {shown} are unknown, allowed are {allowed}{nearly}"


def _shown(value: np.generic) -> str:
    """The value with all the digits that its type holds; integers without a point."""
    return str(int(value)) if np.isfinite(value) and value == np.rint(value) else str(value)  # type: ignore[call-overload]
