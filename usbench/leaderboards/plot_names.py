"""Names of rows beside a plot: place and size of each, so that none meets another or leaves the picture."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple

SIZE = 6.5
"""Of a name in points, where there is room."""
LOOSE = 24
"""As many lines stand beside a plot at that size; more come closer and smaller."""


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


def key_lines(names: Sequence[str], most: int, letters: int) -> list[KeyLine]:
    """The key beside a plot: long names go on in further lines, and all become smaller where these are many.

    A text of several lines has to be drawn without space between them (`linespacing=1`).

    Args:
        names: Of all rows.
        most: For how many there is room.
        letters: Of full size that a line has room for.

    Returns:
        The first `most` names.
    """
    size = SIZE
    while True:
        width = int(letters * SIZE / size)
        texts = [broken(name, width, "    ") for name in names[:most]]
        places = LOOSE * SIZE / size
        if sum(map(len, texts)) <= places:
            break
        size *= 0.98
    lines, above = [], 0
    for text in texts:
        lines.append(KeyLine("\n".join(text), 1 - (above + len(text) / 2) / places, size))
        above += len(text)
    return lines
