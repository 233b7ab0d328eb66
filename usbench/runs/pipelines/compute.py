"""The life of a cell with an outside pipeline: called, its masks merged, scored and recorded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.datasets.exports import ENDING
from usbench.runs.pipelines.call import Outcome, finish_call
from usbench.runs.pipelines.epochs import EpochRows
from usbench.runs.pipelines.places import FOLDER, Call, calls_of
from usbench.runs.pipelines.vote import vote
from usbench.runtime.devices import device_name

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.results.result import Result
    from usbench.runs.cell import Cell
    from usbench.runs.outside import OutsideFacts
    from usbench.runs.watchers.group import Watchers
    from usbench.scores.case import ClassScore


def epochs_of(cell: Cell) -> int:
    """How many epochs are told to watchers: those that the method's settings name, of all calls; 0 if none."""
    epochs = cell.config.method.get("epochs")
    return epochs * len(calls_of(cell)) if isinstance(epochs, int) else 0


def compute_pipeline(cell: Cell, fabric: Fabric, watching: Watchers) -> Result:
    """Compute a cell with a pipeline; a finished call of an earlier start is not made again.

    Args:
        cell: The cell, locked.
        fabric: The device.
        watching: Is told of epochs and cases.

    Returns:
        The result, read back from its folder.

    Raises:
        UsbenchError: For a pipeline that fails and masks that are not right, in one line.
    """
    from usbench.runs.outside import predicted_of_masks, record_outside
    from usbench.runs.score import score_cases

    start = time.perf_counter()
    calls = calls_of(cell)
    rows = EpochRows(cell.folder, cell.folder / FOLDER / "epochs.json", watching)
    outcomes = []
    for number, call in enumerate(calls):
        rows.begin(number)
        outcomes.append(finish_call(cell, call, fabric.device.type, rows))
    rows.begin_training()  # Of a pipeline that says nothing of it.
    masks = _merged(cell, calls)

    def on_case(case_id: str, scores: list[ClassScore]) -> None:
        watching.on_case(case_id, {score.name: score.scores for score in scores})

    from usbench.datasets.outside_masks import bit_values

    predicted = predicted_of_masks(
        cell.store,
        cell.split.test(cell.fold),
        cell.task,
        masks,
        None,
        folder=cell.folder / "predictions",
        values=bit_values(cell.task),
    )
    evaluated = score_cases(predicted, cell.task, on_case)
    facts = _facts(cell, calls, outcomes, device_name(fabric.device))
    return record_outside(cell, evaluated, facts, start=start)


def _merged(cell: Cell, calls: Sequence[Call]) -> dict[str, Path]:
    """By test case the file of its mask, with the values of `Case.mask`; those of several calls are merged."""
    from usbench.runs.predict import read_mask, write_mask

    test = cell.split.test(cell.fold)
    if len(calls) == 1:
        return {case_id: calls[0].checked / f"{case_id}{ENDING}" for case_id in test}
    folder, found = cell.folder / FOLDER / "merged", {}
    for case_id in test:
        masks = [read_mask(call.checked / f"{case_id}{ENDING}") for call in calls]
        mask = vote(masks, len(cell.task.classes), cell.task.regions)
        found[case_id] = folder / f"{case_id}{ENDING}"
        write_mask(mask, cell.store.case(case_id).affine, found[case_id])
    return found


def _facts(cell: Cell, calls: Sequence[Call], outcomes: Sequence[Outcome], device: str) -> OutsideFacts:
    """What all calls took together: sums of what is known of each, and the peak of them."""
    from usbench.runs.outside import OutsideFacts

    pipeline = cell.method.pipeline
    assert pipeline is not None

    def total(name: str) -> float | None:
        values = [getattr(one, name) for one in outcomes]
        return None if any(value is None for value in values) else sum(values)

    def whole(name: str) -> int | None:
        value = total(name)
        return None if value is None else int(value)

    peaks = [one.peak_memory_mb for one in outcomes]
    label = cell.method.name if pipeline.label is None else pipeline.label(dict(cell.config.method))
    remarks = [
        f"{call.task.modality_names[0]}: {remark}" if len(calls) > 1 else remark
        for call, one in zip(calls, outcomes, strict=True)
        for remark in one.remarks
    ]
    if len(calls) > 1:
        remarks.append("one pipeline a modality; a voxel is what most of them say, background at a tie")
    return OutsideFacts(
        kind="pipeline",
        label=label,
        parameters=whole("parameters"),
        trainable=whole("trainable"),
        epochs=max(one.epochs for one in outcomes),
        train_seconds=total("train_seconds"),
        predict_seconds=total("predict_seconds"),
        peak_memory_mb=None if None in peaks else max(peak for peak in peaks if peak is not None),
        gflops_per_slice=total("gflops_per_slice"),
        device=device,
        remarks=tuple(remarks),
        versions={name: version for one in outcomes for name, version in one.versions.items()},
    )
