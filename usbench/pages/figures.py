"""Pictures of a run: the training history, and predictions beside the truth. PNG files, no display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usbench.contracts.classes import is_class
from usbench.errors import UsbenchError
from usbench.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers, in the order that shows best on grey.
COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00", "#0072B2")

_DPI = 150
_PANEL = 2.3  # inches a side
_RIM = 1.2  # points by which the line of a region is wider than that of the next one above it

PICTURED_CASES = 4
"""So many test cases of a run, the first ones, are in its figures/cases.png."""

TaskNames = tuple[Sequence[str], Sequence[str]]
"""The names of the modalities and those of the classes."""

CasePicture = tuple[str, np.ndarray, np.ndarray, np.ndarray, Mapping[str, float]]
"""A case to draw: id, images [M, H, W], truth [H, W], prediction [H, W], DSC by class."""


def pick_slice(truth: np.ndarray, regions: bool = False) -> int:
    """The slice of `truth` [Z, H, W] that shows most of all classes; the middle one without foreground.

    Each class counts by its area as a share of its largest one, so that a large organ does not hide
    the small ones. regions: whether the classes are regions, which may overlap.
    """
    shown = np.zeros(len(truth))
    for index in range(_classes_in(truth, regions)):
        area = np.count_nonzero(is_class(truth, index, regions), axis=(1, 2))
        shown += area / max(area.max(), 1)
    return int(shown.argmax()) if shown.any() else len(truth) // 2


def _classes_in(mask: np.ndarray, regions: bool) -> int:
    """A number of classes that covers all that a mask shows."""
    most = int(mask.max()) if mask.size else 0
    return most.bit_length() if regions else most


def drawing_order(masks: Sequence[np.ndarray], regions: bool) -> list[tuple[int, int]]:
    """In which order the classes of some masks are outlined, so that none hides another.

    Regions lie within each other: the largest is drawn first, and with the widest line, of which a rim stays
    visible where a smaller one has the same outline.

    Args:
        masks: Of one slice, [H, W] each, such as truth and prediction.
        regions: Whether the classes are regions. Others cannot hide each other and keep their order.

    Returns:
        For each class (from 0) that a mask may show, how many regions are drawn above it; 0 for classes.
    """
    count = max(_classes_in(mask, regions) for mask in masks)
    if not regions:
        return [(index, 0) for index in range(count)]
    areas = [sum(int(np.count_nonzero(is_class(mask, i, True))) for mask in masks) for i in range(count)]
    there = sorted((i for i in range(count) if areas[i]), key=lambda i: -areas[i])
    return [(index, len(there) - 1 - place) for place, index in enumerate(there)]


def history_figure(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw losses and learning rate over the epochs.

    Args:
        history: A row an epoch, with "epoch", "lr" and any number of keys that are or end in "loss".
        path: The PNG file.
    """
    figure = _new_figure(7.0, 3.0)
    losses, rate = figure.subplots(1, 2, width_ratios=(2, 1))
    epochs = [row["epoch"] for row in history]
    names = [name for name in (history[0] if history else {}) if name == "loss" or name.endswith("_loss")]
    styles = ("-", "--", ":", "-.")
    marker = "o" if len(epochs) < 3 else None  # a line of one epoch would not show
    for i, name in enumerate(names):
        label = "total" if name == "loss" else name.removesuffix("_loss")
        values = [row[name] for row in history]
        colour = "black" if name == "loss" else COLOURS[(6, 5, 4)[i % 3]]
        losses.plot(epochs, values, styles[i % 4], color=colour, marker=marker, label=label, linewidth=1.4)
    if len(names) > 1:
        losses.legend(frameon=False, fontsize=8)
    rate.plot(
        epochs, [row.get("lr", math.nan) for row in history], color="black", marker=marker, linewidth=1.4
    )
    for axes, title in ((losses, "training loss"), (rate, "learning rate")):
        axes.set_title(title, fontsize=9, loc="left", pad=14)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
        axes.yaxis.get_offset_text().set_fontsize(8)
        if not history:
            axes.text(0.5, 0.5, "nothing was trained", ha="center", transform=axes.transAxes, fontsize=8)
    _save(figure, path)


def cases_figure(
    path: Path,
    cases: Sequence[CasePicture],
    modality_names: Sequence[str],
    class_names: Sequence[str],
    regions: bool = False,
) -> None:
    """Draw cases into the PNG `path`: a row a case, a column a modality, truth and prediction outlined.

    Every picture shows the part of the slice around the outlines, in square pixels. Of regions, which may
    overlap, the smaller ones are drawn above the larger, and with thinner lines. Raises
    `UsbenchError` where there is no case, or a case does not fit the names.
    """
    if not cases:
        raise UsbenchError(f"{path}: there is no case to draw; pass at least one")
    for case_id, images, truth, prediction, _ in cases:
        if len(images) != len(modality_names) or not images.shape[1:] == truth.shape == prediction.shape:
            raise UsbenchError(
                f"{path}: case {case_id} has images {images.shape}, truth {truth.shape} and prediction "
                f"{prediction.shape} for {len(modality_names)} modalities; pass one slice of each"
            )
    rows, columns = len(cases), len(modality_names)
    legend_inches = 0.3 * math.ceil((len(class_names) + 2) / max(1, int(columns * _PANEL / 1.15))) + 0.15
    figure = _new_figure(columns * _PANEL + 0.55, rows * (_PANEL + 0.06) + 0.3 + legend_inches)
    grid = figure.subplots(rows, columns, squeeze=False)
    for line, (case_id, images, truth, prediction, dsc) in zip(grid, cases, strict=True):
        view = view_around(truth, prediction)
        for axes, image in zip(line, images, strict=True):
            draw_slice(axes, image, view)
            for index, above in drawing_order((truth, prediction), regions):
                colour, wider = COLOURS[index % len(COLOURS)], _RIM * above
                outline(axes, is_class(truth, index, regions), colour, False, wider)
                outline(axes, is_class(prediction, index, regions), colour, True, wider)
        line[0].set_ylabel(f"case {case_id}\n{_dsc_words(dsc)}", fontsize=8.5)
    for axes, name in zip(grid[0], modality_names, strict=True):
        axes.set_title(name, fontsize=9)
    _legend(figure, class_names, per_row=max(1, int(columns * _PANEL / 1.15)))
    _save(figure, path)


def _new_figure(width: float, height: float) -> Figure:
    # Without pyplot: no global state, no backend to switch, safe in threads.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    return Figure(figsize=(width, height), dpi=_DPI, layout=layout)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(Path(path), durable=False) as temporary:
        figure.savefig(temporary, format="png")


def _dsc_words(dsc: Mapping[str, float]) -> str:
    scored = [value for value in dsc.values() if not math.isnan(value)]
    return f"DSC {sum(scored) / len(scored):.2f}" if scored else "DSC not scored"


def view_around(truth: np.ndarray, prediction: np.ndarray) -> tuple[int, int, int, int]:
    """The square part of a slice [H, W] to show: (top, bottom, left, right), around all foreground."""
    side = min(truth.shape)
    rows, columns = np.nonzero((truth != 0) | (prediction != 0))
    if not len(rows):
        return 0, truth.shape[0], 0, truth.shape[1]
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    shown = min(side, max(side // 2, round(1.5 * extent)))
    place = []
    for values, length in ((rows, truth.shape[0]), (columns, truth.shape[1])):
        start = (int(values.min()) + int(values.max()) + 1 - shown) // 2
        start = min(max(start, 0), length - shown)
        place += [start, start + shown]
    return place[0], place[1], place[2], place[3]


def draw_slice(
    axes: Axes, image: np.ndarray, view: tuple[int, int, int, int], side: int | None = None
) -> None:
    """Draw a slice in grey, without ticks.

    Args:
        axes: Where.
        image: [H, W]; 1 % of its values are black, 0.5 % white.
        view: (top, bottom, left, right) of the part to show, in pixels of the mask.
        side: Of the mask [side, side], where the image has another size.
    """
    top, bottom, left, right = view
    image = np.asarray(image, dtype=np.float32)
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0.0, 1.0)
    window: dict[str, Any] = {"vmin": low, "vmax": max(high, low + 1e-6)}
    if side is not None:
        window["extent"] = (-0.5, side - 0.5, side - 0.5, -0.5)
    axes.imshow(image, cmap="gray", interpolation="bilinear", **window)
    axes.set_xlim(left - 0.5, right - 0.5)
    axes.set_ylim(bottom - 0.5, top - 0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def outline(axes: Axes, mask: np.ndarray, colour: str, dashed: bool, wider: float) -> None:
    """Outline a mask [H, W]: the truth solid; the prediction dashed, on a dark line that lifts it off.

    wider: points that are added to the width of the lines.
    """
    if not mask.any():
        return
    # One pixel of outside all around closes outlines at the border of the slice.
    padded = np.pad(mask, 1).astype(np.float32)
    rows, columns = np.arange(padded.shape[0]) - 1, np.arange(padded.shape[1]) - 1
    if dashed:
        axes.contour(columns, rows, padded, [0.5], colors="black", linewidths=1.7 + wider, alpha=0.7)
        lines = axes.contour(columns, rows, padded, [0.5], colors=colour, linewidths=1.3 + wider)
        lines.set_linestyle((0, (2.5, 1.8)))
    else:
        axes.contour(columns, rows, padded, [0.5], colors=colour, linewidths=1.1 + wider)


def _legend(
    figure: Figure, class_names: Sequence[str], per_row: int, predicted: bool = True, solid: str = "truth"
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(color=COLOURS[i % len(COLOURS)], label=name) for i, name in enumerate(class_names)
    ]
    handles.append(Line2D([], [], color="black", linewidth=1.1, label=solid))
    if predicted:
        handles.append(
            Line2D([], [], color="black", linewidth=1.3, linestyle=(0, (2.5, 1.8)), label="prediction")
        )
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(per_row, len(handles)), frameon=False,
        fontsize=8.5, handlelength=1.8, columnspacing=1.4,
    )  # fmt: skip


def truth_figure(
    path: Path,
    case_id: str,
    images: np.ndarray,
    truth: np.ndarray,
    names: TaskNames,
    regions: bool = False,
    predicted: bool = False,
) -> None:
    """Draw one slice of a case into the PNG `path`: a column a modality, without and with the mask outlined.

    Args:
        path: The PNG file.
        case_id: For the label of the row.
        images: [M, H, W].
        truth: [H, W], with classes or regions as `Case.mask` has them.
        names: Those of the modalities and those of the classes.
        regions: Whether the classes are regions, which may overlap.
        predicted: Whether the mask is a prediction, and is called so.
    """
    modality_names, class_names = names
    columns = len(modality_names)
    per_row = max(1, int(columns * _PANEL / 1.15))
    legend_inches = 0.3 * math.ceil((len(class_names) + 1) / per_row) + 0.15
    figure = _new_figure(columns * _PANEL + 0.55, 2 * _PANEL + 0.36 + legend_inches)
    grid = figure.subplots(2, columns, squeeze=False)
    whole = (0, truth.shape[0], 0, truth.shape[1])
    for column, (image, name) in enumerate(zip(images, modality_names, strict=True)):
        for row in (0, 1):
            draw_slice(grid[row][column], image, whole)
        for index, above in drawing_order((truth,), regions):
            colour = COLOURS[index % len(COLOURS)]
            outline(grid[1][column], is_class(truth, index, regions), colour, False, _RIM * above)
        grid[0][column].set_title(name, fontsize=9)
    grid[0][0].set_ylabel(f"case {case_id}", fontsize=8.5)
    grid[1][0].set_ylabel("predicted" if predicted else "with its mask", fontsize=8.5)
    solid = "prediction" if predicted else "truth"
    _legend(figure, class_names, per_row, predicted=False, solid=solid)
    _save(figure, path)
