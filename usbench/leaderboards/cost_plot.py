"""Score against cost: DSC over parameters, milliseconds a slice, or other costs. A PNG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.fusions.looks import Look, looks_of
from usbench.leaderboards.costs import cost_axis
from usbench.leaderboards.plot_names import Key, key_of, stacked
from usbench.leaderboards.rows import Row
from usbench.leaderboards.table import Table
from usbench.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D"}
_WIDTH, _HEIGHT = 11.0, 3.7  # inches of one table
_KEYS = 34  # rows that the key beside a table has room for
_LETTERS = 40  # of a row's name at full size that fit beside the panels
_TABLES = 24  # tables that one picture has room for
_DPI = 150


USUAL = ("parameters", "ms_per_slice")
"""The costs that are drawn unless others are asked for."""


def cost_figure(tables: Sequence[Table], path: Path, axes: Sequence[str] = USUAL) -> bool:
    """Draw a line of panels a table into the PNG `path`; False, and no file, where no row has a score.

    Points are numbered in the order of the table's rows and named beside it; hollow ones are not
    ranked. Bars are the 95 % interval of the mean over patients; the grey steps join the rows that no
    row of at most their cost beats. Past 24 tables the picture says how many it leaves out.

    Args:
        tables: Of a leaderboard.
        path: The PNG file.
        axes: Names of the costs, a panel each; see `usbench.leaderboards.costs.COST_AXES`.

    Raises:
        UsbenchError: For a cost that there is not.
    """
    costs = [cost_axis(name) for name in axes]
    drawn = [
        (table, rows) for table in tables if (rows := [r for r in table.rows if r.scores["dsc"] is not None])
    ]
    if not drawn:
        return False
    # Without pyplot: no global state, no backend to switch, safe in threads.
    from matplotlib.figure import Figure

    shown = drawn[:_TABLES]
    looks = looks_of(row.fusion_stated for _, rows in drawn for row in rows)
    keys = [_key_of(rows) for _, rows in shown]
    taller = [key.taller for key in keys]
    height, gap = stacked(taller, _HEIGHT)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI)
    grid = figure.subplots(
        len(shown),
        len(costs) + 1,
        squeeze=False,
        width_ratios=(*[1] * len(costs), 0.31 * len(costs)),
        height_ratios=taller,
    )
    # Fixed margins, in inches: finding them costs more time than all of the drawing.
    figure.subplots_adjust(
        left=0.55 / _WIDTH, right=1, bottom=0.5 / height, top=1 - 0.3 / height, wspace=0.12, hspace=gap
    )
    for (*panels, beside), (table, rows), key in zip(grid, shown, keys, strict=True):
        frozen = any(row.frozen_elsewhere for row in rows)
        for panel, cost in zip(panels, costs, strict=True):
            words = cost.heading
            if cost.name == "parameters" and frozen:
                words += " (without frozen parts that made features)"
            _panel(panel, rows, [cost.of(row) for row in rows], words, looks)
        panels[0].set_title(table.title, fontsize=9, loc="left")
        panels[0].set_ylabel("DSC, mean over patients", fontsize=8)
        _key(beside, rows, key, looks)
    if len(drawn) > len(shown):
        figure.text(0.55 / _WIDTH, 0.05 / height, f"the first {_TABLES} of {len(drawn)} tables", fontsize=9)
    with atomic_path(Path(path), durable=False) as temporary:
        figure.savefig(temporary, format="png")
    return True


def _panel(
    axes: Axes, rows: Sequence[Row], given: Sequence[float | None], name: str, looks: Mapping[str, Look]
) -> None:
    # A cost that nobody knows has no place on the axis; the key beside the panels still has the row.
    points = [
        (number, row, float(cost), _dsc(row))
        for number, (row, cost) in enumerate(zip(rows, given, strict=True), start=1)
        if cost is not None
    ]
    costs, scores = [cost for _, _, cost, _ in points], [score for *_, score in points]
    for number, row, cost, score in points:
        colour, marker = looks[row.fusion].colour, _MARKERS[looks[row.fusion].mark]
        low, high = row.interval or (score, score)
        axes.plot([cost, cost], [low, high], color=colour, linewidth=0.8, alpha=0.35)
        face = colour if row.rank else "white"
        axes.plot([cost], [score], marker, color=colour, markerfacecolor=face, markersize=5)
        axes.annotate(
            str(number),
            (cost, score),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=6.5,
            color="#333333",
        )
    best: list[tuple[float, float]] = []
    for cost, score in sorted(zip(costs, scores, strict=True), key=lambda point: (point[0], -point[1])):
        if not best or score > best[-1][1]:
            best.append((cost, score))
    if len(best) > 1:
        axes.step(*zip(*best, strict=True), where="post", color="#999999", linewidth=0.8, zorder=0)
    if costs and min(costs) > 0:
        axes.set_xscale("log")
        _mark(axes, max(costs) / min(costs))
    unknown = len(rows) - len(points)
    axes.set_xlabel(f"{name} (not known of {unknown})" if unknown else name, fontsize=8)
    axes.tick_params(labelsize=7, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)


def _mark(axes: Axes, spread: float) -> None:
    """Few plain numbers on a logarithmic axis of costs, of which the largest is `spread` times the least.

    Matplotlib writes marks between two powers of ten as products, which run into each other, or none.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    if spread < 10:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_minor_locator(NullLocator())
    elif spread < 100:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(_short)


def _key_of(rows: Sequence[Row]) -> Key:
    return key_of([f"{number}  {row.name}" for number, row in enumerate(rows, start=1)], _KEYS, _LETTERS)


def _key(axes: Axes, rows: Sequence[Row], key: Key, looks: Mapping[str, Look]) -> None:
    axes.axis("off")
    # There are fewer lines than rows where these are very many.
    for row, (text, height, size) in zip(rows, key.lines, strict=False):
        colour, marker = looks[row.fusion].colour, _MARKERS[looks[row.fusion].mark]
        face = colour if row.rank else "white"
        axes.plot(
            [0.02],
            [height],
            marker,
            color=colour,
            markerfacecolor=face,
            markersize=4,
            transform=axes.transAxes,
        )
        # A dollar sign in a label is no formula.
        axes.text(
            0.06,
            height,
            text.replace("$", r"\$"),
            transform=axes.transAxes,
            fontsize=size,
            va="center",
            linespacing=1,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    title = "filled: ranked; hollow: not ranked"
    if len(rows) > _KEYS:
        title += f"; the first {_KEYS} of {len(rows)}"
    axes.set_title(title, fontsize=7, loc="left")


def _short(cost: float, _: float = 0) -> str:
    """A cost on an axis: 4 figures at most, thousands as k, millions as M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if cost >= size:
            return f"{cost / size:.4g}{letter}"
    return f"{cost:.4g}"


def _dsc(row: Row) -> float:
    value = row.scores["dsc"]
    assert value is not None
    return value
