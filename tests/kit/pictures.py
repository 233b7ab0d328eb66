"""What a picture shows."""

from __future__ import annotations

import numpy as np
from PIL import Image


def has_colour(path, colour):
    """Whether a picture has pixels of a colour, as a line drawn over grey leaves them."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(pixels - wanted).max(axis=2) < 12).sum()) > 5
