"""`data export`: read back by the Decathlon's reader and by the import, and checked by nnU-Net itself."""

from __future__ import annotations

import json
import os

import nibabel
import numpy as np
import pytest
from kit.own_folders import TASK, patients, task_file
from kit.own_task import CASES

from usbench.datasets.exports import export
from usbench.datasets.imports.make import Asked, make_task_file
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.resolve import find_data
from usbench.datasets.tasks import get_task, task_from_folder
from usbench.errors import UsbenchError

REGIONS = ("classes: {liver: 1, lesion: 2}", "regions: {lesion: 2, whole: [1, 2]}")


@pytest.fixture
def own(tmp_path):
    patients(tmp_path / "patients")
    return get_task(str(task_file(tmp_path)))


def assert_same_cases(task, root, other, other_root) -> None:
    here, there = open_reader(task, root), open_reader(other, other_root)
    assert here.case_ids() == there.case_ids() == list(CASES)
    assert task.class_names == other.class_names
    for case_id in CASES:
        a, b = here.read(case_id), there.read(case_id)
        assert np.array_equal(a.images, b.images)
        assert np.array_equal(a.mask, b.mask)
        assert np.allclose(a.affine, b.affine, atol=1e-5)


def test_the_layout_of_the_decathlon_reads_back_the_same(own, tmp_path):
    out = tmp_path / "Task77_Own"
    assert export(own, own.files.folder, "msd", out) == list(CASES)
    assert_same_cases(own, own.files.folder, task_from_folder(out), out)
    said = json.loads((out / "dataset.json").read_text())
    assert (said["numTraining"], said["tensorImageSize"], said["labels"]["2"]) == (4, "4D", "lesion")
    one = tmp_path / "Task78_One"
    export(own.with_modalities(["t2"]), own.files.folder, "msd", one)
    assert nibabel.load(one / "imagesTr/patient-01.nii.gz").ndim == 3


def test_nnunet_raw_reads_back_the_same(own, tmp_path):
    out = tmp_path / "Dataset077_Own"
    export(own, own.files.folder, "nnunet", out)
    again = make_task_file(out, tmp_path / "again.yaml", Asked()).task
    assert again.modality_names == own.modality_names
    assert_same_cases(own, own.files.folder, again, out)


def test_regions_become_labels_that_nnunet_paints_in_order(own, tmp_path):
    task = get_task(str(task_file(tmp_path, TASK, REGIONS, name="regions.yaml")))
    out = tmp_path / "Dataset078_Regions"
    export(task, task.files.folder, "nnunet", out)
    said = json.loads((out / "dataset.json").read_text())
    assert list(said["labels"]) == ["background", "whole", "lesion"]
    # nnU-Net paints region after region with its value: the whole first, the lesion over it.
    case = open_reader(task, task.files.folder).read("patient-02")
    lesion, whole = case.mask & 1 > 0, case.mask & 2 > 0
    painted = np.zeros_like(case.mask)
    for region, value in zip((whole, lesion), said["regions_class_order"], strict=True):
        painted[region] = value
    written = nibabel.load(out / "labelsTr/patient-02.nii.gz").get_fdata()
    assert np.array_equal(painted, written)
    again = make_task_file(out, tmp_path / "again.yaml", Asked()).task
    back = open_reader(again, out).read("patient-02").mask
    assert again.class_names == ("whole", "lesion")
    assert np.array_equal(back & 1 > 0, whole)
    assert np.array_equal(back & 2 > 0, lesion)
    with pytest.raises(UsbenchError, match="use --to nnunet"):
        export(task, task.files.folder, "msd", tmp_path / "no")


def test_whole_numbers_stay_whole_and_others_stay_as_they_are(own, tmp_path):
    out = tmp_path / "Dataset077_Own"
    for case in CASES:
        file = own.files.folder / case / f"{case}_t1.nii.gz"
        image = nibabel.load(file)
        nibabel.save(nibabel.Nifti1Image(np.round(image.get_fdata()).astype(np.int16), image.affine), file)
    export(own, own.files.folder, "nnunet", out)
    kinds = [nibabel.load(out / f"imagesTr/patient-01_000{k}.nii.gz").get_data_dtype() for k in (0, 1)]
    assert kinds == [np.int16, np.float32]


def test_a_folder_that_holds_something_or_a_broken_case_leaves_nothing(own, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("x")
    with pytest.raises(UsbenchError, match="not an empty folder"):
        export(own, own.files.folder, "nnunet", full)
    with pytest.raises(UsbenchError, match="unknown layout 'nnunett', did you mean 'nnunet'"):
        export(own, own.files.folder, "nnunett", tmp_path / "new")
    (own.files.folder / "patient-10/patient-10_t1.nii.gz").write_bytes(b"broken")
    with pytest.raises(UsbenchError, match="patient-10_t1"):
        export(own, own.files.folder, "nnunet", tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "own.yaml", "patients"]


def test_a_phantom_stays_known_as_one(tmp_path, small_prostate):
    task = get_task("msd-prostate")
    export(task, small_prostate, "nnunet", tmp_path / "out")
    assert open_reader(
        make_task_file(tmp_path / "out", tmp_path / "a.yaml", Asked()).task, tmp_path / "out"
    ).is_phantom()


def test_a_phantom_is_known_whichever_folder_the_task_file_names(tmp_path):
    patients(tmp_path / "DATA/simulated")
    text = TASK.replace("folder: patients", "folder: DATA").replace('"{case}/', '"simulated/{case}/')
    task = get_task(str(task_file(tmp_path, text)))
    assert find_data(task).kind == "sample"
    (tmp_path / "DATA/simulated/PHANTOM.txt").write_text("simulated")
    assert find_data(task).kind == "phantom"


@pytest.mark.parametrize("regions", [False, True])
def test_the_integrity_check_of_nnunet_passes(own, tmp_path, monkeypatch, capsys, regions):
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setitem(os.environ, f"nnUNet_{name}", str(tmp_path))
    checks = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity")
    task = own
    if regions:
        task = get_task(str(task_file(tmp_path, TASK, REGIONS, name="regions.yaml")))
    out = tmp_path / "Dataset077_Own"
    export(task, task.files.folder, "nnunet", out)
    checks.verify_dataset_integrity(str(out), 1)
    said = capsys.readouterr().out
    assert "verify_dataset_integrity Done" in said
    assert "Error" not in said
    assert "Warning" not in said
