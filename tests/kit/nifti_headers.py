"""NIfTI files whose header fields are set one by one, and what SimpleITK makes of them."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np


def write_raw(
    path: Path,
    voxels: np.ndarray,
    pixdim: Sequence[float] = (1, 2, 3),
    qform: Sequence[float] = (0, 0, 0, 0, 0, 0),
    qfac: float = 1,
    qcode: int = 0,
    sform: np.ndarray | None = None,
    scode: int = 0,
    kind: type = nibabel.Nifti1Header,
    endian: str = "<",
    **fields: Any,
) -> Path:
    """Write a NIfTI file with these header fields, whatever they contradict.

    Args:
        path: Compressed where it ends in ".gz".
        voxels: In the file as they are, whatever `scl_slope` says.
        pixdim: The three sizes.
        qform: b, c, d of the quaternion and the three offsets.
        qfac: pixdim[0].
        qcode: Of the qform.
        sform: [4, 4] or [3, 4].
        scode: Of the sform.
        kind: The class of the header.
        endian: "<" or ">".
        fields: Any other field of the header by its name, last.
    """
    header: Any = kind(endianness=endian)
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    header["pixdim"][0], header["pixdim"][1:4] = qfac, pixdim
    for name, value in zip(("quatern_b", "quatern_c", "quatern_d"), qform[:3], strict=True):
        header[name] = value
    for name, value in zip(("qoffset_x", "qoffset_y", "qoffset_z"), qform[3:], strict=True):
        header[name] = value
    header["qform_code"], header["sform_code"] = qcode, scode
    if sform is not None:
        header["srow_x"], header["srow_y"], header["srow_z"] = np.asarray(sform)[:3]
    header["xyzt_units"], header["magic"] = 2, header.single_magic
    header["vox_offset"] = header.single_vox_offset
    for name, value in fields.items():
        header[name] = value
    start = header.binaryblock
    start += bytes(header.single_vox_offset - len(start))
    content = start + voxels.astype(voxels.dtype.newbyteorder(endian)).tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def turned(
    degrees: Sequence[float], size: Sequence[float], offset: Sequence[float] = (0, 0, 0)
) -> np.ndarray:
    """float64 [4, 4]: axes turned about x, y and z, steps of `size` and a shift by `offset`."""
    turn = nibabel.eulerangles.euler2mat(*np.radians(degrees)[::-1])
    return nibabel.affines.from_matvec(turn @ np.diag(size), offset)


def quaternion(affine: np.ndarray) -> tuple[list[float], float]:
    """b, c, d and the offsets of the qform that places voxels as `affine` does, and its qfac."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    qfac = float(np.sign(np.linalg.det(axes)))
    axes[:, 2] *= qfac
    return [*nibabel.quaternions.mat2quat(axes)[1:], *affine[:3, 3]], qfac


def itk_affine(path: Path) -> np.ndarray | None:
    """float64 [4, 4], voxel index to RAS+ mm, as SimpleITK has the first three axes; None if it refuses."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    count = reader.GetDimension()
    axes = np.array(reader.GetDirection()).reshape(count, count)[:3, :3] @ np.diag(reader.GetSpacing()[:3])
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return to_ras @ nibabel.affines.from_matvec(axes, reader.GetOrigin()[:3])
