"""A random brain, skull-stripped, with a glioma among lesions and vessels that look like parts of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from usbench.datasets.phantom import tissues as t
from usbench.datasets.phantom.fields import (
    Array,
    Box,
    Canvas,
    Grid,
    Shape,
    Waves,
    capsule,
    ellipsoid,
    path,
    rotation,
    union,
)
from usbench.datasets.phantom.layers import Grain

Emit = Callable[[t.Tissue, float], Sequence[float]]
"""The signals of a tissue that holds a contrast agent at some concentration (mmol/l)."""

OEDEMA, CORE, RIM = 1, 2, 3
CLASSES = 3


@dataclass(frozen=True)
class Spot:
    """A small lesion or vessel: its shape, tissue and contrast agent."""

    shape: Shape
    tissue: t.Tissue
    agent: float = 0.0


class Brain:
    """One patient. Classes: 1 oedema, 2 non-enhancing core, 3 enhancing rim. LPS mm, centre at 0."""

    warp_mm = 2.5

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.warp = [Waves.random(rng, 50, 160, 8) for _ in range(3)]
        self.texture = Waves.random(rng, 8, 24, 16)
        self.folds = [Waves.random(rng, 22, 34, 20) for _ in range(2)]
        self.rough = Waves.random(rng, 11, 28, 16)
        self.fingers = Waves.random(rng, 16, 40, 16)
        self.half = np.array([64.0, 82.0, 62.0]) * np.exp(rng.uniform(-0.04, 0.04, 3))
        self.white, self.grey = t.WHITE.varied(rng, 0.03), t.GREY.varied(rng, 0.03)
        self.side = float(rng.choice([-1, 1]))
        self._tumour()

    def _tumour(self) -> None:
        rng = self.rng
        aim = np.array([self.side * rng.uniform(24, 36), rng.uniform(-38, 38), rng.uniform(-8, 30)])
        self.place = aim
        self.radii = rng.uniform(11, 17, 3)
        self.turned = rotation(*rng.uniform(-40, 40, 3))
        self.rim = float(rng.uniform(3.0, 5.5))
        self.spread = float(rng.uniform(9, 17))
        self.solid = ellipsoid(aim + rng.normal(0, 1, 3) * 7, self.radii * rng.uniform(0.5, 0.75))
        self.agent = float(rng.uniform(0.12, 0.3))
        self.oedema, self.mass = t.OEDEMA.varied(rng), t.TUMOUR.varied(rng)
        self.necrosis = t.NECROSIS.varied(rng, 0.1)

    def spots(self) -> list[Spot]:
        """Deep nuclei, ventricles, and the look-alikes, in the order of painting."""
        rng = self.rng
        made: list[Spot] = []
        deep = t.DEEP_GREY.varied(rng, 0.03)
        for side in (-1.0, 1.0):
            made.append(Spot(ellipsoid((side * 11, 12, 4), (8, 14, 9)), deep))
            made.append(Spot(ellipsoid((side * 26, -4, 4), (6.5, 16, 10), rotation(0, 0, side * 14)), deep))
            wide = float(rng.uniform(3.6, 6.2))
            front, body, back = (side * 12, -34, 12), (side * 9, 0, 23), (side * 16, 34, 14)
            horn = (side * 29, 20, -14)
            chamber = union([path([front, body, back], wide), path([back, horn], wide * 0.7)], 3)
            # Caps of white-matter hyperintensity around the horns: bright on FLAIR, and no tumour.
            for tip in (front, back):
                beyond = (tip[0] + side * 2, tip[1] + np.sign(tip[1]) * 4, tip[2])
                cap = ellipsoid(beyond, rng.uniform(8, 13, 3))
                made.append(Spot(cap, t.HYPERINTENSITY.varied(rng)))
            made.append(Spot(chamber, t.CSF))
            plexus = capsule((side * 15, 26, 17), (side * 18, 35, 11), 2.6)
            made.append(Spot(plexus, t.TUMOUR, float(rng.uniform(0.2, 0.4))))
        made.append(Spot(ellipsoid((0, 6, 3), (2.2, 14, 9)), t.CSF))
        for _ in range(int(rng.integers(14, 24))):
            point = np.array(
                [rng.choice([-1, 1]) * rng.uniform(16, 40), rng.uniform(-45, 50), rng.uniform(8, 36)]
            )
            made.append(Spot(ellipsoid(point, rng.uniform(3, 8, 3)), t.HYPERINTENSITY.varied(rng)))
        for _ in range(int(rng.integers(2, 5))):
            point = np.array([-self.side * rng.uniform(14, 42), rng.uniform(-40, 45), rng.uniform(-5, 34)])
            size = rng.uniform(5, 10, 3)
            # An old infarct: a fluid-filled hole with a rim of gliosis, like a necrotic core in oedema.
            made.append(Spot(ellipsoid(point, size + 3), t.GLIOSIS.varied(rng)))
            made.append(Spot(ellipsoid(point, size), t.CSF))
        return made

    def vessels(self) -> list[Spot]:
        """What enhances and is no tumour: sinus, cortical veins, arteries, a meningioma-like patch."""
        rng = self.rng
        top = self.half[2] - 3
        arc = [(0, np.sin(a) * (self.half[1] - 3), np.cos(a) * top) for a in np.linspace(-1.2, 2.0, 9)]
        made = [Spot(path(arc, 3.2), t.VESSEL, 0.5)]
        for _ in range(14):
            direction = rng.normal(0, 1, 3)
            direction[2] = abs(direction[2])
            start = direction / np.linalg.norm(direction) * (self.half - 3)
            end = start * rng.uniform(0.68, 0.9) + rng.normal(0, 7, 3)
            made.append(Spot(path([start, end], float(rng.uniform(1.4, 2.2))), t.VESSEL, 0.5))
        for side in (-1, 1):
            made.append(
                Spot(path([(0, -12, -24), (side * 24, -14, -20), (side * 42, -6, -10)], 2.0), t.VESSEL, 0.5)
            )
        if rng.random() < 0.5:
            direction = np.array(
                [-self.side * rng.uniform(0.4, 1), rng.uniform(-1, 1), rng.uniform(0.1, 0.9)]
            )
            point = direction / np.linalg.norm(direction) * (self.half - 6)
            made.append(Spot(ellipsoid(point, rng.uniform(5, 8, 3)), t.GREY.varied(rng), 0.25))
        return made

    def scan(self, grid: Grid, signals: int, emit: Emit) -> tuple[Array, np.ndarray, np.ndarray]:
        """Mean signals [signals, X, Y, Z], occupancy of the classes [3, X, Y, Z], and the brain mask."""
        canvas = Canvas(grid, signals, CLASSES, self.warp, self.warp_mm)
        grain = Grain(self.texture, grid)
        everywhere: Box = (slice(None), slice(None), slice(None))

        def paint(
            share: Array, tissue: t.Tissue, agent: float = 0.0, label: int = 0, box: Box = everywhere
        ) -> None:
            canvas.blend(box, share, emit(tissue, agent), label, grain.of(tissue))

        def paint_spot(spot: Spot, limit: Array | None = None) -> None:
            box, share = canvas.occupancy(spot.shape, uneven)
            paint(share if limit is None else share * limit[box], spot.tissue, spot.agent, 0, box)

        uneven = np.float32(1.3) * self.rough.on(grid)
        x, y, z = canvas.x, canvas.y, canvas.z
        vault = ellipsoid((0, 0, 0), self.half).distance(x, y, z)
        # The base of the brain is flat, and the two halves are parted by a narrow gap.
        skull = np.maximum(vault, np.float32(-46) - z + np.float32(0.12) * np.abs(y))
        inside = canvas.filled(skull)
        depth = np.maximum(skull, np.float32(-0.8) - np.abs(x) - np.maximum(np.float32(26) - z, 0))
        valley = np.zeros_like(vault)
        for waves in self.folds:
            level = waves.on(grid)
            valley = np.maximum(valley, np.maximum(1 - np.square(level / np.float32(0.5)), 0))
        valley = valley * valley
        sulcus = np.maximum(np.float32(0), np.float32(1) - np.maximum(-vault, 0) / np.float32(28))
        cortex = depth + np.float32(2.0) + np.float32(13) * valley * sulcus
        core_white = depth + np.float32(5.6) + np.float32(19) * valley * sulcus
        paint(inside, t.CSF)
        brain = canvas.filled(cortex) * inside
        white = canvas.filled(core_white) * inside
        paint(brain, self.grey)
        paint(white, self.white)
        for spot in self.spots():
            paint_spot(spot, brain)
        for spot in self.vessels():
            paint_spot(spot, inside)
        self._paint_tumour(canvas, grid, paint, brain, white)
        layers = canvas.layers
        return layers[:signals], layers[signals:], inside >= 0.5

    def _paint_tumour(
        self, canvas: Canvas, grid: Grid, paint: Callable[..., None], brain: Array, white: Array
    ) -> None:
        whole = ellipsoid(self.place, self.radii, self.turned)
        low, high = whole.low - self.spread * 2 - 10, whole.high + self.spread * 2 + 10
        box = grid.box(low, high)
        x, y, z = canvas.x[box], canvas.y[box], canvas.z[box]
        edge = whole.distance(x, y, z) + np.float32(2.2) * self.rough.on(grid)[box]
        # Oedema creeps along white matter in fingers and stops at the cortex.
        reach = np.float32(self.spread) * (np.float32(0.75) + np.float32(0.28) * self.fingers.on(grid)[box])
        oedema = canvas.filled(edge - np.clip(reach, 1, np.float32(1.15 * self.spread)))
        paint(oedema * np.maximum(white[box], np.float32(0.12) * brain[box]), self.oedema, 0.0, OEDEMA, box)
        mass = canvas.filled(edge) * brain[box]
        paint(mass, self.mass, self.agent, RIM, box)
        inner = canvas.filled(edge + np.float32(self.rim) + self.folds[0].on(grid)[box])
        paint(inner * brain[box], self.mass, 0.02, CORE, box)
        dead = self.solid.distance(x, y, z) + np.float32(1.5) * self.rough.on(grid)[box]
        paint(np.minimum(canvas.filled(dead), inner) * brain[box], self.necrosis, 0.05, CORE, box)
