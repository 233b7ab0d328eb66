"""The example of a network of volumes: short, and it keeps the contract."""

from __future__ import annotations

from pathlib import Path

from kit.places import ROOT

import usbench
from usbench.methods.registry import methods_in_file
from usbench.testing import MethodTests

FILE = ROOT / "examples" / "volumes.py"


class TestExample(MethodTests):
    (method,) = methods_in_file(FILE)
    modalities = (2, 3)


def test_it_has_forty_lines_at_most_and_runs(small_prostate: Path, tmp_path: Path) -> None:
    assert len(FILE.read_text().splitlines()) <= 40
    (result,) = usbench.run(
        method="small-3d",
        plugins=[FILE],
        fusion="hybrid",
        task="msd-prostate",
        preset="smoke",
        device="cpu",
        data_dir=small_prostate,
        runs_dir=tmp_path,
        settings={"train.epochs": 1},
    )
    assert result.data["config"]["volume"]["mode"] == "patch"
