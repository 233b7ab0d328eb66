"""What is wrong with the voxels of a scan, whatever file they come from."""

from __future__ import annotations

import numpy as np

from usbench.runtime.console import count


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
        return f"{count(broken, 'voxel')} of {name} {'is' if broken == 1 else 'are'} NaN or infinite"
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


def shape_fault(shape: tuple[int, ...], name: str, channel: int | None) -> tuple[str, str] | None:
    """What is wrong with the shape of a file for a scan, and the remedy; None where it fits.

    Args:
        shape: of the voxels in the file.
        name: of the modality.
        channel: which volume on the fourth axis is meant; None where there should be one alone.
    """
    if len(shape) == 3 and channel in (None, 0):
        return None
    if len(shape) == 4 and (shape[3] == 1 if channel is None else channel < shape[3]):
        return None
    if len(shape) == 4 and channel is None:
        what = f"it holds {shape[3]} volumes, and the task file does not say which is {name}"
        return what, f"write 'channel: 0' (to {shape[3] - 1}) for {name} in the task file"
    if channel is not None and len(shape) in (3, 4):
        volumes = shape[3] if len(shape) == 4 else 1
        return f"it holds {count(volumes, 'volume')}, no channel {channel} for {name}", "correct 'channel'"
    return f"shape {shape}, expected three axes, or a fourth of channels", "correct the image"
