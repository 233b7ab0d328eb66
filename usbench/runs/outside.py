"""Masks that another program made, scored and recorded as those of any cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usbench.contracts.names import OutsideKind
from usbench.datasets.outside_masks import read_outside_mask, usual_values
from usbench.datasets.preprocess import resize_masks
from usbench.errors import UsbenchError
from usbench.results.io import cases_csv, write_result
from usbench.results.result import Result
from usbench.results.schema import OUTSIDE_VERSION
from usbench.runs.predict import write_mask
from usbench.runs.record import describe_cell
from usbench.storage.files import write_text

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.datasets.store import PreparedCase, Store
    from usbench.datasets.ways import Example
    from usbench.runs.cell import Cell
    from usbench.runs.score import Evaluated


@dataclass(frozen=True)
class OutsideFacts:
    """What is known of another program's masks; None for what nobody measured.

    Attributes:
        kind: "pipeline", which usbench had train and predict, or "masks" from elsewhere.
        label: What tables call it.
        parameters: Of what predicts.
        trainable: How many of them were trained.
        epochs: How many were trained, 0 where there is no such thing.
        train_seconds: Of training.
        predict_seconds: Of predicting the test cases.
        peak_memory_mb: Of the program.
        gflops_per_slice: Forward GFLOPs (2 x multiply-adds) of a slice.
        device: On which it ran, "not known" where nobody says.
        remarks: What a reader of the result should know, a line each.
        versions: Of the packages that it ran with, by name.
        missing: Test cases without a mask, which are scored as an empty one.
        claims: What its author says and nobody measured, a line each.
    """

    kind: OutsideKind
    label: str
    parameters: int | None
    trainable: int | None
    epochs: int
    train_seconds: float | None
    predict_seconds: float | None
    peak_memory_mb: float | None
    gflops_per_slice: float | None
    device: str
    remarks: tuple[str, ...]
    versions: Mapping[str, str]
    missing: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutsideMask:
    """A mask of another program.

    volume: uint8 [X, Y, Z] on the native grid, with classes or regions as `Case.mask` has them. slices:
    uint8 [Z, S, S] at the size of the prepared slices, likewise. ms_per_slice: nobody measured it.
    """

    volume: np.ndarray
    slices: np.ndarray
    ms_per_slice: None = None


@dataclass(frozen=True)
class OutsidePredicted:
    """A case of the store, opened once, with a mask of another program."""

    case: PreparedCase
    prediction: OutsideMask
    _example: None = field(default=None, repr=False)

    def example(self) -> Example | None:
        """None: there is no network to show anything to."""
        return self._example


def predicted_of_masks(
    store: Store,
    case_ids: Sequence[str],
    task: Task,
    masks: Mapping[str, Path],
    missing: Callable[[str], None] | None = None,
    *,
    folder: Path | None = None,
    values: Mapping[int, int] | None = None,
) -> Iterator[OutsidePredicted]:
    """Read the masks of some cases of a store, one whenever the next is asked for.

    Args:
        store: The prepared cases; each is opened once.
        case_ids: Which, in this order.
        task: With the classes of the run.
        masks: By case, a NIfTI file on the case's native grid.
        missing: Called with each case that `masks` lacks, whose mask is then empty; None where that is an
            error.
        folder: Where the masks are written as CASE.nii.gz, as runs write theirs; None for nowhere.
        values: By value in the files, that of `Case.mask`; None for `usual_values`.

    Yields:
        Each case with its mask.

    Raises:
        UsbenchError: One line that names case and file, for a mask that is absent, no NIfTI volume, on
            another grid, or holds what is no class of the task.
    """
    known = usual_values(task) if values is None else values
    for case_id in case_ids:
        case = store.case(case_id)
        if case_id in masks:
            volume = read_outside_mask(masks[case_id], case, known)
        elif missing is not None:
            missing(case_id)
            volume = np.zeros(case.geometry.shape, dtype=np.uint8)
        else:
            raise UsbenchError(f"case {case_id}: there is no mask {case_id}.nii.gz of it; write one")
        slices = resize_masks(case.geometry.to_slices(volume), case.mask.shape[-1])
        if folder is not None:
            write_mask(volume, case.affine, folder / f"{case_id}.nii.gz")
        yield OutsidePredicted(case, OutsideMask(volume, slices))


def record_outside(
    cell: Cell, evaluated: Evaluated, facts: OutsideFacts, *, start: float | None = None
) -> Result:
    """Write everything that belongs to a finished cell of another program, result.json last.

    Args:
        cell: The cell, with `outside` set; its masks are in its folder already (`predicted_of_masks` with
            `folder`), and of a pipeline that trained in epochs its history.csv.
        evaluated: The scores of its test cases.
        facts: What is known of the program.
        start: `time.perf_counter()` when its cell began, for the seconds of all of it.

    Returns:
        The result, read back from its folder.

    Raises:
        UsbenchError: Where a mask was not written, or a file cannot be.
    """
    from usbench.pages.figures import cases_figure

    if cell.outside != facts.kind:
        raise UsbenchError(
            f"{cell.folder}: is a cell of {cell.outside}, not of {facts.kind}; set its outside"
        )
    for case_id in evaluated.scores:
        if not (file := cell.folder / "predictions" / f"{case_id}.nii.gz").is_file():
            raise UsbenchError(f"{file}: the mask of case {case_id} was not written; score it again")
    names = cell.task.modality_names, cell.task.class_names
    figure = cell.folder / "figures" / "cases.png"
    cases_figure(figure, evaluated.pictures, *names, regions=cell.task.regions)
    write_text(cell.folder / "cases.csv", cases_csv(evaluated.scores), durable=False)
    data = describe_cell(cell, evaluated)
    data |= {"schema": OUTSIDE_VERSION, "preset": "outside", "remarks": list(facts.remarks)}
    data["cost"] = _cost(cell, facts)
    if start is not None:
        data["cost"]["seconds"] = time.perf_counter() - start
    data["outside"] = {
        "kind": facts.kind,
        "label": facts.label,
        "missing": list(facts.missing),
        "claims": list(facts.claims),
        "predict_seconds": facts.predict_seconds,
        "versions": dict(facts.versions),
    }
    data["scores"] = evaluated.summary()
    data["paper_style"] = evaluated.paper_means()
    return write_result(cell.folder, data)


def _cost(cell: Cell, facts: OutsideFacts) -> dict[str, Any]:
    return {
        "parameters": facts.parameters,
        "trainable": facts.trainable,
        "gflops_per_slice": facts.gflops_per_slice,
        "ms_per_slice": None,
        "peak_memory_mb": facts.peak_memory_mb,
        "train_seconds": facts.train_seconds,
        "epochs": facts.epochs,
        "device": facts.device,
        "devices": cell.devices,
        "precision": "not known",
    }
