"""From a patient's volume to square slices as a radiologist views them, and exactly back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from usbench.contracts.settings import Plane
from usbench.errors import UsbenchError, unknown

# Where the slice number, the row and the column grow to, in patient directions.
DIRECTIONS: dict[str, tuple[str, str, str]] = {
    "axial": ("S", "P", "L"),
    "coronal": ("P", "I", "L"),
    "sagittal": ("L", "I", "P"),
}
_WORLD_AXIS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class SliceGeometry:
    """Maps a native volume [X, Y, Z] to slices [N, side, side] shown radiologically, and back.

    Axial slices have the anterior at the top and the patient's right at the left of the image, and
    run from the feet to the head. Coronal ones have the head at the top and the patient's right at
    the left, from front to back. Sagittal ones have the head at the top and the anterior at the
    left, from the patient's right to the left. An oblique volume goes by its nearest axes; voxels
    are only permuted and mirrored, never resampled, so the way back is exact.

    Attributes:
        shape: The native shape (X, Y, Z).
        plane: "axial", "coronal" or "sagittal".
        axes: The native axis of the slice number, the row and the column.
        flips: Whether each of those three runs against its native axis.
    """

    shape: tuple[int, int, int]
    plane: Plane
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def from_affine(cls, shape: Sequence[int], affine: np.ndarray, plane: Plane = "axial") -> SliceGeometry:
        """The geometry of a volume.

        Args:
            shape: Its native shape (X, Y, Z).
            affine: [4, 4], voxel index to RAS+ millimetres.
            plane: "axial", "coronal" or "sagittal".

        Raises:
            UsbenchError: For a shape that is not 3D, an affine that does not span space, or an unknown plane.
        """
        from nibabel.orientations import io_orientation

        if plane not in DIRECTIONS:
            raise unknown("plane", plane, DIRECTIONS)
        if len(shape) != 3 or min(shape) < 1:
            raise UsbenchError(f"a volume of shape {tuple(shape)} is not 3D; give one volume per modality")
        affine = np.asarray(affine, dtype=np.float64)
        sound = affine.shape == (4, 4) and bool(np.isfinite(affine).all())
        if not sound or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise UsbenchError(
                f"the affine {affine.tolist()} does not map voxels into space; correct the file's header"
            )
        orientation = io_orientation(affine)  # type: ignore[no-untyped-call]
        native = {int(world): (axis, int(sign)) for axis, (world, sign) in enumerate(orientation)}
        axes, flips = [], []
        for direction in DIRECTIONS[plane]:
            world, wanted = _WORLD_AXIS[direction]
            axis, sign = native[world]
            axes.append(axis)
            flips.append(sign != wanted)
        x, y, z = (int(n) for n in shape)
        return cls((x, y, z), plane, (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    @property
    def count(self) -> int:
        """How many slices there are."""
        return self.shape[self.axes[0]]

    @property
    def height(self) -> int:
        """Rows of a slice before padding."""
        return self.shape[self.axes[1]]

    @property
    def width(self) -> int:
        """Columns of a slice before padding."""
        return self.shape[self.axes[2]]

    @property
    def side(self) -> int:
        """The side of the square that a slice is padded to."""
        return max(self.height, self.width)

    @property
    def window(self) -> tuple[slice, slice]:
        """Where the unpadded slice lies in the square: rows, columns."""
        top, left = (self.side - self.height) // 2, (self.side - self.width) // 2
        return slice(top, top + self.height), slice(left, left + self.width)

    def orient(self, volume: np.ndarray) -> np.ndarray:
        """A view of `volume` [X, Y, Z] as unpadded slices [N, H, W]; nothing is copied."""
        if volume.shape != self.shape:
            raise UsbenchError(f"a volume of shape {volume.shape} does not fit one of shape {self.shape}")
        view = volume.transpose(self.axes)
        return view[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def to_slices(self, volume: np.ndarray, fill: float = 0) -> np.ndarray:
        """`volume` [X, Y, Z] as slices [N, side, side] of the same dtype, padded evenly with `fill`."""
        return self.pad(np.ascontiguousarray(self.orient(volume)), fill)

    def pad(self, slices: np.ndarray, fill: float = 0) -> np.ndarray:
        """Unpadded slices [N, H, W] as squares [N, side, side], padded evenly with `fill`."""
        if self.height == self.width:
            return slices
        stack = np.full((self.count, self.side, self.side), fill, dtype=slices.dtype)
        stack[(slice(None), *self.window)] = slices
        return stack

    def from_slices(self, stack: np.ndarray) -> np.ndarray:
        """The volume [X, Y, Z] of which `stack` [N, side, side] are the slices; padding is cut off."""
        if stack.shape != (self.count, self.side, self.side):
            wanted = (self.count, self.side, self.side)
            raise UsbenchError(f"slices of shape {stack.shape} do not fit a geometry with slices {wanted}")
        slices = stack[(slice(None), *self.window)]
        slices = slices[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return np.ascontiguousarray(slices.transpose(np.argsort(self.axes)))

    def to_json(self) -> dict[str, Any]:
        """This geometry as plain JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SliceGeometry:
        """The geometry that `to_json` wrote."""
        return cls(tuple(value["shape"]), value["plane"], tuple(value["axes"]), tuple(value["flips"]))
