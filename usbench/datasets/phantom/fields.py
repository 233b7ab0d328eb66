"""Grids in scanner coordinates, smooth random fields and implicit shapes.

Coordinates are DICOM's: millimetres, x to the patient's left, y to the back, z to the head (LPS).
A shape is a function of warped coordinates that gives a signed distance, negative inside. Fields and
shapes are functions of space, so two scans of one patient on different grids see the same anatomy.

Transcendental functions run in float64 and are rounded to float32 afterwards: what remains in
float32 is exact arithmetic, so that two machines agree on the voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Box = tuple[slice, slice, slice]
Vector = Sequence[float] | NDArray[Any]
Distance = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class Grid:
    """A voxel grid: `shape` [X, Y, Z] and `affine` [4, 4] from voxel index to LPS millimetres."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The size of a voxel along its three axes, in mm."""
        steps = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(steps[0]), float(steps[1]), float(steps[2])

    @staticmethod
    def centred(
        shape: tuple[int, int, int], spacing: Sequence[float], axes: NDArray[np.float64], centre: Vector
    ) -> Grid:
        """A grid about a point.

        Args:
            shape: Numbers of voxels X, Y, Z.
            spacing: Size of a voxel, in mm.
            axes: Rotation [3, 3] whose columns are the directions of the voxels' axes.
            centre: The middle of the grid [3], in LPS millimetres.
        """
        affine = np.eye(4)
        affine[:3, :3] = axes * np.asarray(spacing)
        affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
        return Grid(shape, np.round(affine, 6))

    def thinner(self, parts: int) -> Grid:
        """Each slice cut into `parts` thinner ones that together cover the same slab."""
        affine = self.affine.copy()
        affine[:3, 2] /= parts
        affine[:3, 3] -= self.affine[:3, 2] / 2 - affine[:3, 2] / 2
        return Grid((self.shape[0], self.shape[1], self.shape[2] * parts), affine)

    def coordinates(self) -> tuple[Array, Array, Array]:
        """The position of every voxel: three float32 arrays [X, Y, Z], in mm."""
        axes = [np.arange(n, dtype=np.float64) for n in self.shape]
        found = []
        for row in self.affine[:3]:
            i, j, k = (row[a] * axes[a] for a in range(3))
            found.append((row[3] + i[:, None, None] + j[None, :, None] + k[None, None, :]).astype(np.float32))
        return found[0], found[1], found[2]

    def box(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> Box:
        """The smallest block of voxels that holds the box between the corners `low` and `high`, [3] in mm."""
        corners = np.array([[c[i] for i, c in enumerate(z)] for z in _corners(low, high)])
        inverse = np.linalg.inv(self.affine)
        index = corners @ inverse[:3, :3].T + inverse[:3, 3]
        start = np.clip(np.floor(index.min(axis=0)), 0, self.shape).astype(int)
        stop = np.clip(np.ceil(index.max(axis=0)) + 1, 0, self.shape).astype(int)
        return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))  # type: ignore[return-value]


def _corners(low: NDArray[np.float64], high: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], ...]]:
    pick = (low, high)
    return [(pick[a], pick[b], pick[c]) for a in (0, 1) for b in (0, 1) for c in (0, 1)]


@dataclass(frozen=True)
class Waves:
    """A smooth random field: a sum of plane waves, with mean about 0 and standard deviation 1."""

    vectors: NDArray[np.float64]
    phases: NDArray[np.float64]

    @staticmethod
    def random(rng: np.random.Generator, shortest: float, longest: float, count: int = 8) -> Waves:
        """Waves in random directions with wavelengths between `shortest` and `longest` mm."""
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = np.exp(rng.uniform(np.log(shortest), np.log(longest), size=(count, 1)))
        return Waves(2 * np.pi * direction / length, rng.uniform(0, 2 * np.pi, count))

    def on(self, grid: Grid) -> Array:
        """The field at every voxel of `grid`, float32 [X, Y, Z].

        A plane wave on an affine grid is a product of three one-dimensional ones, so the sum over
        the waves is one small matrix product.
        """
        steps = self.vectors @ grid.affine[:3, :3]
        start = self.vectors @ grid.affine[:3, 3] + self.phases
        x, y, z = (np.exp(1j * np.outer(np.arange(n), steps[:, a])) for a, n in enumerate(grid.shape))
        plane = ((x * np.exp(1j * start))[:, None, :] * y[None, :, :]).reshape(-1, len(start))
        left = np.concatenate([plane.real, -plane.imag], axis=1)
        right = np.concatenate([z.real, z.imag], axis=1)
        field = (left @ right.T) * np.sqrt(2 / len(start))
        return np.asarray(field.reshape(grid.shape), np.float32)


@dataclass(frozen=True)
class Shape:
    """A signed distance with the box (corners in mm, before warping) outside of which it is empty."""

    distance: Distance
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def rotation(tilt_x: float = 0.0, tilt_y: float = 0.0, turn_z: float = 0.0) -> NDArray[np.float64]:
    """The rotation matrix [3, 3] of three angles in degrees, about x, then y, then z."""
    a, b, c = np.deg2rad([tilt_x, tilt_y, turn_z])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(rz @ ry @ rx)


def ellipsoid(centre: Vector, radii: Vector, turned: NDArray[np.float64] | None = None) -> Shape:
    """An ellipsoid; its distance is exact to first order near the surface.

    Args:
        centre: [3], in mm.
        radii: [3], in mm.
        turned: Rotation [3, 3] of its axes; none by default.
    """
    c, r = np.asarray(centre, float), np.asarray(radii, float)
    m = np.eye(3) if turned is None else turned
    reach = np.sqrt(((m * r) ** 2).sum(axis=1))
    rows = [np.asarray(m[:, a] / r[a], np.float32) for a in range(3)]
    c32, r32 = c.astype(np.float32), r.astype(np.float32)

    def distance(x: Array, y: Array, z: Array) -> Array:
        x, y, z = x - c32[0], y - c32[1], z - c32[2]
        level, slope = np.zeros_like(x), np.zeros_like(x)
        for a in range(3):
            u = rows[a][0] * x + rows[a][1] * y + rows[a][2] * z
            u *= u
            level = level + u
            slope = slope + u / (r32[a] * r32[a])
        level = np.sqrt(level)
        return np.asarray(level * (level - np.float32(1)) / (np.sqrt(slope) + np.float32(1e-6)), np.float32)

    return Shape(distance, c - reach, c + reach)


def capsule(start: Vector, end: Vector, radius: float) -> Shape:
    """A rod with round ends: everything within `radius` of the segment from `start` to `end`."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    a32, d = a.astype(np.float32), (b - a).astype(np.float32)
    length = np.float32((d * d).sum() + 1e-6)

    def distance(x: Array, y: Array, z: Array) -> Array:
        x, y, z = x - a32[0], y - a32[1], z - a32[2]
        t = np.clip((x * d[0] + y * d[1] + z * d[2]) / length, np.float32(0), np.float32(1))
        x, y, z = x - t * d[0], y - t * d[1], z - t * d[2]
        return np.asarray(np.sqrt(x * x + y * y + z * z) - np.float32(radius), np.float32)

    return Shape(distance, np.minimum(a, b) - radius, np.maximum(a, b) + radius)


def path(points: Sequence[Vector], radius: float) -> Shape:
    """A bent rod through `points`."""
    parts = [capsule(p, q, radius) for p, q in pairwise(points)]
    return union(parts, 0.0)


def union(shapes: Sequence[Shape], smooth: float) -> Shape:
    """All of `shapes`, joined with a fillet of about `smooth` mm."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        found = shapes[0].distance(x, y, z)
        for shape in shapes[1:]:
            found = smooth_min(found, shape.distance(x, y, z), smooth)
        return found

    low = np.min([s.low for s in shapes], axis=0) - smooth
    high = np.max([s.high for s in shapes], axis=0) + smooth
    return Shape(distance, low, high)


def without(shape: Shape, hole: Shape, smooth: float = 4.0) -> Shape:
    """`shape` with `hole` cut out of it, the edge rounded by `smooth` mm."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        return -smooth_min(-shape.distance(x, y, z), hole.distance(x, y, z), smooth)

    return Shape(distance, shape.low, shape.high)


def within(shape: Shape, limit: Shape, margin: float = 0.0) -> Shape:
    """The part of `shape` that lies at least `margin` mm inside `limit`."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        inner = limit.distance(x, y, z) + np.float32(margin)
        return np.asarray(np.maximum(shape.distance(x, y, z), inner), np.float32)

    return Shape(distance, shape.low, shape.high)


def smooth_min(a: Array, b: Array, smooth: float) -> Array:
    """The smaller of two distances, with the crease rounded over `smooth` mm (polynomial)."""
    low: Array = np.minimum(a, b)
    if smooth <= 0:
        return low
    h = np.maximum(np.float32(smooth) - np.abs(a - b), np.float32(0))
    return np.asarray(low - h * h * np.float32(0.25 / smooth), np.float32)


class Canvas:
    """Paints shapes, one over the other, into per-voxel sums of what they emit.

    `layers` [S + K, X, Y, Z] holds the S signals of a scan, then the occupancies of K classes.
    Painting replaces the fraction of the voxel that the shape fills, so a voxel holds the mean over
    its tissues: partial volume. Signals are signed, so that water and fat can cancel.
    """

    def __init__(
        self, grid: Grid, signals: int, classes: int, warp: Sequence[Waves], amplitude: float
    ) -> None:
        self.grid = grid
        self.layers = np.zeros((signals + classes, *grid.shape), np.float32)
        self.signals = signals
        x, y, z = grid.coordinates()
        self.margin = amplitude * 3.0 + max(grid.spacing)
        fields = [w.on(grid) * np.float32(amplitude) for w in warp]
        limit = np.float32(amplitude * 3.0)
        self.x, self.y, self.z = (
            axis + np.clip(field, -limit, limit) for axis, field in zip((x, y, z), fields, strict=True)
        )
        self.edge = np.float32(1 / grid.spacing[0])

    def box(self, shape: Shape) -> Box:
        """The block of voxels outside of which a shape is empty, however it is warped."""
        return self.grid.box(shape.low - self.margin, shape.high + self.margin)

    def occupancy(self, shape: Shape, uneven: Array | None = None) -> tuple[Box, Array]:
        """How much of each voxel `shape` fills (0 to 1), and the block of voxels this is for.

        `uneven` [X, Y, Z], in mm, is added to the distance: it roughens the surface.
        """
        box = self.box(shape)
        distance = shape.distance(self.x[box], self.y[box], self.z[box])
        return box, self.filled(distance if uneven is None else distance + uneven[box])

    def filled(self, distance: Array) -> Array:
        """The fraction of a voxel inside a surface at signed `distance` from its centre."""
        share = np.clip(np.float32(0.5) - distance * self.edge, np.float32(0), np.float32(1))
        return np.asarray(share, np.float32)

    def paint(self, shape: Shape, signals: Sequence[float], label: int, texture: Array | None = None) -> None:
        """Fill `shape` with a tissue that emits `signals` (times `texture`) and has class `label`."""
        box, share = self.occupancy(shape)
        self.blend(box, share, signals, label, texture)

    def blend(
        self, box: Box, share: Array, signals: Sequence[float], label: int, texture: Array | None = None
    ) -> None:
        """Replace the fraction `share` of the voxels in `box` by a tissue; `label` 0 is no class."""
        if not share.size:
            return
        keep = np.float32(1) - share
        lit = share if texture is None else share * texture[box]
        for index, layer in enumerate(self.layers):
            part = layer[box]
            part *= keep
            if index < self.signals:
                part += lit * np.float32(signals[index])
            elif index == self.signals + label - 1:
                part += share

    def averaged(self, parts: int) -> Array:
        """The layers with every `parts` neighbouring slices averaged into one."""
        c, x, y, z = self.layers.shape
        return np.asarray(self.layers.reshape(c, x, y, z // parts, parts).mean(axis=-1), np.float32)
