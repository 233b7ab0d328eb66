"""Peak memory: of what happened since it was forgotten, not of the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from usbench.runtime import memory

CPU = torch.device("cpu")
MB = 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset the peak")
def test_what_came_before_is_forgotten() -> None:
    large = np.ones(600 * MB, dtype=np.uint8)
    before = memory.peak_memory_mb(CPU)
    del large
    assert memory.peak_memory_mb(CPU) == pytest.approx(before, abs=20)
    assert memory.forget_peak(CPU) == "cell"
    base = memory.peak_memory_mb(CPU)
    assert base < before - 500
    small = np.ones(200 * MB, dtype=np.uint8)
    del small
    assert 180 < memory.peak_memory_mb(CPU) - base < 300


def test_where_it_cannot_be_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_RESET", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none" / "status")
    assert memory.forget_peak(CPU) == "process"
    large = np.ones(300 * MB, dtype=np.uint8)
    del large
    # getrusage counts the peak of the process, whenever it was.
    assert memory.peak_memory_mb(CPU) > 300
