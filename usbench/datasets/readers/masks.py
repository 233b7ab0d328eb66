"""From the values of a raw mask to the classes of a task."""

from __future__ import annotations

import numpy as np

from usbench.contracts.classes import add_class
from usbench.contracts.data import Task


def class_mask(raw: np.ndarray, task: Task) -> tuple[np.ndarray | None, str]:
    """The classes of a task in a raw mask.

    Args:
        raw: the values of the file, [X, Y, Z], numbers of any type.
        task: its classes name the values that make them up.

    Returns:
        uint8 [X, Y, Z], with classes or regions as `Case.mask` has them, and ""; or None and what is wrong.
    """
    allowed = {0, *(value for c in task.classes for value in c.labels)}
    if sum(int(np.count_nonzero(raw == v)) for v in allowed) != raw.size:
        unknown = [v for v in np.unique(raw).tolist() if v not in allowed]
        shown = ", ".join(f"{v:g}" for v in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        known = ", ".join(str(v) for v in sorted(allowed))
        return None, f"mask values {shown} are unknown, allowed are {known}"
    mask = np.zeros_like(raw, dtype=np.uint8)
    for index, structure in enumerate(task.classes):
        for value in structure.labels:
            add_class(mask, index, raw == value, task.regions)
    return mask, ""
