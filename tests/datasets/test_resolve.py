"""Which data a run gets, and what it is told about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import usbench.datasets.phantom as phantom
from usbench.contracts.data import Task
from usbench.datasets.resolve import find_data
from usbench.datasets.tasks import get_task, task_from_folder
from usbench.errors import UsbenchError

TASK = get_task("msd-prostate")


def write(folder: Path, case_ids: tuple[str, ...], reference: str = "Radboud") -> None:
    """The names alone: finding data opens no image."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for case_id in case_ids:
            (folder / part / f"{case_id}.nii.gz").write_bytes(b"")
    index = {
        "name": "PROSTATE",
        "reference": reference,
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [{"image": f"imagesTr/{c}.nii.gz", "label": f"labelsTr/{c}.nii.gz"} for c in case_ids],
    }
    (folder / "dataset.json").write_text(json.dumps(index))


@pytest.fixture(autouse=True)
def quick_phantom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("USBENCH_DATA", raising=False)
    root = tmp_path / "phantom"
    monkeypatch.setattr(phantom, "phantom_root", lambda task, scanner=1: root)
    return root


def test_no_folder_means_the_phantom_and_says_so(quick_phantom: Path) -> None:
    source = find_data(TASK)
    assert (source.kind, source.root) == ("phantom", quick_phantom)
    assert source.notice == (
        "msd-prostate: no data folder given (--data-dir or USBENCH_DATA), using its phantom: "
        "scores say nothing about real patients"
    )


def test_the_full_set_is_real_and_a_part_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / TASK.folder
    write(folder, TASK.case_ids)
    source = find_data(TASK, tmp_path / "data")
    assert (source.kind, source.root) == ("real", tmp_path / "data")
    assert "32 cases" in source.notice
    shutil.rmtree(folder)
    write(folder, TASK.case_ids[:4])
    monkeypatch.setenv("USBENCH_DATA", str(tmp_path / "data"))
    source = find_data(TASK)
    assert source.kind == "sample"
    assert "4 cases" in source.notice
    assert "32" in source.notice
    assert find_data(TASK, mode="phantom").kind == "phantom"


def test_an_explicit_folder_without_the_data_is_an_error_one_in_the_environment_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    command = f"usbench data download msd-prostate --data-dir {empty}"
    with pytest.raises(UsbenchError, match=command):
        find_data(TASK, empty)
    with pytest.raises(UsbenchError, match="no such folder"):
        find_data(TASK, tmp_path / "nowhere")
    monkeypatch.setenv("USBENCH_DATA", str(empty))
    source = find_data(TASK)
    assert source.kind == "phantom"
    assert str(empty) in source.notice
    with pytest.raises(UsbenchError, match=command):
        find_data(TASK, mode="real")


def test_mode_real_without_a_folder_prints_the_download_command() -> None:
    with pytest.raises(UsbenchError, match="usbench data download msd-prostate --data-dir DIR"):
        find_data(TASK, mode="real")
    with pytest.raises(UsbenchError, match="did you mean 'phantom'"):
        find_data(TASK, mode="fantom")  # type: ignore[arg-type]


def test_ones_own_folder_is_a_sample(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(folder, ("p1", "p2"))
    task = task_from_folder(folder)
    source = find_data(task, task_dir=folder)
    assert (source.kind, source.root) == ("sample", folder)
    with pytest.raises(UsbenchError, match="no such folder"):
        find_data(task, task_dir=tmp_path / "nowhere")
    with pytest.raises(UsbenchError, match="no phantom"):
        find_data(task, task_dir=folder, mode="phantom")


@pytest.mark.parametrize("name", ["chaos", "msd-prostate"])
def test_a_copied_phantom_never_passes_for_patients(name: str, tmp_path: Path) -> None:
    task: Task = get_task(name)
    phantom.make_phantom(task, tmp_path / "copy", 1, 0)
    source = find_data(task, tmp_path / "copy")
    assert source.kind == "phantom"
    with pytest.raises(UsbenchError, match="not patients"):
        find_data(task, tmp_path / "copy", "real")
