"""A figure for a paper: patients as rows; their modalities, the truth and the masks of methods as columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usbench.contracts.classes import is_class
from usbench.errors import UsbenchError, unknown
from usbench.pages.case_pictures import as_written, slices_of, store_of
from usbench.pages.figures import COLOURS, draw_slice, drawing_order, outline, pick_slice, view_around
from usbench.results.io import load_result
from usbench.results.result import Result
from usbench.results.usable import named_runs, row_key
from usbench.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from usbench.datasets.store import PreparedCase, Store

SUFFIXES = (".pdf", ".svg", ".png")
_TEXT = 7.0  # points
_DPI = 300
_LEFT, _TOP, _UNDER, _LEGEND = 0.3, 0.2, 0.16, 0.24  # inches: of labels, heads, scores, the key
_GAP = 0.03  # inches between panels
_FILL = 0.28  # how much of a class shows on the scan
_LEAST = 0.4  # inches of a panel


@dataclass(frozen=True)
class _Line:
    """A row of the figure.

    case: the prepared patient. z: the slice, from 0, of `slices`. truth: [side, side]. masks: by method, mask
    of the slice [side, side] and DSC of the patient.
    """

    case: PreparedCase
    z: int
    slices: int
    truth: np.ndarray
    masks: dict[str, tuple[np.ndarray, float]]


def figure(
    runs: str | Path | Sequence[str | Path],
    cases: Sequence[str],
    out: str | Path,
    methods: Sequence[str] = (),
    modalities: Sequence[str] = (),
    width: float = 7.0,
) -> Path:
    """Draw patients for a paper: a row a patient and slice; modalities, truth and masks as columns.

    The masks are those that runs kept, unchanged; scans are read from the prepared data. Under each mask
    stands the DSC of that patient, the mean over the classes over the whole volume, of the same run. Fonts
    are embedded as TrueType (type 42), so that journals take the PDF.

    Args:
        runs: Folders of runs, or folders that hold some; all of one task and the same data.
        cases: Ids of test cases, each with ":SLICE" behind it for another slice (from 1) than the one that
            shows most of the truth, each class by its share of its largest area.
        out: The file: .pdf, .svg or .png.
        methods: METHOD-FUSION of each column of masks, such as "unet-early"; by default all that the runs
            have.
        modalities: Which to show; by default all. Masks are drawn on the first.
        width: Of the figure in inches.

    Returns:
        The path of the file.

    Raises:
        UsbenchError: For names that the runs do not have, a case that a method did not test, a mask that was
            not kept or changed, scans that are not prepared on this machine, and another kind of file.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise unknown("kind of figure", out.suffix or out.name, SUFFIXES, "end --out in .pdf, .svg or .png")
    if not cases:
        raise UsbenchError(f"{out}: no case is named; give --cases with ids of test cases")
    named = [runs] if isinstance(runs, str | Path) else list(runs)
    results = [load_result(folder) for folder in named_runs(named)]
    chosen = _methods(results, methods)
    task = _one_task([result for found in chosen.values() for result in found])
    shown = list(modalities) or list(task["modalities"])
    for name in shown:
        if name not in task["modalities"]:
            raise unknown("modality", name, task["modalities"])
    panel = (width - _LEFT) / (len(shown) + 1 + len(chosen)) - _GAP
    if not math.isfinite(width) or panel < _LEAST:
        raise UsbenchError(
            f"{out}: {len(shown) + 1 + len(chosen)} columns do not fit into {width:g} inches; "
            "choose fewer --methods or --modalities, or a larger --width"
        )
    store = _store(results)
    regions = "regions" in task
    lines = [_line(one, chosen, store, regions) for one in cases]
    places = [task["modalities"].index(name) for name in shown]
    drawn = _draw(lines, shown, places, task["classes"], regions, width, panel)
    _save(drawn, out)
    return out


def _methods(results: Sequence[Result], names: Sequence[str]) -> dict[str, list[Result]]:
    """The runs of each chosen method in order of fold and seed, by METHOD-FUSION."""
    found: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda r: (r.data["cell"]["fold"], r.data["cell"]["seed"])):
        cell = result.data["cell"]
        found.setdefault(f"{cell['method']}-{cell['fusion']}", []).append(result)
    for name in names:
        if name not in found:
            raise unknown("method of the runs", name, found)
    chosen = {name: found[name] for name in names or sorted(found)}
    for name, some in chosen.items():
        kinds = {(row_key(result.data), result.data["protocol"]): result for result in some}
        if len(kinds) > 1:
            one, other = [result.path for result in kinds.values()][:2]
            raise UsbenchError(
                f"{other}: is {name} with other settings than {one}; name the folders that you mean"
            )
    return chosen


def _one_task(results: Sequence[Result]) -> dict[str, Any]:
    """The task that all results share."""

    def shared(result: Result) -> tuple[Any, ...]:
        task = result.data["task"]
        return task["name"], task["modalities"], task["classes"], result.data["data"]["fingerprint"]

    first = results[0]
    for result in results:
        if shared(result) != shared(first):
            raise UsbenchError(
                f"{result.path}: its task, modalities, classes or data are not those of {first.path}; name "
                "runs of one task and the same data"
            )
    task: dict[str, Any] = first.data["task"]
    return task


def _store(results: Sequence[Result]) -> Store:
    store = next((found for result in results if (found := store_of(result))), None)
    if store is None:
        task = results[0].data["task"]["name"]
        raise UsbenchError(
            f"{results[0].path}: the prepared scans of task {task} are not in the cache of this machine, and "
            "runs keep masks but no scans; prepare them with usbench data prepare, with the run's task and "
            "settings, or set USBENCH_CACHE to the cache of the run"
        )
    return store


def _line(named: str, chosen: dict[str, list[Result]], store: Store, regions: bool) -> _Line:
    case_id, z = _case_and_slice(named, store.case_ids)
    runs = {name: _testing(name, results, case_id) for name, results in chosen.items()}
    case = store.case(case_id)
    stack = case.geometry.to_slices(case.truth())
    if z is None:
        z = pick_slice(stack, regions)
    elif not 0 <= z < len(stack):
        raise UsbenchError(f"case {case_id}: has no slice {z + 1}; choose one from 1 to {len(stack)}")
    masks = {}
    for name, result in runs.items():
        file = as_written(result, f"predictions/{case_id}.nii.gz")
        mask = None if file is None else slices_of(file, case)
        if mask is None:
            raise UsbenchError(
                f"{result.path}/predictions/{case_id}.nii.gz: the mask was not kept, or changed since the "
                "run; run it again with --overwrite"
            )
        scores = [row["dsc"] for row in result.rows if row["case"] == case_id and not math.isnan(row["dsc"])]
        masks[name] = mask[z], math.fsum(scores) / len(scores) if scores else math.nan
    return _Line(case, z, len(stack), stack[z], masks)


def _case_and_slice(named: str, known: Sequence[str]) -> tuple[str, int | None]:
    """The case and the slice, from 0, that "ID" or "ID:SLICE" names."""
    case, colon, number = named.rpartition(":")
    if named in known or not colon:
        case, number = named, ""
    if case not in known:
        raise unknown("case", case, known)
    if number and not (number.isascii() and number.isdigit()):
        raise UsbenchError(f"--cases {named}: '{number}' is no number of a slice; write {case}:12, from 1")
    return case, int(number) - 1 if number else None


def _testing(name: str, results: Sequence[Result], case: str) -> Result:
    for result in results:
        if case in result.data["split"]["test"]:
            return result
    tested = [one for result in results for one in result.data["split"]["test"]]
    raise UsbenchError(
        f"case {case}: no run of {name} tested it; its runs tested {', '.join(dict.fromkeys(tested))}; run "
        "the fold of the case, or leave the method out with --methods"
    )


def _draw(
    lines: Sequence[_Line],
    names: Sequence[str],
    places: Sequence[int],
    classes: Sequence[str],
    regions: bool,
    width: float,
    panel: float,
) -> Figure:
    # Without pyplot: no global state, no backend to switch, safe in threads.
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    methods = list(lines[0].masks)
    columns = [*names, "truth", *methods]
    keys_a_row = max(1, int(width / 1.0))
    legend = _LEGEND * math.ceil(len(classes) / keys_a_row)
    heads = [_head(name, panel) for name in columns]
    top = _TOP + 0.11 * max(head.count("\n") for head in heads)
    height = top + len(lines) * (panel + _UNDER) + legend
    drawn = Figure(figsize=(width, height), dpi=_DPI)
    for row, line in enumerate(lines):
        everywhere = np.any([mask != 0 for mask, _ in line.masks.values()], axis=0)
        view = view_around(line.truth, everywhere)
        bottom = height - top - row * (panel + _UNDER) - panel
        for column, head in enumerate(heads):
            left = _LEFT + column * (panel + _GAP)
            axes = drawn.add_axes((left / width, bottom / height, panel / width, panel / height))
            _panel(axes, line, column, places, methods, view, regions)
            if not row:
                axes.set_title(head, fontsize=_TEXT, pad=3)
            if not column:
                axes.set_ylabel(
                    _words(f"{line.case.case_id}\nslice {line.z + 1}"), fontsize=_TEXT, labelpad=3
                )
    handles = [Patch(color=COLOURS[i % len(COLOURS)], label=_words(name)) for i, name in enumerate(classes)]
    drawn.legend(
        handles=handles, loc="lower center", ncols=min(keys_a_row, len(classes)), frameon=False,
        fontsize=_TEXT, handlelength=1.2, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip
    return drawn


def _panel(
    axes: Axes,
    line: _Line,
    column: int,
    places: Sequence[int],
    methods: Sequence[str],
    view: tuple[int, int, int, int],
    regions: bool,
) -> None:
    """One scan, the truth, or a mask with the DSC under it."""
    of_scan = column < len(places)
    image = np.asarray(line.case.images[line.z, places[column] if of_scan else places[0]], dtype=np.float32)
    draw_slice(axes, image, view, side=line.truth.shape[0])
    across, down = (line.case.spacing[line.case.geometry.axes[i]] for i in (2, 1))
    axes.set_aspect(down / across)
    axes.set_facecolor("black")
    if of_scan:
        return
    if column == len(places):
        _filled(axes, line.truth, regions)
        return
    mask, dsc = line.masks[methods[column - len(places) - 1]]
    _filled(axes, mask, regions)
    axes.set_xlabel("not scored" if math.isnan(dsc) else f"DSC {dsc:.3f}", fontsize=_TEXT, labelpad=2)


def _filled(axes: Axes, mask: np.ndarray, regions: bool) -> None:
    """A mask [side, side] in the colours of its classes: outlined, and lightly filled."""
    from matplotlib.colors import to_rgba

    for index, above in drawing_order([mask], regions):
        inside, colour = is_class(mask, index, regions), COLOURS[index % len(COLOURS)]
        layer = np.zeros((*inside.shape, 4))
        layer[inside] = to_rgba(colour, _FILL)
        axes.imshow(layer, interpolation="nearest", aspect="auto")
        outline(axes, inside, colour, dashed=False, wider=0.5 * above - 0.3)


def _head(name: str, panel: float) -> str:
    """The head of a column: a name that is wider than its panel (inches) has the fusion on a second line."""
    first, hyphen, last = _words(name).rpartition("-")
    wide = len(name) * 0.6 * _TEXT / 72 > panel
    return f"{first}\n{last}" if hyphen and wide else _words(name)


def _words(text: str) -> str:
    """`text` with dollar signs that are no formula."""
    return text.replace("$", r"\$")


def _save(drawn: Figure, out: Path) -> None:
    import matplotlib

    form = out.suffix.lower().removeprefix(".")
    # No dates, so that the same runs give the same file.
    metadata: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    settings: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "usbench"}
    with atomic_path(out) as temporary, matplotlib.rc_context(settings):
        drawn.savefig(temporary, format=form, metadata=metadata[form])
