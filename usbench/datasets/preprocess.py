"""The array steps between a raw volume and a prepared slice: normalise, pad, resize."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from usbench.contracts.data import Case, Scans
from usbench.contracts.settings import DataSettings
from usbench.datasets.geometry import SliceGeometry
from usbench.errors import UsbenchError

CLIP = 5.0

PREPARATION = 1
"""The version of the preparation: raise it when the same raw case becomes other arrays.

It is part of the fingerprint of the data (`usbench.datasets.store`), so results of another version are other
cells, and features are stored anew. A change of the code that leaves the arrays as they are needs no new
version: cases are prepared again (`usbench.datasets.freshness`) and are what they were.
"""


@dataclass(frozen=True, eq=False)
class PreparedArrays:
    """What is stored of a case: images float16 [Z, M, S, S] and mask uint8 [Z, S, S], with their geometry."""

    images: np.ndarray
    mask: np.ndarray
    geometry: SliceGeometry


def prepare_arrays(case: Case, settings: DataSettings, names: tuple[str, ...] = ()) -> PreparedArrays:
    """Normalise, slice, pad and resize one case.

    The padding around a slice that is not square gets the lowest value of its normalised volume,
    which is where air lies in MR, so that it makes no visible edge.

    Args:
        case: Images [M, X, Y, Z] and mask [X, Y, Z].
        settings: How.
        names: Of its modalities, for messages.

    Returns:
        Images float16 [Z, M, S, S], mask uint8 [Z, S, S] and the way back.

    Raises:
        UsbenchError: For intensities that are not finite or, not normalised, do not fit half precision.
    """
    images, geometry = prepare_images(case, settings, names)
    mask = resize_masks(geometry.to_slices(case.mask), settings.size)
    return PreparedArrays(images, mask, geometry)


def prepare_images(
    case: Case | Scans, settings: DataSettings, names: tuple[str, ...] = ()
) -> tuple[np.ndarray, SliceGeometry]:
    """The images of `prepare_arrays`, for which no mask is needed.

    Args:
        case: Images [M, X, Y, Z].
        settings: How.
        names: Of its modalities, for messages.

    Returns:
        float16 [Z, M, S, S] and the way back.

    Raises:
        UsbenchError: As `prepare_arrays`.
    """
    geometry = SliceGeometry.from_affine(case.images.shape[1:], case.affine, settings.plane)
    shape = (geometry.count, len(case.images), settings.size, settings.size)
    images = np.empty(shape, dtype=np.float16)
    for channel, volume in enumerate(case.images):
        name = names[channel] if names else str(channel)
        low, high = float(volume.min()), float(volume.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UsbenchError(
                f"case {case.case_id}: {name} holds values that are not finite; correct them or drop the case"
            )
        if settings.normalise == "none" and max(abs(low), abs(high)) > float(np.finfo(np.float16).max):
            raise UsbenchError(
                f"case {case.case_id}: {name} reaches {max(abs(low), abs(high)):g}, too much for half "
                "precision; use normalise=zscore or normalise=minmax"
            )
        scale = intensity_scale(volume, settings.normalise)
        square = np.full((geometry.side, geometry.side), scale.apply(np.float32(low)), dtype=np.float32)
        # Slice by slice, so that the work stays in the processor's cache.
        for target, source in zip(images[:, channel], geometry.orient(volume), strict=True):
            square[geometry.window] = scale.apply(source)
            target[:] = resize_image(square, settings.size, settings.resize)
    return images, geometry


@dataclass(frozen=True)
class IntensityScale:
    """How raw intensities become normalised ones: (value - shift) * factor, kept within low and high."""

    shift: float = 0.0
    factor: float = 1.0
    low: float = -np.inf
    high: float = np.inf

    def apply(self, values: np.ndarray | np.float32) -> np.ndarray:
        """The normalised `values`, float32, in a new array of the same shape; any shape will do."""
        out = np.asarray(values - np.float32(self.shift))
        out *= np.float32(self.factor)
        return np.clip(out, np.float32(self.low), np.float32(self.high), out=out)


def intensity_scale(volume: np.ndarray, how: str) -> IntensityScale:
    """The scale that normalises a float32 volume [X, Y, Z]; `how` as in `DataSettings.normalise`."""
    if how == "zscore":
        mean, deviation = foreground_statistics(volume)
        return IntensityScale(mean, 1.0 / deviation, -CLIP, CLIP)
    if how == "minmax":
        low, high = (float(v) for v in np.percentile(volume, (0.5, 99.5)))
        if high <= low:
            low, high = float(volume.min()), float(volume.max())
        return IntensityScale(low, 1.0 / (high - low) if high > low else 1.0, 0.0, 1.0)
    return IntensityScale()


def foreground_statistics(volume: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation over the foreground of a volume [X, Y, Z].

    A deviation of 0 (a flat foreground) gives way to that of the whole volume, then to 1.
    """
    flat = volume.ravel(order="K")  # in memory order: several times faster than by index
    values = flat[foreground(flat, corner_value(volume))]
    mean = float(values.mean(dtype=np.float64))
    deviation = float(values.std(dtype=np.float64)) or float(flat.std(dtype=np.float64)) or 1.0
    return mean, deviation


def foreground(volume: np.ndarray, background: float) -> np.ndarray:
    """Which voxels of a raw volume are patient.

    Someone may have masked the volume (skull stripping): then one value, `background`, fills the air,
    and the foreground is all else. It is taken to be masked where that value makes up more than half
    of the volume, or of what is not above Otsu's threshold. Else the foreground is what lies above
    that threshold, since scanners leave noise of many values in the air around a patient, and part
    of it is 0 too.

    Args:
        volume: Raw intensities of any shape.
        background: The value that would fill the air.

    Returns:
        bool, of the same shape, never all False.
    """
    inside = volume != background
    air = volume.size - int(np.count_nonzero(inside))
    if air == volume.size:
        return np.ones(volume.shape, dtype=bool)
    if 2 * air > volume.size:
        return np.asarray(inside)
    threshold = otsu(volume)
    if threshold is None:
        return np.ones(volume.shape, dtype=bool)
    above = np.asarray(volume > threshold)
    return np.asarray(inside) if 2 * air > volume.size - int(np.count_nonzero(above)) else above


def corner_value(volume: np.ndarray) -> float:
    """The most common value at the corners of a volume [X, Y, Z], where the air is; the lowest of equals."""
    corners = volume[tuple(slice(None, None, max(1, n - 1)) for n in volume.shape)]
    values, counts = np.unique(corners, return_counts=True)
    return float(values[counts.argmax()])


def otsu(volume: np.ndarray, bins: int = 512) -> float | None:
    """Otsu's threshold: the value that best parts a volume in two; None if it is flat.

    The histogram ends at the 99.9th percentile of a sample, so that a few bright vessels do not
    squeeze everything else into its first bins. Source: Otsu (1979), A threshold selection method from
    gray-level histograms, IEEE Trans. Syst. Man Cybern. 9.

    Args:
        volume: Values of any shape.
        bins: Of the histogram.
    """
    step = max(1, volume.size // 200_000)
    low, high = float(volume.min()), float(np.percentile(volume.ravel()[::step], 99.9))
    if high <= low:
        high = float(volume.max())
    if high <= low:
        return None
    scaled = np.clip((volume - np.float32(low)) * np.float32(bins / (high - low)), 0, bins - 1)
    histogram = np.bincount(scaled.astype(np.uint16).ravel(), minlength=bins).astype(np.float64)
    centres = np.arange(bins) + 0.5
    below = np.cumsum(histogram)[:-1]
    above = histogram.sum() - below
    moment = np.cumsum(histogram * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (moment[:-1] / below - (moment[-1] - moment[:-1]) / above) ** 2
    cut = int(np.argmax(np.nan_to_num(between, nan=-1.0)))
    return low + (cut + 1) * (high - low) / bins


def resize_image(image: np.ndarray, size: int, how: str) -> np.ndarray:
    """Resize a float32 image [side, side] to [size, size]; `how` as in `DataSettings.resize`."""
    if image.shape == (size, size):
        return image
    if how == "nearest":
        return _nearest(image, size)
    from PIL import Image

    # Pillow widens its bilinear kernel when it shrinks, which is the antialiasing.
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def resize_masks(stack: np.ndarray, size: int) -> np.ndarray:
    """Resize label slices [N, side, side] to [N, size, size] by the nearest pixel centre."""
    return stack if stack.shape[1:] == (size, size) else _nearest(stack, size)


def nearest_index(length: int, size: int) -> np.ndarray:
    """For each of `size` new pixels, the old one of `length` that holds its centre: int [size].

    Pixel i covers i to i + 1 and has its centre at i + 1/2, as in the resizing of images, so that
    mask and image stay on each other. Whole numbers throughout: no rounding error at a tie.
    """
    return (2 * np.arange(size) + 1) * length // (2 * size)


def _nearest(stack: np.ndarray, size: int) -> np.ndarray:
    index = nearest_index(stack.shape[-1], size)
    return np.ascontiguousarray(stack[..., index, :][..., index])
