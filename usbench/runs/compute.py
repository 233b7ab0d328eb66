"""Computing a cell: train, predict, score, write down."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from usbench.contracts.request import CACHE_GB
from usbench.datasets.batches import Slices
from usbench.errors import UsbenchError
from usbench.features.store import CaseFeatures, FeatureStore, Rows, fresh_rows
from usbench.fusions.build import build_model
from usbench.pages.figures import PICTURED_CASES
from usbench.results.io import Result, history_csv, load_result, write_result, write_tables
from usbench.runs.predict import Prediction, predict, write_mask
from usbench.runs.record import describe
from usbench.runs.train import History, fit
from usbench.runtime.console import say
from usbench.runtime.memory import forget_peak
from usbench.scores.case import ClassScore, paper_style, score_case, summarise
from usbench.storage.files import atomic_path, locked, os_errors, write_json, write_text

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.datasets.batches import View
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
            _train(cell, fabric, _Frozen.of(cell, fabric.device, cache_gb))
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
        frozen = _Frozen.of(cell, fabric.device, cache_gb)
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


@dataclass(frozen=True)
class _Frozen:
    """What frozen parts of the method say of the cell's cases, and how to compute what is not stored."""

    cases: dict[str, CaseFeatures]
    fresh: dict[str, Callable[[Tensor], Tensor]]
    views: list[tuple[View, Rows]]
    remarks: list[str]

    @classmethod
    def of(cls, cell: Cell, device: torch.device, cache_gb: float) -> _Frozen:
        if cell.method.features is None:
            return cls({}, {}, [], [])
        features = cell.method.features(cell.task, device, **cell.config.method)
        train, test = cell.split.train(cell.fold), cell.split.test(cell.fold)
        stored = FeatureStore(features, cell.source_hash, cell.task, cell.store, device, cache_gb)
        settings = cell.config.train
        views = settings.views if settings.augment == "light" else 0
        found = stored.collect((*train, *test), train, views, settings.mirror)
        remarks = [
            remark
            for f in features
            for remark in f.remarks([case.notes[f.name] for case in found.cases.values()])
        ]
        return cls(found.cases, fresh_rows(features), found.views, remarks)

    def rows(self, case_ids: Sequence[str]) -> list[Rows]:
        return [self.cases[case_id].rows for case_id in case_ids] if self.cases else []

    def notes(self) -> dict[str, dict[str, Any]]:
        """By case and feature, what their computation said; cases of which nothing was said are left out."""
        said = {i: {n: note for n, note in case.notes.items() if note} for i, case in self.cases.items()}
        return {case_id: notes for case_id, notes in said.items() if notes}


def _train(cell: Cell, fabric: Fabric, frozen: _Frozen) -> tuple[nn.Module, History]:
    torch.manual_seed(cell.seed * 7919 + cell.fold)
    network = build_model(cell.method, cell.task, cell.the_fusion, cell.config)
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
    frozen: _Frozen,
    keep_weights: bool,
    memory_since: str,
) -> Result:
    from usbench.runtime.console import track

    start = time.perf_counter()
    test_ids = cell.split.test(cell.fold)
    names = cell.task.class_names
    scores: dict[str, list[ClassScore]] = {}
    paper: list[tuple[float, float]] = []
    pictures: list[Any] = []
    milliseconds: list[float] = []
    for case_id in track(test_ids, "predicting and scoring", len(test_ids)):
        case = cell.store.case(case_id)
        prediction = predict(
            network,
            case,
            len(names),
            fabric.device,
            extras=frozen.rows([case_id]),
            fresh=frozen.fresh,
            fabric=fabric,
        )
        scores[case_id] = score_case(
            prediction.volume, case.truth(), names, case.spacing, cell.task.nsd_tolerance_mm
        )
        paper.append(paper_style(prediction.slices, np.asarray(case.mask), len(names)))
        milliseconds.append(prediction.ms_per_slice)
        write_mask(prediction.volume, case.affine, cell.folder / "predictions" / f"{case_id}.nii.gz")
        if len(pictures) < PICTURED_CASES:
            pictures.append(_picture(prediction, case, scores[case_id]))
    _draw(cell, history, pictures)
    write_tables(cell.folder, scores, history.rows)
    if keep_weights:
        with atomic_path(cell.folder / "weights.pt") as temporary:
            torch.save(network.state_dict(), temporary)
    notes = frozen.notes()
    if notes:
        write_json(cell.folder / "notes.json", notes)
    first = cell.store.case(test_ids[0])
    slices = Slices([first], len(names), fabric.device, frozen.rows(test_ids[:1]), frozen.fresh)
    images, _, rows = next(iter(slices.batches([np.arange(1)])))
    data = describe(cell, fabric, network, history, images, rows, memory_since)
    data["remarks"] = frozen.remarks
    data["scores"] = summarise(list(scores.values()))
    defined = [pair for pair in paper if not np.isnan(pair).any()]
    means = np.mean(defined, axis=0).tolist() if defined else [None, None]
    data["paper_style"] = {"paper_dsc": means[0], "paper_miou": means[1]}
    data["cost"]["ms_per_slice"] = float(np.median(milliseconds))
    data["cost"]["seconds"] = history.seconds + time.perf_counter() - start
    return write_result(cell.folder, data)


def _picture(prediction: Prediction, case: Any, scores: list[ClassScore]) -> Any:
    from usbench.pages.figures import pick_slice

    z = pick_slice(np.asarray(case.mask))
    images = np.asarray(case.images[z], dtype=np.float32)
    return (
        prediction.case_id,
        images,
        np.asarray(case.mask[z]),
        prediction.slices[z],
        {s.name: s.dsc for s in scores},
    )


def _draw(cell: Cell, history: History, pictures: list[Any]) -> None:
    from usbench.pages.figures import cases_figure, history_figure

    history_figure(history.rows, cell.folder / "figures" / "history.png")
    cases_figure(
        cell.folder / "figures" / "cases.png", pictures, cell.task.modality_names, cell.task.class_names
    )
