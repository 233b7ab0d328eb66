"""Phantoms of two tasks of the Medical Segmentation Decathlon: 4D NIfTI and `dataset.json`."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usbench.datasets.phantom import signal
from usbench.datasets.phantom import tissues as t
from usbench.datasets.phantom.brain import Brain
from usbench.datasets.phantom.fields import Array, Grid, rotation
from usbench.datasets.phantom.layers import majority, picture
from usbench.datasets.phantom.pelvis import Pelvis
from usbench.datasets.phantom.scanner import FIRST, SECOND, Scanner
from usbench.storage.files import write_json

PROSTATE_HEADER: dict[str, Any] = {
    "name": "PROSTATE",
    "description": "Phantom: simulated prostate with peripheral and transition zone, made by usbench",
    "reference": "usbench phantom",
    "licence": "CC0",
    "release": "1.0",
    "tensorImageSize": "4D",
    "modality": {"0": "T2", "1": "ADC"},
    "labels": {"0": "background", "1": "PZ", "2": "TZ"},
}
BRAIN_HEADER: dict[str, Any] = {
    "name": "BRATS",
    "description": "Phantom: simulated gliomas in skull-stripped brains, made by usbench",
    "reference": "usbench phantom",
    "licence": "CC0",
    "release": "1.0",
    "tensorImageSize": "4D",
    "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
}


def write_prostate(folder: Path, case_id: str, seed: int, index: int, scanner: Scanner = FIRST) -> None:
    """Write one case of `Task05_Prostate` into `folder`: T2 and ADC, labels 1 PZ and 2 TZ."""
    rng = np.random.default_rng([seed, 505, index])
    size, slices = int(rng.choice([124, 128, 132])), int(rng.integers(13, 16))
    pixel, thick = float(rng.uniform(1.17, 1.25)), float(rng.uniform(3.8, 4.1))
    grid = Grid.centred(
        (size, size, slices),
        (pixel, pixel, thick),
        rotation(float(rng.uniform(-12, 12))),
        rng.uniform(-6, 6, 3) + np.array([0, 0, 5]),
    )
    patient = Pelvis(rng)
    images, mask = scan_prostate(patient, grid, rng, scanner)
    _write(folder, case_id, grid, images, mask)


def write_prostate_again(folder: Path, case_id: str, seed: int, index: int) -> None:
    """`write_prostate` with the second scanner."""
    write_prostate(folder, case_id, seed, index, SECOND)


def prostate_signals(tissue: t.Tissue, scanner: Scanner = FIRST) -> tuple[float, float, float]:
    """T2-weighted turbo spin echo, and the diffusion-weighted signals at the low and the high b value."""
    times = scanner.diffusion_tr, scanner.diffusion_te
    return (
        sum(signal.spin_echo_pair(tissue, scanner.prostate_tr, scanner.prostate_te)),
        signal.diffusion_echo(tissue, *times, scanner.b_low),
        signal.diffusion_echo(tissue, *times, scanner.b_high),
    )


def scan_prostate(
    patient: Pelvis, grid: Grid, rng: np.random.Generator, scanner: Scanner = FIRST
) -> tuple[Array, np.ndarray]:
    """T2 and ADC [2, X, Y, Z] and the mask [X, Y, Z] of one patient."""
    from scipy.ndimage import gaussian_filter

    layers, mask = picture(patient, grid, 2, lambda tissue: prostate_signals(tissue, scanner))
    bias = signal.coil_bias(grid, rng, 0.2 * scanner.coil, scanner.coil_mm)
    t2 = signal.rician(layers[0] * bias, 0.016 * scanner.noise, rng) * np.float32(rng.uniform(700, 1300))
    # Echo-planar images have half the resolution and are resampled to the T2 grid.
    sigma = 0.018 * scanner.noise
    echo = [gaussian_filter(layers[k] * bias, (1.0, 1.0, 0)) for k in (1, 2)]
    low, high = (gaussian_filter(signal.rician(e, sigma, rng), (0.7, 0.7, 0)) for e in echo)
    adc = signal.apparent_diffusion(low, high, scanner.b_low, scanner.b_high, 2.5 * sigma)
    return np.stack([t2, adc]), mask


def write_brain(folder: Path, case_id: str, seed: int, index: int, scanner: Scanner = FIRST) -> None:
    """Write one case of `Task01_BrainTumour` into `folder`: FLAIR, T1w, t1gd, T2w, labels 1 to 3."""
    rng = np.random.default_rng([seed, 101_01, index])
    shape = (int(rng.choice([76, 78, 80])), int(rng.choice([94, 96, 98])), int(rng.integers(46, 50)))
    grid = Grid.centred(shape, (2.0, 2.0, 2.5), np.eye(3), np.array([0, 0, 6.0]) + rng.uniform(-2, 2, 3))
    patient = Brain(rng)
    images, mask = scan_brain(patient, grid, rng, scanner)
    _write(folder, case_id, grid, images, mask)


def write_brain_again(folder: Path, case_id: str, seed: int, index: int) -> None:
    """`write_brain` with the second scanner."""
    write_brain(folder, case_id, seed, index, SECOND)


def brain_signals(
    tissue: t.Tissue, agent: float, scanner: Scanner = FIRST
) -> tuple[float, float, float, float]:
    """FLAIR, T1, T1 after gadolinium and T2 of a tissue that takes up `agent` mmol/l of it."""
    lit = signal.with_contrast(tissue, agent * scanner.uptake)
    flair = scanner.flair_tr, scanner.flair_te, scanner.flair_ti
    t1 = scanner.t1_tr, scanner.t1_te, scanner.t1_ti
    return (
        signal.inversion_recovery(tissue.t1, tissue.t2, tissue.pd, *flair),
        abs(signal.inversion_recovery(tissue.t1, tissue.t2, tissue.pd, *t1)),
        abs(signal.inversion_recovery(lit.t1, lit.t2, lit.pd, *t1)),
        signal.spin_echo(tissue.t1, tissue.t2, tissue.pd, scanner.t2_tr, scanner.t2_te),
    )


def scan_brain(
    patient: Brain, grid: Grid, rng: np.random.Generator, scanner: Scanner = FIRST
) -> tuple[Array, np.ndarray]:
    """FLAIR, T1w, t1gd and T2w [4, X, Y, Z], zero outside the brain, and the mask [X, Y, Z]."""

    def emit(tissue: t.Tissue, agent: float) -> tuple[float, float, float, float]:
        return brain_signals(tissue, agent, scanner)

    signals, occupancy, inside = patient.scan(grid, 4, emit)
    images = []
    for clean, sigma in zip(signals, (0.010, 0.008, 0.008, 0.014), strict=True):
        bias = signal.coil_bias(grid, rng, 0.12 * scanner.coil, scanner.coil_mm)
        noisy = signal.rician(np.abs(clean) * bias, sigma * scanner.noise, rng) * np.float32(
            rng.uniform(600, 1400)
        )
        images.append(np.where(inside, np.maximum(noisy, 1), 0))
    return np.stack(images), np.where(inside, majority(occupancy), 0).astype(np.uint8)


def _write(folder: Path, case_id: str, grid: Grid, images: Array, mask: np.ndarray) -> None:
    volume = np.moveaxis(np.rint(np.clip(images, 0, 32767)).astype(np.int16), 0, -1)
    spacing = grid.spacing
    save_nifti(folder / "imagesTr" / f"{case_id}.nii.gz", volume, grid.affine, spacing)
    save_nifti(folder / "labelsTr" / f"{case_id}.nii.gz", mask, grid.affine, spacing)


def save_nifti(path: Path, array: np.ndarray, lps: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """Write an array as gzipped NIfTI whose bytes depend on nothing but its content.

    Args:
        path: The file.
        array: [X, Y, Z] or [X, Y, Z, M].
        lps: float64 [4, 4], voxel index to LPS millimetres.
        spacing: Size of a voxel, in mm.
    """
    import nibabel as nib

    # NIfTI counts x to the right and y to the front: both change sign.
    image = nib.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 3, raw, mtime=0) as packed:
        packed.write(image.to_bytes())


def write_prostate_index(folder: Path, case_ids: Sequence[str]) -> None:
    """Write the `dataset.json` of `Task05_Prostate` for the cases in `folder`."""
    _write_index(folder, PROSTATE_HEADER, case_ids)


def write_brain_index(folder: Path, case_ids: Sequence[str]) -> None:
    """Write the `dataset.json` of `Task01_BrainTumour` for the cases in `folder`."""
    _write_index(folder, BRAIN_HEADER, case_ids)


def _write_index(folder: Path, header: dict[str, Any], case_ids: Sequence[str]) -> None:
    pairs = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in case_ids]
    counts = {"numTraining": len(pairs), "numTest": 0}
    write_json(folder / "dataset.json", {**header, **counts, "training": pairs, "test": []})
