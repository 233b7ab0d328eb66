"""PNG pictures that hold numbers: read as the numbers that were stored, or refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np

from usbench.storage.regular import read_bounded

MOST_PACKED = 64 << 20
"""Bytes of a picture; how many pixels it may have says the slice that it belongs to."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AS_GREY = "save it as a PNG of 8-bit grey values"
_AGAIN = "extract or download the data set again"

# Colour types of IHDR (PNG specification, 11.2.2) that hold one number a pixel, and those that do not.
_GREY, _PALETTE = 0, 3
_COLOURS = {2: "RGB", 4: "LA", 6: "RGBA"}

# Pillow spreads grey values of 2 and 4 bits over 0 to 255, by these factors.
_SPREAD = {2: 85, 4: 17}


class PictureError(Exception):
    """A picture that holds no numbers as they are wanted: what is wrong, and the remedy."""

    def __init__(self, what: str, remedy: str = _AS_GREY) -> None:
        super().__init__(what)
        self.remedy = remedy


def read_indices(picture: Path, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
    """The numbers that a PNG stores, one a pixel: grey values of any depth, or places in its palette.

    Neither the colours of a palette nor gamma or transparency change them, nor do few bits or interlacing.

    Args:
        picture: The file.
        shape: The numbers of rows and columns that it must have.

    Returns:
        Integers [rows, columns], and what they are called.

    Raises:
        PictureError: Where it is no such PNG: other formats under its name, colours, animations.
    """
    from PIL import Image

    try:
        content = read_bounded(picture, MOST_PACKED)
        start = content[:33]
        if not start.startswith(_SIGNATURE):
            with Image.open(io.BytesIO(content)) as image:
                raise PictureError(f"a {image.format} picture under the name of a PNG")
        columns, rows, depth, colour = struct.unpack(">IIBB", start[16:26])
        if colour not in (_GREY, _PALETTE):
            raise PictureError(f"a picture of mode {_COLOURS.get(colour, colour)}, grey values are expected")
        if (rows, columns) != shape:
            what = f"{rows} rows x {columns} columns, its slice has {shape[0]} x {shape[1]}"
            raise PictureError(what, "put the annotation that belongs to this slice in its place")
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != (columns, rows):
                raise PictureError("a PNG that states its size twice", _AGAIN)
            if getattr(image, "is_animated", False):
                raise PictureError("an animation, one picture is expected")
            image.verify()  # the check sums
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            values = np.asarray(image).astype(np.int64)
    except PictureError:
        raise
    except Exception as error:  # Pillow lets through whatever a broken file brings about
        if isinstance(error, OSError) and error.strerror:
            what = f"the file cannot be read ({error.strerror})"
            raise PictureError(what, "see to its permissions and to the disk") from None
        raise PictureError(f"truncated or invalid PNG file ({error})", _AGAIN) from None
    if colour == _PALETTE:
        return values, "palette indices"
    values, rest = np.divmod(values, _SPREAD.get(depth, 1))
    if rest.any():
        raise PictureError(f"grey values of {depth} bits that cannot be read")
    return values, "grey values" if depth == 8 else f"{depth}-bit grey values"
