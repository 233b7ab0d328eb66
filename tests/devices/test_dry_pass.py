"""What runs first on a real GPU runs here too, small, and says what it cannot try."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_a_dry_pass_skips_what_needs_a_gpu_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    words = ["--device", "cpu", "--repeat", "1", "--only", "nonsense,norm,memory,graphs,kernels"]
    made = subprocess.run(
        [sys.executable, str(SCRIPT), str(out), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    lines = out.read_text().splitlines()
    assert made.returncode == 1, made.stderr
    assert lines[0].startswith("# CPU")
    assert "dry pass, no figure counts" in lines[0]
    found = dict(line.strip("| ").split(" | ", 1) for line in lines[4:])
    assert found["nonsense"].startswith("FAILED: KeyError")
    assert found["norm"] == found["memory"] == found["graphs"] == "skipped: needs a GPU"
    # resnet18 has 20 batch norms, the decoder of five blocks two each.
    assert found["SyncBatchNorm"] == "30 norms converted, 0 left"
    assert "estimate" in found["kernels of a U-Net step at 32"]
