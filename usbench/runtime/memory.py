"""How much memory a cell needs at its peak, where several cells are computed in one process."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
from pathlib import Path

import torch

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def forget_peak(device: torch.device) -> str:
    """Let `peak_memory_mb` start anew from what is in use; "cell" where that was done, else "process".

    On a CPU only Linux can: "5" in clear_refs resets the peak that status shows as VmHWM (proc(5)). What
    the allocator still holds of earlier cells is given back first where the C library can (malloc_trim(3)).
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return "cell"
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    try:
        _RESET.write_text("5")
    except OSError:
        return "process"
    return "cell"


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MB (2^20 bytes): allocated on a GPU, or resident of this whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
