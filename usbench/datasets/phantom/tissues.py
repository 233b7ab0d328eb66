"""What the tissues are made of: relaxation, water, fat and diffusion at 1.5 T, with the sources.

`docs/phantoms.md` lists the sources in full. A value marked "range" is picked within what is reported
for a tissue that has no single agreed value (tumour, oedema, bowel content).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """One tissue: `t1` and `t2` of its water in ms, proton density `pd` (water = 1), fat fraction `fat`.

    `adc` in 1e-3 mm2/s; `texture` is the relative standard deviation of its signal within an organ.
    """

    t1: float
    t2: float
    pd: float
    fat: float = 0.0
    adc: float = 1.0
    texture: float = 0.03

    def varied(self, rng: np.random.Generator, spread: float = 0.05) -> Tissue:
        """This tissue in another patient: T1, T2 and ADC differ by `spread` (relative, one sigma)."""
        a, b, c = np.exp(np.clip(rng.normal(0, spread, 3), -2 * spread, 2 * spread))
        return replace(self, t1=self.t1 * float(a), t2=self.t2 * float(b), adc=self.adc * float(c))


AIR = Tissue(1000, 1, 0.0, texture=0.0)
FAT = Tissue(343, 58, 0.95, fat=1.0, adc=0.05, texture=0.02)  # de Bazelaire 2004
MUSCLE = Tissue(856, 27, 0.78, fat=0.02, adc=1.35)  # de Bazelaire 2004
PELVIC_MUSCLE = Tissue(1008, 44, 0.78, fat=0.02, adc=1.50)  # Stanisz 2005; ADC: range
SLOW_BLOOD = Tissue(1441, 120, 0.85, texture=0.0)  # range: portal blood, less oxygen and some dephasing
FLOWING = Tissue(
    700, 32, 0.85, adc=2.0, texture=0.0
)  # range: inflow is bright on gradient, dark on spin echo
FLUID = Tissue(3000, 600, 1.0, adc=2.8, texture=0.0)  # range: urine, gastric juice

# Abdomen: de Bazelaire 2004.
LIVER = Tissue(586, 46, 0.82, fat=0.03, texture=0.03)
SPLEEN = Tissue(1057, 79, 0.86, texture=0.03)
KIDNEY_CORTEX = Tissue(966, 87, 0.86, texture=0.03)
KIDNEY_MEDULLA = Tissue(1412, 85, 0.88, texture=0.03)
PANCREAS = Tissue(584, 46, 0.82, fat=0.10, texture=0.06)
MARROW = Tissue(549, 49, 0.80, fat=0.45, texture=0.08)
DISC = Tissue(1100, 80, 0.75)  # range
CORD = Tissue(745, 74, 0.75)  # Stanisz 2005 (spinal cord)
BILE = Tissue(1400, 400, 0.98, texture=0.0)  # range: T1 falls as bile is concentrated
BOWEL_WALL = Tissue(900, 55, 0.80, texture=0.06)  # range
PASTE = Tissue(500, 80, 0.86, fat=0.03, texture=0.10)  # range: food, manganese and iron shorten T1
DRY = Tissue(1050, 44, 0.84, texture=0.05)  # range: drier content: T1 of the spleen, T2 of the liver

# Brain.
WHITE = Tissue(884, 72, 0.70, texture=0.02)  # Stanisz 2005
GREY = Tissue(1124, 95, 0.82, texture=0.02)  # Stanisz 2005
DEEP_GREY = Tissue(1010, 84, 0.79, texture=0.02)  # range: iron shortens both
CSF = Tissue(4300, 2000, 1.0, texture=0.0)  # Rooney 2007 (T1)
OEDEMA = Tissue(1350, 140, 0.84, texture=0.06)  # range: Just and Thelen 1988
TUMOUR = Tissue(1500, 135, 0.84, texture=0.08)  # range: Just and Thelen 1988
NECROSIS = Tissue(2400, 330, 0.93, texture=0.05)  # range
HYPERINTENSITY = Tissue(1030, 140, 0.80, texture=0.03)  # range: milder T1 change than oedema
VESSEL = Tissue(1441, 40, 0.85, texture=0.0)  # Stanisz 2005 (T1); flow empties it on spin echoes
GLIOSIS = Tissue(1150, 150, 0.86, texture=0.03)  # range: old lacune with a rim

# Prostate: Simpkin 2013 for T2 and ADC, de Bazelaire 2004 for T1.
PERIPHERAL = Tissue(1500, 149, 0.90, adc=1.68, texture=0.07)
TRANSITION = Tissue(1317, 100, 0.86, adc=1.45, texture=0.08)
GLANDULAR_NODULE = Tissue(1500, 165, 0.90, adc=1.75, texture=0.05)  # range: Oto 2010
STROMAL_NODULE = Tissue(1200, 68, 0.84, adc=1.20, texture=0.05)  # range: Oto 2010
CANCER = Tissue(1350, 90, 0.85, adc=1.00, texture=0.04)  # Simpkin 2013
FIBROUS = Tissue(900, 38, 0.72, adc=1.20)  # range: anterior stroma
RECTAL_WALL = Tissue(1000, 62, 0.80, adc=1.50, texture=0.06)  # range
STOOL = Tissue(700, 80, 0.60, fat=0.05, adc=1.10, texture=0.15)  # range
VEINS = Tissue(1441, 170, 0.85, adc=2.45, texture=0.05)  # range: slow blood, perfusion raises the ADC
MARROW_PELVIS = Tissue(600, 45, 0.80, fat=0.55, adc=0.35, texture=0.06)  # range
