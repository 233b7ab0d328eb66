"""What is wrong with the voxels of a scan, whatever file they come from."""

from __future__ import annotations

import numpy as np


def plain_numbers(values: np.ndarray) -> bool:
    """Whether voxels of any shape are numbers, and not colours or complex values."""
    return values.dtype.kind in "iufb"


def as_scan(values: np.ndarray) -> np.ndarray:
    """Voxels of any shape as float32; what float32 cannot hold is infinite, and `scan_fault` names it."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def scan_fault(volume: np.ndarray, name: str) -> str:
    """Why nothing can be learned from a scan, or "".

    Args:
        volume: float32 [X, Y, Z].
        name: of its modality.
    """
    broken = volume.size - int(np.isfinite(volume).sum())
    if broken:
        return f"{broken} voxels of {name} are NaN or infinite"
    if volume.min() == volume.max():
        return f"constant image, every voxel of {name} is {volume.flat[0]:g}"
    return ""


def scan_remedy(fault: str, without: str = "drop the case") -> str:
    """What to do about a fault of `scan_fault`.

    Args:
        fault: what it said.
        without: how the case is left out.
    """
    return without if fault.startswith("constant") else f"replace them, or {without}"
