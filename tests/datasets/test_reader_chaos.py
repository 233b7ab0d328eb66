"""The reader of CHAOS, against known scenes, SimpleITK, MONAI and nibabel; and broken data, named."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import nibabel
import nibabel.processing
import numpy as np
import pytest
from kit.synthetic import (
    LIVER,
    ORGANS,
    SPLEEN,
    Grid,
    centroid,
    cut,
    oblique,
    scene,
    to_ras,
    write_chaos_case,
    write_ground,
    write_series,
)
from PIL import Image

from usbench.contracts.problem import fail
from usbench.datasets.readers.chaos import SERIES
from usbench.datasets.readers.dicom import read_series
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.tasks import get_task
from usbench.datasets.voxel_grid import resample
from usbench.errors import UsbenchError

CHAOS, PROSTATE, BRAIN = (get_task(name) for name in ("chaos", "msd-prostate", "msd-brain"))
T2_ONLY = CHAOS.with_modalities(["t2-spir"])
COARSE = Grid(
    size=(30, 34, 13), spacing=(1.6, 1.8), step=4.0, directions=oblique(8, 5), first=(-26, -30, -22)
)


@pytest.fixture(scope="module")
def chaos_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("chaos")
    write_chaos_case(root, "10", t2=COARSE)
    write_chaos_case(root, "2", t1=Grid(directions=oblique(-12, 3)), t2=COARSE)
    (root / "Train_Sets/MR/notes.txt").write_text("not a patient")
    return root


def test_chaos_brings_every_scan_onto_the_t1_grid(chaos_root):
    reader = pickle.loads(pickle.dumps(open_reader(CHAOS, chaos_root)))
    assert reader.case_ids() == ["2", "10"]
    for case_id in reader.case_ids():
        case = reader.read(case_id)
        assert case.images.shape == (3, 32, 28, 10)
        assert case.images.dtype == np.float32
        assert case.mask.dtype == np.uint8
        for index, centre in ((1, LIVER), (4, SPLEEN)):
            # In scanner coordinates, whatever the grid; a small part of a voxel (2 x 1.5 x 5 mm) is allowed.
            assert np.abs(centroid(case.mask == index, case.affine) - to_ras(centre)).max() < 1.0
        bright = case.images[2] > 2 * 420  # T2-SPIR shows the spleen above this
        assert np.abs(centroid(bright, case.affine) - to_ras(SPLEEN)).max() < 1.0
        assert np.allclose(case.images[0] + case.images[1], 700 + 2 * int(case_id))
        assert set(case.agreement) == {"liver", "spleen"}
        assert min(case.agreement.values()) > 0.8  # the same balls, cut into other slices
        used = reader.files(case_id)
        assert len(used) == len(set(used)) == 10 + 10 + 13 + 10 + 13
        assert all(f.is_file() for f in used)


def test_agreement_is_that_of_two_displaced_balls(tmp_path):
    fine = Grid(size=(48, 44, 40), spacing=(1.25, 1.0), step=1.25, first=(-24, -28, -24))
    write_chaos_case(tmp_path, "1", t1=fine, t2=fine, shift=(4.0, 0, 0))
    agreement = open_reader(CHAOS, tmp_path).read("1").agreement
    for name, radius in (("liver", 10.0), ("spleen", 6.0)):
        apart = 4.0
        share = (4 * radius + apart) * (2 * radius - apart) ** 2 / (16 * radius**3)  # of two equal balls
        assert agreement[name] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("keep", [("t1-in",), ("t1-out",), ("t1-in", "t1-out"), ("t2-spir",)])
def test_restricted_chaos_needs_only_its_series(chaos_root, tmp_path, keep):
    root = shutil.copytree(chaos_root, tmp_path / "copy")
    for name, (images, ground) in SERIES.items():
        if name not in keep:
            shutil.rmtree(root / "Train_Sets/MR/2" / images)
            if ground not in [SERIES[k][1] for k in keep]:
                shutil.rmtree(root / "Train_Sets/MR/2" / ground, ignore_errors=True)
    case = open_reader(CHAOS.with_modalities(keep), root).read("2")
    grid = (30, 34, 13) if keep == ("t2-spir",) else (32, 28, 10)
    assert case.images.shape == (len(keep), *grid)
    assert case.agreement == {}
    assert np.abs(centroid(case.mask == 1, case.affine) - to_ras(LIVER)).max() < 0.8


@pytest.mark.parametrize("order", ["along", "reversed", "shuffled"])
@pytest.mark.parametrize(
    "directions", [oblique(0, 0), oblique(17, -9), ((1.0, 0, 0), (0, -1.0, 0)), ((0, 1.0, 0), (0, 0, -1.0))]
)
def test_series_lies_where_simpleitk_and_monai_put_it(tmp_path, order, directions):
    import SimpleITK
    from monai.transforms import LoadImage

    grid = Grid(directions=directions)
    numbers = np.arange(10)
    numbers = {
        "along": numbers,
        "reversed": numbers[::-1],
        "shuffled": np.random.default_rng(3).permutation(10),
    }[order]
    write_series(tmp_path, scene, grid, [f"IMG-{n:05d}" for n in numbers], slope=0.5, intercept=-20)
    series = read_series(tmp_path, "x", fail)
    assert series is not None
    assert series.volume.shape == (32, 28, 10)

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    itk = reader.Execute()
    monai = LoadImage(image_only=True, reader="pydicomreader")(tmp_path)
    rng = np.random.default_rng(5)
    for voxel in rng.integers(0, (32, 28, 10), (40, 3)):
        ras = nibabel.affines.apply_affine(series.affine, voxel)
        value = series.volume[tuple(voxel)]
        index = itk.TransformPhysicalPointToContinuousIndex([float(v) for v in to_ras(ras)])
        assert np.abs(np.array(index) - np.round(index)).max() < 1e-3
        assert itk.GetPixel([round(i) for i in index]) == value
        there = nibabel.affines.apply_affine(np.linalg.inv(monai.affine.numpy()), ras)
        assert np.abs(there - np.round(there)).max() < 1e-3
        assert float(monai[tuple(round(i) for i in there)]) == value
        assert value == scene(to_ras(ras)) * 0.5 - 20


@pytest.mark.parametrize("order", [0, 1])
def test_resampling_agrees_with_nibabel(order):
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(12, 14, 9)).astype(np.float32)
    turn = nibabel.affines.from_matvec(
        nibabel.eulerangles.euler2mat(0.2, -0.1, 0.05) @ np.diag([1.5, 2, 3]), [3, 4, 5]
    )
    target, shape = nibabel.affines.from_matvec(np.diag([-2, 1.7, 2.5]), [20, 6, 8]), (9, 11, 7)
    expected = nibabel.processing.resample_from_to(
        nibabel.Nifti1Image(volume, turn), (shape, target), order=order, cval=np.nan
    ).get_fdata()
    values, share = resample(volume, turn, shape, target, order)
    known = np.isfinite(expected)
    assert known.sum() > 100
    assert np.allclose(values[known], expected[known], atol=1e-5)
    assert known.mean() <= share < 1
    # Beyond the outer faces of the voxels, half a step past the centres, there is nothing.
    points = nibabel.affines.apply_affine(np.linalg.inv(turn) @ target, np.argwhere(np.ones(shape)))
    outside = ((points < -0.51) | (points > np.array(volume.shape) - 0.49)).any(axis=1).reshape(shape)
    assert outside.any()
    assert not values[outside].any()


def test_png_stack_serves_both_phases_and_follows_the_names(tmp_path):
    # The slices run against the numbers: the n-th PNG still belongs to the n-th name.
    grid, case = Grid(), tmp_path / "Train_Sets/MR/1"
    names = [f"IMG-{2 * k:05d}" for k in range(1, 11)][::-1]
    write_series(case / "T1DUAL/DICOM_anon/InPhase", scene, grid, names)
    write_ground(case / "T1DUAL/Ground", ORGANS, grid, [f"X-{k}" for k in range(1, 11)][::-1])
    case = open_reader(CHAOS.with_modalities(["t1-in"]), tmp_path).read("1")
    assert np.abs(centroid(case.mask == 1, case.affine) - to_ras(LIVER)).max() < 0.8


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_png_of_the_same_name_belongs_to_the_slice(tmp_path, order):
    numbers = {"reversed": np.arange(10)[::-1], "shuffled": np.random.default_rng(3).permutation(10)}[order]
    names, case = [f"IMG-{n:05d}" for n in numbers], tmp_path / "Train_Sets/MR/1"
    write_series(case / "T2SPIR/DICOM_anon", scene, COARSE, names)
    write_ground(case / "T2SPIR/Ground", ORGANS, COARSE, names)
    read = open_reader(T2_ONLY, tmp_path).read("1")
    assert read.images.shape[-1] == 10
    spots = read.images[0] > 350
    assert spots.sum() > 50
    assert np.array_equal(read.mask == 4, spots)


def _slice(case: Path, k: int) -> Path:
    return case / "T2SPIR/DICOM_anon" / f"IMG-0002-{k:05d}.dcm"


def _edit(file: Path, **values: object) -> None:
    import pydicom

    data = pydicom.dcmread(file)
    for name, value in values.items():
        setattr(data, name, value)
    data.save_as(file)


def _png(case: Path, k: int, array: np.ndarray) -> None:
    Image.fromarray(array).save(case / "T2SPIR/Ground" / f"IMG-0002-{k:05d}.png")


BROKEN_CHAOS = {
    "truncated pixels": (lambda c: cut(_slice(c, 3), 0.7), r"IMG-0002-00003\.dcm: truncated"),
    "truncated header": (
        lambda c: cut(_slice(c, 3), 0.1),
        r"IMG-0002-00003\.dcm: .*(truncated|not a DICOM)",
    ),
    "no dicom": (lambda c: _slice(c, 3).write_text("hello"), r"IMG-0002-00003\.dcm: not a DICOM file"),
    "missing slice": (
        lambda c: _slice(c, 4).unlink(),
        r"T2SPIR/DICOM_anon: a slice is missing between IMG-0002-00003\.dcm and IMG-0002-00005\.dcm",
    ),
    "missing last slice": (
        lambda c: _slice(c, 10).unlink(),
        r"T2SPIR/Ground: 10 PNG annotations \(\*\.png\) for 9 slices",
    ),
    "missing png": (
        lambda c: (c / "T2SPIR/Ground/IMG-0002-00004.png").unlink(),
        r"Ground: 9 PNG annotations \(\*\.png\) for 10 slices, none for IMG-0002-00004",
    ),
    "no annotation": (lambda c: shutil.rmtree(c / "T2SPIR/Ground"), r"Ground: 0 PNG annotations"),
    "same position": (
        lambda c: shutil.copy(_slice(c, 4), _slice(c, 40)),
        r"IMG-0002-00004\.dcm and IMG-0002-00040\.dcm lie at the same position",
    ),
    "uneven": (
        lambda c: _edit(_slice(c, 4), ImagePositionPatient=[-24, -28, -4]),
        r"uneven slices: 6\.00 mm between IMG-0002-00003\.dcm and IMG-0002-00004\.dcm where 5\.00 mm",
    ),
    "tilted": (
        lambda c: [
            _edit(_slice(c, k), ImagePositionPatient=[-24 + k, -28, 5 * k - 25]) for k in range(1, 11)
        ],
        r"no straight stack along their normal \(11\.3 degrees",
    ),
    "pixel spacing": (
        lambda c: _edit(_slice(c, 4), PixelSpacing=[2, 2]),
        r"00004\.dcm: PixelSpacing \[2\. 2\.\] differs",
    ),
    "orientation": (
        lambda c: _edit(_slice(c, 4), ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
        r"00004\.dcm: ImageOrientationPatient .* differs",
    ),
    "no orientation": (
        lambda c: _edit(_slice(c, 4), ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        r"00004\.dcm: .*not two perpendicular unit vectors",
    ),
    "no position": (
        lambda c: _edit(_slice(c, 4), ImagePositionPatient=None),
        r"00004\.dcm: .*lacks ImagePositionPatient",
    ),
    "constant": (
        lambda c: [_edit(_slice(c, k), PixelData=bytes(28 * 32 * 2)) for k in range(1, 11)],
        r"T2SPIR/DICOM_anon: constant image, every voxel is 0",
    ),
    "grey value": (
        lambda c: _png(c, 4, np.full((28, 32), 71, np.uint8)),
        r"IMG-0002-00004\.png: grey values 71 are unknown, allowed are 0, 55-70, 110-135",
    ),
    "png size": (
        lambda c: _png(c, 4, np.zeros((32, 28), np.uint8)),
        r"00004\.png: 32 rows x 28 columns, its slice has 28 x 32",
    ),
    "png colour": (
        lambda c: _png(c, 4, np.zeros((28, 32, 3), np.uint8)),
        r"00004\.png: a picture of mode RGB",
    ),
    "png broken": (
        lambda c: (c / "T2SPIR/Ground/IMG-0002-00004.png").write_bytes(b"\x89PNG"),
        r"00004\.png: truncated or invalid PNG",
    ),
    "png names": (
        lambda c: (c / "T2SPIR/Ground/IMG-0002-00004.png").rename(c / "T2SPIR/Ground/A.png"),
        r"the names of the PNG files fit some slices only",
    ),
}


@pytest.fixture(scope="module")
def t2_case(tmp_path_factory):
    root = tmp_path_factory.mktemp("t2")
    case = write_chaos_case(root, "1")
    shutil.rmtree(case / "T1DUAL")
    return root


@pytest.mark.parametrize("name", BROKEN_CHAOS)
def test_broken_chaos_is_named(t2_case, tmp_path, name):
    spoil, message = BROKEN_CHAOS[name]
    root = shutil.copytree(t2_case, tmp_path / "copy")
    spoil(root / "Train_Sets/MR/1")
    with pytest.raises(UsbenchError, match=rf"{message}.*; \w+"):
        open_reader(T2_ONLY, root).read("1")


def test_hidden_files_of_macos_are_ignored(t2_case, tmp_path):
    root = shutil.copytree(t2_case, tmp_path / "copy")
    for folder in ("DICOM_anon", "Ground"):
        for file in list((root / "Train_Sets/MR/1/T2SPIR" / folder).iterdir()):
            file.with_name(f"._{file.name}").write_bytes(b"junk")
    assert open_reader(T2_ONLY, root).read("1").mask.any()


def test_missing_modality_is_named_with_the_remedy(t2_case):
    reader = open_reader(CHAOS, t2_case)
    for call in (reader.case_ids, lambda: reader.read("1")):
        with pytest.raises(UsbenchError, match=r"case 1 lacks modality t1-in .*; .*--modalities t2-spir"):
            call()


def test_phases_and_scans_that_do_not_belong_together(tmp_path):
    case = write_chaos_case(tmp_path, "1", t2=Grid(first=(-24, -28, 500)))
    with pytest.raises(UsbenchError, match=r"T2SPIR/DICOM_anon: covers only 0% of .*InPhase"):
        open_reader(CHAOS, tmp_path).read("1")
    (case / "T1DUAL/DICOM_anon/OutPhase/IMG-0004-00019.dcm").unlink()
    with pytest.raises(UsbenchError, match=r"OutPhase: 9 slices, InPhase has 10, though both"):
        open_reader(CHAOS.with_modalities(["t1-in", "t1-out"]), tmp_path).read("1")
    with pytest.raises(UsbenchError, match=r"no case '7'; there are 1"):
        open_reader(CHAOS, tmp_path).read("7")
    with pytest.raises(UsbenchError, match="no case"):
        open_reader(CHAOS, tmp_path).read("../MR/1")
