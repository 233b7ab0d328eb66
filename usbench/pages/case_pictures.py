"""Pictures for the leaderboard page: worst, median and best case of a table, the methods side by side.

They are drawn from the masks in the run folders on the images in the prepared store. Where the store
is not on this machine, each run's own figures/cases.png stands in.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usbench.contracts.classes import is_class
from usbench.contracts.few import few_of
from usbench.errors import UsbenchError
from usbench.pages.figures import COLOURS, PICTURED_CASES, drawing_order, pick_slice, view_around
from usbench.pages.missing_masks import masks_without
from usbench.pages.shell import data_uri
from usbench.results.io import load_result
from usbench.results.result import Result
from usbench.storage.files import sha256_file
from usbench.storage.nifti_masks import load_mask
from usbench.storage.regular import read_bounded

if TYPE_CHECKING:
    from usbench.datasets.store import PreparedCase, Store

_PANEL = 192  # pixels a side
OTHERS = 4
"""How many cases have pictures beside worst, median and best, as far as the page's size allows."""

MOST_PICTURE = 64 << 20
"""Bytes of a picture of a run that are read; usbench writes less than one million."""

_MOST_PIXELS = 50_000_000

_STRIP = 420  # pixels: the width of a run's own picture

Row = Mapping[str, Any]
Panel = dict[str, Any]


def table_pictures(table: Mapping[str, Any], budget: int) -> dict[str, Any] | None:
    """Pictures of a table's worst, median and best case, and of some more, by mean DSC over its methods.

    A file that is not as its run wrote it is not shown.

    Args:
        table: One of the tables of a leaderboard as plain data, with "runs" and "patients" in its rows.
        budget: How many characters the images may take as data URIs; methods of low rank are left out past
            it.

    Returns:
        {"note": where the pictures come from, "classes": [{"name", "colour"}], "cases": [{"title", "note",
        "panels": [{"src", "width", "height", "title", "text"}]}]}; None where the table has no runs. A panel
        of a row's mask has its number as "method" and, where a robustness track kept its masks, "without": by
        modality the "src" and "title" of the mask that was predicted without it. A case that is in the same
        picture as an earlier one has the number of that one as "same" and no panels.
    """
    runs = [_results(row) for row in table["rows"]]
    chosen = chosen_cases(table["rows"], OTHERS)
    first = next((result for results in runs for result in results), None)
    if first is None or not chosen:
        return None
    classes = [{"name": name, "colour": COLOURS[i % len(COLOURS)]} for i, name in enumerate(table["classes"])]
    store = store_of(first)
    if store is not None:
        try:
            cases = _from_store(table, runs, chosen, store, budget)
            note = (
                "Drawn from the masks of the runs on the prepared images, on the slice that shows most of "
                "the truth. Colour outlines a method's mask; white outlines the truth beneath it."
            )
            return {"note": note, "classes": classes, "cases": cases}
        except UsbenchError:
            pass  # prepared data that changed underneath: the runs' own pictures are left
    note = (
        "The prepared images are not in the cache of the machine that made this page, so each run's own "
        "picture (figures/cases.png) of the same fold is shown, reduced."
    )
    return {"note": note, "classes": [], "cases": _from_figures(table, runs, chosen, budget)}


def chosen_cases(rows: Sequence[Row], others: int = 0) -> list[tuple[str, str, float, int]]:
    """[(which, case id, mean DSC over methods, number of methods)] of the worst, median and best case.

    Ranked rows count, or all where none is ranked. The median of an even number of cases is the
    lower of the two in the middle. Up to `others` more cases follow, from bad to good. Empty if nothing is
    scored.
    """
    counted = [row for row in rows if row.get("rank")] or rows
    scores: dict[str, list[float]] = {}
    for row in counted:
        for case, dsc in (row.get("patients") or {}).items():
            if dsc is not None and not math.isnan(dsc):
                scores.setdefault(case, []).append(dsc)
    order = sorted((math.fsum(values) / len(values), case) for case, values in scores.items())
    if not order:
        return []
    picked = [("worst", order[0])]
    if len(order) > 1:
        middle = order[(len(order) - 1) // 2]
        picked = [("worst and median", order[0])] if middle == order[0] else [*picked, ("median", middle)]
        picked.append(("best", order[-1]))
        rest = [one for one in order if one not in [case for _, case in picked]]
        step = max(1, -(-len(rest) // others)) if others else len(rest) + 1
        picked += [("another", one) for one in rest[::step]] if others else []
    return [(which, case, mean, len(scores[case])) for which, (mean, case) in picked]


def _results(row: Row) -> list[Result]:
    """The runs of a row that can be read, in order of fold and seed."""
    found = []
    for run in row.get("runs") or []:
        try:
            found.append(load_result(run["path"]))
        except UsbenchError:
            continue
    return sorted(found, key=lambda r: (r.data["cell"]["fold"], r.data["cell"]["seed"]))


def run_of(results: Sequence[Result], case: str) -> Result | None:
    """The first run of a row that tests a case; None where none does."""
    return next((r for r in results if case in r.data["split"]["test"]), None)


def store_of(result: Result) -> Store | None:
    """The prepared data of a run; None where this machine does not have it any more."""
    from usbench.datasets.find import find_store

    data = result.data
    cases = [*data["split"]["train"], *data["split"]["test"]]
    return find_store(
        data["task"]["name"],
        data["task"]["modalities"],
        data["task"]["classes"],
        data["config"]["data"],
        cases,
        data["data"]["fingerprint"],
        regions="regions" in data["task"],
        some=few_of(data["split"]) is not None,
    )


def as_written(result: Result, name: str) -> Path | None:
    """The file `name` of a run folder; None if it is absent or not what the run wrote."""
    file = result.path / name
    digest = result.data["files"].get(name)
    if digest is None or not file.resolve().is_relative_to(result.path.resolve()) or not file.is_file():
        return None
    return file if sha256_file(file) == digest else None


def _title(which: str, case: str, mean: float, count: int) -> str:
    methods = "1 row" if count == 1 else f"{count} rows"
    return f"{which.capitalize()} case: {case}, mean DSC {mean:.3f} over {methods}"


def characters(panel: Panel) -> int:
    """How much of a page the images of a panel take."""
    return len(panel["src"]) + sum(len(one["src"]) for one in panel.get("without", {}).values())


def _fill(candidates: Sequence[Callable[[], Panel | None]], share: int) -> tuple[list[Panel], int, int]:
    """Panels in order until the `share` of characters is used: (panels, absent, left out for their size)."""
    panels: list[Panel] = []
    absent, used = 0, 0
    for i, make in enumerate(candidates):
        panel = make()
        if panel is None:
            absent += 1
            continue
        used += characters(panel)
        if used > share:
            return panels, absent, len(candidates) - i
        panels.append(panel)
    return panels, absent, 0


def _remarks(absent: int, left_out: int, what: str) -> str:
    words = []
    if absent:
        words.append(
            f"Without a {what}, or with one that changed since the run: {absent} of the table's rows."
        )
    if left_out:
        words.append(f"Left out to keep the page small: {left_out} rows.")
    return " ".join(words)


def _from_store(
    table: Mapping[str, Any],
    runs: Sequence[Sequence[Result]],
    chosen: Sequence[Any],
    store: Store,
    budget: int,
) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    drawn: list[tuple[list[Panel], PreparedCase, np.ndarray, int]] = []
    named = sum(which != "another" for which, *_ in chosen)
    for i, (which, case_id, mean, count) in enumerate(chosen):
        left = max(1, named - i)
        case = store.case(case_id)
        stack = case.geometry.to_slices(case.truth())
        regions = store.task.regions
        z = pick_slice(stack, regions)
        truth, images = stack[z], np.asarray(case.images[z], dtype=np.float32)
        panels = [
            _panel(
                draw_panel(image, truth, None, regions),
                f"{name}, truth",
                f"{case_id}: {name} with the truth outlined",
            )
            for name, image in zip(table["modalities"], images, strict=True)
        ]

        share = budget // left - sum(len(panel["src"]) for panel in panels)
        candidates = [
            partial(_method_panel, place, row, results, case, truth, z, regions)
            for place, (row, results) in enumerate(zip(table["rows"], runs, strict=True))
        ]
        found, absent, left_out = _fill(candidates, share)
        if which == "another" and left_out:
            break
        drawn.append((found, case, truth, z))
        panels += found
        budget -= sum(characters(panel) for panel in panels)
        note = f"Slice {z + 1} of {len(stack)}. {_remarks(absent, left_out, 'mask of this case')}".strip()
        cases.append({"title": _title(which, case_id, mean, count), "note": note, "panels": panels})
    for i, (found, case, truth, z) in enumerate(drawn):
        share = budget // (len(drawn) - i)
        for panel in found:
            before = characters(panel)
            _add_without(panel, runs[panel["method"]], case, truth, z, store.task.regions, share)
            share -= characters(panel) - before
            budget -= characters(panel) - before
    return cases


def _method_panel(
    place: int,
    row: Row,
    results: Sequence[Result],
    case: PreparedCase,
    truth: np.ndarray,
    z: int,
    regions: bool,
) -> Panel | None:
    mask = _mask(results, case)
    if mask is None:
        return None
    dsc = (row.get("patients") or {}).get(case.case_id)
    score = "not scored" if dsc is None or math.isnan(dsc) else f"{dsc:.3f}"
    picture = draw_panel(np.asarray(case.images[z, 0], dtype=np.float32), truth, mask[z], regions)
    name = f"{row['label']}, {row['fusion']}"
    panel = _panel(picture, f"{name}: DSC {score}", f"{case.case_id}: mask of {name}, and the truth")
    return {**panel, "method": place}


def _add_without(
    panel: Panel,
    results: Sequence[Result],
    case: PreparedCase,
    truth: np.ndarray,
    z: int,
    regions: bool,
    share: int,
) -> None:
    """Give a panel of a row's mask those that were predicted without a modality, all of them or none."""
    result = run_of(results, case.case_id)
    image, name = np.asarray(case.images[z, 0], dtype=np.float32), panel["title"].rpartition(":")[0]
    found = {}
    for modality, file, dsc in masks_without(result, case.case_id) if result else ():
        mask = slices_of(file, case)
        if mask is not None:
            src = data_uri(draw_panel(image, truth, mask[z], regions), "image/jpeg")
            score = "not scored" if dsc is None else f"{dsc:.3f}"
            found[modality] = {"src": src, "title": f"{name}, without {modality}: DSC {score}"}
    if found and sum(len(one["src"]) for one in found.values()) <= share:
        panel["without"] = found


def _mask(results: Sequence[Result], case: PreparedCase) -> np.ndarray | None:
    """A row's mask of a case as slices [Z, side, side]; None if there is none to trust."""
    result = run_of(results, case.case_id)
    file = as_written(result, f"predictions/{case.case_id}.nii.gz") if result else None
    return None if file is None else slices_of(file, case)


def slices_of(file: Path, case: PreparedCase) -> np.ndarray | None:
    """A mask in a file as slices [Z, side, side] of its case; None if it cannot be read or does not fit."""
    try:
        volume = load_mask(file)[0]
        return case.geometry.to_slices(volume) if volume.shape == tuple(case.geometry.shape) else None
    except (OSError, ValueError, UsbenchError):
        return None


def _from_figures(
    table: Mapping[str, Any], runs: Sequence[Sequence[Result]], chosen: Sequence[Any], budget: int
) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    seen: dict[int, int] = {}
    chosen = [one for one in chosen if one[0] != "another"]
    for left, (which, case_id, mean, count) in zip(range(len(chosen), 0, -1), chosen, strict=True):
        holder = next((r for results in runs if (r := run_of(results, case_id))), None)
        if holder is None:
            continue
        fold = holder.data["cell"]["fold"]
        shown = holder.data["split"]["test"][:PICTURED_CASES]
        note = f"Fold {fold}; the pictures show {', '.join(shown)}."
        if case_id not in shown:
            note += " The case itself is not among them."
        panels: list[Panel] = []
        if fold in seen:
            note = f"{note} They are those of another case of that fold."
        else:
            candidates = [
                partial(_own_picture, row, results, fold)
                for row, results in zip(table["rows"], runs, strict=True)
            ]
            panels, absent, left_out = _fill(candidates, budget // left)
            budget -= sum(len(panel["src"]) for panel in panels)
            note = f"{note} {_remarks(absent, left_out, 'picture of this fold')}".strip()
        same = {"same": seen[fold]} if fold in seen else {}
        seen.setdefault(fold, len(cases))
        cases.append({"title": _title(which, case_id, mean, count), "note": note, "panels": panels, **same})
    return cases


def _own_picture(row: Row, results: Sequence[Result], fold: int) -> Panel | None:
    result = next((r for r in results if r.data["cell"]["fold"] == fold), None)
    file = as_written(result, "figures/cases.png") if result else None
    if file is None:
        return None
    try:
        content, size = reduced(file, _STRIP)
    except (OSError, ValueError):
        return None
    name = f"{row['label']}, {row['fusion']}"
    return {
        "src": data_uri(content, "image/jpeg"),
        "width": size[0],
        "height": size[1],
        "title": name,
        "text": f"fold {fold}: the own picture of {name}",
    }


def reduced(file: Path, width: int) -> tuple[bytes, tuple[int, int]]:
    """A picture as JPEG of at most `width` pixels in width, and its (width, height).

    Raises:
        OSError: Where the file cannot be read as a picture.
    """
    from PIL import Image

    content = read_bounded(file, MOST_PICTURE)
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise OSError(f"{image.width} x {image.height} pixels, at most {_MOST_PIXELS:,} are read")
            picture = image.convert("RGB")
    except Exception as error:  # Pillow lets through whatever a broken file brings about
        raise OSError(f"{file}: cannot be read as a picture ({error})") from error
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=78, optimize=True)
    return out.getvalue(), picture.size


def _panel(content: bytes, title: str, text: str) -> Panel:
    src = data_uri(content, "image/jpeg")
    return {"src": src, "width": _PANEL, "height": _PANEL, "title": title, "text": text}


def draw_panel(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None, regions: bool = False) -> bytes:
    """One panel as JPEG: image [S, S] around the truth [side, side], and outlines of truth and mask.

    Without a mask the truth has the classes' colours; with one the mask has them and the truth is white. Of
    regions, the smaller ones are drawn above the larger, whose lines are wider on the outside.
    """
    from PIL import Image

    top, bottom, left, right = view_around(truth, truth)
    scale = image.shape[0] / truth.shape[0]
    low, high = np.percentile(image, (1, 99.5))
    grey = np.clip((image - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    box = (left * scale, top * scale, right * scale, bottom * scale)
    size = (_PANEL, _PANEL)
    picture = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC, box=box).convert("RGB"))
    picture = picture.copy()

    def outline(labels: np.ndarray, width: int, white: bool) -> None:
        part = Image.fromarray(np.ascontiguousarray(labels[top:bottom, left:right]).astype(np.uint8))
        large = np.asarray(part.resize(size, Image.Resampling.NEAREST))
        for index, above in drawing_order([large], regions):
            colour = "#FFFFFF" if white else COLOURS[index % len(COLOURS)]
            border = _border(is_class(large, index, regions), width, 0 if white else above)
            picture[border] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]

    if mask is None:
        outline(truth, 2, white=False)
    else:
        outline(truth, 1, white=True)
        outline(mask, 2, white=False)
    out = io.BytesIO()
    # Without subsampling: thin coloured lines stay what they are.
    Image.fromarray(picture).save(out, "JPEG", quality=80, subsampling=0, optimize=True)
    return out.getvalue()


def _border(mask: np.ndarray, width: int, beyond: int = 0) -> np.ndarray:
    """The outermost pixels of a mask, `width` of them, and the next ones outside, `beyond` of them."""
    from scipy.ndimage import binary_dilation, binary_erosion

    box = np.ones((3, 3))
    inside = binary_erosion(mask, box, iterations=width, border_value=1)
    return np.asarray((binary_dilation(mask, box, iterations=beyond) if beyond else mask) & ~inside)
