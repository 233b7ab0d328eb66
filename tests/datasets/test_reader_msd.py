"""The reader of the Decathlon, against nibabel; and broken data, named."""

from __future__ import annotations

import gzip
import pickle
import re
from pathlib import Path

import nibabel
import nibabel.processing
import numpy as np
import pytest
from kit.synthetic import (
    Grid,
    cut,
    oblique,
    save_nifti,
    write_msd,
)

from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.tasks import get_task, task_from_folder
from usbench.errors import UsbenchError

CHAOS, PROSTATE, BRAIN = (get_task(name) for name in ("chaos", "msd-prostate", "msd-brain"))
T2_ONLY = CHAOS.with_modalities(["t2-spir"])
COARSE = Grid(
    size=(30, 34, 13), spacing=(1.6, 1.8), step=4.0, directions=oblique(8, 5), first=(-26, -30, -22)
)


def test_msd_maps_modalities_by_name_and_keeps_the_native_grid(tmp_path):
    affine = nibabel.affines.from_matvec(
        nibabel.eulerangles.euler2mat(0.3, 0.2, -0.1) @ np.diag([-1, 1.2, -3]), [5, 6, 7]
    )
    root = write_msd(
        tmp_path / "Task05_Prostate", modality={"0": "adc", "1": "other", "2": "T2W"}, affine=affine
    )
    (root / "imagesTr/._case_2.nii.gz").write_bytes(b"junk")
    reader = open_reader(PROSTATE, tmp_path)
    assert reader.case_ids() == ["case_2", "case_10"]
    case = pickle.loads(pickle.dumps(reader)).read("case_2")
    stored = nibabel.load(reader.files("case_2")[0])
    assert np.array_equal(case.images, np.moveaxis(stored.get_fdata(dtype=np.float32)[..., [2, 0]], -1, 0))
    assert np.allclose(case.affine, stored.affine)
    assert np.array_equal(case.mask, nibabel.load(reader.files("case_2")[1]).get_fdata() > 0)


def test_msd_applies_the_scale_and_reads_3d_images_and_4d_masks(tmp_path):
    root = write_msd(tmp_path / "set", modality={"0": "T2"})
    image = nibabel.Nifti1Image(
        np.arange(8 * 9 * 7, dtype=np.int16).reshape(8, 9, 7), np.diag([2.0, 2, 3, 1])
    )
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, root / "imagesTr/case_2.nii.gz")
    stored = nibabel.load(root / "imagesTr/case_2.nii.gz").get_fdata()
    mask = nibabel.load(root / "labelsTr/case_2.nii.gz")
    save_nifti(
        root / "labelsTr/case_2.nii.gz", mask.get_fdata()[..., None], mask.affine
    )  # floats, a fourth axis
    case = open_reader(task_from_folder(root), root).read("case_2")
    assert np.allclose(case.images[0], stored)
    assert set(np.unique(case.mask)) == {0, 1, 2}


def test_msd_lacking_a_modality(tmp_path):
    write_msd(
        tmp_path / "Task01_BrainTumour",
        modality={"0": "FLAIR", "1": "t1gd"},
        labels={"0": "bg", "1": "lesion"},
    )
    with pytest.raises(UsbenchError, match=r"no modality t1 of task msd-brain .*--modalities flair,t1gd"):
        open_reader(BRAIN, tmp_path)
    task = BRAIN.with_modalities(["t1gd", "flair"])
    assert open_reader(task, tmp_path).read("case_2").images.shape[0] == 2


def _rewrite(file: Path, change) -> None:
    image = nibabel.load(file)
    data = np.array(image.get_fdata())
    save_nifti(file, *change(data, image.affine))


def _put(value: float, where=(3, 3, 3)):
    def change(data, affine):
        data[where] = value
        return data.astype(np.float32), affine

    return change


def _moved(data, affine):
    affine = affine.copy()
    affine[0, 3] += 1.5
    return data, affine


def _huge(file: Path) -> None:
    """A header that promises 30000 x 30000 x 30000 voxels."""
    image = nibabel.load(file)
    header = image.header.copy()
    header["dim"][1:4], header["vox_offset"] = 30000, 352
    file.write_bytes(gzip.compress(header.binaryblock + bytes(4) + bytes(100)))


def _flip(file: Path) -> None:
    """One wrong byte in the voxels, in a stream that unpacks all the same: only its check sum tells."""
    content = file.read_bytes()
    plain = gzip.decompress(content)
    stored = gzip.compress(plain, compresslevel=0)
    place = len(stored) // 2
    file.write_bytes(stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :])


BROKEN_MSD = {
    "garbled": (
        lambda i, m: _flip(i),
        r"case_2\.nii\.gz: truncated or invalid NIfTI file \(CRC check failed",
    ),
    "garbled mask": (
        lambda i, m: _flip(m),
        r"labelsTr/case_2\.nii\.gz: truncated or invalid NIfTI file",
    ),
    "huge": (lambda i, m: _huge(m), r"case_2\.nii\.gz: its header says 30000 x 30000 x 30000 voxels"),
    "complex mask": (
        lambda i, m: _rewrite(m, lambda d, a: (d.astype(np.complex64), a)),
        r"type complex64, plain numbers",
    ),
    "truncated image": (lambda i, m: cut(i, 0.5), r"imagesTr/case_2\.nii\.gz: truncated or invalid NIfTI"),
    "truncated mask": (lambda i, m: cut(m, 0.5), r"labelsTr/case_2\.nii\.gz: truncated or invalid NIfTI"),
    "no nifti": (lambda i, m: i.write_text("hello"), r"imagesTr/case_2\.nii\.gz: truncated or invalid NIfTI"),
    "empty file": (lambda i, m: i.write_bytes(b""), r"imagesTr/case_2\.nii\.gz: truncated or invalid NIfTI"),
    "absent": (
        lambda i, m: m.unlink(),
        r"labelsTr/case_2\.nii\.gz: the file is absent, though dataset.json lists it",
    ),
    "mask shape": (
        lambda i, m: _rewrite(m, lambda d, a: (d[:-1], a)),
        r"mask is not on the grid .*shape 7 x 9 x 7 is not 8 x 9 x 7",
    ),
    "mask place": (lambda i, m: _rewrite(m, _moved), r"mask is not on the grid .* up to 1\.5 mm apart"),
    "mask axes": (lambda i, m: _rewrite(m, lambda d, a: (d[0], a)), r"a mask of shape \(9, 7\)"),
    "label": (lambda i, m: _rewrite(m, _put(7)), r"mask values 7 are unknown, allowed are 0, 1, 2"),
    "fraction": (lambda i, m: _rewrite(m, _put(0.5)), r"mask values 0\.5 are unknown"),
    "mask nan": (lambda i, m: _rewrite(m, _put(np.nan)), r"mask values nan are unknown"),
    "nan": (lambda i, m: _rewrite(i, _put(np.nan, (1, 1, 1, 0))), r"1 voxel of t2 is NaN or infinite"),
    "infinite": (
        lambda i, m: _rewrite(i, _put(np.inf, (1, 1, 1, 1))),
        r"1 voxel of adc is NaN or infinite",
    ),
    "constant": (lambda i, m: _rewrite(i, _put(4, (..., 1))), r"constant image, every voxel of adc is 4"),
    "channels": (
        lambda i, m: _rewrite(i, lambda d, a: (d[..., :1], a)),
        r"shape \(8, 9, 7, 1\), expected .*2 modalities",
    ),
    "three axes": (
        lambda i, m: _rewrite(i, lambda d, a: (d[..., 0], a)),
        r"shape \(8, 9, 7\), expected .*2 modalities",
    ),
    "complex": (
        lambda i, m: _rewrite(i, lambda d, a: (d.astype(np.complex64), a)),
        r"type complex64, plain numbers",
    ),
}


@pytest.mark.parametrize("name", BROKEN_MSD)
def test_broken_msd_is_named(tmp_path, name):
    spoil, message = BROKEN_MSD[name]
    root = write_msd(tmp_path / "Task05_Prostate")
    reader = open_reader(PROSTATE, tmp_path)
    spoil(root / "imagesTr/case_2.nii.gz", root / "labelsTr/case_2.nii.gz")
    with pytest.raises(UsbenchError, match=rf"case_2\.nii\.gz: .*{message.split(': ')[-1]}.*; \w+") as error:
        reader.read("case_2")
    assert "\n" not in str(error.value)
    assert reader.read("case_10").mask.any()


def test_listed_but_absent_files_are_named(tmp_path):
    root = write_msd(tmp_path / "Task05_Prostate")
    (root / "imagesTr/case_10.nii.gz").unlink()
    with pytest.raises(UsbenchError, match=r"imagesTr/case_10\.nii\.gz: the file is absent"):
        open_reader(PROSTATE, tmp_path).case_ids()
    with pytest.raises(UsbenchError, match="no case case_3; there are case_2, case_10"):
        open_reader(PROSTATE, tmp_path).read("case_3")


def test_mask_values_are_integers_to_within_rounding(tmp_path):
    """0 and 255 scaled by 1/255, and floats a little off, as registration and other tools leave them."""
    root = write_msd(tmp_path / "set", modality={"0": "T2"})
    task = task_from_folder(root)
    expected = open_reader(task, root).read("case_2").mask
    file = root / "labelsTr/case_2.nii.gz"
    for gain in (0.9999999, 1.0000000591, 1.00045, 1.0):
        for dtype in (np.float32, np.float64):
            _rewrite(file, lambda d, a, g=gain, t=dtype: ((np.round(d) * g).astype(t), a))
            assert np.array_equal(open_reader(task, root).read("case_2").mask, expected)
    image = nibabel.load(file)
    scaled = nibabel.Nifti1Image((127 * np.round(image.get_fdata())).astype(np.uint8), image.affine)
    scaled.header.set_slope_inter(1 / 127, 0)
    nibabel.save(scaled, file)
    assert not np.array_equal(np.unique(nibabel.load(file).dataobj), [0, 1, 2])
    assert np.array_equal(open_reader(task, root).read("case_2").mask, expected)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.002, "1.002"), (0.9989999, "0.9989999"), (1e30, "1000000015047466219876688855040"), (-1, "-1")],
)
def test_a_mask_value_that_is_no_label_is_shown_as_it_is(tmp_path, value, shown):
    root = write_msd(tmp_path / "set", modality={"0": "T2"})
    _rewrite(root / "labelsTr/case_2.nii.gz", _put(value))
    allowed = r"are unknown, allowed are 0, 1, 2, each to within 0\.001; correct the mask"
    with pytest.raises(UsbenchError, match=rf"mask values {re.escape(shown)} {allowed}"):
        open_reader(task_from_folder(root), root).read("case_2")


def test_a_mask_of_fractions_lists_some_of_them(tmp_path):
    root = write_msd(tmp_path / "set", modality={"0": "T2"})
    _rewrite(root / "labelsTr/case_2.nii.gz", lambda d, a: (np.random.default_rng(0).random(d.shape), a))
    with pytest.raises(UsbenchError, match=r"mask values (0\.[0-9e-]+, ){8}\.\.\. are unknown"):
        open_reader(task_from_folder(root), root).read("case_2")
