"""How fusions look in tables, plots and pages, those of results too whose plugin is not here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from usbench.contracts.fusion import Mark
from usbench.fusions.registry import BUILT_IN, get_fusion

# Okabe and Ito's colours that the built-in fusions leave, told apart by colour-blind readers.
_PALETTE = ("#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")


@dataclass(frozen=True)
class Look:
    """How a fusion is shown.

    Attributes:
        label: What tables and pages call it.
        colour: "#rrggbb", on white.
        colour_on_dark: The same on a dark page.
        mark: The shape of its marks in plots.
    """

    label: str
    colour: str
    colour_on_dark: str
    mark: Mark


def looks_of(fusions: Iterable[Mapping[str, Any]]) -> dict[str, Look]:
    """The look of every fusion of some results, by name.

    Args:
        fusions: "fusion" of each result.json: its name and, where the fusion states them, label and colour.

    Returns:
        Built-in fusions first, in their order, then the others by name. One that states no colour gets one
        that none before it has, as long as there are any.
    """
    stated = {str(one["name"]): one for one in fusions}
    looks = {name: _built_in(name) for name in BUILT_IN if name in stated}
    for name in sorted(set(stated) - set(looks)):
        taken = {look.colour for look in looks.values()}
        free = [colour for colour in _PALETTE if colour not in taken] or [
            _PALETTE[len(looks) % len(_PALETTE)]
        ]
        colour = str(stated[name].get("colour") or free[0])
        looks[name] = Look(str(stated[name].get("label") or name), colour, colour, "diamond")
    return looks


def _built_in(name: str) -> Look:
    fusion = get_fusion(name).fusion
    return Look(fusion.label, fusion.colour, fusion.colour_on_dark or fusion.colour, fusion.mark)
