"""The signal equations of the scans, and what the scanner adds to them.

All times in ms, concentrations in mmol/l, relaxivities in l/(mmol s), b values in s/mm2, diffusion
coefficients in 1e-3 mm2/s, angles in degrees. Signals are in units of the proton density (water = 1).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from usbench.datasets.phantom.tissues import FAT, Tissue

if TYPE_CHECKING:
    from usbench.datasets.phantom.fields import Array, Grid

IN_PHASE_MS = 4.6
OUT_PHASE_MS = 2.3
"""Echo times at which water and the main fat peak (3.4 ppm, 217 Hz at 1.5 T) add up and cancel."""

FIELD_DEPHASING_MS = 80.0
"""T2' of the field's unevenness: 1/T2* = 1/T2 + 1/T2'. With T2 46 ms it gives the liver 29 ms."""

R1_GADOLINIUM = 4.1
R2_GADOLINIUM = 4.6
"""Relaxivities of gadopentetate in plasma at 1.5 T (Rohrer 2005)."""


def spoiled_gradient_echo(t1: float, t2: float, pd: float, tr: float, te: float, flip: float) -> float:
    """Ernst's steady state of a spoiled gradient echo, with T2* decay until the echo."""
    e1 = math.exp(-tr / t1)
    angle = math.radians(flip)
    decay = math.exp(-te * (1 / t2 + 1 / FIELD_DEPHASING_MS))
    return pd * math.sin(angle) * (1 - e1) / (1 - math.cos(angle) * e1) * decay


def spin_echo(t1: float, t2: float, pd: float, tr: float, te: float) -> float:
    """A (turbo) spin echo: recovery over `tr`, decay over the effective echo time `te`."""
    return pd * (1 - math.exp(-tr / t1)) * math.exp(-te / t2)


def inversion_recovery(t1: float, t2: float, pd: float, tr: float, te: float, ti: float) -> float:
    """A (turbo) spin echo after an inversion pulse; negative before the null point."""
    return pd * (1 - 2 * math.exp(-ti / t1) + math.exp(-tr / t1)) * math.exp(-te / t2)


def null_time(t1: float, tr: float) -> float:
    """The inversion time at which `inversion_recovery` gives no signal for a tissue with `t1`."""
    return -t1 * math.log((1 + math.exp(-tr / t1)) / 2)


def diffusion_echo(tissue: Tissue, tr: float, te: float, b: float) -> float:
    """A fat-suppressed diffusion-weighted echo-planar image: spin echo times exp(-b D)."""
    water = spin_echo(tissue.t1, tissue.t2, tissue.pd * (1 - tissue.fat), tr, te) * math.exp(
        -b * tissue.adc / 1000
    )
    fat = 0.04 * spin_echo(FAT.t1, FAT.t2, tissue.pd * tissue.fat, tr, te) * math.exp(-b * FAT.adc / 1000)
    return water + fat


def gradient_echo_pair(tissue: Tissue, tr: float = 150.0, flip: float = 80.0) -> tuple[float, float]:
    """In-phase and out-of-phase signal: water plus fat, and water minus fat (signed)."""

    def species(te: float) -> tuple[float, float]:
        water = spoiled_gradient_echo(tissue.t1, tissue.t2, tissue.pd * (1 - tissue.fat), tr, te, flip)
        fat = spoiled_gradient_echo(FAT.t1, FAT.t2, tissue.pd * tissue.fat, tr, te, flip)
        return water, fat

    water_in, fat_in = species(IN_PHASE_MS)
    water_out, fat_out = species(OUT_PHASE_MS)
    return water_in + fat_in, water_out - fat_out


def spin_echo_pair(tissue: Tissue, tr: float, te: float) -> tuple[float, float]:
    """The water's and the fat's share of a turbo spin echo, apart, for fat suppression to act on."""
    water = spin_echo(tissue.t1, tissue.t2, tissue.pd * (1 - tissue.fat), tr, te)
    # A train of refocusing pulses undoes the J-coupling of fat, which then decays more slowly.
    fat = spin_echo(FAT.t1, 1.5 * FAT.t2, tissue.pd * tissue.fat, tr, te)
    return water, fat


def with_contrast(tissue: Tissue, concentration: float) -> Tissue:
    """`tissue` with a gadolinium agent at `concentration` in it: shorter T1 and T2."""
    t1 = 1000 / (1000 / tissue.t1 + R1_GADOLINIUM * concentration)
    t2 = 1000 / (1000 / tissue.t2 + R2_GADOLINIUM * concentration)
    return replace(tissue, t1=t1, t2=t2)


def apparent_diffusion(low: Array, high: Array, b_low: float, b_high: float, floor: float) -> Array:
    """ADC in 1e-6 mm2/s from two magnitude images; 0 where the weaker b value has no signal.

    Clipped to 0..4000, as scanners do. `floor` is the noise threshold on `low`.
    """
    ratio = np.log(np.maximum(low, 1e-6).astype(np.float64) / np.maximum(high, 1e-6))
    adc = np.clip(ratio / (b_high - b_low) * 1e6, 0, 4000)
    return np.where(low > floor, adc, 0).astype(np.float32)


def coil_bias(
    grid: Grid, rng: np.random.Generator, strength: float, waves: tuple[float, float] = (250.0, 500.0)
) -> Array:
    """The smooth multiplicative shading of a receive coil, mean about 1 (log-normal).

    waves: its shortest and its longest wavelength, in mm.
    """
    from usbench.datasets.phantom.fields import Waves

    field = Waves.random(rng, *waves, 5).on(grid)
    return np.exp(field.astype(np.float64) * strength).astype(np.float32)


def rician(signal: Array, sigma: float, rng: np.random.Generator) -> Array:
    """The magnitude of `signal` after complex Gaussian noise of standard deviation `sigma`."""
    real = signal + rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(sigma)
    imaginary = rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(sigma)
    return np.asarray(np.sqrt(real * real + imaginary * imaginary), np.float32)
