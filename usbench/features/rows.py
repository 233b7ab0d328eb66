"""How rows of a feature are kept: at half precision or in eight bits, of every modality or as their mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from usbench.contracts.method import Feature

Rows = Mapping[str, Any]
"""By feature: rows [Z, ...], an array or a `ReadRows`; or None where they are computed in every batch."""


@dataclass(frozen=True)
class Form:
    """In what form the rows of a feature are kept.

    Attributes:
        mean: Of rows [N, M, ...] the mean over modalities alone, [N, 1, ...].
        bits: Of a number: 16 (half precision), or 8 (a whole number from -127 to 127, with one scale for each
            map of a row: its last two axes, or the last one where it has fewer than three).
    """

    mean: bool = False
    bits: int = 16

    @property
    def key(self) -> list[Any]:
        """What decides stored rows besides those at half precision of every modality, for which it is []."""
        return [] if self == Form() else [{"mean": self.mean, "bits": self.bits}]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the stored arrays."""
        return ("rows", "scale") if self.bits == 8 else ("rows",)

    def arrays(self, rows: Tensor, present: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """What is stored of rows.

        Args:
            rows: [N, ...], at half precision or whole numbers; the latter are kept as they are.
            present: the modalities (numbers, from 0) that a mean over them takes in; None for all.

        Returns:
            By name, as in `names`: "rows", and with 8 bits their "scale", float32.
        """
        rows = self._averaged(rows, present)
        if self.bits == 16:
            return {"rows": np.ascontiguousarray(rows.cpu().numpy())}
        if not rows.is_floating_point():
            return {"rows": np.ascontiguousarray(rows.cpu().numpy()), "scale": np.ones(1, np.float32)}
        whole, scale = _packed(rows)
        return {"rows": whole.cpu().numpy(), "scale": scale.cpu().numpy()}

    def opened(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray | ReadRows:
        """Rows that are read by indexing.

        Args:
            arrays: As `arrays` gives them, also memory-mapped: "rows" [N, ...] and their "scale".

        Returns:
            Rows [N, ...], those of floating point as float16.
        """
        rows = arrays["rows"]
        return PackedRows(rows, arrays["scale"]) if self.bits == 8 and rows.dtype == np.int8 else rows

    def rounded(self, rows: Tensor, present: Sequence[int] | None = None) -> Tensor:
        """Computed rows [N, ...] as they would be read back from the store, but in single precision.

        present: the modalities (numbers, from 0) that a mean over them takes in; None for all.
        """
        if not rows.is_floating_point():
            return rows
        rows = self._averaged(rows.half(), present)
        if self.bits == 8:
            whole, scale = _packed(rows)
            rows = (whole.float() * scale).half()
        return rows.float()

    def _averaged(self, rows: Tensor, present: Sequence[int] | None) -> Tensor:
        if not self.mean:
            return rows
        return averaged(rows if present is None else rows[:, list(present)], 1)


def form_of(feature: Feature, fusion: str) -> Form:
    """The form in which a feature's rows are kept for runs under a fusion."""
    return Form(fusion in feature.mean_under, feature.bits)


def averaged(rows: Tensor, axis: int) -> Tensor:
    """The mean of half-precision rows [N, M, ...] over an axis, which stays with length 1: [N, 1, ...].

    It is taken of what was rounded, so that it is the same whether the rows were stored before or not.
    """
    return rows.float().mean(axis, keepdim=True).half()


def _packed(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Half-precision rows as whole numbers int8 of the same shape, and the float32 scale of every map."""
    values = rows.float()
    axes = (-2, -1) if rows.dim() > 3 else (-1,)
    scale = values.abs().amax(axes, keepdim=True) / 127
    scale = torch.where(scale > 0, scale, 1.0)
    return (values / scale).round().to(torch.int8), scale


class ReadRows(ABC):
    """Rows that are made from stored ones when they are indexed; else like a read-only array of float16.

    Args:
        shape: Of all rows, [Z, ...].

    Attributes:
        nbytes: Bytes of all rows as indexing gives them.
    """

    dtype = np.dtype(np.float16)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.ndim = len(shape)
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows by number, slice or array of numbers of the first axis: float16 [...] or [n, ...]."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)


class PackedRows(ReadRows):
    """Rows kept in eight bits.

    Args:
        whole: int8 [Z, ...].
        scale: float32, of as many axes, which a map is multiplied with.
    """

    def __init__(self, whole: np.ndarray, scale: np.ndarray) -> None:
        super().__init__(whole.shape)
        self.whole, self.scale = whole, scale

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows by number, slice or array of numbers of the first axis: float16 [...] or [n, ...]."""
        rows: np.ndarray = (self.whole[index] * self.scale[index]).astype(np.float16)
        return rows


def row_bytes(rows: np.ndarray | ReadRows) -> int:
    """Bytes on disk of one of some rows [N, ...]; 0 where there are none."""
    size = rows.whole.nbytes + rows.scale.nbytes if isinstance(rows, PackedRows) else rows.nbytes
    return size // len(rows) if len(rows) else 0


class MeanRows(ReadRows):
    """The means over modalities of rows of which those of every modality are stored.

    Args:
        full: float16 [Z, M, ...].
    """

    def __init__(self, full: np.ndarray) -> None:
        super().__init__((full.shape[0], 1, *full.shape[2:]))
        self.full = full

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows by number, slice or array of numbers of the first axis: float16 [...] or [n, ...]."""
        picked = torch.from_numpy(np.array(self.full[index]))
        rows: np.ndarray = averaged(picked, 1 - self.ndim + picked.dim()).numpy()
        return rows
