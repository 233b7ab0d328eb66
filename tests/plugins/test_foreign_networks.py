"""Networks that nobody here wrote, as plugins of a few lines: each keeps the contract."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import usbench
from usbench.checks.suite import CHECKS
from usbench.methods.registry import methods_in_file

FILES = sorted((Path(__file__).parent / "networks").glob("*.py"))
NEEDS = {"unetr": ("monai", "einops"), "attention_unet": ("monai",)}
FAST = ("shape", "dtype", "gradients", "same-output", "samples", "pickles")


def need(file: Path) -> None:
    for module in NEEDS.get(file.stem, ()):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def test_there_are_five_of_at_most_15_lines() -> None:
    assert [file.stem for file in FILES] == ["attention_unet", "backbone", "dpt", "segformer", "unetr"]
    for file in FILES:
        lines = [line for line in file.read_text().splitlines() if line.strip()]
        assert len(lines) <= 15, f"{file}: {len(lines)} lines"


LARGE = ("dpt", "segformer", "unetr")


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=pytest.mark.slow if file.stem in LARGE else ()) for file in FILES],
    ids=lambda file: file.stem,
)
def test_keeps_the_contract_at_first_sight(file: Path) -> None:
    need(file)
    verdicts = usbench.check(file, checks=FAST, fusions=methods_in_file(file)[0].fusions[-1:])
    assert {v.check for v in verdicts} >= {*FAST, "fusions", "builds"}
    assert [v for v in verdicts if v.state != "pass"] == []


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_keeps_the_whole_contract(file: Path) -> None:
    need(file)
    verdicts = usbench.check(file)
    (method,) = methods_in_file(file)
    assert len(verdicts) == len(CHECKS) * len(method.fusions)
    assert [v for v in verdicts if v.state == "fail"] == []
    shared = {(f, c) for f in method.fusions[1:] for c in ("logits", "overfits")}
    absent = {(v.fusion, v.check) for v in verdicts if v.state == "n/a"}
    frozen = {(f, "frozen") for f in method.fusions if method.name != "unetr"}
    # None of them asks which modalities are there; late fusion does on their behalf.
    present = {(f, "present") for f in method.fusions if f != "late"}
    assert absent == shared | frozen | present


@pytest.mark.parametrize(("name", "fusion"), [("segformer", "early"), ("backbone", "late")])
def test_is_trained_and_scored_as_any_other(
    name: str, fusion: str, tmp_path: Path, small_prostate: Path
) -> None:
    (file,) = (file for file in FILES if file.stem == name)
    (result,) = usbench.run(
        method=name,
        fusion=fusion,
        task="msd-prostate",
        data_dir=small_prostate,
        plugins=[file],
        preset="smoke",
        runs_dir=tmp_path / "runs",
        device="cpu",
    )
    assert result.data["method"]["origin"] == f"file {file}"
    assert len(result.rows) == len(result.data["split"]["test"])
