"""From the values of a raw mask to the classes of a task."""

from __future__ import annotations

import numpy as np

from usbench.contracts.data import Task


def class_mask(raw: np.ndarray, task: Task) -> tuple[np.ndarray | None, str]:
    """The classes of a task in a raw mask.

    Args:
        raw: the values of the file, [X, Y, Z], numbers of any type.
        task: its classes name the values that make them up.

    Returns:
        uint8 [X, Y, Z], i + 1 for the i-th class and 0 for background, and ""; or None and what is wrong.
    """
    allowed = {0, *(value for c in task.classes for value in c.labels)}
    if sum(int(np.count_nonzero(raw == v)) for v in allowed) != raw.size:
        unknown = [v for v in np.unique(raw).tolist() if v not in allowed]
        shown = ", ".join(f"{v:g}" for v in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        known = ", ".join(str(v) for v in sorted(allowed))
        return None, f"mask values {shown} are unknown, allowed are {known}"
    mask = np.zeros_like(raw, dtype=np.uint8)
    for index, structure in enumerate(task.classes, start=1):
        for value in structure.labels:
            np.copyto(mask, index, where=raw == value)
    return mask, ""
