"""Masks as usbench writes them, NIfTI-1 in gzip, read back without trust in the file."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from usbench.storage.regular import open_regular

MOST_VOXELS = 1 << 30
"""Numbers of one image, 1024 x 1024 x 1024 of them: the largest CT scans have some 500 million."""

MOST_BEFORE = 16 << 20
"""Bytes between the start of a NIfTI file and its voxels: header and extensions."""

_HEADER = 348


def load_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of a mask and where they lie.

    No more is unpacked than the header promises, and no header may promise more than `MOST_VOXELS`.

    Args:
        path: A .nii.gz file.

    Returns:
        The voxels [X, Y, Z] in the type that they have in the file, and the affine: float64 [4, 4], voxel
        index to RAS+ mm.

    Raises:
        OSError: Where it is not there, may not be read, or is no regular file.
        ValueError: For any other file; its text says why.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image: Any = nibabel.Nifti1Image.from_bytes(_unpacked(path, voxels=True))
        return np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)
    except (ImageFileError, HeaderDataError) as error:
        raise ValueError(f"{path}: is no NIfTI file ({error})") from error


def load_affine(path: Path) -> np.ndarray:
    """Where the voxels of a mask lie, by its header alone: the affine [4, 4] as `load_mask` gives it."""
    import nibabel

    header: Any = nibabel.Nifti1Header(_unpacked(path, voxels=False)[:_HEADER], check=False)
    return np.asarray(header.get_best_affine(), dtype=np.float64)


def _unpacked(path: Path, voxels: bool) -> bytes:
    """The file's bytes as its header promises them, or those of the header alone."""
    with open_regular(path) as stream:
        try:
            with gzip.GzipFile(fileobj=stream) as packed:
                start = packed.read(_HEADER)
                size = _promised(start)
                if not voxels:
                    return start
                content = start + packed.read(size - _HEADER)
                if len(content) < size or packed.read(1):
                    raise ValueError(f"{path}: has fewer or more voxels than its header says")
                return content
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: is no gzipped NIfTI file ({error})") from error


def _promised(start: bytes) -> int:
    """The size in bytes of a NIfTI-1 file that begins so, unpacked."""
    import nibabel
    from nibabel.spatialimages import HeaderDataError

    if len(start) < _HEADER:
        raise ValueError("is no NIfTI file (too short)")
    try:
        header: Any = nibabel.Nifti1Header(start, check=False)
        count = int(header["dim"][0])
        shape = [int(n) for n in header["dim"][1 : 1 + max(0, min(count, 7))]]
        offset = float(header["vox_offset"])
        each = int(header.get_data_dtype().itemsize)
    except (HeaderDataError, KeyError, ArithmeticError) as error:
        raise ValueError(f"has a header that cannot be read ({error})") from error
    if not 1 <= count <= 7 or min(shape) < 1 or math.prod(shape) > MOST_VOXELS:
        raise ValueError(f"its header says {count} axes of lengths {shape}, at most {MOST_VOXELS:,} are read")
    if not _HEADER + 4 <= offset <= MOST_BEFORE:
        raise ValueError(f"its voxels begin at byte {offset:g}")
    return int(offset) + math.prod(shape) * each
