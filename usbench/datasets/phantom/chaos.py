"""A phantom of the CHAOS MR training set: DICOM and PNG files, with the quirks of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usbench.datasets.phantom import signal
from usbench.datasets.phantom.abdomen import Abdomen
from usbench.datasets.phantom.fields import Array, Grid, Waves, rotation
from usbench.datasets.phantom.layers import picture
from usbench.datasets.phantom.scanner import FIRST, SECOND, Scanner

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

GREY_VALUES = np.array([0, 63, 126, 189, 252], np.uint8)
CLASSES = 4


def write_case(folder: Path, case_id: str, seed: int, index: int, scanner: Scanner = FIRST) -> None:
    """Write the folder of patient `case_id` into `folder`, which is `Train_Sets/MR`."""
    folder = folder / case_id
    rng = np.random.default_rng([seed, 101, index])
    patient = Abdomen(rng)
    dual, spir = _grids(rng)
    in_phase, out_phase, mask = scan_dual(patient, dual, rng, scanner)
    _write_dual(folder, case_id, seed, dual, in_phase, out_phase, mask, scanner)
    t2, mask = scan_spir(patient, spir, rng, scanner)
    _write_spir(folder, case_id, seed, spir, t2, mask, scanner)


def write_case_again(folder: Path, case_id: str, seed: int, index: int) -> None:
    """`write_case` with the second scanner."""
    write_case(folder, case_id, seed, index, SECOND)


def _grids(rng: np.random.Generator) -> tuple[Grid, Grid]:
    """The grids of T1-DUAL (straight) and of T2-SPIR (tilted, shifted, more and thinner slices)."""
    middle = np.array([0.0, 8.0, 0.0])
    size, slices = int(rng.choice([136, 140, 144])), int(rng.integers(19, 23))
    spacing = (round(345 / size, 4), round(345 / size, 4), round(float(rng.uniform(7.5, 8.2)), 3))
    dual = Grid.centred((size, size, slices), spacing, np.eye(3), middle + rng.uniform(-3, 3, 3))
    size, slices = int(rng.choice([140, 144, 148])), int(rng.integers(23, 27))
    spacing = (round(338 / size, 4), round(338 / size, 4), round(float(rng.uniform(6.6, 7.0)), 3))
    tilt = rotation(float(rng.uniform(-6, 6)), 0, float(rng.uniform(-2, 2)))
    return dual, Grid.centred((size, size, slices), spacing, tilt, middle + rng.uniform(-7, 7, 3))


def scan_dual(
    patient: Abdomen, grid: Grid, rng: np.random.Generator, scanner: Scanner = FIRST
) -> tuple[Array, Array, np.ndarray]:
    """T1-DUAL: one acquisition with two echoes.

    Returns:
        The in-phase and the out-of-phase image, float32 [X, Y, Z], and the mask, uint8 [X, Y, Z].
    """
    (both, apart), mask = picture(
        patient,
        grid,
        CLASSES,
        lambda tissue: signal.gradient_echo_pair(tissue, scanner.dual_tr, scanner.dual_flip),
    )
    bias = signal.coil_bias(grid, rng, 0.16 * scanner.coil, scanner.coil_mm)
    gain = float(rng.uniform(1500, 2600))
    images = [
        signal.rician(s * bias, 0.012 * scanner.noise, rng) * np.float32(gain) for s in (both, np.abs(apart))
    ]
    return images[0], images[1], mask


def scan_spir(
    patient: Abdomen, grid: Grid, rng: np.random.Generator, scanner: Scanner = FIRST
) -> tuple[Array, np.ndarray]:
    """T2-SPIR: a fat-suppressed turbo spin echo on its own grid.

    Returns:
        The image, float32 [X, Y, Z], and its own mask, uint8 [X, Y, Z].
    """
    (water, fat), mask = picture(
        patient,
        grid,
        CLASSES,
        lambda tissue: signal.spin_echo_pair(tissue, scanner.spir_tr, scanner.spir_te),
    )
    # Suppression fails where the field is off resonance: there, fat shines.
    off = Waves.random(rng, 110, 260, 6).on(grid)
    left = np.float32(0.07) + np.float32(0.5) * np.clip(off - np.float32(0.3), 0, 1)
    bias = signal.coil_bias(grid, rng, 0.2 * scanner.coil, scanner.coil_mm)
    image = signal.rician((water + fat * left) * bias, 0.018 * scanner.noise, rng)
    return image * np.float32(rng.uniform(1300, 2300)), mask


def _write_dual(
    folder: Path,
    case_id: str,
    seed: int,
    grid: Grid,
    in_phase: Array,
    out_phase: Array,
    mask: np.ndarray,
    scanner: Scanner,
) -> None:
    series = _uid(seed, case_id, "T1DUAL")
    slices = grid.shape[2]
    for name, image, echo, first in (
        ("OutPhase", out_phase, signal.OUT_PHASE_MS, 1),
        ("InPhase", in_phase, signal.IN_PHASE_MS, 2),
    ):
        target = folder / "T1DUAL" / "DICOM_anon" / name
        target.mkdir(parents=True)
        for z in range(slices):
            # Numbers run from the head down, positions from the feet up.
            number = 2 * (slices - 1 - z) + first
            stem = f"IMG-0004-{number:05d}"
            header = _header(seed, case_id, series, grid, z, number)
            header.SeriesDescription, header.SeriesNumber = "T1-DUAL", 4
            header.EchoTime, header.RepetitionTime = echo, scanner.dual_tr
            header.FlipAngle = scanner.dual_flip
            header.ScanningSequence, header.MRAcquisitionType = "GR", "2D"
            _write_slice(target / f"{stem}.dcm", header, image[:, :, z])
    _write_masks(folder / "T1DUAL" / "Ground", mask, lambda z: f"IMG-0004-{2 * (slices - 1 - z) + 2:05d}")


def _write_spir(
    folder: Path, case_id: str, seed: int, grid: Grid, image: Array, mask: np.ndarray, scanner: Scanner
) -> None:
    series = _uid(seed, case_id, "T2SPIR")
    slices = grid.shape[2]
    target = folder / "T2SPIR" / "DICOM_anon"
    target.mkdir(parents=True)
    for z in range(slices):
        number = slices - z
        header = _header(seed, case_id, series, grid, z, number)
        header.SeriesDescription, header.SeriesNumber = "T2-SPIR", 2
        header.EchoTime, header.RepetitionTime = scanner.spir_te, scanner.spir_tr
        header.FlipAngle = 90.0
        header.ScanningSequence, header.MRAcquisitionType = "SE", "2D"
        _write_slice(target / f"IMG-0002-{number:05d}.dcm", header, image[:, :, z])
    _write_masks(folder / "T2SPIR" / "Ground", mask, lambda z: f"IMG-0002-{slices - z:05d}")


def _write_masks(folder: Path, mask: np.ndarray, name: Callable[[int], str]) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    for z in range(mask.shape[2]):
        picture = np.ascontiguousarray(GREY_VALUES[mask[:, :, z].T])
        Image.fromarray(picture).save(folder / f"{name(z)}.png", compress_level=6)


def _uid(*words: object) -> UID:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=["usbench phantom", *(str(word) for word in words)])


def _header(seed: int, case_id: str, series: UID, grid: Grid, z: int, number: int) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = MRImageStorage
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = _uid(seed, series, number)
    d.StudyInstanceUID, d.SeriesInstanceUID = _uid(seed, case_id, "study"), series
    d.FrameOfReferenceUID = _uid(seed, case_id, "frame")
    d.Modality, d.Manufacturer, d.ImageType = "MR", "usbench phantom", ["DERIVED", "PRIMARY", "OTHER"]
    d.PatientName, d.PatientID, d.PatientSex, d.PatientBirthDate = f"Phantom^{case_id}", case_id, "O", ""
    d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = "20000101"
    d.StudyTime = d.ContentTime = "000000"
    d.AccessionNumber = d.StudyID = d.ReferringPhysicianName = ""
    d.MagneticFieldStrength, d.BodyPartExamined, d.PatientPosition = 1.5, "ABDOMEN", "HFS"
    d.SequenceVariant, d.ScanOptions, d.EchoTrainLength = "NONE", "", 1
    d.InstanceNumber, d.AcquisitionNumber = number, 1
    steps, affine = grid.spacing, grid.affine
    along = [affine[:3, a] / steps[a] for a in (0, 1)]
    d.ImageOrientationPatient = [round(float(v), 9) for v in np.concatenate(along)]
    d.ImagePositionPatient = [round(float(v), 6) for v in affine[:3, 3] + z * affine[:3, 2]]
    d.PixelSpacing = [round(steps[1], 6), round(steps[0], 6)]
    d.SliceThickness = d.SpacingBetweenSlices = round(steps[2], 6)
    d.PositionReferenceIndicator = ""
    return d


def _write_slice(path: Path, header: Dataset, picture: Array) -> None:
    """Write one slice [X, Y] as rows and columns of 12 bits in 16."""
    pixels = np.clip(np.rint(picture.T), 0, 4095).astype("<u2")
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.WindowCenter, header.WindowWidth = 600, 1200
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OW"
    header.save_as(path, enforce_file_format=True)
