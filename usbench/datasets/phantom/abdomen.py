"""A random abdomen: liver, kidneys and spleen among things that look like them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from usbench.datasets.phantom import tissues as t
from usbench.datasets.phantom.fields import (
    Shape,
    Waves,
    capsule,
    ellipsoid,
    path,
    rotation,
    union,
    within,
    without,
)
from usbench.datasets.phantom.layers import Layer


class Abdomen:
    """One patient: `layers` from the outside in, and the smooth warp that bends all of them.

    Classes: 1 liver, 2 right kidney, 3 left kidney, 4 spleen. The patient's right is at negative x.
    """

    warp_mm = 3.5

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.warp = [Waves.random(rng, 70, 220, 8) for _ in range(3)]
        self.texture = Waves.random(rng, 9, 30, 16)
        self.size = rng.uniform(0.92, 1.06)
        self.shift = np.array([rng.uniform(-6, 6), rng.uniform(-6, 6), rng.uniform(-6, 6)])
        self.layers: list[Layer] = []
        self._wall()
        self._back()
        self._bowel()
        self._organs()

    def _near(self, point: tuple[float, float, float], by: float = 4.0) -> np.ndarray:
        """`point` scaled to this patient and moved at random by about `by` mm."""
        return np.asarray(np.asarray(point) * self.size + self.shift + self.rng.uniform(-by, by, 3))

    def _sizes(self, radii: tuple[float, float, float], spread: float = 0.08) -> np.ndarray:
        return np.asarray(np.asarray(radii) * self.size * np.exp(self.rng.uniform(-spread, spread, 3)))

    def _turn(self, x: float, y: float, z: float, by: float = 8.0) -> np.ndarray:
        a, b, c = self.rng.uniform(-by, by, 3)
        return rotation(x + a, y + b, z + c)

    def _add(self, shape: Shape, tissue: t.Tissue, label: int = 0, spread: float = 0.05) -> None:
        self.layers.append((shape, tissue.varied(self.rng, spread), label))

    def _wall(self) -> None:
        rng, s = self.rng, self.size
        half = np.array([rng.uniform(146, 158) * s, rng.uniform(98, 112) * s])
        fat = rng.uniform(8, 22)
        centre = (self.shift[0], self.shift[1] + 8, 0)
        tall = 900.0  # An ellipsoid this tall is a cylinder within the scan.
        self._add(ellipsoid(centre, (*half, tall)), t.FAT)
        self._add(ellipsoid(centre, (*(half - fat), tall)), t.MUSCLE)
        self.cavity = ellipsoid(centre, (*(half - fat - rng.uniform(9, 13)), tall))
        self._add(self.cavity, t.FAT)

    def _back(self) -> None:
        s = self.size
        top, bottom = 140.0, -140.0
        x = float(self.shift[0])
        y = float(self.shift[1] + 62 * s)
        for side in (-1, 1):
            self._add(ellipsoid((x + side * 34 * s, y + 24 * s, 0), self._sizes((27, 19, 900))), t.MUSCLE)
            self._add(ellipsoid((x + side * 37 * s, y + 2, -70), self._sizes((15, 17, 85))), t.MUSCLE)
        self._add(capsule((x, y, bottom), (x, y, top), 21 * s), t.MARROW)
        first = self.rng.uniform(0, 34)
        for n in range(-4, 5):
            z = first + 34 * n
            self._add(ellipsoid((x, y, z), (20 * s, 20 * s, 4.5)), t.DISC)
        self._add(capsule((x, y + 30 * s, bottom), (x, y + 30 * s, top), 9 * s), t.CSF)
        self._add(capsule((x, y + 30 * s, bottom), (x, y + 30 * s, top), 4.5 * s), t.CORD)

    def _bowel(self) -> None:
        rng = self.rng
        fillings = [t.PASTE, t.FLUID, t.DRY, t.DRY, t.AIR, t.PASTE]
        # Loops fill the front and the lower flanks, and lie against kidneys and spleen as real ones do.
        for k in range(30):
            if k < 7:
                start = self._near((rng.uniform(70, 105), rng.uniform(-30, 35), rng.uniform(-75, -5)), 0)
            else:
                start = self._near((rng.uniform(-95, 95), rng.uniform(-68, 5), rng.uniform(-95, -10)), 0)
            end = start + rng.normal(0, 1, 3) * (26, 16, 14)
            radius = float(rng.uniform(11, 19))
            filling = fillings[int(rng.integers(len(fillings)))]
            outer = within(
                path([start, (start + end) / 2 + rng.normal(0, 9, 3), end], radius), self.cavity, 3
            )
            inner = within(capsule(start, end, radius - 3.5), self.cavity, 6)
            self._add(outer, t.BOWEL_WALL, 0, 0.08)
            self._add(inner, filling, 0, 0.12)
        # The flexures of the colon lie against liver and right kidney, and against spleen and left kidney.
        for k in range(8):
            side = -1 if k % 2 else 1
            place = (side * rng.uniform(70, 108), rng.uniform(-20, 30), rng.uniform(-55, -10))
            if side > 0:
                place = (rng.uniform(72, 110), rng.uniform(-35, 15), rng.uniform(-30, 55))
            spot = self._near(place, 0)
            size = rng.uniform(13, 21, 3)
            self._add(within(ellipsoid(spot, size), self.cavity, 2), t.BOWEL_WALL, 0, 0.08)
            content = t.DRY if rng.random() < 0.45 else t.PASTE
            self._add(within(ellipsoid(spot, size - 3), self.cavity, 5), content, 0, 0.08)
        # The stomach: wall, paste below, fluid above it, sometimes a bubble of air in front.
        centre = self._near((48, -32, 42))
        size, turned = self._sizes((46, 30, 34)), self._turn(0, 25, -25)
        wall = within(ellipsoid(centre, size, turned), self.cavity, 3)
        inside = within(ellipsoid(centre, size - 5, turned), self.cavity, 7)
        self._add(wall, t.BOWEL_WALL)
        self._add(inside, t.PASTE if rng.random() < 0.6 else t.FLUID, 0, 0.12)
        front = ellipsoid(centre - np.array([0, 26, 0]), (50, 18, 50))
        self._add(within(front, inside), t.AIR if rng.random() < 0.5 else t.FLUID)
        tail = [self._near(p, 3) for p in ((-18, -8, -8), (10, -14, 4), (40, 2, 14), (72, 18, 22))]
        self._add(path(tail, 11 * self.size), t.PANCREAS)

    def _organs(self) -> None:
        rng, s = self.rng, self.size
        for side in (-1, 1):
            lung = ellipsoid(self._near((side * 78, 25, 168)), self._sizes((62, 72, 82)))
            self._add(within(lung, self.cavity, 2), t.AIR)

        right = self._near((-72, 2, 24))
        liver = union(
            [
                ellipsoid(right, self._sizes((68, 82, 76)), self._turn(0, 0, 10)),
                ellipsoid(self._near((-8, -42, 42)), self._sizes((72, 32, 36)), self._turn(0, -15, 0)),
            ],
            22,
        )
        liver = within(liver, self.cavity, 2)
        place = {-1: self._near((-58, 42, -28)), 1: self._near((60, 42, -16))}
        form = {side: self._sizes((29, 25, 53)) for side in (-1, 1)}
        turn = {side: self._turn(8, -side * 10, side * 25, 6) for side in (-1, 1)}
        kidney = {side: ellipsoid(place[side], form[side], turn[side]) for side in (-1, 1)}
        bed = ellipsoid(place[-1], form[-1] + rng.uniform(3, 6), turn[-1])
        liver = without(without(liver, bed, 8), ellipsoid(self._near((15, 75, 0), 2), (55, 45, 300)), 10)
        # Steatosis: out-of-phase signal drops with the fat in the liver.
        fat = float(rng.choice([0.02, 0.03, 0.05, 0.08, 0.12]))
        self._add(liver, replace(t.LIVER, fat=fat), 1)
        for _ in range(7):
            hub = right + rng.uniform(-15, 15, 3) + np.array([20, 0, 10])
            tip = right + rng.normal(0, 1, 3) * (34, 34, 28)
            self._add(
                within(path([hub, (hub + tip) / 2 + rng.normal(0, 6, 3), tip], 3.2), liver, 5),
                t.SLOW_BLOOD,
                1,
            )
        sac = capsule(self._near((-42, -52, -12)), self._near((-48, -30, 6)), 12 * s)
        self._add(within(sac, self.cavity, 4), t.BILE, 0, 0.25)

        spleen = ellipsoid(self._near((102, 36, 34)), self._sizes((34, 48, 50)), self._turn(0, 10, -20))
        dent = ellipsoid(self._near((56, 4, 34)), (28, 34, 50))
        bed = ellipsoid(place[1], form[1] + rng.uniform(3, 6), turn[1])
        self._add(without(without(within(spleen, self.cavity, 2), dent, 8), bed, 8), t.SPLEEN, 4)

        for label, side in ((2, -1), (3, 1)):
            inward = np.array([-side * 24.0, -8.0, 0.0]) * s
            hilum = ellipsoid(place[side] + inward, self._sizes((17, 13, 20)))
            whole = without(kidney[side], hilum, 5)
            self._add(ellipsoid(place[side], form[side] + rng.uniform(4, 9), turn[side]), t.FAT)
            self._add(whole, t.KIDNEY_CORTEX, label)
            medulla = t.KIDNEY_MEDULLA.varied(rng)
            for n in range(7):
                angle = 2 * np.pi * (n + rng.uniform(-0.2, 0.2)) / 7
                offset = np.array([-side * 3.0, 14 * np.cos(angle) * 0.45, 14 * np.sin(angle) * 2.1]) * s
                pyramid = ellipsoid(place[side] + offset, np.array([9.0, 8.0, 9.0]) * s)
                self.layers.append((within(pyramid, whole, 6), medulla, label))
        x, y = float(self.shift[0]), float(self.shift[1])
        for where, radius in (((x + 10, y + 34 * s), 10 * s), ((x - 22, y + 30 * s), 11 * s)):
            start = (*where, -140)
            self._add(
                path([start, (where[0] + rng.normal(0, 4), where[1], 0), (*where, 140)], radius), t.FLOWING
            )
