"""A patient as a reader gives it, with or without a mask, and what a scan of it is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Modality:
    """One kind of scan, such as T2-weighted MRI.

    Attributes:
        name: as on the command line: lower-case letters, digits and hyphens.
        words: as in prompts and pictures.
        aliases: the names under which data sets list it, compared without case.
    """

    name: str
    words: str
    aliases: tuple[str, ...] = ()

    def is_called(self, name: str) -> bool:
        """Whether a data set's `name` means this modality."""
        return name.strip().lower() in {self.name.lower(), *(alias.lower() for alias in self.aliases)}


@dataclass(frozen=True)
class Case:
    """One patient as a reader gives it, every modality on one voxel grid.

    Attributes:
        case_id: the patient's name in the data set.
        images: float32 [M, X, Y, Z] in the task's order of modalities, raw intensities.
        mask: uint8 [X, Y, Z], 0 for background and i + 1 for the task's i-th class (i from 0); where the
            classes are regions, bit i, of value 2**i, is set in each voxel of the i-th.
        affine: float64 [4, 4], voxel index to RAS+ millimetres.
        agreement: Dice between two annotations of the same patient, by class, where there are two.
        notices: what is no fault and yet worth a look, each a line; `usbench data check` says them.
    """

    case_id: str
    images: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    agreement: dict[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scans:
    """The scans of one patient, every modality on one voxel grid, without a mask.

    Attributes:
        case_id: the patient's name.
        images: float32 [M, X, Y, Z] in the task's order of modalities, raw intensities.
        affine: float64 [4, 4], voxel index to RAS+ millimetres.
        slices: where the scan that gives the grid is a DICOM series, its files in the order of Z; else ().
    """

    case_id: str
    images: np.ndarray
    affine: np.ndarray
    slices: tuple[Path, ...] = ()
