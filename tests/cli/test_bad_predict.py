"""Bad input of `usbench predict`: exit code 1, one line with file, value and remedy, nothing written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
from kit.bright_runs import kept_run, plugin
from kit.synthetic import cut, save_nifti

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.fixture(scope="module")
def kept(small_prostate: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("kept")
    options = {"task": "msd-prostate", "data_dir": small_prostate}
    one = kept_run(plugin(folder), folder / "runs", **options)
    two = kept_run(plugin(folder), folder / "runs", modalities=["t2"], **options)
    bare = kept_run(plugin(folder), folder / "bare", keep_weights=False, **options)
    return SimpleNamespace(one=one.path, two=two.path, bare=bare.path)


@pytest.fixture
def place(kept: Any, tmp_path: Path) -> SimpleNamespace:
    random = np.random.default_rng(0)
    for name in ("t2", "adc"):
        array = random.normal(100, 20, (24, 20, 6)).astype(np.float32)
        save_nifti(tmp_path / f"{name}.nii.gz", array, AFFINE)
    return SimpleNamespace(
        run=kept.one, other=kept.two, bare=kept.bare, root=tmp_path, t2=tmp_path / "t2.nii.gz",
        adc=tmp_path / "adc.nii.gz", out=tmp_path / "out",
    )  # fmt: skip


def given(p: SimpleNamespace, *more: object, run: Path | None = None) -> tuple[object, ...]:
    return (run or p.run, "--images", f"t2={p.t2}", f"adc={p.adc}", "--out", p.out, *more)


def spoil(file: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray = AFFINE) -> None:
    save_nifti(file, change(np.array(nibabel.load(file).dataobj)), affine)


def no_run_there(p: SimpleNamespace) -> Any:
    return given(p, run=p.root / "nowhere"), ("nowhere", "no such folder", "check the path")


def folder_without_runs(p: SimpleNamespace) -> Any:
    (p.root / "empty").mkdir()
    return given(p, run=p.root / "empty"), ("empty", "result.json")


def unfinished_run(p: SimpleNamespace) -> Any:
    shutil.copytree(p.run, p.root / "run")
    (p.root / "run" / "result.json").unlink()
    return given(p, run=p.root / "run"), ("not finished", "usbench run")


def run_without_network(p: SimpleNamespace) -> Any:
    return given(p, run=p.bare), ("kept no trained network", "run it again")


def edited_network(p: SimpleNamespace) -> Any:
    shutil.copytree(p.run, p.root / "run")
    file = p.root / "run" / "network.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return given(p, run=p.root / "run"), ("network.safetensors", "not what the run wrote")


def runs_of_other_modalities(p: SimpleNamespace) -> Any:
    return (p.other, *given(p)), ("modalities", "t2, adc", "each of them alone")


def nothing_to_predict(p: SimpleNamespace) -> Any:
    return (p.run, "--out", p.out), ("--images", "--input")


def no_out(p: SimpleNamespace) -> Any:
    return (p.run, "--input", p.root), ("--out", "usbench predict RUNS")


def unknown_modality(p: SimpleNamespace) -> Any:
    return (p.run, "--images", f"t2={p.t2}", f"adcc={p.adc}", "--out", p.out), ("adcc", "adc")


def lacking_modality(p: SimpleNamespace) -> Any:
    return (p.run, "--images", f"t2={p.t2}", "--out", p.out), ("adc", "--allow-missing")


def modality_twice(p: SimpleNamespace) -> Any:
    return (p.run, "--images", f"t2={p.t2}", f"t2={p.adc}", "--out", p.out), ("t2 is given twice",)


def file_twice(p: SimpleNamespace) -> Any:
    return (p.run, "--images", f"t2={p.t2}", f"adc={p.t2}", "--out", p.out), ("t2.nii.gz", "t2 and for adc")


def absent_file(p: SimpleNamespace) -> Any:
    p.adc.unlink()
    return given(p), ("adc.nii.gz", "no such file", "check the path")


def no_assignment(p: SimpleNamespace) -> Any:
    return (p.run, "--images", p.t2, "--out", p.out), ("NAME=FILE", "t2.nii.gz")


def other_format(p: SimpleNamespace) -> Any:
    p.adc = p.adc.rename(p.root / "adc.nrrd")
    return given(p), ("adc.nrrd", ".nii.gz", "DICOM")


def truncated(p: SimpleNamespace) -> Any:
    cut(p.adc, 0.5)
    return given(p), ("adc.nii.gz", "truncated")


def not_a_number(p: SimpleNamespace) -> Any:
    spoil(p.adc, lambda a: np.where(a > 130, np.nan, a).astype(np.float32))
    return given(p), ("adc.nii.gz", "NaN")


def constant(p: SimpleNamespace) -> Any:
    spoil(p.t2, lambda a: np.full_like(a, 7))
    return given(p), ("t2.nii.gz", "constant", "7")


def four_axes(p: SimpleNamespace) -> Any:
    spoil(p.t2, lambda a: np.stack([a, a + 1], axis=-1))
    return given(p), ("t2.nii.gz", "2 volumes", "t2=t2.nii.gz:0")


def another_grid(p: SimpleNamespace) -> Any:
    spoil(p.adc, lambda a: a, np.diag([2.0, 2.0, 3.5, 1.0]))
    return given(p), ("adc.nii.gz", "t2.nii.gz", "mm apart", "--resample")


def another_region(p: SimpleNamespace) -> Any:
    far = AFFINE.copy()
    far[:3, 3] = 500
    spoil(p.adc, lambda a: a, far)
    return given(p, "--resample"), ("adc.nii.gz", "0%", "one patient")


def no_dicom_series(p: SimpleNamespace) -> Any:
    pytest.importorskip("highdicom")
    return given(p, "--dicom-seg"), ("DICOM series", "--dicom-seg")


def folder_without_patients(p: SimpleNamespace) -> Any:
    (p.root / "new").mkdir()
    return (p.run, "--input", p.root / "new", "--out", p.out), ("new", "no patient found", "t2")


def ambiguous_names(p: SimpleNamespace) -> Any:
    shutil.copy(p.t2, p.root / "again_t2.nii.gz")
    return (p.run, "--input", p.root, "--out", p.out), (
        "2 files fit modality t2",
        "again_t2.nii.gz",
        "--images",
    )


def unknown_patient(p: SimpleNamespace) -> Any:
    return (p.run, "--input", p.root, "--cases", "nobody", "--out", p.out), ("nobody", p.root.name)


def other_number_of_channels(p: SimpleNamespace) -> Any:
    (p.root / "imagesTs").mkdir()
    p.t2.rename(p.root / "imagesTs" / "a_0000.nii.gz")
    return (p.run, "--input", p.root / "imagesTs", "--out", p.out), ("1 channels", "dataset.json")


def foreign_list(p: SimpleNamespace) -> Any:
    p.out.mkdir()
    (p.out / "predictions.json").write_text(json.dumps({"schema": 1, "cases": {}, "runs": []}))
    return given(p), ("predictions.json", "other runs", "--overwrite")


def mask_of_somebody(p: SimpleNamespace) -> Any:
    p.out.mkdir()
    (p.out / "t2.nii.gz").write_bytes(b"precious")
    return given(p), ("t2.nii.gz", "is there already", "--overwrite")


FAULTS = [
    no_run_there, folder_without_runs, unfinished_run, run_without_network, edited_network,
    runs_of_other_modalities, nothing_to_predict, no_out, unknown_modality, lacking_modality, modality_twice,
    file_twice, absent_file, no_assignment, other_format, truncated, not_a_number, constant, four_axes,
    another_grid, another_region, no_dicom_series, folder_without_patients, ambiguous_names, unknown_patient,
    other_number_of_channels, foreign_list, mask_of_somebody,
]  # fmt: skip


def line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str]:
    """Call the console script in this process: exit code and standard error."""
    from usbench.cli.main import entry
    from usbench.runtime.console import console

    monkeypatch.setattr(sys, "argv", ["usbench", "predict", *map(str, words), "--device", "cpu"])
    console.cache_clear()
    code = 0
    try:
        entry()
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_line_and_nothing_half_written(
    fault: Callable[[SimpleNamespace], Any],
    place: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, named = fault(place)
    before = {f: f.read_bytes() for f in place.root.rglob("*") if f.is_file()}
    code, err = line(monkeypatch, capsys, *words)
    lines = [text for text in err.splitlines() if text.startswith("Error:")]
    assert code == 1, err
    assert len(lines) == 1, err
    assert "unexpected" not in lines[0]
    assert all(word in lines[0] for word in named), lines[0]
    after = {f: f.read_bytes() for f in place.root.rglob("*") if f.is_file()}
    assert {f for f in after if f not in before} <= {place.out / "predictions.json"}
    assert all(after[f] == content for f, content in before.items())


def test_files_after_images_are_files_and_not_runs(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = line(monkeypatch, capsys, *given(place, "--case", "patient 1"))
    assert code == 0, err
    assert sorted(p.name for p in place.out.iterdir()) == [
        "patient 1.nii.gz",
        "patient 1.png",
        "predictions.json",
    ]
    mask = nibabel.load(place.out / "patient 1.nii.gz")
    assert mask.shape == (24, 20, 6)
    assert np.allclose(mask.affine, AFFINE)
    (place.out / "patient 1.nii.gz").unlink()
    code, err = line(monkeypatch, capsys, *given(place, "--case", "patient 1"))
    assert code == 0, err
    assert (place.out / "patient 1.nii.gz").is_file()
    spoil(place.t2, lambda a: a + 1)
    code, err = line(monkeypatch, capsys, *given(place, "--case", "patient 1"))
    assert code == 1
    assert "was predicted from other scans" in err
    code, err = line(monkeypatch, capsys, *given(place, "--case", "patient 1", "--overwrite"))
    assert code == 0, err
