"""Computing a cell: train, predict, score, write down."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from usbench.contracts.request import CACHE_GB
from usbench.datasets.batches import Slices
from usbench.errors import UsbenchError
from usbench.fusions.build import build_model
from usbench.results.io import history_csv, load_result
from usbench.results.result import Result
from usbench.runs.frozen import Frozen, frozen_of
from usbench.runs.predict import predict_cases
from usbench.runs.record import record
from usbench.runs.score import score_cases
from usbench.runs.train import History, fit
from usbench.runtime.console import say
from usbench.runtime.memory import forget_peak
from usbench.storage.files import locked, os_errors, write_text

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.runs.cell import Cell


class CellBusy(UsbenchError):
    """Another process is computing the cell."""


def is_busy(folder: Path) -> bool:
    """Whether a process is computing the cell of that folder; a lock that nobody holds is removed."""
    if not (folder / ".lock").exists():
        return False
    try:
        with _locked(folder):
            return False
    except CellBusy:
        return True


def _locked(folder: Path) -> AbstractContextManager[None]:
    """Hold the cell: a second process that wants it is told so, by `CellBusy`."""
    busy = f"{folder}: another process is computing this cell; wait for it or choose another --runs-dir"
    return locked(folder / ".lock", busy=CellBusy(busy), remove=True)


def compute(
    cell: Cell,
    fabric: Fabric,
    overwrite: bool = False,
    keep_weights: bool = False,
    cache_gb: float = CACHE_GB,
) -> tuple[Result, bool]:
    """The cell's result, and whether it was computed now (else it was there).

    A cell that was stopped goes on from its last finished epoch. With several devices every
    process calls this; the first one writes. cache_gb: bound on stored features of frozen parts.
    """
    if not fabric.is_global_zero:
        if overwrite or cell.finished() is None:
            fabric.barrier()  # The first process computes the features, the others read them.
            _train(cell, fabric, frozen_of(cell, fabric.device, cache_gb))
            fabric.barrier()
        return load_result(cell.folder), True
    with _locked(cell.folder):
        if overwrite:
            with os_errors(cell.folder, "remove the old result in"):
                for entry in cell.folder.iterdir():
                    if entry.name != ".lock":
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        elif (done := cell.finished()) is not None:
            (cell.folder / "checkpoint.pt").unlink(missing_ok=True)
            return done, False
        _sweep(cell.folder)
        frozen = frozen_of(cell, fabric.device, cache_gb)
        fabric.barrier()
        since = forget_peak(fabric.device)
        network, history = _train(cell, fabric, frozen)
        result = _evaluate(cell, fabric, network, history, frozen, keep_weights, since)
        (cell.folder / "checkpoint.pt").unlink(missing_ok=True)
        fabric.barrier()
        return result, True


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-written; only under the lock."""
    for leftover in folder.rglob(".*.part*"):
        leftover.unlink(missing_ok=True)


def _train(cell: Cell, fabric: Fabric, frozen: Frozen) -> tuple[nn.Module, History]:
    torch.manual_seed(cell.seed * 7919 + cell.fold)
    network = build_model(cell.method, cell.task, cell.found_fusion.fusion, cell.config)
    train_ids = cell.split.train(cell.fold)
    cases = [cell.store.case(i) for i in train_ids]
    slices = Slices(
        cases,
        len(cell.task.classes),
        fabric.device,
        frozen.rows(train_ids),
        frozen.fresh,
        views=frozen.views,
    )
    if not slices.foreground.any():
        raise UsbenchError(
            f"task {cell.task.name}, fold {cell.fold}: no training slice holds foreground; "
            "check the masks of " + ", ".join(train_ids)
        )
    checkpoint = cell.folder / "checkpoint.pt"
    title = f"{cell.task.name} {cell.method.name} {cell.fusion} fold {cell.fold} seed {cell.seed}"
    with _epoch_bar(title, cell.config.train.epochs, fabric.is_global_zero) as on_epoch:

        def after_epoch(history: History) -> None:
            if fabric.is_global_zero:
                write_text(cell.folder / "history.csv", history_csv(history.rows))
            on_epoch(history)

        if checkpoint.exists() and fabric.is_global_zero:
            say(f"{checkpoint}: going on from the last finished epoch")
        history = fit(
            network, slices, cell.config.train, fabric, cell.seed, checkpoint, cell.key, after_epoch
        )
    return network, history


@contextlib.contextmanager
def _epoch_bar(title: str, epochs: int, shown: bool) -> Iterator[Any]:
    if not shown:
        yield lambda history: None
        return
    from usbench.runtime.console import progress

    with progress() as bar:
        task = bar.add_task(f"{title}: training", total=epochs)

        def on_epoch(history: History) -> None:
            loss = history.rows[-1]["loss"]
            bar.update(task, completed=history.epochs, description=f"{title}: training, loss {loss:.3f}")

        yield on_epoch


def _evaluate(
    cell: Cell,
    fabric: Fabric,
    network: nn.Module,
    history: History,
    frozen: Frozen,
    keep_weights: bool,
    memory_since: str,
) -> Result:
    """Predict the test cases, score their masks, and record both; every case is opened once."""
    from usbench.runtime.console import track

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
    )
    evaluated = score_cases(track(predicted, "predicting and scoring", len(test_ids)), cell.task)
    return record(
        cell,
        fabric,
        network,
        history,
        frozen,
        evaluated,
        keep_weights=keep_weights,
        memory_since=memory_since,
        start=start,
    )
