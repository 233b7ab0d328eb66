"""Scores of the distances between the surfaces of two masks, and those distances.

The surface distances are computed once for a class, and every score here shares them. HD95 and NSD are
those of MONAI; the normalised surface distance is that of Nikolov et al. (2018).
"""

from __future__ import annotations

import numpy as np

from usbench.contracts.score import DIAGONAL, MeasuredClass, Score

# Which search is faster, measured on blobs, noise, shells and half-filled volumes: a tree over the
# surface voxels, unless there are many of them and more than one in forty voxels of the box.
_TREE_LEAF = 32
_TREE_POINTS = 50_000
_TREE_SHARE = 1 / 40


def _hd95(of: MeasuredClass) -> float:
    there, back = of.distances
    return max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))


def _nsd(of: MeasuredClass) -> float:
    there, back = of.distances
    # In single precision, so that 3 voxels of 0.7 mm are within 2.1 mm, as they are in MONAI.
    limit = np.float32(of.tolerance_mm)
    near = sum(int(np.count_nonzero(d.astype(np.float32) <= limit)) for d in (there, back))
    return near / (len(there) + len(back))


def _assd(of: MeasuredClass) -> float:
    there, back = of.distances
    return float(there.sum() + back.sum()) / (len(there) + len(back))


def _mssd(of: MeasuredClass) -> float:
    there, back = of.distances
    return max(float(there.max()), float(back.max()))


SURFACE = (
    Score(
        name="hd95",
        label="HD95",
        unit="mm",
        direction="lower",
        digits=1,
        sentence="95th percentile Hausdorff distance, the larger of the 95th percentiles of d(P to T) and "
        "d(T to P)",
        function=_hd95,
        worst=DIAGONAL,
        needs_both=True,
        in_summary=True,
    ),
    Score(
        name="nsd",
        label="NSD",
        unit="",
        direction="higher",
        digits=3,
        sentence="normalised surface distance, the share of all surface voxels, of both masks, at most the "
        "tolerance away from the other surface",
        function=_nsd,
        worst=0.0,
        needs_both=True,
        in_summary=True,
    ),
    Score(
        name="assd",
        label="ASSD",
        unit="mm",
        direction="lower",
        digits=2,
        sentence="average symmetric surface distance, the mean of d(P to T) and d(T to P) taken together",
        function=_assd,
        worst=DIAGONAL,
        needs_both=True,
        added="0.2.0",
    ),
    Score(
        name="mssd",
        label="MSSD",
        unit="mm",
        direction="lower",
        digits=1,
        sentence="maximum symmetric surface distance, the largest of d(P to T) and d(T to P)",
        function=_mssd,
        worst=DIAGONAL,
        needs_both=True,
        added="0.2.0",
    ),
)


class Surfaces:
    """The surface voxels of all classes of two label maps on one grid, and the distances between them.

    A voxel is on its class's surface if one of its six neighbours has another label; beyond the
    volume there is background.

    Args:
        predicted: Labels [X, Y, Z].
        true: Labels [X, Y, Z].
        size: Of a voxel, float [3], in mm.
    """

    def __init__(self, predicted: np.ndarray, true: np.ndarray, size: np.ndarray) -> None:
        self.size = size
        found, expected = _surface(np.pad(predicted, 1)), _surface(np.pad(true, 1))
        # A voxel on both surfaces of a class is at distance 0 from the other: no search for it.
        self.common = (found == expected) & (found != 0)
        self.found, self.expected = found, expected

    def distances(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """The distances in mm from the predicted surface to the true one, and from the true to the predicted.

        The zeros of voxels on both surfaces stand first.

        Args:
            label: The class, from 1.

        Returns:
            One distance a voxel of the predicted surface, float [P], and of the true one, float [T].
        """
        found, expected = (np.flatnonzero(s.ravel() == label) for s in (self.found, self.expected))
        common = self.common.ravel()
        return (
            self._nearest(found[~common[found]], expected, len(found)),
            self._nearest(expected[~common[expected]], found, len(expected)),
        )

    def _nearest(self, moved: np.ndarray, target: np.ndarray, count: int) -> np.ndarray:
        """Distances [count] in mm from voxels (flat indices) to the nearest `target`, after leading zeros."""
        distance = np.zeros(count)
        if not len(moved):
            return distance
        shape = self.found.shape
        start = np.stack(np.unravel_index(moved, shape), axis=1)
        most = max(len(moved), len(target))
        if most > _TREE_POINTS and most > _TREE_SHARE * self.found.size:
            from scipy.ndimage import distance_transform_edt

            outside = np.ones(shape, dtype=bool)
            outside.ravel()[target] = False
            nearest = distance_transform_edt(
                outside, sampling=self.size, return_distances=False, return_indices=True
            ).reshape(3, -1)
            step = (nearest[:, moved].T - start) * self.size
            distance[count - len(moved) :] = np.sqrt((step * step).sum(axis=1))
        else:
            from scipy.spatial import cKDTree

            places = np.stack(np.unravel_index(target, shape), axis=1) * self.size
            tree = cKDTree(places, leafsize=_TREE_LEAF, compact_nodes=False, balanced_tree=False)
            distance[count - len(moved) :] = tree.query(start * self.size)[0]
        return distance


def _surface(padded: np.ndarray) -> np.ndarray:
    """The label of each surface voxel, 0 elsewhere; `padded` has a border of background."""
    core = padded[1:-1, 1:-1, 1:-1]
    differs = np.zeros(core.shape, dtype=bool)
    for axis in range(3):
        for shift in (0, 2):
            beside = tuple(
                slice(shift, shift + core.shape[a]) if a == axis else slice(1, -1) for a in range(3)
            )
            differs |= padded[beside] != core
    return core * differs
