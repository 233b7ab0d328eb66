"""Finding the data of a task, and reading the open samples."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nibabel
import nibabel.processing
import numpy as np
import pytest
from kit.synthetic import (
    Grid,
    centroid,
    oblique,
    to_ras,
    write_chaos_case,
    write_msd,
)

from usbench.datasets.readers.layouts import locate, open_reader
from usbench.datasets.tasks import get_task, task_from_folder
from usbench.errors import UsbenchError

CHAOS, PROSTATE, BRAIN = (get_task(name) for name in ("chaos", "msd-prostate", "msd-brain"))
T2_ONLY = CHAOS.with_modalities(["t2-spir"])
COARSE = Grid(
    size=(30, 34, 13), spacing=(1.6, 1.8), step=4.0, directions=oblique(8, 5), first=(-26, -30, -22)
)


@pytest.fixture(scope="module")
def t2_case(tmp_path_factory):
    root = tmp_path_factory.mktemp("t2")
    case = write_chaos_case(root, "1")
    shutil.rmtree(case / "T1DUAL")
    return root


def test_data_is_found_where_people_keep_it(tmp_path, t2_case):
    for place in (
        "a/Task05_Prostate",
        "b/msd/Task05_Prostate",
        "c/msd-prostate/Task05_Prostate",
        "d/My prostates",
    ):
        root = write_msd(tmp_path / place)
        data_dir = root if place.startswith("d") else tmp_path / place[0]
        assert locate(PROSTATE, data_dir) == root
        assert locate(BRAIN, data_dir.parent / "nowhere") is None
    assert locate(PROSTATE, tmp_path / "a/Task05_Prostate") == tmp_path / "a/Task05_Prostate"
    assert locate(BRAIN, tmp_path / "a/Task05_Prostate") is None  # another task's folder
    assert locate(CHAOS, t2_case) == t2_case / "Train_Sets/MR"
    assert locate(CHAOS, t2_case / "Train_Sets") == t2_case / "Train_Sets/MR"
    assert locate(CHAOS, t2_case / "Train_Sets/MR") == t2_case / "Train_Sets/MR"
    shutil.copytree(t2_case, tmp_path / "e/CHAOS_Train_Sets")
    assert locate(CHAOS, tmp_path / "e") == tmp_path / "e/CHAOS_Train_Sets/Train_Sets/MR"


def test_absent_data_says_where_it_looked(tmp_path):
    with pytest.raises(UsbenchError, match="there is no such folder"):
        open_reader(CHAOS, tmp_path / "nowhere")
    (tmp_path / "Train_Sets/MR/1").mkdir(parents=True)  # a wrong layout
    with pytest.raises(
        UsbenchError,
        match=r"no data of task chaos .*Train_Sets/MR.*T2SPIR/Ground.*usbench data download chaos",
    ):
        open_reader(CHAOS, tmp_path)
    with pytest.raises(UsbenchError, match=r"no data of task msd-brain .*dataset\.json beside imagesTr"):
        open_reader(BRAIN, tmp_path)


REAL = os.environ.get("USBENCH_REAL_DATA")
real = pytest.mark.skipif(not REAL, reason="USBENCH_REAL_DATA is not set")


@real
def test_open_chaos_sample():
    reader = open_reader(T2_ONLY, Path(REAL or ""))
    assert reader.case_ids() == [str(n) for n in (1, 2, 3, 5, 8, 10, 13, 15, 19, 20, 21, 22)]
    for case_id in reader.case_ids():
        case = reader.read(case_id)
        assert case.images.shape[:3] == (1, 256, 256)
        assert np.allclose(nibabel.affines.voxel_sizes(case.affine), (1.25, 1.25, 7.7), atol=0.01)
        centres = [centroid(case.mask == k, case.affine) for k in (1, 2, 3, 4)]
        liver, right_kidney, left_kidney, spleen = centres
        # In RAS+, x grows to the patient's right.
        assert liver[0] > spleen[0]
        assert right_kidney[0] > left_kidney[0]
        assert liver[2] > right_kidney[2] - 40
        litres = (case.mask == 1).sum() * abs(np.linalg.det(case.affine[:3, :3])) / 1e6
        assert 0.7 < litres < 3  # an adult's liver


@real
def test_open_chaos_sample_lies_where_simpleitk_puts_it():
    import SimpleITK

    reader = open_reader(T2_ONLY, Path(REAL or ""))
    for case_id in ("2", "22"):  # oblique
        case = reader.read(case_id)
        names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(
            str(reader.root / case_id / "T2SPIR/DICOM_anon")
        )
        itk = SimpleITK.ReadImage(names)
        for voxel in np.random.default_rng(1).integers(0, case.mask.shape, (30, 3)):
            ras = nibabel.affines.apply_affine(case.affine, voxel)
            index = itk.TransformPhysicalPointToContinuousIndex([float(v) for v in to_ras(ras)])
            assert itk.GetPixel([round(i) for i in index]) == case.images[(0, *voxel)]


@real
@pytest.mark.parametrize(
    ("task", "cases", "shape", "foreground"),
    [
        (PROSTATE, 2, (2, 384, 384, 19), (20_000, 80_000)),
        (BRAIN, 2, (4, 182, 218, 182), (1_300, 8_227)),
        ("msd/Task91_GliomaFlairT1gd", 4, (2, 240, 240, 155), (80_000, 220_000)),
    ],
)
def test_open_msd_samples(task, cases, shape, foreground):
    root = Path(REAL or "")
    if isinstance(task, str):
        root, task = root / task, task_from_folder(root / task)
        assert task.modality_names == ("flair", "t1gd")
        assert task.class_names == ("necrosis", "edema", "non-enhancing", "enhancing")
    reader = open_reader(task, root)
    assert len(reader.case_ids()) == cases
    for case_id in reader.case_ids():
        case = reader.read(case_id)
        assert case.images.shape == shape
        assert foreground[0] <= (case.mask > 0).sum() <= foreground[1]
        stored = nibabel.load(reader.files(case_id)[0])
        assert np.allclose(stored.affine, case.affine)
        assert np.array_equal(case.images[-1], np.asarray(stored.dataobj)[..., -1])
