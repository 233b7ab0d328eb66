"""Names of rows beside a plot: place and size of each, so that none meets another or leaves the picture."""

from __future__ import annotations

from collections.abc import Sequence

SIZE = 6.5
"""Of a name in points, where there is room."""
LOOSE = 24
"""As many names stand beside a plot at that size; more come closer and smaller."""


def fitted(name: str, letters: int) -> float:
    """The size of a name in points, given how many letters of full size there is room for."""
    return SIZE * min(1.0, letters / max(len(name), 1))


def key_lines(names: Sequence[str], most: int, letters: int) -> list[tuple[float, float]]:
    """The lines of a key beside a plot.

    Args:
        names: Of all rows.
        most: For how many there is room.
        letters: As of `fitted`.

    Returns:
        For each of the first `most` names its height, 1 at the top and 0 at the foot of the plot, and size.
    """
    places = min(max(len(names), LOOSE), most)
    closest = SIZE * LOOSE / places
    return [
        (1 - (i + 0.5) / places, min(fitted(name, letters), closest)) for i, name in enumerate(names[:most])
    ]
