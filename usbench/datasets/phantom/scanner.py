"""The scanners that phantoms are made with: the same equations, other coils, noise and timing."""

from __future__ import annotations

from dataclasses import dataclass

from usbench.datasets.phantom import signal
from usbench.datasets.phantom import tissues as t


@dataclass(frozen=True)
class Scanner:
    """What a scan owes to the machine and its protocol, and not to the patient.

    Times are in ms, angles in degrees, b values in s/mm2. `docs/phantoms.md` lists both scanners.

    Attributes:
        number: From 1.
        coil: Strength of the receive coil's shading, relative to scanner 1.
        coil_mm: Shortest and longest wavelength of that shading.
        noise: Standard deviation of the noise, relative to scanner 1.
        dual_tr, dual_flip: T1-DUAL.
        spir_tr, spir_te: T2-SPIR.
        prostate_tr, prostate_te: T2 of the prostate.
        diffusion_tr, diffusion_te, b_low, b_high: Diffusion-weighted images, of which ADC is made.
        flair_tr, flair_te: FLAIR; its inversion time is that at which CSF has no signal.
        t1_tr, t1_te, t1_ti: T1w and t1gd.
        t2_tr, t2_te: T2w of the brain.
        uptake: Concentration of the contrast agent, relative to scanner 1: when after the injection the scan
            is made.
    """

    number: int = 1
    coil: float = 1.0
    coil_mm: tuple[float, float] = (250.0, 500.0)
    noise: float = 1.0
    dual_tr: float = 150.0
    dual_flip: float = 80.0
    spir_tr: float = 2000.0
    spir_te: float = 70.0
    prostate_tr: float = 4500.0
    prostate_te: float = 100.0
    diffusion_tr: float = 3500.0
    diffusion_te: float = 75.0
    b_low: float = 50.0
    b_high: float = 800.0
    flair_tr: float = 9000.0
    flair_te: float = 110.0
    t1_tr: float = 2000.0
    t1_te: float = 4.0
    t1_ti: float = 900.0
    t2_tr: float = 4500.0
    t2_te: float = 95.0
    uptake: float = 1.0

    @property
    def flair_ti(self) -> float:
        """The inversion time of FLAIR."""
        return signal.null_time(t.CSF.t1, self.flair_tr)


FIRST = Scanner()

SECOND = Scanner(
    number=2,
    coil=1.8,
    coil_mm=(160.0, 320.0),
    noise=1.6,
    dual_tr=120.0,
    dual_flip=70.0,
    spir_tr=2500.0,
    spir_te=95.0,
    prostate_tr=3500.0,
    prostate_te=80.0,
    diffusion_tr=4500.0,
    diffusion_te=90.0,
    b_low=0.0,
    b_high=1000.0,
    flair_tr=7000.0,
    flair_te=140.0,
    t1_tr=1600.0,
    t1_te=3.0,
    t1_ti=800.0,
    t2_tr=3500.0,
    t2_te=75.0,
    uptake=0.6,
)
