"""One series of DICOM slices in one folder -> one volume with its place in the scanner."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usbench.contracts.names import natural_key
from usbench.contracts.problem import DataProblem, Report
from usbench.datasets.readers.dicom_file import read_dicom
from usbench.runtime.console import count

_PLACE = ("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_AGAIN = "extract or download the series again"
_HEADER = "export the series anew from its source, with its geometry"

MOST_PIXELS = 1 << 26
"""Of a slice, 8192 x 8192 of them."""

_SPARE = 1 << 20  # bytes

# What is one in a series, from the largest unit to the smallest.
_IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_SAME_ECHO = 0.1  # relative; scanners round, and write slightly different times for one echo

# In what pydicom says that it misses: the package that unpacks.
_PLUGIN = re.compile(r"pylibjpeg-\w+")

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
        identity: PatientID, StudyInstanceUID, SeriesInstanceUID and FrameOfReferenceUID; "" where the files
            have none.
    """

    volume: np.ndarray
    affine: np.ndarray
    files: tuple[Path, ...]
    identity: dict[str, str]


@dataclass(frozen=True)
class _Slice:
    file: Path
    pixels: np.ndarray
    position: np.ndarray
    directions: np.ndarray  # [2, 3]: along a row, down a column
    spacing: np.ndarray  # between rows, between columns
    identity: dict[str, str]
    echo_ms: float | None


class _UnfitError(Exception):
    """A file that is no slice which usbench can read: what is wrong, and the remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def slice_files(folder: Path, suffix: str) -> list[Path]:
    """The files in `folder` with this suffix (".dcm"), in natural order, no hidden ones ('._x' of macOS)."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.suffix.lower() == suffix and not p.name.startswith(".")]
    return sorted(found, key=lambda p: natural_key(p.name))


def read_series(folder: Path, case_id: str, report: Report) -> Series | None:
    """Read the slices in `folder`, ordered by their position along the normal.

    The order of the file names plays no part. All slices are of one patient, study, series, frame of
    reference and echo.

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
    if len(slices) < len(files) or not _one_series(slices, folder, case_id, report):
        return None
    return _stack(slices, folder, case_id, report) if _alike(slices, case_id, report) else None


def _read_slice(file: Path, case_id: str, report: Report) -> _Slice | None:
    try:
        data = _open(file)
        position, directions, spacing = _place(data)
        pixels = _intensities(data, _pixels(data))
    except _UnfitError as error:
        report(DataProblem(case_id, file, str(error), error.remedy))
        return None
    identity = {name: str(data.get(name) or "").strip() for name in _IDENTITY}
    try:
        echo_ms = float(data.EchoTime)
    except (AttributeError, TypeError, ValueError):
        echo_ms = None
    return _Slice(file, pixels, position, directions, spacing, identity, echo_ms)


def _open(file: Path) -> Any:
    from pydicom.errors import InvalidDicomError

    try:
        return read_dicom(file)
    except InvalidDicomError:
        raise _UnfitError("not a DICOM file", f"{_AGAIN}, or remove the file if it is no slice") from None
    except Exception as error:  # pydicom lets through whatever a broken file brings about
        if isinstance(error, OSError) and error.strerror:
            what = f"the file cannot be read ({error.strerror})"
            raise _UnfitError(what, "see to its permissions and to the disk") from None
        what = f"unreadable DICOM file ({type(error).__name__}: {error})"
        raise _UnfitError(what, _AGAIN) from None


def _place(data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position [3], directions [2, 3] and spacing [2] of a slice that is one grey picture."""
    absent = [name for name in _PLACE if data.get(name) is None]
    if "PixelData" not in data:
        lacks = ", ".join([*absent, "PixelData"])
        raise _UnfitError(f"truncated or incomplete DICOM file, it lacks {lacks}", _AGAIN)
    if absent:
        raise _UnfitError(f"incomplete DICOM file, it lacks {', '.join(absent)}", _HEADER)
    try:
        rows, columns, bits = int(data.Rows), int(data.Columns), int(data.get("BitsAllocated") or 16)
        if min(rows, columns) < 1 or rows * columns > MOST_PIXELS:
            what = f"{rows} rows x {columns} columns; 1 to {MOST_PIXELS:,} pixels are read"
            raise _UnfitError(what, _HEADER)
        # At worst, packing makes pixels a little larger; what is much larger unpacks to more than they are.
        if len(data.PixelData or b"") > 2 * rows * columns * max(1, bits // 8) + _SPARE:
            what = f"{len(data.PixelData):,} bytes of pixels for {rows} rows x {columns} columns"
            raise _UnfitError(what, _AGAIN)
        frames, samples = int(data.get("NumberOfFrames") or 1), int(data.get("SamplesPerPixel") or 1)
        if frames != 1 or samples != 1 or str(data.get("PhotometricInterpretation")) == "PALETTE COLOR":
            what = "more than one frame, or colours; one grey slice a file is expected"
            raise _UnfitError(what, "export the series as single grey slices (not as enhanced multi-frame)")
        position = np.array(data.ImagePositionPatient, dtype=float)
        directions = np.array(data.ImageOrientationPatient, dtype=float)
        spacing = np.array(data.PixelSpacing, dtype=float)
    except (TypeError, ValueError) as error:
        raise _UnfitError(f"its header holds no numbers where they belong ({error})", _HEADER) from None
    if position.shape != (3,) or directions.shape != (6,) or spacing.shape != (2,):
        what = "ImagePositionPatient, ImageOrientationPatient or PixelSpacing has a wrong length"
        raise _UnfitError(what, _HEADER)
    directions = directions.reshape(2, 3)
    if not np.isfinite(position).all() or not (np.isfinite(spacing) & (spacing > 0)).all():
        what = f"ImagePositionPatient {position} or PixelSpacing {spacing} is no place in the scanner"
        raise _UnfitError(what, _HEADER)
    if not np.allclose(directions @ directions.T, np.eye(2), atol=1e-2):
        what = f"ImageOrientationPatient {directions.ravel()} is not two perpendicular unit vectors"
        raise _UnfitError(what, _HEADER)
    return position, directions, spacing


def _pixels(data: Any) -> np.ndarray:
    """The stored values, [rows, columns]."""
    from pydicom.pixels import get_decoder  # type: ignore[attr-defined]

    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise _UnfitError("its header names no transfer syntax", "convert the series with gdcmconv --raw")
    compression = f"its pixels are compressed ({syntax.name})"
    convert = "convert the series with gdcmconv --raw"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise _UnfitError(f"{compression}, which cannot be unpacked here", convert) from None
    plugins = sorted({word for text in decoder.missing_dependencies for word in _PLUGIN.findall(text)})
    install = f"install what unpacks them (pip install pylibjpeg {' '.join(plugins)})" if plugins else ""
    either = f"{install}, or {convert}" if install else convert
    if not decoder.is_available:
        raise _UnfitError(f"{compression}, and no package that unpacks them is installed", either)
    try:
        pixels = np.asarray(data.pixel_array)
    except Exception as error:  # short pixel data, values that are no numbers, a codec that does not fit
        reason = " ".join(str(error).split())
        if decoder.is_encapsulated:
            what = f"{compression} and cannot be unpacked ({reason})"
            raise _UnfitError(what, f"{_AGAIN}; if the file is whole, {either}") from None
        what = f"truncated or invalid DICOM file ({type(error).__name__}: {reason})"
        raise _UnfitError(what, _AGAIN) from None
    if pixels.shape != (int(data.Rows), int(data.Columns)):
        what = f"pixels of shape {pixels.shape} do not fit {data.Rows} rows x {data.Columns} columns"
        raise _UnfitError(what, _AGAIN)
    return pixels


def _intensities(data: Any, pixels: np.ndarray) -> np.ndarray:
    """The stored values as float32, rescaled as the header says (DICOM PS3.3 C.7.6.16.2.9)."""
    fields = {"RescaleSlope": 1, "RescaleIntercept": 0}
    try:
        slope, intercept = (
            float(default if data.get(name) is None else data.get(name)) for name, default in fields.items()
        )
    except (TypeError, ValueError) as error:
        raise _UnfitError(f"RescaleSlope or RescaleIntercept is no number ({error})", _HEADER) from None
    with np.errstate(over="ignore", invalid="ignore"):  # named below
        values = pixels.astype(np.float32) * np.float32(slope)
        values += np.float32(intercept)
    if not np.isfinite(values).all():
        what = f"pixels are NaN or infinite (RescaleSlope {slope:g}, RescaleIntercept {intercept:g})"
        raise _UnfitError(what, _HEADER)
    return values


def _one_series(slices: list[_Slice], folder: Path, case_id: str, report: Report) -> bool:
    """Whether all slices are of one patient, study, series, frame of reference and echo."""
    first_echo = next((s.echo_ms for s in slices if s.echo_ms is not None), None)
    for name in (*_IDENTITY, "EchoTime"):
        groups: dict[str, list[_Slice]] = {}
        for one in slices:
            value = _echo(one.echo_ms, first_echo) if name == "EchoTime" else one.identity[name]
            groups.setdefault(value, []).append(one)
        if len(groups) > 1:
            shown = [
                f"{value or 'none'} ({count(members, 'file')}, such as {members[0].file.name})"
                for value, members in groups.items()
            ]
            more = f" and {len(shown) - 2} more" if len(shown) > 2 else ""
            what = f"slices of {len(shown)} scans: {name} {shown[0]} and {shown[1]}{more}"
            remedy = "keep the files of one series in this folder, with its annotation"
            report(DataProblem(case_id, folder, what, remedy))
            return False
    return True


def _echo(echo_ms: float | None, first_ms: float | None) -> str:
    """The echo time as text; that of the first where both are about the same, or one is not known."""
    if echo_ms is None or first_ms is None or abs(echo_ms - first_ms) <= _SAME_ECHO * abs(first_ms):
        echo_ms = first_ms
    return f"{echo_ms} ms"


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
                remedy = "keep slices of one series only in this folder"
                report(DataProblem(case_id, other.file, what, remedy))
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
            gap = "a slice is missing" if missing == 1 else f"{missing} slices are missing"
            bad(f"{gap} {between}: {gaps[k]:.2f} mm apart where {usual:.2f} mm is usual", _AGAIN)
        else:
            what = f"uneven slices: {gaps[k]:.2f} mm {between} where {usual:.2f} mm is usual"
            bad(what, "resample the series to slices at equal distances, or drop the case")
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
        what = f"constant image, every voxel is {volume.flat[0]:g}"
        report(DataProblem(case_id, folder, what, "drop the case, or the modality (--modalities)"))
        return None
    return Series(volume, affine, tuple(s.file for s in slices), slices[0].identity)
