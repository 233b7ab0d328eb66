"""DSC against what is missing, for each method and fusion. A PNG file, no display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from usbench.fusions.looks import Look, looks_of
from usbench.leaderboards.plot_names import broken
from usbench.leaderboards.tracks import TrackRow, TrackTable
from usbench.scores.robustness import subsets
from usbench.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D"}
_COLUMNS = 2
_WIDTH, _HEIGHT = 5.6, 4.1  # inches of a panel
_ABOVE, _FURTHER = 0.7, 0.13  # of them for a title of two lines and the legend, and a further line
_LETTERS = 80  # of a line of the title
_PANELS = 24  # panels that one picture has room for
_DPI = 150


def robustness_figure(tables: Sequence[TrackTable], path: Path) -> bool:
    """Draw a panel for each method of each table into the PNG `path`: DSC against what is missing.

    Args:
        tables: Of tracks; those of robustness with two modalities or more are drawn.
        path: Of the picture.

    Returns:
        False, and no file, where there is nothing to draw.
    """
    panels = _panels(tables)
    if not panels:
        return False
    with atomic_path(Path(path), durable=False) as temporary:
        temporary.write_bytes(_drawn(panels, _DPI))
    return True


def robustness_picture(table: TrackTable) -> bytes | None:
    """The panels of one table as a PNG for a page; None where there is nothing to draw."""
    panels = _panels([table])
    return _drawn(panels, 80) if panels else None


def _panels(tables: Sequence[TrackTable]) -> list[tuple[TrackTable, str, list[TrackRow]]]:
    """A panel for each table and method, settings of fusion apart: its rows that have a score."""
    found: dict[tuple[int, str], tuple[TrackTable, str, list[TrackRow]]] = {}
    for place, table in enumerate(tables):
        if table.track != "robustness" or len(table.modalities) < 2:
            continue
        for row in table.rows:
            if row.means["clean"].value is not None:
                label = row.standing.label
                found.setdefault((place, label), (table, label, []))[2].append(row)
    return list(found.values())


def _drawn(panels: Sequence[tuple[TrackTable, str, list[TrackRow]]], dpi: int) -> bytes:
    # Without pyplot: no global state, no backend to switch, safe in threads.
    from matplotlib.figure import Figure

    shown = panels[:_PANELS]
    looks = looks_of(row.standing.fusion_stated for _, _, rows in panels for row in rows)
    columns = min(_COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    longest = max(
        len("+".join(some)) for table, _, _ in shown for some in subsets(table.modalities, proper=True)
    )
    below = 0.35 + 0.05 * longest  # inches for the names of what is missing, which stand at an angle
    titles = [broken(label, _LETTERS) + broken(table.title, _LETTERS) for table, label, _ in shown]
    more = _FURTHER * (max(map(len, titles)) - 2)
    above = _ABOVE + more
    height = (_HEIGHT + more + below) * lines
    width = max(_WIDTH * columns, 0.5 * 2 ** max(len(table.modalities) for table, _, _ in shown) * columns)
    figure = Figure(figsize=(width, height), dpi=dpi)
    grid = figure.subplots(lines, columns, squeeze=False)
    figure.subplots_adjust(
        left=0.65 / width, right=1 - 0.15 / width, top=1 - above / height, bottom=below / height,
        hspace=(below + above) / (_HEIGHT - _ABOVE), wspace=0.16,
    )  # fmt: skip
    for axes, (table, _, rows), title in zip(grid.flat, shown, titles, strict=False):
        _panel(axes, table, title, rows, looks)
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    if len(panels) > len(shown):
        figure.text(0.02, 0.002, f"the first {_PANELS} of {len(panels)} panels", fontsize=8)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _panel(
    axes: Axes, table: TrackTable, title: list[str], rows: Sequence[TrackRow], looks: Mapping[str, Look]
) -> None:
    missing = ["+".join(some) for some in subsets(table.modalities, proper=True)]
    names = ["clean", *(f"missing-{some}" for some in missing)]
    for place, row in enumerate(sorted(rows, key=lambda one: list(looks).index(one.standing.fusion))):
        look = looks[row.standing.fusion]
        shift = (place - (len(rows) - 1) / 2) * 0.4 / max(len(rows), 3)
        at = [x + shift for x in range(len(names)) if row.means[names[x]].value is not None]
        means = [row.means[name] for name in names if row.means[name].value is not None]
        values = [cast(float, mean.value) for mean in means]
        axes.plot(at, values, color=look.colour, linewidth=0.8, alpha=0.35)
        for x, mean, value in zip(at, means, values, strict=True):
            low, high = (value if end is None else end for end in (mean.low, mean.high))
            axes.plot([x, x], [low, high], color=look.colour, linewidth=1)
        face = look.colour if row.standing.rank else "white"
        marker = _MARKERS[look.mark]
        axes.plot(
            at, values, marker, color=look.colour, markerfacecolor=face, markersize=5,
            clip_on=False, label=look.label + ("" if row.standing.rank else f" ({row.standing.status})"),
        )  # fmt: skip
    axes.set_xticks(range(len(names)), ["nothing", *missing], rotation=35, ha="right", fontsize=7)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("DSC, mean over patients", fontsize=8)
    axes.set_xlabel("missing", fontsize=8, loc="right", labelpad=1)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    # A dollar sign in a name is no formula.
    axes.set_title("\n".join(title).replace("$", r"\$"), fontsize=8, loc="left", pad=20)
    # Between the title and the axes, where it hides no point.
    axes.legend(fontsize=7, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
