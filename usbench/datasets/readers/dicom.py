"""One series of DICOM slices in one folder -> one volume with its place in the scanner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.names import natural_key
from usbench.contracts.problem import DataProblem, Report

_NEEDED = ("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "PixelData")
_AGAIN = "extract or download the series again"

# Header values are decimal text, rounded: same means within these.
_SAME_POSITION_MM = 0.01
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3  # relative
_EVEN = 0.1  # of a slice step
_TILT_DEGREES = 1.0


@dataclass(frozen=True)
class Series:
    """A series as a volume.

    Attributes:
        volume: float32 [X, Y, Z] = [columns, rows, slices along the normal], rescaled intensities.
        affine: float64 [4, 4], voxel index to RAS+ mm.
        files: The file of each slice, in the order of Z.
    """

    volume: np.ndarray
    affine: np.ndarray
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Slice:
    file: Path
    pixels: np.ndarray
    position: np.ndarray
    directions: np.ndarray  # [2, 3]: along a row, down a column
    spacing: np.ndarray  # between rows, between columns


def slice_files(folder: Path, suffix: str) -> list[Path]:
    """The files in `folder` with this suffix (".dcm"), in natural order, no hidden ones ('._x' of macOS)."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.suffix.lower() == suffix and not p.name.startswith(".")]
    return sorted(found, key=lambda p: natural_key(p.name))


def read_series(folder: Path, case_id: str, report: Report) -> Series | None:
    """Read the slices in `folder`, ordered by their position along the normal.

    The order of the file names and the series UID play no part.

    Args:
        folder: Holds the files of one series, *.dcm.
        case_id: The case, for messages.
        report: Takes each problem; it may raise it.

    Returns:
        The series, None where the slices make up no volume.
    """
    files = slice_files(folder, ".dcm")
    if len(files) < 2:
        what = f"{len(files)} DICOM files (*.dcm), a volume needs at least 2"
        report(DataProblem(case_id, folder, what, _AGAIN))
        return None
    read = [_read_slice(file, case_id, report) for file in files]
    slices = [s for s in read if s is not None]
    if len(slices) < len(files) or not _alike(slices, case_id, report):
        return None
    return _stack(slices, folder, case_id, report)


def _read_slice(file: Path, case_id: str, report: Report) -> _Slice | None:
    import pydicom
    from pydicom.errors import InvalidDicomError

    def bad(what: str) -> _Slice | None:
        report(DataProblem(case_id, file, what, _AGAIN))
        return None

    try:
        data: Any = pydicom.dcmread(file)
    except InvalidDicomError:
        return bad("not a DICOM file")
    except Exception as error:  # pydicom lets through whatever a broken file brings about
        return bad(f"unreadable DICOM file ({type(error).__name__}: {error})")
    try:
        absent = [name for name in _NEEDED if data.get(name) is None]
        if absent:
            return bad(f"truncated or incomplete DICOM file, it lacks {', '.join(absent)}")
        if int(data.get("NumberOfFrames") or 1) != 1 or int(data.get("SamplesPerPixel") or 1) != 1:
            return bad("more than one frame or colour channel, one grey slice a file is expected")
        position = np.array(data.ImagePositionPatient, dtype=float)
        directions = np.array(data.ImageOrientationPatient, dtype=float)
        spacing = np.array(data.PixelSpacing, dtype=float)
        if position.shape != (3,) or directions.shape != (6,) or spacing.shape != (2,):
            return bad("ImagePositionPatient, ImageOrientationPatient or PixelSpacing has a wrong length")
        directions = directions.reshape(2, 3)
        if not np.isfinite(position).all() or not (np.isfinite(spacing) & (spacing > 0)).all():
            return bad(
                f"ImagePositionPatient {position} or PixelSpacing {spacing} is no place in the scanner"
            )
        if not np.allclose(directions @ directions.T, np.eye(2), atol=1e-2):
            return bad(f"ImageOrientationPatient {directions.ravel()} is not two perpendicular unit vectors")
        pixels = np.asarray(data.pixel_array)
        slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
        pixels = pixels.astype(np.float32) * np.float32(1 if slope is None else slope)
        pixels += np.float32(0 if intercept is None else intercept)
    except Exception as error:  # as above: short pixel data, values that are no numbers
        return bad(f"truncated or invalid DICOM file ({type(error).__name__}: {error})")
    if pixels.shape != (int(data.Rows), int(data.Columns)) or not np.isfinite(pixels).all():
        return bad(
            f"pixels of shape {pixels.shape} do not fit {data.Rows} rows x {data.Columns} columns or are NaN"
        )
    return _Slice(file, pixels, position, directions, spacing)


def _alike(slices: list[_Slice], case_id: str, report: Report) -> bool:
    """Whether all slices agree with the first in size, orientation and pixel spacing."""
    first, alike = slices[0], True
    for other in slices[1:]:
        pairs = (
            ("size", first.pixels.shape, other.pixels.shape, first.pixels.shape == other.pixels.shape),
            (
                "ImageOrientationPatient",
                first.directions.ravel(),
                other.directions.ravel(),
                np.allclose(first.directions, other.directions, rtol=0, atol=_SAME_DIRECTION),
            ),
            (
                "PixelSpacing",
                first.spacing,
                other.spacing,
                np.allclose(first.spacing, other.spacing, rtol=_SAME_SPACING),
            ),
        )
        for name, expected, found, same in pairs:
            if not same:
                what = f"{name} {found} differs from {expected} in {first.file.name}"
                report(
                    DataProblem(
                        case_id, other.file, what, "keep slices of one series only, or extract it again"
                    )
                )
                alike = False
    return alike


def _stack(slices: list[_Slice], folder: Path, case_id: str, report: Report) -> Series | None:
    along_row, down_column = slices[0].directions
    normal = np.cross(along_row, down_column)
    normal /= np.linalg.norm(normal)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    heights = np.array([s.position @ normal for s in slices])
    gaps = np.diff(heights)
    whole = True

    def bad(what: str, remedy: str) -> None:
        nonlocal whole
        whole = False
        report(DataProblem(case_id, folder, what, remedy))

    for k in np.flatnonzero(gaps < _SAME_POSITION_MM):
        names = f"{slices[k].file.name} and {slices[k + 1].file.name}"
        bad(
            f"{names} lie at the same position ({heights[k]:.2f} mm along the normal)",
            "remove the one too many",
        )
    if not whole:
        return None
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    for k in np.flatnonzero(np.abs(gaps - usual) > _EVEN * usual):
        between = f"between {slices[k].file.name} and {slices[k + 1].file.name}"
        missing = round(float(gaps[k] / usual)) - 1
        if missing > 0:
            count = "a slice is missing" if missing == 1 else f"{missing} slices are missing"
            bad(f"{count} {between}: {gaps[k]:.2f} mm apart where {usual:.2f} mm is usual", _AGAIN)
        else:
            bad(f"uneven slices: {gaps[k]:.2f} mm {between} where {usual:.2f} mm is usual", _AGAIN)
    step = (slices[-1].position - slices[0].position) / (len(slices) - 1)
    tilt = np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    ideal = slices[0].position + np.arange(len(slices))[:, None] * step
    drift = np.linalg.norm(np.array([s.position for s in slices]) - ideal, axis=1).max()
    if whole and (tilt > _TILT_DEGREES or drift > max(_EVEN * usual, float(slices[0].spacing.max()))):
        what = f"slices are no straight stack along their normal ({tilt:.1f} degrees, {drift:.2f} mm off)"
        bad(what, "usbench reads straight stacks; resample the series")
    if not whole:
        return None
    to_ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, 0] = to_ras @ along_row * slices[0].spacing[1]
    affine[:3, 1] = to_ras @ down_column * slices[0].spacing[0]
    affine[:3, 2] = to_ras @ step
    affine[:3, 3] = to_ras @ slices[0].position
    volume = np.ascontiguousarray(np.stack([s.pixels.T for s in slices], axis=-1))
    if volume.min() == volume.max():
        report(DataProblem(case_id, folder, f"constant image, every voxel is {volume.flat[0]:g}", _AGAIN))
        return None
    return Series(volume, affine, tuple(s.file for s in slices))
