"""A random male pelvis around a prostate with its two zones."""

from __future__ import annotations

import numpy as np

from usbench.datasets.phantom import tissues as t
from usbench.datasets.phantom.fields import Shape, Waves, capsule, ellipsoid, path, rotation, within, without
from usbench.datasets.phantom.layers import Layer


class Pelvis:
    """One patient: `layers` from the outside in, and the smooth warp that bends all of them.

    Classes: 1 peripheral zone, 2 transition zone. Coordinates are LPS mm about the prostate's centre.
    """

    warp_mm = 2.0

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.warp = [Waves.random(rng, 40, 150, 8) for _ in range(3)]
        self.texture = Waves.random(rng, 6, 20, 16)
        self.layers: list[Layer] = []
        self.centre = rng.uniform(-5, 5, 3)
        self._surroundings()
        self._prostate()

    def _near(self, point: tuple[float, float, float], by: float = 3.0) -> np.ndarray:
        return np.asarray(point) + self.centre + self.rng.uniform(-by, by, 3)

    def _sizes(self, radii: tuple[float, float, float], spread: float = 0.1) -> np.ndarray:
        return np.asarray(np.asarray(radii) * np.exp(self.rng.uniform(-spread, spread, 3)))

    def _add(self, shape: Shape, tissue: t.Tissue, label: int = 0, spread: float = 0.06) -> None:
        self.layers.append((shape, tissue.varied(self.rng, spread), label))

    def _surroundings(self) -> None:
        rng = self.rng
        self._add(ellipsoid((0, 0, 0), (400, 400, 400)), t.FAT)
        for side in (-1, 1):
            # Hip bone, the muscles on both sides of it, and the levator sling beside the prostate.
            self._add(ellipsoid(self._near((side * 76, -6, 0)), self._sizes((24, 46, 70))), t.PELVIC_MUSCLE)
            bone = ellipsoid(
                self._near((side * 71, -4, 4)), self._sizes((9, 30, 46)), rotation(0, 0, side * 12)
            )
            self._add(bone, t.MARROW_PELVIS)
            inner = ellipsoid(
                self._near((side * 50, -2, 4)), self._sizes((10, 30, 42)), rotation(0, 0, -side * 8)
            )
            self._add(inner, t.PELVIC_MUSCLE)
            sling = [self._near((side * 31, -18, -4), 2), self._near((side * 32, 8, 0), 2)]
            self._add(path([*sling, self._near((side * 22, 33, -2), 2)], 9.0), t.PELVIC_MUSCLE)
            self._add(ellipsoid(self._near((side * 52, 52, 0)), self._sizes((34, 20, 70))), t.PELVIC_MUSCLE)
        self._add(ellipsoid(self._near((0, -52, -8), 2), self._sizes((26, 9, 16))), t.MARROW_PELVIS)
        rectum = [self._near((rng.uniform(-4, 4), y, z), 1.5) for y, z in ((38, -60), (33, -5), (36, 60))]
        radius = rng.uniform(11, 15)
        self._add(path(rectum, radius), t.RECTAL_WALL)
        self._add(path(rectum, radius - 4), t.STOOL if rng.random() < 0.6 else t.AIR, 0, 0.15)
        bladder = ellipsoid(self._near((0, -12, 39)), self._sizes((34, 26, 21)))
        self._add(bladder, t.PELVIC_MUSCLE)
        self._add(within(bladder, bladder, 4), t.FLUID, 0, 0.1)
        for side in (-1, 1):
            # Seminal vesicles and the venous plexus are as bright on T2 as the peripheral zone.
            start, end = self._near((side * 5, 15, 22), 1), self._near((side * 27, 17, 30), 2)
            self._add(path([start, (start + end) / 2 + np.array([0, 3, 3]), end], 5.0), t.VEINS, 0, 0.1)
            for _ in range(3):
                spot = self._near((side * rng.uniform(25, 30), rng.uniform(-12, 18), rng.uniform(-18, 8)), 1)
                tip = spot + rng.normal(0, 1, 3) * (1.5, 5, 8)
                self._add(capsule(spot, tip, float(rng.uniform(2.2, 4.0))), t.VEINS, 0, 0.1)
        for _ in range(3):
            spot = self._near((rng.uniform(-14, 14), -25, rng.uniform(-15, 8)), 1)
            self._add(capsule(spot, spot + rng.normal(0, 1, 3) * (6, 1, 4), 3.0), t.VEINS, 0, 0.1)

    def _prostate(self) -> None:
        rng = self.rng
        growth = rng.uniform(0.92, 1.2)
        whole = ellipsoid(
            self.centre, self._sizes((25, 17.5, 21), 0.06) * growth, rotation(rng.uniform(-12, 12))
        )
        groove = ellipsoid(self._near((0, 21 * growth, 0), 1), (5, 4.5, 40))
        whole = without(whole, groove, 4)
        self._add(whole, t.PERIPHERAL, 1, 0.1)
        core_at = self.centre + np.array([rng.uniform(-1, 1), -4.5 * growth, 3])
        core = within(ellipsoid(core_at, self._sizes((18.5, 12.5, 17), 0.08) * growth), whole, 1.5)
        self._add(core, t.TRANSITION, 2, 0.08)
        for _ in range(int(rng.integers(5, 10))):
            spot = core_at + rng.normal(0, 1, 3) * np.array([8, 4.5, 7]) * growth
            nodule = within(ellipsoid(spot, rng.uniform(3.5, 7.5, 3)), core, 1)
            kind = t.GLANDULAR_NODULE if rng.random() < 0.5 else t.STROMAL_NODULE
            self._add(nodule, kind, 2, 0.12)
        front = within(ellipsoid(core_at - np.array([0, 12 * growth, 0]), (11, 5, 13)), whole, 0)
        self._add(front, t.FIBROUS, 2)
        if rng.random() < 0.7:
            side = rng.choice([-1, 1])
            spot = self.centre + np.array(
                [side * rng.uniform(9, 16) * growth, rng.uniform(7, 11) * growth, rng.uniform(-9, 7)]
            )
            self._add(within(ellipsoid(spot, rng.uniform(4, 8, 3)), whole, 0.5), t.CANCER, 1, 0.1)
