"""NIfTI files: opened, placed in space, and what is wrong with them said in one line.

A header says the same thing in several places (two form matrices, `pixdim`, units), which may contradict
each other. `header_affine` is the one place where a header becomes millimetres.

Source of the fields and their meaning: the NIfTI-1 standard, nifti1.h (https://nifti.nimh.nih.gov/nifti-1).
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.problem import DataProblem, Report
from usbench.storage.nifti_masks import MOST_BEFORE, MOST_VOXELS
from usbench.storage.regular import open_regular

_AGAIN = "extract or download the data set again"
_GEOMETRY = "correct the header, or export the image anew from its source"

# What a broken file brings about: cut short, garbled, or with a header that promises too much.
_BROKEN = (EOFError, zlib.error, OSError, ValueError, OverflowError)

# Deflate packs at best 1032 bytes into one (zlib's technical details).
_MOST_PACKED = 1032

# Bytes behind the voxels that do no harm: some programs fill up the last block.
_MOST_BEHIND = 1 << 20

# xyzt_units, lower three bits: what a unit is called, and its length in mm. No unit is read as mm.
_UNITS = {0: ("no unit", 1.0), 1: ("metre", 1000.0), 2: ("mm", 1.0), 3: ("micrometre", 0.001)}
_CODES = range(6)

# Beyond these no scanner's voxel is found: then the unit is wrong, or the size.
_SMALLEST_MM, _LARGEST_MM = 0.005, 100.0

# The sizes by sform and by pixdim are the same up to this share (rounding when they were written).
_SAME_SIZE = 1e-3

# ITK reads an sform whose axes are perpendicular up to this, and refuses others (as cosine of the angle).
_PERPENDICULAR = 1e-4

# What the rounding of an sform to float32 makes of perpendicular axes of the size by pixdim. Such a matrix is
# taken as it is, to the last digit, as every program takes it.
_ROUNDING = 1e-6

# ITK takes the sform for the qform in other words where no number differs by more, in the unit of the file.
# It compares singular vectors, whose sense is arbitrary: what it makes of forms half a turn apart is chance.
_SAME_FORM, _HALF_TURN_DEGREES = 1e-4, 179.9

# Two forms of one code mean the same place. A quaternion holds angles to about 7e-4 only where it turns by
# 180 degrees (the square root of the rounding of float32), and offsets are rounded when they are written.
_SAME_DIRECTION, _SAME_OFFSET = 1e-3, 0.05  # of a voxel

# The squares of b, c, d sum up to 1 at most, but for rounding; where a is about 0, it is 0 (nifti1_io.c).
_LONG_QUATERNION, _NO_TURN = 1e-4, 1e-7

# ITK takes a slope that is smaller than this for none.
_SMALLEST_SLOPE = float(np.finfo(np.float64).eps)


class HeaderError(ValueError):
    """A NIfTI file that is whole, and whose header contradicts itself or says something impossible.

    Attributes:
        what: What is wrong, with the values.
        remedy: What to do about it.
    """

    def __init__(self, what: str, remedy: str = _GEOMETRY) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class _Form:
    """One of the two ways in which a header places voxels: unit axes as columns [3, 3], and mm [3].

    steps: The columns in mm [3, 3] where they are to stay as they are; None for axes times the voxel's size.
    """

    name: str
    code: int
    axes: np.ndarray
    offset: np.ndarray
    steps: np.ndarray | None = None


def absent(case_id: str, path: Path) -> DataProblem:
    """The problem of a file that dataset.json lists and that is not there."""
    what = "the file is absent, though dataset.json lists it"
    return DataProblem(case_id, path, what, f"{_AGAIN}, or take the case off the list")


@contextmanager
def open_nifti(path: Path) -> Iterator[tuple[Any, np.ndarray]]:
    """Open a NIfTI file; at the end, the check sum of a compressed one is tested.

    Yields:
        Its voxels, [X, Y, Z] or [X, Y, Z, M], without axes of length 1 beyond these, scaled and read when
        they are sliced, and its affine: float64 [4, 4], voxel index to RAS+ mm, as `header_affine` gives it.

    Raises:
        HeaderError: Where the header is no sound one.
        ValueError, OSError, EOFError: Where the file is cut short or garbled.
    """
    from nibabel.arrayproxy import ArrayProxy

    packed = _is_packed(path)
    with open_regular(path) as raw, gzip.GzipFile(fileobj=raw) if packed else raw as stream:
        header = _header(stream)
        affine = header_affine(header)
        spec = _voxels(header)
        size = int(np.prod(spec[0], dtype=object)) * spec[1].itemsize + spec[2]
        if size > path.stat().st_size * (_MOST_PACKED if packed else 1):
            raise ValueError(f"its header promises {size} bytes, the file cannot hold them")
        yield ArrayProxy(stream if packed else path, spec), affine
        # To the end, where the check sum stands.
        while packed and stream.read(1 << 20):
            if stream.tell() > size + _MOST_BEHIND:
                what = f"it unpacks to more than the {size:,} bytes that its header promises"
                raise HeaderError(what, "write the image anew with what it holds alone")


@contextmanager
def nifti_errors(case_id: str, path: Path, report: Report) -> Iterator[None]:
    """Hand what a broken, unsound or absent NIfTI file raises to `report`."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except FileNotFoundError:
        report(absent(case_id, path))
    except HeaderError as error:
        report(DataProblem(case_id, path, error.what, error.remedy))
    except MemoryError:
        what = "there is not enough memory to read it"
        report(DataProblem(case_id, path, what, "use a machine with more memory, or crop the image"))
    except (ImageFileError, HeaderDataError, *_BROKEN) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        if reason:  # the system's own word, such as "Permission denied": the file may be whole
            remedy = "see to its permissions and to the disk"
            report(DataProblem(case_id, path, f"the file cannot be read ({reason})", remedy))
        else:
            report(DataProblem(case_id, path, f"truncated or invalid NIfTI file ({error})", _AGAIN))


def header_affine(header: Any) -> np.ndarray:
    """Where a NIfTI header puts the voxels, on perpendicular axes and as ITK reads it.

    The size of a voxel is `pixdim` in the unit of `xyzt_units`, up to the rounding of an sform. Directions
    and offset are those of the form that ITK takes: the sform if its code is 1 or the qform has none or is
    the same in other words; else the qform; without any code, axes along left, posterior and superior from
    0 mm. (nibabel takes the sform wherever it has a code, and mirrors the first axis where no form has one.)

    Args:
        header: Of nibabel, NIfTI-1 or NIfTI-2, as it is in the file.

    Returns:
        float64 [4, 4], voxel index to RAS+ mm; its axes are perpendicular up to the rounding of float32.

    Raises:
        HeaderError: Naming what contradicts what, where no such reading is sound.
    """
    size, unit = _voxel_size(header)
    codes = {name: int(header[f"{name}_code"]) for name in ("qform", "sform")}
    for name, code in codes.items():
        if code not in _CODES:
            raise HeaderError(f"its {name}_code is {code}, 0 to {_CODES[-1]} have a meaning")
    qform = _qform(header, codes["qform"], unit) if codes["qform"] else None
    sform = _sform(header, codes["sform"], size, unit) if codes["sform"] else None
    form = _choose(qform, sform, size, unit) or _Form("none", 0, np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
    affine = np.eye(4)
    affine[:3, :3] = form.axes * size if form.steps is None else form.steps
    affine[:3, 3] = form.offset
    return affine


def _voxel_size(header: Any) -> tuple[np.ndarray, float]:
    """The sides of a voxel in mm [3], and the unit of the header's lengths in mm."""
    code = int(header["xyzt_units"]) & 7
    if code not in _UNITS:
        raise HeaderError(f"its xyzt_units have the code {code} for lengths, 0 to 3 have a meaning")
    name, unit = _UNITS[code]
    pixdim = np.asarray(header["pixdim"], dtype=np.float64)[1:4]
    if not (np.isfinite(pixdim) & (pixdim > 0)).all():
        raise HeaderError(f"its voxels measure {_row(pixdim)} (pixdim), sizes above 0 are expected")
    size = pixdim * unit
    if size.min() < _SMALLEST_MM or size.max() > _LARGEST_MM:
        what = f"its voxels measure {_row(size)} mm (pixdim {_row(pixdim)}, {name}), which no scanner's do"
        raise HeaderError(what, "correct xyzt_units or pixdim in the header")
    return size, unit


def _qform(header: Any, code: int, unit: float) -> _Form:
    from nibabel.quaternions import quat2mat

    numbers = np.array([header[f"quatern_{k}"] for k in "bcd"], dtype=np.float64)
    offset = np.array([header[f"qoffset_{k}"] for k in "xyz"], dtype=np.float64)
    qfac = float(header["pixdim"][0])
    if not np.isfinite([*numbers, *offset, qfac]).all():
        what = f"its qform has the quaternion {_row(numbers)}, offsets {_row(offset)} and qfac {qfac:g}"
        raise HeaderError(f"{what}, finite numbers are expected")
    rest = 1 - float(numbers @ numbers)
    if rest < -_LONG_QUATERNION:
        what = f"its qform has the quaternion {_row(numbers)}, whose squares sum up to {1 - rest:.6g}"
        raise HeaderError(f"{what}, above 1: it is no rotation")
    axes = quat2mat([0.0 if rest < _NO_TURN else np.sqrt(rest), *numbers])
    axes[:, 2] *= -1 if qfac < 0 else 1
    return _Form("qform", code, axes, offset * unit)


def _sform(header: Any, code: int, size: np.ndarray, unit: float) -> _Form:
    rows = np.array([header[f"srow_{k}"] for k in "xyz"], dtype=np.float64) * unit
    if not np.isfinite(rows).all():
        raise HeaderError(f"its sform holds {_row(rows)}, finite numbers are expected")
    columns, offset = rows[:, :3], rows[:, 3]
    lengths = np.linalg.norm(columns, axis=0)
    if not lengths.all():
        raise HeaderError(f"its sform has an axis of length 0 (steps of {_row(lengths)} mm)")
    if (np.abs(lengths - size) > _SAME_SIZE * size).any():
        what = f"it contradicts itself: a voxel measures {_row(size)} mm by pixdim"
        raise HeaderError(f"{what} and {_row(lengths)} mm by its sform")
    axes = columns / lengths
    left, stretch, right = np.linalg.svd(axes)
    if np.abs(stretch**2 - 1).max() > _PERPENDICULAR:
        cosines = np.abs([axes[:, 0] @ axes[:, 1], axes[:, 0] @ axes[:, 2], axes[:, 1] @ axes[:, 2]])
        pair = ("first and second", "first and third", "second and third")[int(cosines.argmax())]
        angle = np.degrees(np.arccos(min(1.0, float(cosines.max()))))
        what = f"its sform is sheared: its {pair} axis meet at {angle:.4g} degrees, 90 are expected"
        raise HeaderError(what, "resample the image onto perpendicular axes")
    if max(np.abs(stretch**2 - 1).max(), (np.abs(lengths - size) / size).max()) <= _ROUNDING:
        return _Form("sform", code, axes, offset, columns)
    axes = left @ right  # the nearest perpendicular axes (Schoenemann 1966)
    return _Form("sform", code, axes, offset)


def _choose(qform: _Form | None, sform: _Form | None, size: np.ndarray, unit: float) -> _Form | None:
    """The form that ITK takes, where both can be right."""
    if qform is None or sform is None:
        return sform or qform
    codes = f"it contradicts itself: its qform (code {qform.code}) and sform (code {sform.code})"
    if np.linalg.det(sform.axes) * np.linalg.det(qform.axes) < 0:
        raise HeaderError(f"{codes} mirror each other")
    turned = float(np.abs(sform.axes - qform.axes).max())
    apart = np.abs(sform.offset - qform.offset)
    angle = np.degrees(np.arccos(np.clip((np.trace(qform.axes.T @ sform.axes) - 1) / 2, -1, 1)))
    if sform.code == qform.code and (turned > _SAME_DIRECTION or apart.max() > _SAME_OFFSET * size.min()):
        what = f"{codes} name one space and differ by {angle:.3g} degrees and {np.linalg.norm(apart):.3g} mm"
        raise HeaderError(what)
    if sform.code == 1:
        return sform
    if apart.max() / unit > _SAME_FORM:
        return qform
    if angle > _HALF_TURN_DEGREES:
        raise HeaderError(f"{codes} begin at one place and differ by half a turn")
    return sform if turned <= _SAME_FORM else qform


def _is_packed(path: Path) -> bool:
    """Whether the file is compressed, as its name must say."""
    with open_regular(path) as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    named = path.suffix.lower() == ".gz"
    if packed and not named:
        remedy = f"rename it to {path.name}.gz, where it is listed too"
        raise HeaderError("compressed with gzip, though its name says otherwise", remedy)
    if named and not packed:
        with open_regular(path) as stream:
            plain = _header_class(stream.read(4)) is not None
        if plain:
            remedy = f"rename it to {path.stem}, where it is listed too, or compress it"
            raise HeaderError("not compressed with gzip, though its name says so", remedy)
    return packed


def _header_class(start: bytes) -> type | None:
    """The class of header that begins with these 4 bytes, its own size."""
    from nibabel import Nifti1Header, Nifti2Header

    sizes = {348: Nifti1Header, 540: Nifti2Header}
    return sizes.get(int.from_bytes(start, "little")) or sizes.get(int.from_bytes(start, "big"))


def _header(stream: Any) -> Any:
    """The header as it is in the file; nibabel's own reading mends what is wrong without a word."""
    start = stream.read(4)
    if len(start) < 4:
        raise EOFError("it ends within the header")
    kind: Any = _header_class(start)
    if kind is None:
        raise ValueError("it does not begin with a NIfTI header")
    rest = stream.read(kind.template_dtype.itemsize - 4)
    if len(rest) < kind.template_dtype.itemsize - 4:
        raise EOFError("it ends within the header")
    header = kind.from_fileobj(io.BytesIO(start + rest), check=False)
    magic = header["magic"].item()
    if magic == kind.pair_magic:
        what = "its header says that the voxels are in another file (.img)"
        raise HeaderError(what, "save header and voxels as one .nii.gz file")
    if magic != kind.single_magic:
        raise ValueError(f"magic string {magic.decode('latin1')!r}")
    return header


def _voxels(header: Any) -> tuple[tuple[int, ...], np.dtype, int, float, float]:
    """Shape without axes of 1 beyond the fourth, type, place in the file, slope and intercept."""
    count = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : count + 1])
    if not 1 <= count <= 7 or min(shape) < 1:
        raise HeaderError(f"its header says {count} axes of lengths {shape}, from 1 on are expected")
    if math.prod(shape) > MOST_VOXELS:
        what = f"its header says {' x '.join(map(str, shape))} voxels, at most {MOST_VOXELS:,} are read"
        raise HeaderError(what, "correct the header, or crop or resample the image")
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    offset = float(header["vox_offset"])
    if offset > MOST_BEFORE:
        what = f"its voxels begin at byte {offset:g} (vox_offset), at most {MOST_BEFORE:,} are skipped"
        raise HeaderError(what, "write the image anew without extensions of the header")
    if not offset >= header.single_vox_offset or offset != int(offset):
        least = header.single_vox_offset
        raise HeaderError(f"its voxels begin at byte {offset:g} (vox_offset), within the header of {least}")
    return shape, header.get_data_dtype(), int(offset), *_scaling(header)


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where the stored values are the voxels'."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    fields = f"scl_slope {slope:g} and scl_inter {inter:g}"
    remedy = "correct them in the header (1 and 0 where the stored values are those of the voxels)"
    if slope == 0 or np.isnan(slope):
        if inter == 0 or np.isnan(inter):
            return 1.0, 0.0
        raise HeaderError(f"it contradicts itself: {fields}, no scaling and yet a shift", remedy)
    if not np.isfinite([slope, inter]).all() or abs(slope) < _SMALLEST_SLOPE:
        raise HeaderError(f"its voxels are scaled by {fields}, which gives no numbers", remedy)
    return slope, inter


def _row(numbers: np.ndarray) -> str:
    return " x ".join(f"{v:.6g}" for v in np.ravel(numbers))
