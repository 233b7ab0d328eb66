"""Small data sets with a known scene in scanner coordinates, in the layouts of CHAOS and the Decathlon."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
SERIES_UID = "1.2.826.0.1.3680043.8.498.1234"

Field = Callable[[np.ndarray], np.ndarray]


def oblique(degrees_x: float, degrees_z: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Row and column directions of an axial plane turned about two axes."""
    a, b = np.radians([degrees_x, degrees_z])
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turn = turn_z @ turn_x
    return tuple(turn[:, 0]), tuple(turn[:, 1])


def ball(centre: Sequence[float], radius: float) -> Field:
    """True inside a ball, for points [..., 3] in LPS mm."""
    return lambda points: np.linalg.norm(points - np.asarray(centre), axis=-1) <= radius


@dataclass(frozen=True)
class Grid:
    """Where slices lie, as DICOM says it: LPS mm, `first` is the corner voxel of slice 0."""

    size: tuple[int, int, int] = (32, 28, 10)  # columns, rows, slices
    spacing: tuple[float, float] = (2.0, 1.5)  # between rows, between columns
    step: float = 5.0
    directions: tuple[tuple[float, ...], tuple[float, ...]] = AXIAL
    first: tuple[float, float, float] = (-24.0, -28.0, -20.0)

    def position(self, k: int) -> np.ndarray:
        return np.array(self.first) + k * self.step * np.cross(*self.directions)

    def points(self, k: int) -> np.ndarray:
        """LPS mm of each pixel of slice k, [rows, columns, 3]; DICOM PS3.3 C.7.6.2.1.1."""
        columns, rows, _ = self.size
        r, c = np.mgrid[0:rows, 0:columns]
        along_row, down_column = np.array(self.directions)
        return (
            self.position(k)
            + c[..., None] * self.spacing[1] * along_row
            + r[..., None] * self.spacing[0] * down_column
        )


def write_dicom(
    file: Path, pixels: np.ndarray, grid: Grid, k: int, slope: float = 1, intercept: float = 0
) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MR_STORAGE
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(file)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = MR_STORAGE, meta.MediaStorageSOPInstanceUID
    data.Modality, data.SeriesInstanceUID = "MR", SERIES_UID
    data.PatientID, data.StudyInstanceUID, data.FrameOfReferenceUID = (
        "x",
        SERIES_UID + ".1",
        SERIES_UID + ".2",
    )
    data.InstanceNumber = str(k + 1)
    data.ImagePositionPatient = [f"{v:.8g}" for v in grid.position(k)]
    data.ImageOrientationPatient = [f"{v:.10g}" for d in grid.directions for v in d]
    data.PixelSpacing = [str(v) for v in grid.spacing]
    data.SliceThickness = str(grid.step)
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept = str(slope), str(intercept)
    data.PixelData = pixels.astype("<u2").tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(file, data, enforce_file_format=True)


def write_series(
    folder: Path, image: Field, grid: Grid, names: Sequence[str], slope: float = 1, intercept: float = 0
) -> None:
    """Slice k of the scene goes to the k-th name."""
    for k, name in enumerate(names):
        write_dicom(folder / f"{name}.dcm", np.asarray(image(grid.points(k))), grid, k, slope, intercept)


def write_ground(folder: Path, organs: dict[int, Field], grid: Grid, names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        grey = np.zeros(grid.points(k).shape[:2], dtype=np.uint8)
        for value, inside in organs.items():
            grey[inside(grid.points(k))] = value
        Image.fromarray(grey).save(folder / f"{name}.png")


# The scene of the CHAOS cases: liver and spleen as balls, brighter than a textured body.
LIVER, SPLEEN = (-8.0, 2.0, 3.0), (12.0, -6.0, 1.0)
ORGANS = {63: ball(LIVER, 10.0), 252: ball(SPLEEN, 6.0)}


def scene(points: np.ndarray) -> np.ndarray:
    body = 100 + 20 * np.sin(points[..., 0] / 7) + 15 * np.cos(points[..., 1] / 9) + points[..., 2] / 2
    return np.round(body + 200 * ORGANS[63](points) + 400 * ORGANS[252](points))


def write_chaos_case(
    root: Path,
    case_id: str,
    t1: Grid | None = None,
    t2: Grid | None = None,
    shift: Sequence[float] = (0, 0, 0),
) -> Path:
    """A case with in-phase and out-phase names interleaved, PNGs named like the out-phase slices.

    `shift` moves what the T2-SPIR scan shows. The scene depends on the case by a constant.
    """
    t1, t2 = t1 or Grid(), t2 or Grid()
    case, extra = root / "Train_Sets" / "MR" / case_id, int(case_id)
    even = [f"IMG-0004-{2 * k + 2:05d}" for k in range(t1.size[2])]
    odd = [f"IMG-0004-{2 * k + 1:05d}" for k in range(t1.size[2])]
    write_series(case / "T1DUAL/DICOM_anon/InPhase", lambda p: scene(p) + extra, t1, even)
    write_series(case / "T1DUAL/DICOM_anon/OutPhase", lambda p: 700 - scene(p) + extra, t1, odd)
    write_ground(case / "T1DUAL/Ground", ORGANS, t1, odd)
    back = np.asarray(shift, dtype=float)
    names = [f"IMG-0002-{k + 1:05d}" for k in range(t2.size[2])]
    write_series(case / "T2SPIR/DICOM_anon", lambda p: 2 * scene(p - back) + extra, t2, names)
    moved = {value: (lambda p, f=inside: f(p - back)) for value, inside in ORGANS.items()}
    write_ground(case / "T2SPIR/Ground", moved, t2, names)
    return case


def write_msd(
    root: Path,
    cases: Sequence[str] = ("case_2", "case_10"),
    modality: dict[str, str] | None = None,
    labels: dict | None = None,
    affine: np.ndarray | None = None,
    shape: tuple[int, int, int] = (8, 9, 7),
    **changes: object,
) -> Path:
    """A folder in the layout of the Decathlon; `changes` replace keys of dataset.json (None removes one)."""
    modality = modality or {"0": "T2", "1": "ADC"}
    affine = np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine
    rng = np.random.default_rng(7)
    for case in cases:
        image = rng.integers(0, 1000, (*shape, len(modality))).astype(np.int16)
        mask = np.zeros(shape, dtype=np.uint8)
        mask[2:5, 2:6, 2:4], mask[5:7, 3:6, 2:4] = 1, 2
        save_nifti(root / "imagesTr" / f"{case}.nii.gz", image, affine)
        save_nifti(root / "labelsTr" / f"{case}.nii.gz", mask, affine)
    listed = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in cases]
    labels = labels or {"0": "background", "1": "PZ", "2": "TZ"}
    data = {"name": "SET", "modality": modality, "labels": labels, "training": listed, **changes}
    (root / "dataset.json").write_text(json.dumps({k: v for k, v in data.items() if v is not None}))
    return root


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def centroid(weights: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The centre, in RAS mm, of the voxels where `weights` is true."""
    return nibabel.affines.apply_affine(affine, np.argwhere(weights).mean(axis=0))


def to_ras(lps: Sequence[float]) -> np.ndarray:
    return np.array(lps) * (-1, -1, 1)


def cut(file: Path, share: float) -> None:
    """Keep the first part of a file."""
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
