"""How a process of usbench shares the machine: set once, before torch is imported."""

from __future__ import annotations

import gc
import os
import sys

# Numbers of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def settle() -> None:
    """Threads that wait sleep, and freed memory is kept for the next tensor.

    Threads that spin while they wait slow training twentyfold where another program shares the cores.
    glibc gives every large block back to the system when it is freed and takes a fresh one, cleared page
    by page, for the next: a fifth of a training step on a CPU. For the command line and the processes that
    it starts; a program that uses usbench as a library keeps its own policy.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, size in (
            (_MMAP_THRESHOLD, 1 << 30),
            (_TRIM_THRESHOLD, (1 << 31) - 1),
            (_TOP_PAD, 64 << 20),
        ):
            mallopt(name, size)


def import_torch() -> None:
    """Import torch without looking for garbage meanwhile: a million objects are made, and all of them stay.

    A tenth of the time that the import takes. What is imported already costs nothing.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        import torch as torch
    finally:
        if collects:
            gc.enable()


def leave_quickly() -> None:
    """Spare the interpreter its last look for garbage, which takes as long as a quarter of importing torch.

    For a process that ends now: its memory goes back to the system in any case. What is registered for the
    end of the process (`atexit`, `weakref.finalize`) is still called.
    """
    gc.freeze()
