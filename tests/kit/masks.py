"""Small label maps made by hand or at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cube(
    shape: Sequence[int],
    start: Sequence[int],
    stop: Sequence[int],
    label: int = 1,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """A label map with one box, or `into` with one more."""
    volume = np.zeros(shape, dtype=np.uint8) if into is None else into
    volume[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = label
    return volume


def blobs(shape: Sequence[int], classes: int, seed: int) -> np.ndarray:
    """A random label map of smooth structures, some of which touch the border of the volume."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(rng.standard_normal(shape), 3) for _ in range(classes)])
    fields /= fields.std(axis=(1, 2, 3), keepdims=True)
    return np.where(fields.max(axis=0) > 1.0, fields.argmax(axis=0) + 1, 0).astype(np.uint8)
