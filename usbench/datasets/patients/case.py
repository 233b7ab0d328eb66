"""A patient without a mask: the scans as they were read, and the same in memory as a prepared case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from usbench.contracts.data import Scans
from usbench.contracts.settings import DataSettings
from usbench.datasets.geometry import SliceGeometry
from usbench.datasets.preprocess import prepare_images
from usbench.datasets.voxel_grid import voxel_spacing


@dataclass(frozen=True, eq=False)
class Patient:
    """The scans of one patient, every modality on one grid.

    Attributes:
        case_id: What files about this patient are called.
        images: float32 [M, X, Y, Z] in the order of the task, raw intensities; zeros for what is absent.
        affine: float64 [4, 4], voxel index to RAS+ mm.
        present: Of each modality, whether it is there.
        slices: Where the grid is that of a DICOM series, its files in the order of Z; else ().
    """

    case_id: str
    images: np.ndarray
    affine: np.ndarray
    present: tuple[bool, ...]
    slices: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class PatientCase:
    """A patient prepared in memory, as `usbench.datasets.store.PreparedCase` is on disk.

    Attributes:
        case_id: As that of the patient.
        images: float16 [Z, M, S, S], normalised; zeros, the mean of what was normalised, for what is absent.
        affine: float64 [4, 4], native voxel index to RAS+ mm.
        spacing: mm along the native axes.
        geometry: The way between slices and the native grid.
        present: Of each modality, whether it is there.
    """

    case_id: str
    images: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    geometry: SliceGeometry
    present: tuple[bool, ...]

    @property
    def foreground(self) -> np.ndarray:
        """bool [Z]: no slice is known to hold any class."""
        return np.zeros(len(self.images), dtype=bool)

    @property
    def mask(self) -> np.ndarray:
        """uint8 [Z, S, S] of zeros: nothing is known of it."""
        count, _, *size = self.images.shape
        return np.broadcast_to(np.uint8(0), (count, *size))


def prepare_patient(patient: Patient, settings: DataSettings, names: tuple[str, ...]) -> PatientCase:
    """Prepare a patient exactly as `usbench.datasets.store.prepare` prepares a training case.

    Args:
        patient: The scans.
        settings: Those that the network was trained with.
        names: Of the modalities, for messages.

    Raises:
        UsbenchError: For intensities that cannot be prepared.
    """
    there = np.flatnonzero(patient.present)
    images = patient.images if len(there) == len(names) else patient.images[there]
    known = tuple(names[i] for i in there)
    prepared, geometry = prepare_images(Scans(patient.case_id, images, patient.affine), settings, known)
    if len(there) < len(names):
        spread = np.zeros((len(prepared), len(names), *prepared.shape[2:]), dtype=prepared.dtype)
        spread[:, there] = prepared
        prepared = spread
    affine = np.asarray(patient.affine, dtype=np.float64)
    return PatientCase(
        patient.case_id, prepared, affine, voxel_spacing(affine), geometry, tuple(patient.present)
    )
