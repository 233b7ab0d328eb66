"""`usbench data import`, `check` and `export` as a user calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kit.commands import Command
from kit.own_folders import patients
from PIL import Image


@pytest.mark.slow
def test_folders_become_a_task_that_is_checked_and_exported(command: Command, tmp_path: Path) -> None:
    folder = patients(tmp_path / "mine")
    (folder / "patient-03/patient-03_t2.nii.gz").unlink()
    task = tmp_path / "task.yaml"
    done = command("data", "import", folder, "--out", task, "--classes", "liver=1", "--classes", "lesion=2")
    assert done.returncode == 0, done.stderr
    assert "folders of NIfTI files, 4 cases" in done.stdout
    assert "{case}/{case}_t2.nii.gz   3 of 4 cases, not patient-03" in done.stdout
    assert "left out: patient-03 (lacks t2)" in done.stdout
    picture = np.asarray(Image.open(tmp_path / "task.png").convert("RGB")).astype(int)
    # The liver is outlined in the first colour of the palette, and the scans are grey.
    assert (np.abs(picture - [0xE6, 0x9F, 0x00]).max(axis=2) < 12).sum() > 100
    assert command("data", "import", folder, "--out", task).returncode == 1
    assert "nothing wrong found" in command("data", "check", task).stdout
    done = command("data", "export", task, "--to", "nnunet", "--out", tmp_path / "Dataset101_Mine")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "Dataset101_Mine/imagesTr").iterdir())) == 6


def test_a_folder_of_patients_given_as_a_task_is_told_of_the_import(command: Command, tmp_path: Path) -> None:
    folder = patients(tmp_path / "BraTS 2021")
    for words in (["check", "--task-dir", folder], ["check", folder]):
        done = command("data", *words)
        assert done.returncode == 1
        assert f"usbench data import '{folder}'" in done.stderr, done.stderr
