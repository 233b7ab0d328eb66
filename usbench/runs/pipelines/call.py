"""One call of a pipeline: its folder is written, it is called, and its masks are held against the cases."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.contracts.pipeline import PipelineFolder, PipelineMasks, PipelineWatcher
from usbench.datasets.exports import ENDING, own_values, write_fold
from usbench.errors import UsbenchError
from usbench.runs.pipelines.hidden import hidden_places
from usbench.runs.pipelines.places import LOG, Call, file_names, remove
from usbench.runtime.console import say
from usbench.storage.files import atomic_folder, os_errors, sha256_file
from usbench.storage.sealed import read_sealed, write_sealed

if TYPE_CHECKING:
    from usbench.contracts.pipeline import Pipeline
    from usbench.runs.cell import Cell


@dataclass(frozen=True)
class Outcome:
    """What a finished call says of itself; the fields are those of `PipelineMasks`."""

    parameters: int | None
    trainable: int | None
    epochs: int
    train_seconds: float | None
    predict_seconds: float | None
    peak_memory_mb: float | None
    gflops_per_slice: float | None
    remarks: tuple[str, ...]
    versions: Mapping[str, str]


def finish_call(cell: Cell, call: Call, device: str, watcher: PipelineWatcher) -> Outcome:
    """See to it that a call is finished: as an earlier start left it, or now.

    Args:
        cell: The cell, with a pipeline.
        call: The call; what it leaves in `call.checked` are masks of all test cases.
        device: "cpu" or "cuda".
        watcher: Is told of epochs.

    Returns:
        What the pipeline says of itself.

    Raises:
        UsbenchError: For a pipeline that fails and for masks that are not right, in one line. Its own folder
            stays, so that the same command goes on.
    """
    if call.outcome.exists():
        if (kept := _kept(call)) is not None:
            return kept
        with os_errors(call.outcome, "remove"):
            call.outcome.unlink()
        remove(call.checked)
    assert cell.method.pipeline is not None
    assert cell.root is not None
    test = cell.split.test(cell.fold)
    names = file_names([*cell.train_ids, *test])
    if not call.raw.exists():
        write_fold(call.task, cell.root, call.raw, cell.train_ids, test, names)
    with os_errors(call.folder, "write"):
        for place in (call.work, call.left):
            place.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    found = _called(cell, cell.method.pipeline, call, names, device, watcher)
    took = time.perf_counter() - start
    try:
        _check(cell, call, found, names)
    except UsbenchError:
        remove(call.left)  # So that the next start makes them anew.
        raise
    facts = {name: getattr(found, name) for name in Outcome.__dataclass_fields__}
    if found.train_seconds is None:
        facts["train_seconds"] = max(0.0, took - (found.predict_seconds or 0.0))
    masks = {file.name: sha256_file(file) for file in sorted(call.checked.iterdir())}
    facts |= {"remarks": list(found.remarks), "versions": dict(found.versions)}
    write_sealed(call.outcome, {"outcome": facts, "masks": masks})
    for place in (call.raw, call.work, call.left):
        remove(place)
    return _outcome(facts)


def _called(
    cell: Cell,
    pipeline: Pipeline,
    call: Call,
    names: Mapping[str, str],
    device: str,
    watcher: PipelineWatcher,
) -> PipelineMasks:
    folder = PipelineFolder(
        raw=call.raw.absolute(),
        work=call.work.absolute(),
        masks=call.left.absolute(),
        log=(cell.folder / LOG).absolute(),
        modalities=call.task.modality_names,
        classes=own_values(call.task),
        train=tuple(names[case_id] for case_id in cell.train_ids),
        test=tuple(names[case_id] for case_id in cell.split.test(cell.fold)),
        mirror=call.task.mirrors,
        seed=cell.seed,
    )
    who = f"method '{cell.method.name}'"
    try:
        with hidden_places():
            found: Any = pipeline.train_and_predict(folder, dict(cell.config.method), device, watcher)
    except UsbenchError:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or "no message"
        raise UsbenchError(
            f"{who}: its pipeline fails ({type(error).__name__}: {words}); mend it (--debug shows where) and "
            "start the same command again, which goes on from what it kept"
        ) from error
    if not isinstance(found, PipelineMasks):
        raise UsbenchError(
            f"{who}: its pipeline returned a {type(found).__name__}; return a usbench.PipelineMasks"
        )
    return found


def _check(cell: Cell, call: Call, found: PipelineMasks, names: Mapping[str, str]) -> None:
    """Read every mask as one of its case, and keep it with the values of `Case.mask`."""
    from usbench.datasets.outside_masks import read_outside_mask, usual_values
    from usbench.runs.predict import write_mask

    test = cell.split.test(cell.fold)
    who = f"method '{cell.method.name}'"
    lost = [i for i in test if names[i] not in found.masks or not Path(found.masks[names[i]]).is_file()]
    if lost:
        raise UsbenchError(
            f"{who}: its pipeline left no mask of {len(lost)} of {len(test)} test cases "
            f"({', '.join(lost)}); write {names[lost[0]]}{ENDING} for each into its folder of masks"
        )
    known = {names[case_id] for case_id in test}
    if odd := sorted(set(found.masks) - known):
        say(f"{who}: its mask of '{odd[0]}' is of no test case and is left out")
    values = usual_values(call.task)
    with atomic_folder(call.checked, durable=True) as folder:
        for case_id in test:
            case = cell.store.case(case_id)
            file = Path(found.masks[names[case_id]])
            mask = read_outside_mask(
                file, case, values, "let the pipeline write the values of its folder.classes"
            )
            write_mask(mask, case.affine, folder / f"{case_id}{ENDING}")


def _kept(call: Call) -> Outcome | None:
    """What a call that an earlier start finished says of itself; None where that or a mask is damaged."""
    remedy = "the pipeline is called again"
    try:
        found = read_sealed(call.outcome, "what a pipeline ended with", remedy)
        for name, digest in found["masks"].items():
            if not (call.checked / name).is_file() or sha256_file(call.checked / name) != digest:
                raise UsbenchError(f"{call.checked / name}: not what was written; {remedy}")
        return _outcome(found["outcome"])
    except (UsbenchError, KeyError) as error:
        say(str(error))
        return None


def _outcome(facts: Mapping[str, Any]) -> Outcome:
    named = {one.name: facts[one.name] for one in dataclasses.fields(Outcome)}
    return Outcome(**{**named, "remarks": tuple(facts["remarks"])})
