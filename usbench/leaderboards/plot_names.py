"""Names of rows beside a plot: place and size of each, so that none meets another or leaves the picture."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple

SIZE = 6.5
"""Of a name in points, where there is room."""
LOOSE = 24
"""As many lines stand beside a plot at that size; more come closer and smaller."""
SMALL = 5.0
"""Smaller letters are not read."""


def broken(name: str, letters: int, indent: str = "") -> list[str]:
    """A name in lines of so many letters at most, those behind the first with `indent` before them."""
    return wrap(name, letters, subsequent_indent=indent, break_on_hyphens=False) or [name]


class KeyLine(NamedTuple):
    """A name in the key beside a plot.

    Attributes:
        text: The name, in several lines where it is long.
        height: Of its middle, 1 at the top and 0 at the foot of the plot.
        size: Of its letters in points.
    """

    text: str
    height: float
    size: float


class Key(NamedTuple):
    """The key beside a plot.

    Attributes:
        lines: A name each.
        taller: How many times its usual height the plot has to be for them.
    """

    lines: list[KeyLine]
    taller: float


def key_of(names: Sequence[str], most: int, letters: int) -> Key:
    """The key beside a plot: long names go on in further lines, and all become smaller where these are many.

    Letters do not become smaller than `SMALL`; the plot becomes taller. A text of several lines has to
    be drawn without space between them (`linespacing=1`).

    Args:
        names: Of all rows.
        most: So many are named, the first ones.
        letters: Of full size that a line has room for.
    """
    size = SIZE
    while True:
        width = int(letters * SIZE / size)
        texts = [broken(name, width, "    ") for name in names[:most]]
        wanted, places = sum(map(len, texts)), LOOSE * SIZE / size
        if wanted <= places or size * 0.98 < SMALL:
            break
        size *= 0.98
    taller = max(1.0, wanted / places)
    lines, above = [], 0
    for text in texts:
        lines.append(KeyLine("\n".join(text), 1 - (above + len(text) / 2) / (places * taller), size))
        above += len(text)
    return Key(lines, taller)


class Stack(NamedTuple):
    """Plots above each other in one picture.

    Attributes:
        height: Of the picture in inches.
        gap: Between two plots, as a part of their mean height (matplotlib's `hspace`).
    """

    height: float
    gap: float


_MARGINS = 0.8  # inches above and below a picture
_GAP = 0.3  # between two plots, as a part of the usual height


def stacked(taller: Sequence[float], height: float) -> Stack:
    """How to place plots of which some are taller: the gaps, and plots of usual height, stay as they are.

    Args:
        taller: Of each plot, how many times its usual height.
        height: Of a picture in inches, for each plot of usual height.
    """
    count, total = len(taller), sum(taller)
    usual = (height * count - _MARGINS) / (count + _GAP * (count - 1))
    return Stack(height * count + usual * (total - count), _GAP * count / total)
