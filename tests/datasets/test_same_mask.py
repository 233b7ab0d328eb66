"""Two patients with one mask: noted by `data check`, since only the user knows whether that is meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from kit.synthetic import save_nifti, write_msd

from usbench.datasets.check import check
from usbench.datasets.tasks import task_from_folder


def test_a_mask_that_was_copied_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_msd(tmp_path / "set", ("a", "b", "c"))
    shutil.copy(root / "labelsTr" / "a.nii.gz", root / "labelsTr" / "b.nii.gz")
    other = np.zeros((8, 9, 7), dtype=np.uint8)
    other[3:6, 2:6, 2:4] = 1
    save_nifti(root / "labelsTr" / "c.nii.gz", other, np.diag([2.0, 2.0, 3.0, 1.0]))
    problems = check(task_from_folder(root), root)
    said = capsys.readouterr().err
    assert problems == []
    assert "case b has the same mask as case a, voxel by voxel" in said
    assert "case c" not in said
