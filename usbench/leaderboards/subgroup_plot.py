"""DSC by subgroup: a panel a subgroup, a line a row. A PNG file, no display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.fusions.looks import Look
from usbench.leaderboards.plot_names import SIZE, broken
from usbench.leaderboards.subgroups import SubgroupScore, SubgroupTable
from usbench.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = {"class": 4, "group": 4, "size": 3}  # panels beside each other; the sizes of a class on a line
_PANEL, _LABELS = 2.2, 2.4  # inches: width of a panel, and of the names of rows
_LETTERS = 40  # of a line of a row's name that fit beside the panels
_LINE, _HEAD = 0.17, 0.75  # inches: height of a row whose name has one line, and of all around a panel
_FURTHER = 0.12  # inches: of each further line of a name
_TABLES, _ROWS = 24, 40  # tables that one picture has room for, and rows of one panel
_DPI = 150


def subgroup_figure(tables: Sequence[SubgroupTable], looks: Mapping[str, Look], path: Path) -> bool:
    """Draw small multiples into the PNG `path`; False, and no file, where there is no score.

    A point is the mean DSC of a row over the patients of the subgroup, a bar its 95 % interval; below four
    patients small points are the patients themselves, and the mean is hollow. Past 24 tables or 40 rows the
    picture says how many it leaves out.

    Args:
        tables: With the subgroups of each table.
        looks: By name of each fusion, how it is drawn.
        path: Of the picture.

    Raises:
        UsbenchError: Where it cannot be written.
    """
    drawn = [table for table in tables if any(one.n for one in table.scores)]
    if not drawn:
        return False
    # Without pyplot: no global state, no backend to switch, safe in threads.
    from matplotlib.figure import Figure

    shown = drawn[:_TABLES]
    width = _LABELS + 4 * _PANEL
    heights = [_height(table) for table in shown]
    total = sum(heights) + 0.2
    figure = Figure(figsize=(width, total), dpi=_DPI)
    top = total
    for table, height in zip(shown, heights, strict=True):
        figure.text(0.1 / width, (top - 0.2) / total, _words(_title(table)), fontsize=9)
        subgroups = list(dict.fromkeys(one.subgroup for one in table.scores))
        lines = _lines(table)
        tall = _tall(lines)
        for place, subgroup in enumerate(subgroups):
            across, down = place % _ACROSS[table.kind], place // _ACROSS[table.kind]
            bottom = top - 0.3 - (down + 1) * (tall + _HEAD) + 0.4
            left = _LABELS + across * _PANEL
            axes = figure.add_axes((left / width, bottom / total, (_PANEL - 0.2) / width, tall / total))
            _panel(axes, [one for one in table.scores if one.subgroup == subgroup], lines, looks, not across)
            axes.set_title(_words(subgroup), fontsize=7.5, loc="left", pad=3)
        top -= height
    if len(drawn) > len(shown):
        figure.text(0.1 / width, 0.05 / total, f"the first {_TABLES} of {len(drawn)} tables", fontsize=8)
    with atomic_path(Path(path), durable=False) as temporary:
        figure.savefig(temporary, format="png")
    return True


def _lines(table: SubgroupTable) -> list[tuple[str, str]]:
    """Label and fusion of the rows that are drawn, in the order of the table."""
    return list(dict.fromkeys((one.label, one.fusion) for one in table.scores))[:_ROWS]


def _height(table: SubgroupTable) -> float:
    panels = math.ceil(len({one.subgroup for one in table.scores}) / _ACROSS[table.kind])
    return 0.3 + panels * (_tall(_lines(table)) + _HEAD)


def _names(lines: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The names of rows beside the first panel, each in its lines."""
    return [broken(f"{label}, {fusion}", _LETTERS) for label, fusion in lines]


def _tall(lines: Sequence[tuple[str, str]]) -> float:
    """Height of a panel in inches: its rows are as far apart as the longest name needs."""
    return len(lines) * (_LINE + _FURTHER * (max(map(len, _names(lines))) - 1))


def _title(table: SubgroupTable) -> str:
    rows = len({(one.label, one.fusion) for one in table.scores})
    left_out = f" (the first {_ROWS} of {rows} rows)" if rows > _ROWS else ""
    return f"{table.title}: DSC by {table.kind}{left_out}"


def _panel(
    axes: Axes,
    scores: Sequence[SubgroupScore],
    lines: Sequence[tuple[str, str]],
    looks: Mapping[str, Look],
    named: bool,
) -> None:
    by_row = {(one.label, one.fusion): one for one in scores}
    for y, row in enumerate(lines):
        one = by_row[row]
        if one.dsc is None:
            continue
        colour = looks[one.fusion].colour
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [y, y], color=colour, linewidth=1.2)
        axes.plot(one.values, [y] * len(one.values), ".", color=colour, markersize=3, alpha=0.6)
        face = "white" if one.values else colour
        axes.plot([one.dsc], [y], "o", color=colour, markerfacecolor=face, markersize=4)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)))
    names = _names(lines) if named else []
    axes.set_yticklabels([_words("\n".join(name)) for name in names], linespacing=1)
    counts = [one.n for one in scores]
    most = str(max(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    axes.set_xlabel(f"DSC, n = {most}", fontsize=7, labelpad=1)
    axes.tick_params(labelsize=SIZE, length=2)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _words(text: str) -> str:
    """`text` with dollar signs that are no formula."""
    return text.replace("$", r"\$")
