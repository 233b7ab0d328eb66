"""MulModSeg keeps the contract of methods: with texts where weights are there, and with each control."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import usbench
from usbench.methods.mulmodseg.model import METHOD
from usbench.results.io import load_result
from usbench.testing import MethodTests


@pytest.fixture
def bundled() -> None:
    if not (Path(os.environ.get("USBENCH_WEIGHTS", "/nowhere")) / "minilm").is_dir():
        pytest.skip("USBENCH_WEIGHTS names no folder of `usbench weights fetch minilm`")


@pytest.mark.slow
class TestMulModSeg(MethodTests):
    method = METHOD
    settings: dict[str, Any] = {"method.text": "random"}  # noqa: RUF012


@pytest.mark.slow
class TestLearnedOnTheClassicUNet(MethodTests):
    method = METHOD
    settings: dict[str, Any] = {"method.text": "learned", "method.network": "unet-classic"}  # noqa: RUF012


@pytest.mark.slow
@pytest.mark.usefixtures("bundled")
class TestTexts(MethodTests):
    method = METHOD
    modalities = (2,)


@pytest.mark.slow
@pytest.mark.usefixtures("bundled")
@pytest.mark.parametrize("fusion", METHOD.fusions)
def test_a_run_says_what_it_was_told(fusion: str, small_prostate: Path, tmp_path: Path) -> None:
    (result,) = usbench.run(
        "mulmodseg", fusion, "msd-prostate", data_dir=small_prostate, preset="smoke", device="cpu",
        runs_dir=tmp_path,
    )  # fmt: skip
    found = load_result(result.path)
    assert found.data["method"]["weights"] == "minilm texts"
    assert found.data["method"]["licence"] == "minilm: Apache-2.0 (its package: MIT)"
    (track,) = usbench.evaluate(result.path, data_dir=small_prostate, device="cpu")
    assert (track.path / "track.json").is_file()
