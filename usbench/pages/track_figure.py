"""The picture of a track: DSC against what is missing, and a patient's masks with each modality missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from usbench.contracts.classes import is_class
from usbench.pages.figures import (
    COLOURS,
    TaskNames,
    _legend,
    _new_figure,
    _save,
    draw_slice,
    drawing_order,
    outline,
    view_around,
)

_PANEL = 2.1  # inches a side
_RIM = 1.2
_COLUMNS = 5  # pictures in a row


@dataclass(frozen=True, eq=False)
class TrackPicture:
    """A mask of a slice under a condition.

    Attributes:
        missing: The modalities that are missing; empty for none.
        mask: uint8 [H, W].
        dsc: Of the case.
    """

    missing: Sequence[str]
    mask: np.ndarray
    dsc: float


Patient = tuple[str, np.ndarray, np.ndarray, Sequence[TrackPicture]]
"""A case to draw: id, images [M, H, W], truth [H, W] and its masks."""


def track_figure(
    path: Path,
    scores: Sequence[tuple[Sequence[str], Sequence[float]]],
    patient: Patient | None,
    names: TaskNames,
    regions: bool = False,
) -> None:
    """Draw a robustness track into the PNG `path`.

    Args:
        path: The PNG file.
        scores: For each set of missing modalities, none first, the DSC of every patient.
        patient: A case with its masks, drawn below; None for the plot alone.
        names: Those of the modalities and those of the classes.
        regions: Whether the classes are regions, which may overlap.
    """
    shown = [] if patient is None else list(patient[3])
    columns = max(1, min(_COLUMNS, len(shown)))
    lines = math.ceil(len(shown) / columns)
    width = max(columns * _PANEL, 5.5)
    figure = _new_figure(width + 0.4, 2.8 + lines * (_PANEL + 0.25) + 0.3)
    heights = [2.8] + [_PANEL + 0.25] * lines
    grid = figure.add_gridspec(1 + lines, columns, height_ratios=heights)
    axes = figure.add_subplot(grid[0, :])
    labels = [_words(missing) for missing, _ in scores]
    for place, (_, values) in enumerate(scores):
        known = [value for value in values if not math.isnan(value)]
        if known:
            axes.bar(place, sum(known) / len(known), color="#56B4E9" if place else "#999999", width=0.65)
            axes.plot([place] * len(known), known, "o", color="black", markersize=3, alpha=0.7)
    axes.set_xticks(range(len(labels)), labels, fontsize=7.5, rotation=30 if len(labels) > 6 else 0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("DSC", fontsize=8.5)
    axes.set_title("what is missing; bars: mean, dots: patients", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    if patient is not None:
        case_id, images, truth, _ = patient
        for place, one in enumerate(shown):
            panel = figure.add_subplot(grid[1 + place // columns, place % columns])
            there = [m for m, name in enumerate(names[0]) if name not in one.missing]
            draw_slice(panel, images[there[0]], view_around(truth, one.mask))
            for index, above in drawing_order((truth, one.mask), regions):
                colour = COLOURS[index % len(COLOURS)]
                outline(panel, is_class(truth, index, regions), colour, False, _RIM * above)
                outline(panel, is_class(one.mask, index, regions), colour, True, _RIM * above)
            panel.set_title(f"{_words(one.missing)}, DSC {one.dsc:.2f}", fontsize=8)
            panel.set_xlabel(f"case {case_id}, {names[0][there[0]]}", fontsize=7)
        _legend(figure, names[1], per_row=max(1, int(width / 1.15)))
    _save(figure, path)


def _words(missing: Sequence[str]) -> str:
    return f"no {', '.join(missing)}" if missing else "all there"
