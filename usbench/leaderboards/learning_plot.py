"""Learning curves: DSC over the number of patients trained on. A PNG file, no display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.fusions.looks import Look
from usbench.leaderboards.learning import Curve, Learning
from usbench.leaderboards.plot_names import Key, key_of, stacked
from usbench.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D"}
_LINES = ("-", "--", ":", "-.")  # One for each curve of a fusion, in turn.
_WIDTH, _HEIGHT = 9.0, 3.7  # inches of one group
_KEYS = 30  # curves that the key beside a plot has room for
_LETTERS = 46  # of a curve's name at full size that fit there
_GROUPS = 24  # plots that one picture has room for
_DPI = 150


def learning_figure(groups: Sequence[Learning], looks: Mapping[str, Look], path: Path) -> bool:
    """Draw a plot for each group of curves into the PNG `path`; False, and no file, where there is none.

    A point is the mean DSC over test patients at the mean of the fewest and the most patients that a run was
    trained on, on a logarithmic axis; bars are 95 % intervals. Hollow points lack folds. Past 24 groups the
    picture says how many it leaves out.

    Args:
        groups: Of a leaderboard.
        looks: By name of each fusion, how it is drawn.
        path: Of the picture.

    Raises:
        UsbenchError: Where it cannot be written.
    """
    if not groups:
        return False
    # Without pyplot: no global state, no backend to switch, safe in threads.
    from matplotlib.figure import Figure

    shown = groups[:_GROUPS]
    keys = [
        key_of([f"{curve.label}, {curve.fusion}" for curve in group.curves], _KEYS, _LETTERS)
        for group in shown
    ]
    taller = [key.taller for key in keys]
    height, gap = stacked(taller, _HEIGHT)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI)
    grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(1, 0.62), height_ratios=taller)
    figure.subplots_adjust(
        left=0.6 / _WIDTH, right=1, bottom=0.5 / height, top=1 - 0.3 / height, wspace=0.06, hspace=gap
    )
    for (axes, beside), group, key in zip(grid, shown, keys, strict=True):
        _plot(axes, beside, group, key, looks)
    if len(groups) > len(shown):
        figure.text(0.6 / _WIDTH, 0.05 / height, f"the first {_GROUPS} of {len(groups)} groups", fontsize=9)
    with atomic_path(Path(path), durable=False) as temporary:
        figure.savefig(temporary, format="png")
    return True


def _plot(axes: Axes, beside: Axes, group: Learning, key: Key, looks: Mapping[str, Look]) -> None:
    seen: dict[str, int] = {}
    beside.axis("off")
    beside.set(xlim=(0, 1), ylim=(0, 1))
    for place, curve in enumerate(group.curves):
        look = looks[curve.fusion]
        turn = seen[curve.fusion] = seen.get(curve.fusion, -1) + 1
        style = {"color": look.colour, "linestyle": _LINES[turn % len(_LINES)], "linewidth": 1.1}
        marker = _MARKERS[look.mark]
        _draw_curve(axes, curve, style, marker)
        if place < len(key.lines):
            text, y, size = key.lines[place]
            beside.plot([0.0, 0.1], [y, y], **style)  # type: ignore[arg-type]
            beside.plot([0.05], [y], marker, color=look.colour, markersize=4)
            # A dollar sign in a label is no formula.
            beside.text(0.13, y, text.replace("$", r"\$"), fontsize=size, va="center", linespacing=1)
    if len(group.curves) > _KEYS:
        beside.set_title(f"the first {_KEYS} of {len(group.curves)}", fontsize=7, loc="left")
    axes.set_xscale("log")
    ticks = sorted({_place(point.least, point.most) for curve in group.curves for point in curve.points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_title(group.title.replace("$", r"\$"), fontsize=9, loc="left")
    axes.set_xlabel("patients trained on (hollow: not all folds)", fontsize=8)
    axes.set_ylabel("DSC, mean over test patients", fontsize=8)
    axes.tick_params(labelsize=7, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)


def _place(least: int, most: int) -> float:
    return (least + most) / 2


def _draw_curve(axes: Axes, curve: Curve, style: Mapping[str, object], marker: str) -> None:
    places = [_place(point.least, point.most) for point in curve.points]
    heights = [float("nan") if point.dsc is None else point.dsc for point in curve.points]
    axes.plot(places, heights, **style)  # type: ignore[arg-type]
    colour = str(style["color"])
    for place, point in zip(places, curve.points, strict=True):
        if point.low is not None and point.high is not None:
            axes.plot([place, place], [point.low, point.high], color=colour, linewidth=0.8, alpha=0.35)
        face = colour if point.folds_done == point.folds else "white"
        axes.plot([place], [point.dsc], marker, color=colour, markerfacecolor=face, markersize=5)
