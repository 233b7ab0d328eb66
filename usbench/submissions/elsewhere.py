"""`usbench score`: masks that somebody has become results, one a fold."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usbench.contracts.names import PROTOCOLS
from usbench.contracts.request import Request
from usbench.datasets.outside_masks import read_outside_mask
from usbench.errors import UsbenchError, unknown
from usbench.results.io import load_result
from usbench.results.result import Result, Results
from usbench.runtime.console import say, track
from usbench.storage.files import digest_of, os_errors, require_writable
from usbench.submissions.card import load_card
from usbench.submissions.elsewhere_files import FoundMasks, find_masks, values_of
from usbench.submissions.pack import Incomplete

if TYPE_CHECKING:
    from usbench.datasets.splits import Split
    from usbench.datasets.store import Store
    from usbench.runs.cell import Cell

NOT_KNOWN = "not known"
_NAME = re.compile(r"\w[\w.+-]*")


def score(
    predictions: str | Path,
    *,
    name: str,
    task: str | None = None,
    task_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    data: str = "auto",
    scanner: int = 1,
    modalities: Sequence[str] | None = None,
    merge_labels: str | None = None,
    folds: str | Sequence[int] | None = None,
    card: str | Path | None = None,
    fusion: str = "early",
    labels: Mapping[str, str] | None = None,
    runs_dir: str | Path = "runs",
    limit: int | None = None,
    overwrite: bool = False,
    plugins: Sequence[str | Path] = (),
) -> Results:
    """Score masks that were made elsewhere, and write them as results that tables mark so.

    Every mask is read and checked before anything is written. A case without one is scored as an empty mask.

    Args:
        predictions: a folder of CASE.nii.gz, or nnU-Net's results with fold_0/validation and so on.
        name: of the row; not that of a method of usbench.
        task: name of a task, or a task file; or give `task_dir`.
        task_dir: a folder in the layout of the Medical Segmentation Decathlon.
        data_dir: the folder that holds the data sets; by default what USBENCH_DATA names.
        data: "real", "phantom", or "auto".
        scanner: of a phantom: 1 or 2.
        modalities: which the masks were made from, by name; by default all of the task.
        merge_labels: makes one foreground class of that name out of all.
        folds: "all", "0,2" or numbers; by default those of which any mask is there.
        card: a YAML file as of `usbench submit`, which says who made the masks and with what.
        fusion: "early", "hybrid" or "late": how the program joined the modalities, as its author says.
        labels: by class of the task, its values in the masks ("2", "1+2") or its name in their dataset.json.
        runs_dir: where results are written.
        limit: use the first so many cases only; such a result is never ranked.
        overwrite: replace results of this name whose masks were other ones.
        plugins: Python files with tasks.

    Returns:
        The results, in order of fold.

    Raises:
        UsbenchError: one line that names the file, the case and the remedy.
    """
    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.splits import make_split
    from usbench.datasets.store import prepare
    from usbench.runs.plan import find_task_data, make_task

    words: dict[str, Any] = {
        "method": name, "fusion": fusion, "task": task, "task_dir": task_dir, "data_dir": data_dir,
        "data": data, "scanner": scanner, "modalities": modalities, "merge_labels": merge_labels,
        "folds": folds, "runs_dir": runs_dir, "limit": limit, "overwrite": overwrite, "plugins": plugins,
    }  # fmt: skip
    request = Request(**words)
    if (request.task is None) == (request.task_dir is None):
        raise UsbenchError("name one of --task and --task-dir: a task, or a folder in MSD layout")
    _require_name(name, request.plugins)
    if fusion not in PROTOCOLS:
        raise unknown("fusion", fusion, PROTOCOLS)
    said = _card(card)
    the_task = make_task(request)
    task_data = find_task_data(the_task, request)
    require_writable(request.runs_dir)
    say(task_data.notice)
    case_ids = open_reader(the_task, task_data.root).case_ids()[: request.limit]
    found = find_masks(Path(predictions), case_ids)
    values, meaning = values_of(the_task, found.folder, labels or {})
    split = make_split(the_task, case_ids)
    asked = _folds(request, found, split)
    # Where no fold is named, a misnamed mask may be why a fold seems to have none.
    wanted = case_ids if request.folds is None else [case for fold in asked for case in split.test(fold)]
    absent = [case for case in wanted if case not in found.files]
    _say_strange(found, absent)
    store = prepare(the_task, task_data.root, _settings(), case_ids=case_ids if request.limit else None)
    cells = [_cell(request, fold, the_task, task_data.kind, store, split, said) for fold in asked]
    _check(cells, found, values)
    return Results(_score(cell, found, values, meaning, said) for cell in cells)


def _settings() -> Any:
    from usbench.contracts.settings import DataSettings

    return DataSettings()


def _require_name(name: str, plugins: Sequence[Path]) -> None:
    from usbench.methods.registry import find_methods

    if not _NAME.fullmatch(name) or len(name) > 60:
        raise UsbenchError(f"--name '{name}' is no sound name; use letters, digits and hyphens, at most 60")
    if name in find_methods(plugins):
        raise UsbenchError(
            f"--name {name}: is a method of usbench, and masks from elsewhere are not its; choose another, "
            f"such as my-{name}"
        )


def _card(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    card, problems = load_card(Path(path))
    if problems or card is None:
        raise Incomplete(problems)
    return card


def _folds(request: Request, found: FoundMasks, split: Split) -> list[int]:
    from usbench.runs.plan import parse_folds

    count = len(split.folds)
    there = [fold for fold in range(count) if any(case in found.files for case in split.test(fold))]
    if request.folds is None:
        if len(there) < count:
            others = ", ".join(str(fold) for fold in range(count) if fold not in there)
            say(f"{found.folder}: has no mask of fold {others}; scored are those of the others")
        return there
    asked = parse_folds(request.folds, count)
    if empty := [fold for fold in asked if fold not in there]:
        raise UsbenchError(
            f"{found.folder}: has no mask of fold {empty[0]} ({', '.join(split.test(empty[0])[:3])}, ...); "
            f"score --folds {','.join(map(str, there))}"
        )
    return asked


def _say_strange(found: FoundMasks, absent: Sequence[str]) -> None:
    """Say which masks are of no case; where a case lacks its mask, it may be one of them."""
    if not found.strange:
        return
    names = ", ".join(file.name for file in found.strange[:5])
    if absent:
        raise UsbenchError(
            f"{found.strange[0]}: is of no case of the task, and case {absent[0]} has no mask; rename it to "
            "CASE.nii.gz, or move it away to score that case as missing"
        )
    say(f"{found.folder}: not of the cases used, and left alone: {names} ({len(found.strange)} in all)")


def _no_network(*_: Any, **__: Any) -> Any:
    raise UsbenchError("masks from elsewhere have no network")


def _cell(
    request: Request, fold: int, task: Any, kind: str, store: Store, split: Split, card: Mapping[str, Any]
) -> Cell:
    from usbench.config import Config
    from usbench.contracts.method import Method
    from usbench.fusions.registry import get_fusion
    from usbench.plugins.search import Found
    from usbench.runs.cell import Cell

    weights, licence = (str(card.get(key, NOT_KNOWN)) for key in ("weights", "weights_licence"))
    method = Method(
        request.method,
        str(card.get("paper", NOT_KNOWN)),
        build_segmenter=_no_network,
        weights=lambda settings: weights,
        licence=lambda settings: licence,
        pretraining_overlap=str(card.get("weights_data", NOT_KNOWN)),
    )
    return Cell(
        request=request.with_(folds=str(fold)),
        task=task,
        method=method,
        found=Found(request.method, "elsewhere", ""),
        source_hash=digest_of({"name": request.method, "card": dict(card)}),
        found_fusion=get_fusion(request.fusion),
        fold=fold,
        config=Config("outside"),
        kind=kind,
        store=store,
        split=split,
        outside="masks",
    )


def _check(cells: Sequence[Cell], found: FoundMasks, values: Mapping[int, int]) -> None:
    """Read every mask once before anything is written, and hold finished results against it.

    Raises:
        UsbenchError: For a mask that cannot be scored, and for a finished result of other masks.
    """
    from usbench.runs.predict import read_mask

    wanted = [(cell, case) for cell in cells for case in cell.split.test(cell.fold)]
    for cell, case_id in track(wanted, f"{found.folder.name}: checking masks", len(wanted)):
        case = cell.store.case(case_id)
        shape, file = case.geometry.shape, found.files.get(case_id)
        mask = np.zeros(shape, np.uint8) if file is None else read_outside_mask(file, case, values)
        if cell.request.overwrite or cell.finished() is None:
            continue
        kept = cell.folder / "predictions" / f"{case_id}.nii.gz"
        if not kept.is_file() or not np.array_equal(read_mask(kept), mask):
            raise UsbenchError(
                f"{cell.folder}: holds scores of another mask of case {case_id} under the name "
                f"{cell.method.name}; --overwrite replaces them, another --name keeps both"
            )


def _score(
    cell: Cell, found: FoundMasks, values: Mapping[int, int], meaning: str, card: Mapping[str, Any]
) -> Result:
    import time

    from usbench.runs.lock import LOCK, locked_cell
    from usbench.runs.outside import OutsideFacts, predicted_of_masks, record_outside
    from usbench.runs.score import score_cases

    with locked_cell(cell.folder):
        if not cell.request.overwrite and cell.finished() is not None:
            say(f"{cell.folder}: scored before, not scored again (--overwrite does)")
            return load_result(cell.folder)
        with os_errors(cell.folder, "remove the old result in"):
            # The result first: what is left of a stop in the middle is no finished cell.
            (cell.folder / "result.json").unlink(missing_ok=True)
            for entry in cell.folder.iterdir():
                if entry.name != LOCK:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        start = time.perf_counter()
        test, missing = cell.split.test(cell.fold), list[str]()
        predicted = predicted_of_masks(
            cell.store, test, cell.task, found.files, missing.append,
            folder=cell.folder / "predictions", values=values,
        )  # fmt: skip
        words = f"{cell.method.name}, fold {cell.fold}: scoring"
        evaluated = score_cases(track(predicted, words, len(test)), cell.task)
        parameters = card.get("parameters")
        facts = OutsideFacts(
            kind="masks",
            label=cell.method.name,
            parameters=parameters,
            trainable=None,
            epochs=0,
            train_seconds=None,
            predict_seconds=None,
            peak_memory_mb=None,
            gflops_per_slice=None,
            device=str(card.get("hardware", NOT_KNOWN)),
            remarks=(meaning, *_said(card)),
            versions={},
            missing=tuple(missing),
            claims=_claims(cell, found, parameters),
        )
        if missing:
            say(f"{cell.folder}: no mask of {', '.join(missing)}; scored as an empty mask")
        return record_outside(cell, evaluated, facts, start=start)


def _said(card: Mapping[str, Any]) -> list[str]:
    """What the card says, a line a key."""
    lists = {key: ", ".join(value) if isinstance(value, list) else value for key, value in card.items()}
    return [f"card, {key}: {value}"[:1900] for key, value in lists.items() if key != "schema"]


def _claims(cell: Cell, found: FoundMasks, parameters: int | None) -> tuple[str, ...]:
    """What of a result is its author's word: who was trained on, above all."""
    claims = [f"that none of the test cases of fold {cell.fold} was trained on: usbench saw no training"]
    folds: dict[int, list[str]] = {}
    for case_id in cell.split.test(cell.fold):
        if case_id in found.claimed:
            folds.setdefault(found.claimed[case_id], []).append(case_id)
    claims += [
        f"that {_some(cases)} was left out of training in fold_{fold} of nnU-Net"
        for fold, cases in sorted(folds.items())
    ]
    claims.append(f"that the modalities were {', '.join(cell.task.modality_names)}, fused {cell.fusion}")
    if parameters is not None:
        claims.append(f"that it has {parameters:,} parameters (the card says so)")
    return tuple(claims)


def _some(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - 5} more" if len(cases) > 5 else ""
    return f"each of {', '.join(cases[:5])}{more}" if len(cases) > 1 else cases[0]
