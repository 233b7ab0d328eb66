"""The check finds every planted fault at once, and none in whole data."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from kit.synthetic import save_nifti, write_chaos_case, write_msd

from usbench.datasets.check import DataProblem, absent_cases, check
from usbench.datasets.tasks import get_task, task_from_folder

CHAOS, PROSTATE, BRAIN = (get_task(name) for name in ("chaos", "msd-prostate", "msd-brain"))


@pytest.fixture(scope="module")
def chaos_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("chaos")
    for case_id in ("1", "2", "3", "20"):
        write_chaos_case(root, case_id)
    return root


def by_case(problems: list[DataProblem]) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for problem in problems:
        assert "\n" not in str(problem)
        assert str(problem).endswith(f"; {problem.remedy}")
        found.setdefault(problem.case_id, []).append(problem.what)
    return found


def test_whole_data_has_no_problems_and_absent_cases_are_noted(chaos_root, capsys):
    assert check(CHAOS, chaos_root) == []
    assert "4 of the 20 cases of chaos are here" in capsys.readouterr().err
    assert len(absent_cases(CHAOS, ["1", "2", "3", "20"])) == 16


def test_all_faults_of_chaos_are_reported_at_once(chaos_root, tmp_path):
    root = shutil.copytree(chaos_root, tmp_path / "copy")
    mr = root / "Train_Sets/MR"
    dicom = mr / "1/T1DUAL/DICOM_anon"
    (dicom / "InPhase/IMG-0004-00008.dcm").unlink()
    for number in (3, 7):
        file = dicom / f"OutPhase/IMG-0004-{number:05d}.dcm"
        file.write_bytes(file.read_bytes()[:-100])
    (mr / "1/T2SPIR/Ground/IMG-0002-00002.png").unlink()
    shutil.rmtree(mr / "2/T2SPIR/DICOM_anon")
    (mr / "2/T1DUAL/DICOM_anon/OutPhase/IMG-0004-00009.dcm").write_text("junk")
    shutil.copytree(mr / "3", mr / "7")
    for png in (mr / "20/T1DUAL/Ground").iterdir():
        _blacken(png)
    problems = check(CHAOS, root)
    found = by_case(problems)
    assert [p.case_id for p in problems] == sorted((p.case_id or "" for p in problems), key=int)
    assert list(found) == ["1", "2", "7", "20"]
    assert len(found["1"]) == 4
    assert sum("truncated" in what for what in found["1"]) == 2
    assert any(
        "a slice is missing between IMG-0004-00006.dcm and IMG-0004-00010.dcm" in what for what in found["1"]
    )
    assert any("9 PNG annotations" in what and "none for IMG-0002-00002" in what for what in found["1"])
    assert len(found["2"]) == 2
    assert any("lacks modality t2-spir" in what for what in found["2"])
    assert any("not a DICOM file" in what for what in found["2"])
    assert found["7"] == ["the same image as case 3: t1-in, t1-out, t2-spir"]
    assert found["20"] == ["the mask is empty, no voxel belongs to a class"]
    files = {p.file for p in problems}
    assert dicom / "OutPhase/IMG-0004-00003.dcm" in files
    assert mr / "20/T1DUAL/Ground" in files


def _blacken(png: Path) -> None:
    from PIL import Image

    with Image.open(png) as image:
        size = image.size
    Image.new("L", size).save(png)


def test_all_faults_of_msd_are_reported_at_once(tmp_path):
    cases = [f"case_{k}" for k in range(1, 11)]
    root = write_msd(tmp_path / "Task05_Prostate", cases)
    images, labels = root / "imagesTr", root / "labelsTr"

    def change(file: Path, edit, affine=None) -> None:
        image = nibabel.load(file)
        data = image.get_fdata()
        data = edit(data)
        save_nifti(file, data, image.affine if affine is None else affine)

    for k, file in enumerate(sorted(images.iterdir())):  # no twins but the one planted below
        change(file, lambda d, k=k: d + k)

    def put(where, value):
        def edit(d):
            d[where] = value
            return d

        return edit

    change(images / "case_1.nii.gz", put((0, 0, 0, 1), np.nan))
    change(labels / "case_1.nii.gz", put((0, 0, 0), 9))
    change(images / "case_2.nii.gz", put((..., 0), 3))
    change(labels / "case_3.nii.gz", lambda d: d, np.diag([1.0, 1, 1, 1]))
    change(labels / "case_4.nii.gz", lambda d: d[1:])
    change(labels / "case_5.nii.gz", lambda d: 0 * d)
    shutil.copy(images / "case_6.nii.gz", images / "case_7.nii.gz")
    (images / "case_8.nii.gz").unlink()
    (labels / "case_8.nii.gz").unlink()
    (labels / "case_9.nii.gz").write_bytes((labels / "case_9.nii.gz").read_bytes()[:60])
    found = by_case(check(PROSTATE, tmp_path, workers=2))
    assert list(found) == [f"case_{k}" for k in (1, 2, 3, 4, 5, 7, 8, 9)]
    assert found["case_1"] == [
        "1 voxel of adc is NaN or infinite",
        "mask values 9 are unknown, allowed are 0, 1, 2, each to within 0.001",
    ]
    assert found["case_2"] == ["constant image, every voxel of t2 is 3"]
    assert "not on the grid of case_3.nii.gz" in found["case_3"][0]
    assert "shape 7 x 9 x 7 is not 8 x 9 x 7" in found["case_4"][0]
    assert found["case_5"] == ["the mask is empty, no voxel belongs to a class"]
    assert found["case_7"] == ["the same image as case case_6: t2, adc"]
    assert found["case_8"] == ["the file is absent, though dataset.json lists it"] * 2
    assert found["case_9"][0].startswith("truncated or invalid NIfTI file")


def test_the_same_image_twice_in_one_case_is_found(tmp_path):
    root = write_msd(tmp_path / "set", ["a"])
    file = root / "imagesTr/a.nii.gz"
    image = nibabel.load(file)
    data = image.get_fdata()
    data[..., 1] = data[..., 0]
    save_nifti(file, data, image.affine)
    (problem,) = check(task_from_folder(root), root)
    assert problem.what == "the same image as the same case: adc (there t2)"


def test_data_that_cannot_be_opened_is_one_problem(tmp_path):
    (problem,) = check(CHAOS, tmp_path)
    assert "no data of task chaos" in problem.what
    assert "usbench data download chaos" in problem.remedy
    root = write_msd(tmp_path / "Task05_Prostate")
    description = json.loads((root / "dataset.json").read_text())
    del description["labels"]
    (root / "dataset.json").write_text(json.dumps(description))
    (problem,) = check(PROSTATE, tmp_path)
    assert problem.file == root / "dataset.json"
    assert 'key "labels" is missing' in problem.what


REAL = os.environ.get("USBENCH_REAL_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="USBENCH_REAL_DATA is not set")
def test_open_samples_are_whole():
    root = Path(REAL or "")
    glioma = root / "msd/Task91_GliomaFlairT1gd"
    assert check(CHAOS.with_modalities(["t2-spir"]), root) == []
    assert check(PROSTATE, root) == []
    assert check(BRAIN, root) == []
    assert check(task_from_folder(glioma), glioma) == []
    lacking = check(CHAOS, root)  # the open copy has no T1-DUAL
    assert len(lacking) == 24
    assert all("--modalities t2-spir" in problem.remedy for problem in lacking)
