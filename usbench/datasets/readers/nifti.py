"""NIfTI files: opened, placed in space, and what is wrong with them said in one line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.problem import DataProblem, Report

_AGAIN = "extract or download the data set again"

# What a broken file brings about: cut short, garbled, or with a header that promises too much.
_BROKEN = (EOFError, zlib.error, OSError, ValueError, OverflowError, MemoryError)


def absent(case_id: str, path: Path) -> DataProblem:
    """The problem of a file that dataset.json lists and that is not there."""
    what = "the file is absent, though dataset.json lists it"
    return DataProblem(case_id, path, what, f"{_AGAIN}, or take the case off the list")


@contextmanager
def open_nifti(path: Path) -> Iterator[tuple[Any, np.ndarray]]:
    """Open a NIfTI file; at the end, the check sum of a compressed one is tested.

    Yields:
        Its voxels, [X, Y, Z] or [X, Y, Z, M], read when they are sliced, and its affine: float64 [4, 4],
        voxel index to RAS+ mm.

    Raises:
        ValueError: where the affine does not place the voxels in space.
    """
    import nibabel

    image: Any = nibabel.load(path)
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("its affine does not place the voxels in space")
    if path.suffix != ".gz":
        yield image.dataobj, affine
        return
    with gzip.open(path) as stream:
        yield type(image).from_stream(stream).dataobj, affine
        while stream.read(1 << 20):
            pass


@contextmanager
def nifti_errors(case_id: str, path: Path, report: Report) -> Iterator[None]:
    """Hand what a broken or absent NIfTI file makes nibabel raise to `report`."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except FileNotFoundError:
        report(absent(case_id, path))
    except (ImageFileError, HeaderDataError, *_BROKEN) as error:
        report(DataProblem(case_id, path, f"truncated or invalid NIfTI file ({error})", _AGAIN))
