"""Drawn data sets: what usbench reads is what nibabel and SimpleITK read, or there is one clear line."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, event, given, settings
from kit.drawn_sets import DrawnHeader, DrawnSet, drawn_sets
from kit.nifti_headers import itk_affine, write_raw

from usbench.contracts.data import Case, Structure
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.readers.nifti import open_nifti
from usbench.datasets.tasks import get_task
from usbench.datasets.voxel_grid import voxel_spacing
from usbench.errors import UsbenchError

CLASSES = (Structure("pz", "PZ", labels=(1,)), Structure("tz", "TZ", labels=(2,)))
PROSTATE = dataclasses.replace(get_task("msd-prostate"), classes=CLASSES)
SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)


def _read(root: Path) -> Case | None:
    """The case as usbench reads it; None if it says in one clear line why not. Warnings are errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return open_reader(PROSTATE, root).read("a")
        except UsbenchError as error:
            text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    assert text.startswith(str(root))
    what, _, remedy = text.rpartition("; ")
    assert what
    assert len(remedy) > 5
    return None


def _itk_twin(path: Path, header: DrawnHeader, voxels: np.ndarray) -> Path:
    """The same as NIfTI-1, under a name that fits: SimpleITK reads no NIfTI-2."""
    fields = {**header.fields, "kind": nibabel.Nifti1Header}
    return write_raw(path.parent / "twin.nii", voxels, **fields)


def _compare_place(affine: np.ndarray, header: DrawnHeader, path: Path, twin: Path) -> None:
    itk = itk_affine(twin)
    assert itk is not None, "SimpleITK refuses this file"
    spacing = np.array(voxel_spacing(affine))
    axes = affine[:3, :3] / spacing
    assert np.abs(axes.T @ axes - np.eye(3)).max() < 2e-6  # the rounding of an sform stays
    assert np.allclose(spacing, voxel_spacing(itk), rtol=1e-5, atol=0)
    assert np.abs(axes - itk[:3, :3] / voxel_spacing(itk)).max() < 2e-4
    # Of two forms that agree to 1e-4 in the unit of the file ITK takes either.
    assert np.abs(affine[:3, 3] - itk[:3, 3]).max() < max(1e-3, 1.01e-4 * header.unit)
    if header.itk_alone_is_right:
        return
    try:
        theirs = nibabel.load(path).affine.copy()
    except ValueError:  # of a quaternion that is a little too long, which ITK reads all the same
        assert "quaternion" in header.changed
        return
    theirs[:3] *= header.unit
    sizes = np.array(voxel_spacing(theirs))
    assert np.allclose(spacing, sizes, rtol=1.1e-3, atol=0)
    assert np.abs(axes - theirs[:3, :3] / sizes).max() < 1.1e-3
    assert np.linalg.norm(affine[:3, 3] - theirs[:3, 3]) < 0.05 * spacing.min() + 1e-3


def _compare(case: Case, drawn: DrawnSet, image: Path, mask: Path) -> None:
    where = [[name.lower() for name in drawn.channels].index(name) for name in ("t2", "adc")]
    for path, header, voxels in ((image, drawn.image, drawn.voxels), (mask, drawn.mask, drawn.labels)):
        twin = _itk_twin(path, header, voxels)
        with open_nifti(path) as (_, affine):
            _compare_place(affine, header, path, twin)
        itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(twin))).T
        ours = np.asarray(nibabel.load(path).dataobj).reshape(voxels.shape)
        assert np.allclose(ours, itk, rtol=1e-5, atol=1e-5)
        if path == image:
            assert np.array_equal(case.affine, affine)
            assert np.array_equal(case.images, np.moveaxis(ours, -1, 0)[where].astype(np.float32))
        else:
            assert np.abs(ours - np.rint(ours)).max() <= 1e-3
            assert np.array_equal(case.mask, np.rint(ours))
            assert np.array_equal(case.mask, np.rint(itk))


def _run(drawn: DrawnSet, root: Path) -> None:
    image, mask = drawn.write(root)
    case = _read(root)
    event("read" if case else "refused")
    event("sound" if drawn.sound else "not sound")
    if case is None:
        assert not drawn.sound
        return
    assert drawn.good_mask
    assert not drawn.misnamed
    if drawn.far and drawn.image.placed:
        assert drawn.image.changed or drawn.mask.changed
    _compare(case, drawn, image, mask)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("drawn") / "Task05_Prostate"


_SETTINGS = {"derandomize": True, "deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=100, **_SETTINGS)
@given(drawn=drawn_sets())
def test_what_is_read_is_what_others_read_or_one_line(folder, drawn):
    _run(drawn, folder)


@pytest.mark.slow
@settings(max_examples=500, **_SETTINGS)
@given(drawn=drawn_sets())
def test_what_is_read_is_what_others_read_or_one_line_500_times(folder, drawn):
    _run(drawn, folder)
