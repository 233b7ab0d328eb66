"""Slices are what a radiologist sees, whatever the order of the axes on disk, and lead exactly back."""

from __future__ import annotations

import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from usbench.datasets.geometry import SliceGeometry
from usbench.datasets.voxel_grid import voxel_spacing
from usbench.errors import UsbenchError

PLANES = ("axial", "coronal", "sagittal")
ORIENTATIONS = [
    "".join(pair[side] for pair, side in zip(order, sides, strict=True))
    for order in itertools.permutations(("LR", "PA", "IS"))
    for sides in itertools.product((0, 1), repeat=3)
]


def patient() -> nib.Nifti1Image:
    """A volume in which no two voxels are equal, with axes to the right, front and head."""
    affine = np.array([[2.0, 0, 0, -7], [0, 1.5, 0, 11], [0, 0, 3.0, -5], [0, 0, 0, 1]])
    return nib.Nifti1Image(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), affine)


def turned(image: nib.Nifti1Image, axcodes: str) -> nib.Nifti1Image:
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(axcodes)))


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("plane", PLANES)
def test_every_orientation_shows_the_same_patient_and_leads_back(plane: str) -> None:
    wanted = None
    for axcodes in ORIENTATIONS:
        image = turned(patient(), axcodes)
        assert "".join(nib.aff2axcodes(image.affine)) == axcodes
        volume = np.asarray(image.dataobj)
        geometry = SliceGeometry.from_affine(volume.shape, image.affine, plane)
        slices = geometry.to_slices(volume, fill=-1)
        wanted = slices if wanted is None else wanted
        np.testing.assert_array_equal(slices, wanted, err_msg=axcodes)
        back = geometry.from_slices(slices)
        np.testing.assert_array_equal(back, volume, err_msg=axcodes)
        assert back.dtype == volume.dtype


@pytest.mark.parametrize(
    ("plane", "down", "right", "onward"),
    [("axial", "P", "L", "S"), ("coronal", "I", "L", "P"), ("sagittal", "I", "P", "L")],
)
def test_directions_in_scanner_coordinates_for_an_oblique_volume(
    plane: str, down: str, right: str, onward: str
) -> None:
    """The world coordinates of every pixel, carried through `to_slices`, grow the right way."""
    turn, tilt = np.deg2rad(20), np.deg2rad(-15)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    cosine, sine = np.cos(tilt), np.sin(tilt)
    rotation = rotation @ np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-1.1, 0.9, -4.0])[:, [2, 0, 1]]
    affine[:3, 3] = (30, -20, 10)
    shape = (5, 6, 7)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = nib.affines.apply_affine(affine, index)
    geometry = SliceGeometry.from_affine(shape, affine, plane)
    rows, columns = geometry.window
    seen = np.stack([geometry.to_slices(world[..., k])[:, rows, columns] for k in range(3)], axis=-1)
    axis = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    sign = {"R": 1, "L": -1, "A": 1, "P": -1, "S": 1, "I": -1}
    for along, letter in ((0, onward), (1, down), (2, right)):
        steps = np.diff(seen, axis=along)
        assert (np.abs(steps).argmax(axis=-1) == axis[letter]).all()
        assert (np.sign(steps[..., axis[letter]]) == sign[letter]).all()
    np.testing.assert_allclose(voxel_spacing(affine), (4.0, 1.1, 0.9))


def test_the_first_row_is_anterior_and_the_first_column_the_patients_right() -> None:
    image = turned(patient(), "PSR")
    volume = np.zeros(image.shape, dtype=np.uint8)
    inverse = np.linalg.inv(image.affine)
    corner = patient().affine @ [3, 4, 5, 1]  # the right-most, foremost, topmost voxel
    volume[tuple(np.rint(inverse @ corner)[:3].astype(int))] = 9
    geometry = SliceGeometry.from_affine(volume.shape, image.affine)
    rows, columns = geometry.window
    axial = geometry.to_slices(volume)[:, rows, columns]
    assert axial[-1, 0, 0] == 9
    coronal = SliceGeometry.from_affine(volume.shape, image.affine, "coronal")
    assert coronal.to_slices(volume)[0][coronal.window][0, 0] == 9
    sagittal = SliceGeometry.from_affine(volume.shape, image.affine, "sagittal")
    assert sagittal.to_slices(volume)[0][sagittal.window][0, 0] == 9


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAL", "PIR", "ARI"])
def test_axial_slices_equal_nibabels_and_monais_lps(axcodes: str) -> None:
    image = turned(patient(), axcodes)
    volume = np.asarray(image.dataobj)
    geometry = SliceGeometry.from_affine(volume.shape, image.affine)
    ours = geometry.to_slices(volume)[(slice(None), *geometry.window)]
    lps = apply_orientation(volume, ornt_transform(io_orientation(image.affine), axcodes2ornt("LPS")))
    np.testing.assert_array_equal(ours, lps.transpose(2, 1, 0))

    transforms = pytest.importorskip("monai.transforms")
    data = pytest.importorskip("monai.data")
    tensor = data.MetaTensor(volume[None].astype(np.float32), affine=image.affine)
    monai = np.asarray(transforms.Orientation(axcodes="LPS", labels=None)(tensor))[0]
    np.testing.assert_array_equal(ours, monai.transpose(2, 1, 0))


def test_padding_is_centred_and_filled() -> None:
    volume = np.ones((4, 7, 2), dtype=np.float32)
    geometry = SliceGeometry.from_affine(volume.shape, np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert (geometry.count, geometry.height, geometry.width, geometry.side) == (2, 7, 4, 7)
    slices = geometry.to_slices(volume, fill=-3)
    assert slices.shape == (2, 7, 7)
    assert (slices[:, :, 1:5] == 1).all()
    assert (slices[:, :, [0, 5, 6]] == -3).all()


def test_a_geometry_survives_json() -> None:
    geometry = SliceGeometry.from_affine((4, 7, 2), np.diag([1.0, -1.0, 1.0, 1.0]), "sagittal")
    assert SliceGeometry.from_json(json.loads(json.dumps(geometry.to_json()))) == geometry


def test_what_does_not_fit_is_refused() -> None:
    geometry = SliceGeometry.from_affine((4, 7, 2), np.eye(4))
    with pytest.raises(UsbenchError, match="does not fit"):
        geometry.to_slices(np.zeros((4, 7, 3)))
    with pytest.raises(UsbenchError, match="do not fit"):
        geometry.from_slices(np.zeros((2, 4, 7)))
    with pytest.raises(UsbenchError, match="not 3D"):
        SliceGeometry.from_affine((4, 7, 2, 1), np.eye(4))
    with pytest.raises(UsbenchError, match="into space"):
        SliceGeometry.from_affine((4, 7, 2), np.diag([1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(UsbenchError, match="did you mean 'axial'"):
        SliceGeometry.from_affine((4, 7, 2), np.eye(4), "axail")  # type: ignore[arg-type]
