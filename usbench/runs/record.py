"""The third step of an evaluation: tables, pictures, and a result that says what the run was."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from usbench import __version__
from usbench.methods.cost import count_parameters, gflops_of_slice
from usbench.results.io import PROTOCOL_VERSION, write_result, write_tables
from usbench.results.result import Result
from usbench.results.schema import SCHEMA_VERSION
from usbench.runs.network import FILE, why_not_kept, write_network
from usbench.runtime.devices import device_name
from usbench.runtime.machine import provenance
from usbench.runtime.memory import peak_memory_mb
from usbench.storage.files import write_json

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.datasets.ways import Example
    from usbench.runs.cell import Cell
    from usbench.runs.frozen import Frozen
    from usbench.runs.score import Evaluated
    from usbench.runs.train import History


def record(
    cell: Cell,
    fabric: Fabric,
    network: nn.Module,
    history: History,
    frozen: Frozen,
    evaluated: Evaluated,
    *,
    memory_since: str,
    start: float,
) -> Result:
    """Write everything that belongs to a finished cell, result.json last.

    Args:
        cell: the cell; its masks are in its folder already. Its request says whether the network is
            written too.
        fabric: on what it was computed.
        network: the trained network.
        history: of its training.
        frozen: the features of its cases.
        evaluated: the scores of its test cases.
        memory_since: what `usbench.runtime.memory.forget_peak` said when the training began.
        start: `time.perf_counter()` when the evaluation began.

    Returns:
        The result, read back from its folder.

    Raises:
        UsbenchError: where a file cannot be written.
    """
    _draw(cell, history, evaluated)
    write_tables(cell.folder, evaluated.scores, history.rows)
    remarks = list(frozen.remarks)
    (cell.folder / FILE).unlink(missing_ok=True)  # Of a process that was killed here.
    if cell.request.keep_weights:
        if why := why_not_kept(network):
            remarks.append(why)
        else:
            write_network(network, cell.folder / FILE)
    if notes := frozen.notes():
        write_json(cell.folder / "notes.json", notes, durable=False)
    data = describe(cell, fabric, network, history, evaluated, memory_since)
    data["remarks"] = remarks
    data["scores"] = evaluated.summary()
    data["paper_style"] = evaluated.paper_means()
    data["cost"]["ms_per_slice"] = float(np.median(evaluated.milliseconds))
    data["cost"]["seconds"] = history.seconds + time.perf_counter() - start
    return write_result(cell.folder, data)


def _draw(cell: Cell, history: History, evaluated: Evaluated) -> None:
    from usbench.pages.figures import cases_figure, history_figure

    figures = cell.folder / "figures"
    history_figure(history.rows, figures / "history.png")
    names = cell.task.modality_names, cell.task.class_names
    cases_figure(figures / "cases.png", evaluated.pictures, *names, regions=cell.task.regions)


def describe(
    cell: Cell,
    fabric: Fabric,
    network: nn.Module,
    history: History,
    evaluated: Evaluated,
    memory_since: str,
) -> dict[str, Any]:
    """Everything that result.json says but the scores.

    Args:
        cell: the cell.
        fabric: on what it was computed.
        network: the trained network.
        history: of its training.
        evaluated: the test cases.
        memory_since: what `usbench.runtime.memory.forget_peak` said when the training began.

    Returns:
        JSON-like values, by the keys of result.json.
    """
    parameters = count_parameters(network)
    data = describe_cell(cell, evaluated)
    data["cost"] = {
        "parameters": parameters.all,
        "trainable": parameters.trainable,
        "frozen_elsewhere": cell.method.frozen_parameters(cell.config.method),
        "gflops_per_slice": _gflops(network, evaluated.example),
        "peak_memory_mb": peak_memory_mb(fabric.device),
        "memory_since": memory_since,
        "train_seconds": history.seconds,
        "epochs": history.epochs,
        "device": device_name(fabric.device),
        "devices": cell.devices,
        "precision": cell.precision,
    }
    return data


def describe_cell(cell: Cell, evaluated: Evaluated) -> dict[str, Any]:
    """What result.json says of a cell whoever made its masks: all but scores and cost.

    Args:
        cell: the cell.
        evaluated: the test cases.

    Returns:
        JSON-like values, by the keys of result.json.
    """
    return {
        "schema": SCHEMA_VERSION,
        "usbench": __version__,
        "cell": {
            "task": cell.task.name,
            "method": cell.method.name,
            "fusion": cell.fusion,
            "fold": cell.fold,
            "seed": cell.seed,
            "hash": cell.key,
        },
        "task": {
            "name": cell.task.name,
            "title": cell.task.title,
            "modalities": list(cell.task.modality_names),
            "classes": list(cell.task.class_names),
            **({} if cell.task.thresholds is None else {"regions": cell.task.thresholds}),
            "merge_labels": cell.merge_labels,
            "words": cell.task.words,
            "nsd_tolerance_mm": cell.task.nsd_tolerance_mm,
            **_origin_of_task(cell),
            **_digests_of_task(cell),
        },
        "data": {
            "kind": cell.kind,
            "fingerprint": cell.store.fingerprint,
            "cases": len(cell.store.case_ids),
            "limit": cell.limit,
            "agreement": evaluated.agreement,
        },
        "split": {
            "folds": len(cell.split.folds),
            "rule": cell.split.rule,
            "digest": cell.split.digest,
            "train": list(cell.train_ids),
            "test": list(cell.split.test(cell.fold)),
            **_few(cell),
        },
        "preset": cell.config.preset,
        "config": cell.stated_config,
        "method": {
            "name": cell.method.name,
            "origin": cell.found.origin,
            "source_hash": cell.source_hash,
            "version": cell.found.version,
            "paper": cell.method.paper,
            "weights": cell.method.weights(cell.config.method),
            "licence": cell.method.licence(cell.config.method),
            "pretraining_overlap": cell.method.pretraining_overlap,
        },
        "fusion": _fusion(cell),
        "provenance": provenance(),
        "protocol": cell.protocol,
        "protocol_version": PROTOCOL_VERSION,
    }


def _few(cell: Cell) -> dict[str, float | int]:
    """What a result says of a cell that is trained on a part of its fold's training patients."""
    return {} if cell.few is None else {**cell.few.facts, "of": len(cell.split.train(cell.fold))}


def _gflops(network: nn.Module, example: Example | None) -> float | None:
    return None if example is None else gflops_of_slice(network, *example)


def _origin_of_task(cell: Cell) -> dict[str, str]:
    from usbench.datasets.tasks import task_names

    if cell.task.found is not None:
        return {"origin": cell.task.found.origin, "version": cell.task.found.version}
    if cell.task.name in task_names():
        return {"origin": "built in", "version": __version__}
    return {"origin": "folder", "version": ""}


def _digests_of_task(cell: Cell) -> dict[str, str]:
    digests = {"definition": cell.task.definition, "patterns": cell.task.patterns}
    return {name: digest for name, digest in digests.items() if digest is not None}


def _fusion(cell: Cell) -> dict[str, str]:
    one = cell.found_fusion
    return {
        "name": one.name,
        "origin": one.found.origin,
        "version": one.found.version,
        "source_hash": one.source_hash,
        "paper": one.fusion.paper,
        "label": one.fusion.label or one.name,
        "colour": one.fusion.colour,
    }
