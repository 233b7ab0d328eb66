"""Images made by hand to hang a reader or to fill its memory: one line, within seconds and 200 MB."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from kit.mutations import modest
from kit.nifti_headers import write_raw
from kit.png_files import chunk, write_png
from kit.synthetic import Grid, scene, write_series
from pydicom.uid import DeflatedExplicitVRLittleEndian

from usbench.contracts.problem import DataError, fail
from usbench.datasets.readers.dicom import read_series
from usbench.datasets.readers.nifti import nifti_errors, open_nifti
from usbench.datasets.readers.pictures import PictureError, read_indices
from usbench.storage.nifti_masks import load_affine, load_mask

VOXELS = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
ZEROS = 32 << 20
MANY = gzip.compress(bytes(ZEROS), 1) * 40


def read(path: Path) -> np.ndarray:
    with nifti_errors("a", path, fail), open_nifti(path) as (proxy, _):
        return np.asarray(proxy[...])
    raise AssertionError


def bomb(start: bytes) -> bytes:
    """Gzip that goes on with 1280 MiB of zeros."""
    return gzip.compress(start) + MANY


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, device])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_a_pipe_or_a_device_among_images_is_not_waited_for(tmp_path, make: Callable[[Path], None], name):
    make(tmp_path / name)
    with modest(), pytest.raises(DataError, match="not a file"):
        read(tmp_path / name)
    with modest(), pytest.raises(OSError, match="not a file"):
        load_mask(tmp_path / name)
    with modest(), pytest.raises(PictureError, match="not a file"):
        read_indices(tmp_path / name, (3, 4))


@pytest.mark.parametrize("make", [pipe, device])
def test_a_pipe_or_a_device_among_slices_is_not_waited_for(tmp_path, make: Callable[[Path], None]):
    write_series(tmp_path, scene, Grid(), ["a", "b"])
    make(tmp_path / "c.dcm")
    with modest(), pytest.raises(DataError, match=r"c\.dcm.*not a file"):
        read_series(tmp_path, "a", fail)


def test_a_file_that_unpacks_to_more_than_its_header_promises_is_left(tmp_path):
    path = write_raw(tmp_path / "a.nii.gz", VOXELS)
    sound = gzip.decompress(path.read_bytes())
    path.write_bytes(bomb(sound))
    with modest(), pytest.raises(DataError, match="unpacks to more than the 472 bytes that its header"):
        read(path)
    with modest(), pytest.raises(ValueError, match="fewer or more voxels"):
        load_mask(path)
    path.write_bytes(gzip.compress(sound + bytes(512)))
    assert np.array_equal(read(path), VOXELS)  # a last block that some program filled up


@pytest.mark.parametrize(
    "dim",
    [
        [3, 32767, 32767, 32767, 1, 1, 1, 1],
        [7, *[32767] * 7],
        [3, 2048, 2048, 1024, 1, 1, 1, 1],
        [3, 4, -5, 6, 1, 1, 1, 1],
        [3, 4, 0, 6, 1, 1, 1, 1],
        [0, 4, 5, 6, 1, 1, 1, 1],
    ],
)
def test_sizes_that_no_image_has_are_named_before_anything_is_read(tmp_path, dim):
    path = write_raw(tmp_path / "a.nii.gz", VOXELS, dim=dim)
    path.write_bytes(bomb(gzip.decompress(path.read_bytes())))
    with modest(), pytest.raises(DataError, match="its header says"):
        read(path)
    with modest(), pytest.raises(ValueError, match="its header says"):
        load_mask(path)


@pytest.mark.parametrize("offset", [4e9, float("inf"), float("nan"), -1.0, 100.0])
def test_voxels_that_begin_nowhere_are_named(tmp_path, offset):
    path = write_raw(tmp_path / "a.nii.gz", VOXELS, vox_offset=offset)
    path.write_bytes(bomb(gzip.decompress(path.read_bytes())))
    with modest(), pytest.raises(DataError, match="its voxels begin at byte"):
        read(path)
    with modest(), pytest.raises(ValueError, match="its voxels begin at byte"):
        load_mask(path)


@pytest.mark.parametrize("size", [(float("nan"), 1, 1), (float("inf"), 1, 1), (0, 1, 1), (-1, 1, 1)])
def test_a_voxel_without_a_size_is_named(tmp_path, size):
    path = write_raw(tmp_path / "a.nii.gz", VOXELS, pixdim=size)
    with modest(), pytest.raises(DataError, match="its voxels measure"):
        read(path)


def test_a_mask_is_read_as_nibabel_reads_it(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = 7, 8, 9
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(VOXELS, affine), path)
    voxels, found = load_mask(path)
    assert voxels.dtype == np.uint8
    assert np.array_equal(voxels, VOXELS)
    assert np.allclose(found, affine)
    assert np.allclose(load_affine(path), affine)
    for content in (b"", b"\x1f\x8b", path.read_bytes()[:-9], path.read_bytes()[:40], b"no mask"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"NIfTI file|too short"):
            load_mask(path)


def deflated(file: Path, elements: bytes = b"", times: int = 0) -> None:
    """Turn a file into one of the deflated transfer syntax, with more behind its elements."""
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(file, implicit_vr=False, little_endian=True)
    if not times:
        return
    content = file.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(file)
    start = 128 + 4 + 12 + int(meta.FileMetaInformationGroupLength)
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    whole = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    packed = packer.compress(whole) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(elements) + packer.flush(zlib.Z_FULL_FLUSH)
    file.write_bytes(content[:start] + packed + again * times + packer.flush())


def test_deflated_slices_are_read_as_the_others(tmp_path):
    write_series(tmp_path, scene, Grid(), ["a", "b", "c"])
    plain = read_series(tmp_path, "a", fail)
    for name in "abc":
        deflated(tmp_path / f"{name}.dcm")
        # What makes the test one: the file is compressed.
        assert b"1.2.840.10008.1.2.1.99" in (tmp_path / f"{name}.dcm").read_bytes()
    packed = read_series(tmp_path, "a", fail)
    assert plain is not None
    assert packed is not None
    assert np.array_equal(packed.volume, plain.volume)
    assert packed.identity == plain.identity


def test_a_deflated_slice_is_unpacked_up_to_a_size_alone(tmp_path):
    write_series(tmp_path, scene, Grid(), ["a", "b"])
    deflated(tmp_path / "b.dcm", bytes(ZEROS), 40)
    assert (tmp_path / "b.dcm").stat().st_size < 10 << 20
    with (
        modest(megabytes=600),
        pytest.raises(DataError, match=r"b\.dcm.*unpack to more than"),
    ):
        read_series(tmp_path, "a", fail)


@pytest.mark.parametrize("size", [(65535, 65535), (0, 4), (20000, 10000)])
def test_slices_of_sizes_that_none_has_are_named(tmp_path, size):
    write_series(tmp_path, scene, Grid(), ["a", "b"])
    data = pydicom.dcmread(tmp_path / "b.dcm")
    data.Rows, data.Columns = size
    data.save_as(tmp_path / "b.dcm")
    with modest(), pytest.raises(DataError, match=r"b\.dcm.*rows x"):
        read_series(tmp_path, "a", fail)


def test_pictures_are_no_larger_than_their_slice(tmp_path):
    path = tmp_path / "a.png"
    rows = zlib.compress(bytes(ZEROS), 1)

    def head(columns: int, lines: int) -> bytes:
        return chunk(b"IHDR", struct.pack(">IIBBBBB", columns, lines, 8, 0, 0, 0, 0))

    data, end = chunk(b"IDAT", rows), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head(60000, 60000) + data + end)
    with modest(), pytest.raises(PictureError, match="60000 rows x 60000 columns"):
        read_indices(path, (3, 4))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head(4, 3) + head(60000, 60000) + data + end)
    with modest(), pytest.raises(PictureError, match=r"size twice|truncated or invalid"):
        read_indices(path, (3, 4))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head(4, 3) + data + end)
    with modest():
        assert not read_indices(path, (3, 4))[0].any()  # the rest of the pixels is never unpacked
    with path.open("wb") as stream:
        stream.truncate(1 << 30)
    with modest(), pytest.raises(PictureError, match="at most"):
        read_indices(path, (3, 4))
    write_png(path, np.ones((3, 4), dtype=int))
    assert read_indices(path, (3, 4))[0].all()
