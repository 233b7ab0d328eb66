"""Computing a cell: train, predict, score, write down."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from usbench.contracts.watcher import CellFacts, Watcher
from usbench.datasets.ways import way_of
from usbench.errors import UsbenchError
from usbench.fusions.build import build_model
from usbench.results.io import history_csv, load_result
from usbench.results.result import Result
from usbench.results.running import PROGRESS
from usbench.runs.frozen import Frozen, frozen_of
from usbench.runs.history import History
from usbench.runs.lock import LOCK, locked_cell
from usbench.runs.network import why_not_kept
from usbench.runs.pipelines.compute import compute_pipeline, epochs_of
from usbench.runs.pipelines.places import FOLDER, remove
from usbench.runs.predict import predict_cases
from usbench.runs.record import record
from usbench.runs.score import score_cases
from usbench.runs.train import fit
from usbench.runs.watchers.group import Watchers
from usbench.runs.watchers.log_file import LogFile, failure_logged
from usbench.runs.watchers.loggers import make_loggers
from usbench.runs.watchers.progress_file import ProgressFile
from usbench.runs.watchers.terminal import terminal_watcher
from usbench.runtime.console import say
from usbench.runtime.devices import device_name
from usbench.runtime.memory import forget_peak
from usbench.runtime.stopping import end_with
from usbench.scores.case import ClassScore
from usbench.storage.files import os_errors, write_text

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.runs.cell import Cell


def compute(
    cell: Cell,
    fabric: Fabric,
    watchers: Sequence[Watcher] = (),
) -> tuple[Result, bool]:
    """Compute a cell, unless it was computed before.

    A cell that was stopped goes on from its checkpoint. With several devices every process calls
    this; the first one writes and speaks.

    Args:
        cell: the cell; its request says whether a finished one is computed again and the network kept, bounds
            the stored features, and names the loggers.
        fabric: the device and the numerical precision.
        watchers: of the user, beside what a terminal shows, `log.txt` and the loggers.

    Returns:
        The result, and whether it was computed now.

    Raises:
        CellBusy: where another process computes the cell.
        UsbenchError: for what goes wrong, in one line.
    """
    overwrite, cache_gb = cell.request.overwrite, cell.request.cache_gb
    if not fabric.is_global_zero:
        end_with(os.getppid())
        if overwrite or cell.finished() is None:
            fabric.barrier()  # The first process computes the features, the others read them.
            _train(cell, fabric, frozen_of(cell, fabric.device, cache_gb), Watchers([]))
            fabric.barrier()
        return load_result(cell.folder), True
    with locked_cell(cell.folder), failure_logged(cell.folder):
        if overwrite:
            with os_errors(cell.folder, "remove the old result in"):
                for entry in cell.folder.iterdir():
                    if entry.name != LOCK:
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        elif (done := cell.finished()) is not None:
            _tidy(cell.folder)
            return done, False
        _sweep(cell.folder)
        own = [LogFile(), ProgressFile(), terminal_watcher(), *make_loggers(cell.request.loggers)]
        with Watchers([*own, *watchers]) as watching:
            epochs, compute_way = _way(cell)
            watching.on_start(_facts(cell, fabric), epochs)
            result = compute_way(cell, fabric, watching)
            watching.on_result(result)
        _tidy(cell.folder)
        fabric.barrier()
        return result, True


def _way(cell: Cell) -> tuple[int, Callable[[Cell, Fabric, Watchers], Result]]:
    """How a cell is computed, and how many epochs it is trained at most."""
    if cell.method.pipeline is None:
        return cell.config.train.epochs, _compute_network
    return epochs_of(cell), compute_pipeline


def _compute_network(cell: Cell, fabric: Fabric, watching: Watchers) -> Result:
    frozen = frozen_of(cell, fabric.device, cell.request.cache_gb)
    fabric.barrier()
    since = forget_peak(fabric.device)
    network, history = _train(cell, fabric, frozen, watching)
    return _evaluate(cell, fabric, network, history, frozen, since, watching)


def _tidy(folder: Path) -> None:
    """Remove what a finished cell needs no longer."""
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    (folder / PROGRESS).unlink(missing_ok=True)  # Of a process that was killed after the result.
    remove(folder / FOLDER)


def _facts(cell: Cell, fabric: Fabric) -> CellFacts:
    """What watchers are told of a cell."""
    return CellFacts(
        task=cell.task.name,
        method=cell.method.name,
        fusion=cell.fusion,
        fold=cell.fold,
        seed=cell.seed,
        hash=cell.key,
        folder=cell.folder,
        device=device_name(fabric.device),
        modalities=cell.task.modality_names,
        classes=cell.task.class_names,
        train=cell.train_ids,
        test=tuple(cell.split.test(cell.fold)),
        settings=cell.config.as_dict(),
    )


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-written; only under the lock."""
    for leftover in [*folder.rglob(".*.part*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _train(cell: Cell, fabric: Fabric, frozen: Frozen, watching: Watchers) -> tuple[nn.Module, History]:
    torch.manual_seed(cell.seed * 7919 + cell.fold)
    network = build_model(cell.method, cell.task, cell.found_fusion.fusion, cell.config)
    if cell.request.keep_weights and fabric.is_global_zero and (why := why_not_kept(network)):
        say(f"{cell.folder}: {why}")
    train_ids = cell.train_ids
    cases = [cell.store.case(i) for i in train_ids]
    classes, regions = len(cell.task.classes), cell.task.regions
    rows = frozen.rows(train_ids)
    slices = way_of(cell.config).training(
        cases, classes, fabric.device, regions, rows, frozen.fresh, frozen.views, frozen.of_slices
    )
    if not slices.foreground.any():
        raise UsbenchError(
            f"task {cell.task.name}, fold {cell.fold}: no training slice holds foreground; "
            "check the masks of " + ", ".join(train_ids)
        )
    checkpoint = cell.folder / "checkpoint.pt"

    def before(history: History) -> None:
        if history.rows and fabric.is_global_zero:
            say(f"{checkpoint}: going on after epoch {history.epochs}")
        watching.on_training(history.rows)

    def after_epoch(history: History) -> None:
        if fabric.is_global_zero:
            write_text(cell.folder / "history.csv", history_csv(history.rows), durable=False)
        watching.on_epoch(history.rows[-1])

    settings = cell.config.train
    history = fit(network, slices, settings, fabric, cell.seed, checkpoint, cell.key, after_epoch, before)
    return network, history


def _evaluate(
    cell: Cell,
    fabric: Fabric,
    network: nn.Module,
    history: History,
    frozen: Frozen,
    memory_since: str,
    watching: Watchers,
) -> Result:
    """Predict the test cases, score their masks, and record both; every case is opened once."""
    start = time.perf_counter()
    test_ids = cell.split.test(cell.fold)
    predicted = predict_cases(
        network,
        cell.store,
        test_ids,
        len(cell.task.classes),
        fabric.device,
        frozen,
        fabric,
        cell.folder / "predictions",
        cell.task.thresholds,
        way_of(cell.config),
    )

    def on_case(case_id: str, scores: list[ClassScore]) -> None:
        watching.on_case(case_id, {score.name: score.scores for score in scores})

    evaluated = score_cases(predicted, cell.task, on_case)
    return record(
        cell,
        fabric,
        network,
        history,
        frozen,
        evaluated,
        memory_since=memory_since,
        start=start,
    )
