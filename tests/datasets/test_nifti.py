"""NIfTI headers as SimpleITK reads them, and what no reading is right for, refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from kit.nifti_headers import itk_affine, quaternion, turned, write_raw
from kit.synthetic import save_nifti, write_msd

from usbench.contracts.problem import DataError
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.readers.nifti import open_nifti
from usbench.datasets.tasks import task_from_folder
from usbench.datasets.voxel_grid import voxel_spacing
from usbench.scores.case import score_case

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
SIZE = (1, 2, 3)
STRAIGHT = np.diag([1.0, 2.0, 3.0, 1.0])
TILTED = turned((10, -20, 30), SIZE, (7, 8, 9))
NAN, INF = float("nan"), float("inf")


def _by_qform(affine: np.ndarray, code: int = 1) -> dict:
    numbers, qfac = quaternion(affine)
    return {"qform": numbers, "qfac": qfac, "qcode": code}


def _by_sform(affine: np.ndarray, code: int = 1) -> dict:
    return {"sform": affine, "scode": code}


def _affine(path: Path) -> np.ndarray:
    with open_nifti(path) as (_, affine):
        return affine


READ = {
    "no code": {"qform": (0.1, 0.2, 0.3, 7, 8, 9), "sform": TILTED},
    "qform": _by_qform(TILTED),
    "sform": _by_sform(TILTED),
    "left-handed": _by_qform(TILTED @ np.diag([1, 1, -1, 1])),
    "left-handed sform": _by_sform(TILTED @ np.diag([-1, 1, 1, 1])),
    "half a turn": _by_qform(np.diag([-1.0, -2, 3, 1])),
    "both": {**_by_qform(TILTED), **_by_sform(TILTED)},
    "both of code 2": {**_by_qform(TILTED, 2), **_by_sform(TILTED, 2)},
    "scanner and aligned": {**_by_qform(STRAIGHT), **_by_sform(TILTED, 2)},
    "aligned and scanner": {**_by_qform(STRAIGHT, 2), **_by_sform(TILTED, 1)},
    "aligned and template": {**_by_qform(TILTED, 2), **_by_sform(STRAIGHT, 4)},
    "metre": {"pixdim": np.divide(SIZE, 1000), **_by_sform(TILTED / 1000), "xyzt_units": 1},
    "metre, qform": {**_by_qform(TILTED), "pixdim": (0.02, 0.03, 0.04), "xyzt_units": 1 | 8},
    "micrometre": {"pixdim": np.multiply(SIZE, 1000), **_by_sform(TILTED * 1000), "xyzt_units": 3},
    "metre, forms that nearly agree": {
        **_by_qform(TILTED / [[1000], [1000], [1000], [1]], 2),
        **_by_sform((TILTED + np.eye(4)[:, [3, 3, 3, 0]] * [0, 0, 0, 0.04]) / 1000, 2),
        "pixdim": np.divide(SIZE, 1000),
        "xyzt_units": 1,
    },
    "forms that nearly agree": {
        **_by_qform(TILTED, 2),
        **_by_sform(TILTED + np.eye(4)[:, [3, 3, 3, 0]] * [0, 0, 0, 0.04], 2),
    },
    "half a turn and moved": {
        **_by_qform(TILTED, 1),
        **_by_sform((TILTED + np.eye(4)[:, [3, 3, 3, 0]] * [0, 0, 0, 9]) @ np.diag([-1, -1, 1, 1]), 2),
    },
    "no unit": {**_by_sform(TILTED), "xyzt_units": 0},
    "qfac 0": {**_by_qform(TILTED), "qfac": 0},
    "qfac -3": {**_by_qform(TILTED), "qfac": -3},
    "qform without a code is nothing": {**_by_sform(TILTED), "qform": (NAN, 2, 3, NAN, 0, 0)},
    "sform without a code is nothing": {**_by_qform(TILTED), "sform": np.full((3, 4), NAN)},
    "sizes rounded": {
        "pixdim": (0.9375, 0.9375, 3.3333),
        **_by_sform(turned((3, 4, 5), (0.9375, 0.9375, 10 / 3))),
    },
    "shear of rounding": _by_sform(
        TILTED @ nibabel.affines.from_matvec([[1, 0, 9e-5], [0, 1, 0], [0, 0, 1]])
    ),
    "quaternion of rounding": {"qform": (0.60001, 0, 0.80001, 1, 2, 3), "qcode": 1},
    "big-endian": {**_by_qform(TILTED), **_by_sform(TILTED), "endian": ">"},
}


@pytest.mark.parametrize("name", READ)
def test_voxels_lie_where_simpleitk_puts_them(tmp_path, name):
    path = write_raw(tmp_path / "a.nii.gz", VOXELS, **{"pixdim": SIZE, **READ[name]})
    affine, expected = _affine(path), itk_affine(path)
    assert np.allclose(affine, expected, rtol=0, atol=3e-4)
    axes = affine[:3, :3] / voxel_spacing(affine)
    assert np.abs(axes.T @ axes - np.eye(3)).max() < 2e-6
    assert np.allclose(voxel_spacing(affine), voxel_spacing(expected), rtol=1e-6, atol=0)


def test_exact_numbers_stay_exact(tmp_path):
    affine = np.array([[0, -0.75, 0, 3.5], [0, 0, 2.5, 4], [-0.5, 0, 0, 5], [0, 0, 0, 1]])
    path = write_raw(tmp_path / "a.nii", VOXELS, pixdim=(0.5, 0.75, 2.5), **_by_sform(affine))
    assert np.array_equal(_affine(path), affine)


@pytest.mark.parametrize(
    "name", ["metre", "left-handed", "both of code 2", "big-endian", "scanner and aligned"]
)
def test_nifti_2_says_the_same(tmp_path, name):
    fields = {"pixdim": SIZE, **READ[name]}
    one = write_raw(tmp_path / "one.nii", VOXELS, **fields)
    two = write_raw(tmp_path / "two.nii", VOXELS, kind=nibabel.Nifti2Header, **fields)
    assert np.allclose(_affine(one), _affine(two), rtol=1e-6, atol=1e-6)
    with open_nifti(two) as (proxy, _):
        assert np.array_equal(proxy[...], VOXELS)


SHEARED = STRAIGHT + np.array([[0, 0, 2, 0], *[[0] * 4] * 3])
SHEARED_SIZE = (1, 2, np.sqrt(13))

REFUSED = {
    "shear": ({"pixdim": SHEARED_SIZE, **_by_sform(SHEARED)}, r"first and third axis meet at 56\.31 degrees"),
    "slight shear": (
        {**_by_sform(STRAIGHT @ nibabel.affines.from_matvec([[1, 2e-3, 0], [0, 1, 0], [0, 0, 1]]))},
        r"first and second axis meet at 89\.\d+ degrees",
    ),
    "sheared sform beside a sound qform": (
        {"pixdim": SHEARED_SIZE, **_by_qform(STRAIGHT), **_by_sform(SHEARED, 2)},
        r"its sform is sheared",
    ),
    "sizes": (
        {"pixdim": (0.5, 0.5, 3), **_by_qform(STRAIGHT), **_by_sform(np.eye(4))},
        r"0\.5 x 0\.5 x 3 mm by pixdim and 1 x 1 x 1 mm by its sform",
    ),
    "sizes without qform": (
        {"pixdim": (1, 1, 1), **_by_sform(STRAIGHT)},
        r"1 x 1 x 1 mm by pixdim and 1 x 2 x 3",
    ),
    "sizes of the form that is not taken": (
        {**_by_qform(STRAIGHT), **_by_sform(np.diag([1.02, 2, 3, 1]), 4)},
        r"1 x 2 x 3 mm by pixdim and 1\.02 x 2 x 3",
    ),
    "same code, turned": (
        {**_by_qform(STRAIGHT), **_by_sform(turned((0, 0, 5), SIZE))},
        r"qform \(code 1\) and sform \(code 1\) name one space and differ by 5 degrees and 0 mm",
    ),
    "same code, moved": (
        {**_by_qform(TILTED, 3), **_by_sform(TILTED + np.eye(4)[:, [3, 3, 3, 0]] * [0, 0, 0, 4], 3)},
        r"\(code 3\) name one space and differ by .* degrees and 4 mm",
    ),
    "half a turn between the forms": (
        {**_by_qform(TILTED, 1), **_by_sform(TILTED @ np.diag([-1, -1, 1, 1]), 2)},
        r"qform \(code 1\) and sform \(code 2\) begin at one place and differ by half a turn",
    ),
    "one mirrors": (
        {**_by_qform(STRAIGHT), **_by_sform(np.diag([-1.0, 2, 3, 1]), 2)},
        r"qform \(code 1\) and sform \(code 2\) mirror each other",
    ),
    "pixdim 0": ({"pixdim": (0, 2, 3), **_by_sform(STRAIGHT)}, r"measure 0 x 2 x 3 \(pixdim\)"),
    "pixdim negative": ({"pixdim": (-1, 2, 3), **_by_qform(STRAIGHT)}, r"measure -1 x 2 x 3 \(pixdim\)"),
    "pixdim NaN": ({"pixdim": (1, NAN, 3), **_by_sform(STRAIGHT)}, r"measure 1 x nan x 3"),
    "unit": ({**_by_sform(STRAIGHT), "xyzt_units": 5}, r"xyzt_units have the code 5"),
    "mm called metre": (
        {**_by_sform(STRAIGHT), "xyzt_units": 1},
        r"1000 x 2000 x 3000 mm \(pixdim 1 x 2 x 3, metre\)",
    ),
    "mm called micrometre": (
        {**_by_sform(STRAIGHT), "xyzt_units": 3},
        r"0\.001 x 0\.002 x 0\.003 mm .*micrometre",
    ),
    "metre without its unit": ({"pixdim": (1e-3,) * 3, "qcode": 1}, r"0\.001 x 0\.001 x 0\.001 mm"),
    "quaternion too long": ({"qform": (0.8, 0.8, 0.8, 0, 0, 0), "qcode": 1}, r"squares sum up to 1\.92"),
    "quaternion NaN": ({"qform": (NAN, 0, 0, 0, 0, 0), "qcode": 1}, r"quaternion nan x 0 x 0"),
    "qfac NaN": ({**_by_qform(STRAIGHT), "qfac": NAN}, r"qfac nan"),
    "singular": ({**_by_sform(np.diag([1.0, 2, 0, 1]))}, r"axis of length 0"),
    "parallel axes": (
        {"pixdim": (1, 1, 3), **_by_sform([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 3, 0]])},
        r"first and second axis meet at 0 degrees",
    ),
    "sform NaN": ({**_by_sform(np.full((3, 4), NAN))}, r"its sform holds nan"),
    "sform infinite": ({**_by_sform([[1, 0, 0, INF], [0, 2, 0, 0], [0, 0, 3, 0]])}, r"its sform holds .*inf"),
    "code": ({**_by_sform(STRAIGHT, 9)}, r"sform_code is 9"),
    "negative code": ({**_by_qform(STRAIGHT, -1)}, r"qform_code is -1"),
    "no axis": ({**_by_sform(STRAIGHT), "dim": [3, 4, 0, 6, 1, 1, 1, 1]}, r"3 axes of lengths \(4, 0, 6\)"),
    "voxels within the header": ({**_by_sform(STRAIGHT), "vox_offset": 0}, r"begin at byte 0 \(vox_offset\)"),
    "voxels elsewhere": ({**_by_sform(STRAIGHT), "magic": b"ni1"}, r"in another file \(\.img\)"),
    "no slope but a shift": (
        {**_by_sform(STRAIGHT), "scl_slope": 0, "scl_inter": 5},
        r"scl_slope 0 and scl_inter 5",
    ),
    "NaN and a shift": (
        {**_by_sform(STRAIGHT), "scl_slope": NAN, "scl_inter": 5},
        r"scl_slope nan and scl_inter 5",
    ),
    "infinite slope": ({**_by_sform(STRAIGHT), "scl_slope": INF, "scl_inter": 0}, r"scl_slope inf"),
    "no intercept": (
        {**_by_sform(STRAIGHT), "scl_slope": 2, "scl_inter": NAN},
        r"scl_slope 2 and scl_inter nan",
    ),
    "vanishing slope": ({**_by_sform(STRAIGHT), "scl_slope": 1e-30, "scl_inter": 0}, r"scl_slope 1e-30"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_msd(tmp_path_factory.mktemp("set"), cases=("a",), modality={"0": "T2"}, shape=(8, 9, 7))


@pytest.mark.parametrize("part", ["image", "mask"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_header_that_cannot_be_right_is_one_line(folder, name, part):
    fields, message = REFUSED[name]
    file = folder / ("imagesTr" if part == "image" else "labelsTr") / "a.nii.gz"
    before = file.read_bytes()
    voxels = np.asarray(nibabel.load(file).dataobj).reshape(8, 9, 7)
    try:
        write_raw(file, voxels, **{"pixdim": SIZE, **fields})
        with pytest.raises(DataError, match=message) as error:
            open_reader(task_from_folder(folder), folder).read("a")
    finally:
        file.write_bytes(before)
    problem = error.value.problem
    assert problem.file == file
    assert "\n" not in str(problem)
    # The file is whole: to extract it again would bring the same one.
    assert "extract" not in problem.remedy


def test_names_that_say_another_compression(folder, tmp_path):
    plain = write_raw(tmp_path / "a.nii.gz", VOXELS, **_by_sform(STRAIGHT))
    content = gzip.decompress(plain.read_bytes())
    plain.write_bytes(content)
    with pytest.raises(ValueError, match="not compressed with gzip") as error:
        _affine(plain)
    assert "rename it to a.nii," in error.value.remedy
    packed = tmp_path / "b.nii"
    packed.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match="compressed with gzip, though") as error:
        _affine(packed)
    assert "rename it to b.nii.gz," in error.value.remedy


@pytest.mark.parametrize(
    "shape", [(4, 5, 6), (4, 5, 6, 1), (4, 5, 6, 1, 1), (4, 5, 6, 3), (4, 5, 6, 3, 1, 1), (4, 5, 1)]
)
def test_axes_of_one_at_the_end_are_none(tmp_path, shape):
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    with open_nifti(write_raw(tmp_path / "a.nii", voxels, **_by_sform(STRAIGHT))) as (proxy, _):
        assert proxy.shape == shape[:4]
        assert np.array_equal(proxy[...], voxels.reshape(shape[:4]))


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("slope", [(NAN, NAN), (0, 0), (1, 0), (0.5, -3), (-2, 1)])
def test_voxels_are_scaled_as_simpleitk_does(tmp_path, dtype, slope):
    import SimpleITK

    fields = {"scl_slope": slope[0], "scl_inter": slope[1], **_by_sform(STRAIGHT)}
    path = write_raw(tmp_path / "a.nii", VOXELS.astype(dtype), **fields)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).T
    with open_nifti(path) as (proxy, _):
        assert np.array_equal(np.asarray(proxy[...]), expected)


def test_scores_are_millimetres_of_simpleitk(tmp_path):
    """Two boxes in a file in metres, turned; the largest distance as SimpleITK's filter has it."""
    import SimpleITK

    affine = turned((10, -20, 30), (0.8, 1.1, 2.5), (7, 8, 9))
    truth, found = np.zeros((20, 22, 12), np.uint8), np.zeros((20, 22, 12), np.uint8)
    truth[4:12, 5:14, 3:8], found[6:15, 5:13, 4:10] = 1, 1
    root = write_msd(tmp_path, cases=("a",), modality={"0": "T2"}, labels={"0": "background", "1": "box"})
    image = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    fields = {"pixdim": (0.0008, 0.0011, 0.0025), "xyzt_units": 1, **_by_sform(affine / 1000)}
    paths = []
    for part, voxels in (("imagesTr", image), ("labelsTr", truth), ("found", found)):
        paths.append(write_raw(root / part / "a.nii.gz", voxels, **fields))
    case = open_reader(task_from_folder(root), root).read("a")
    spacing = voxel_spacing(case.affine)
    itk = [SimpleITK.ReadImage(str(path)) for path in paths[1:]]
    assert np.allclose(spacing, itk[0].GetSpacing(), rtol=1e-6)
    assert np.allclose(spacing, (0.8, 1.1, 2.5), rtol=1e-6)
    surfaces = []
    for mask in itk:
        contour = SimpleITK.GetArrayFromImage(SimpleITK.LabelContour(mask, fullyConnected=False))
        places = [mask.TransformIndexToPhysicalPoint(i.tolist()) for i in np.argwhere(contour.T)]
        surfaces.append(np.array(places))
    apart = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=-1)
    hd95 = max(np.percentile(apart.min(0), 95), np.percentile(apart.min(1), 95))
    rows = score_case(found, case.mask, ["box"], spacing, 1.0)
    assert rows[0].scores["hd95"] == pytest.approx(hd95, rel=1e-4)


def test_a_file_that_may_not_be_read_is_not_called_broken(folder, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    reader = open_reader(task_from_folder(folder), folder)
    monkeypatch.setattr("usbench.storage.regular.os.open", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); see to its permissions"):
        reader.read("a")


def test_float64_beyond_float32_is_named(tmp_path, recwarn):
    root = write_msd(tmp_path, cases=("a",), modality={"0": "T2"})
    image = np.random.default_rng(0).normal(size=(8, 9, 7))
    image[2, 3, 4] = 1e200
    save_nifti(root / "imagesTr/a.nii.gz", image, np.diag([2.0, 2, 3, 1]))
    with pytest.raises(DataError, match="1 voxel of t2 is NaN or infinite"):
        open_reader(task_from_folder(root), root).read("a")
    assert not recwarn
