"""The plugin that docs/pipelines.md shows, taken from the page and run."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from kit.places import ROOT

import usbench

PAGE = ROOT / "docs" / "pipelines.md"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sklearn")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    path = tmp_path_factory.mktemp("page") / "voxels.py"
    path.write_text(code)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["early", "late"])
def test_the_plugin_of_the_page_becomes_a_row(
    plugin: Path, fusion: str, small_prostate: Path, tmp_path: Path
) -> None:
    (result,) = usbench.run(
        method="voxels", fusion=fusion, task="msd-prostate", preset="smoke", device="cpu", plugins=[plugin],
        data_dir=small_prostate, runs_dir=tmp_path,
    )  # fmt: skip
    assert {row["case"] for row in result.rows} == set(result.data["split"]["test"])
    assert result.data["outside"]["kind"] == "pipeline"
    folder = result.path
    (mask, *_) = sorted((folder / "predictions").glob("*.nii.gz"))
    assert set(np.unique(nibabel.load(mask).dataobj)) <= {0, 1}
    assert "predicted" in (folder / "pipeline.log").read_text()
    assert not (folder / "pipeline").exists()
