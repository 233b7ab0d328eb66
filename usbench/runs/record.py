"""What a result says of a run besides its scores: cost, origin, device, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from usbench import __version__
from usbench.methods.cost import count_parameters, measure_gflops
from usbench.results.io import SCHEMA_VERSION
from usbench.runtime.devices import device_name
from usbench.runtime.machine import provenance
from usbench.runtime.memory import peak_memory_mb

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.runs.cell import Cell
    from usbench.runs.train import History


def describe(
    cell: Cell,
    fabric: Fabric,
    network: nn.Module,
    history: History,
    example: Tensor,
    rows: dict[str, Tensor],
    memory_since: str,
) -> dict[str, Any]:
    """Everything that result.json says but the scores.

    example: a slice [1, M, S, S] of a test case on the device; rows: its features, by name.
    memory_since: what `usbench.runtime.memory.forget_peak` said when the training began.
    """
    parameters = count_parameters(network)
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
            "merge_labels": cell.merge_labels,
            "words": cell.task.words,
            "nsd_tolerance_mm": cell.task.nsd_tolerance_mm,
            **_origin_of_task(cell),
        },
        "data": {
            "kind": cell.kind,
            "fingerprint": cell.store.fingerprint,
            "cases": len(cell.store.case_ids),
            "limit": cell.limit,
            "agreement": {
                case_id: agreement
                for case_id in cell.split.test(cell.fold)
                if (agreement := cell.store.case(case_id).agreement)
            },
        },
        "split": {
            "folds": len(cell.split.folds),
            "rule": cell.split.rule,
            "digest": cell.split.digest,
            "train": list(cell.split.train(cell.fold)),
            "test": list(cell.split.test(cell.fold)),
        },
        "preset": cell.config.preset,
        "config": cell.config.as_dict(),
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
        "cost": {
            "parameters": parameters.all,
            "trainable": parameters.trainable,
            "frozen_elsewhere": cell.method.frozen_parameters(cell.config.method),
            "gflops_per_slice": measure_gflops(network, example, rows),
            "peak_memory_mb": peak_memory_mb(fabric.device),
            "memory_since": memory_since,
            "train_seconds": history.seconds,
            "epochs": history.epochs,
            "device": device_name(fabric.device),
            "devices": cell.devices,
            "precision": cell.precision,
        },
        "provenance": provenance(),
        "protocol": cell.protocol,
    }


def _origin_of_task(cell: Cell) -> dict[str, str]:
    from usbench.datasets.tasks import task_names

    if cell.task.found is not None:
        return {"origin": cell.task.found.origin, "version": cell.task.found.version}
    if cell.task.name in task_names():
        return {"origin": "built in", "version": __version__}
    return {"origin": "folder", "version": ""}


def _fusion(cell: Cell) -> dict[str, str]:
    if cell.brought is None:
        paper = (
            "Guo et al.: Deep learning-based image segmentation on multimodal medical imaging. "
            "IEEE TRPMS 2019."
        )
        return {
            "name": cell.fusion,
            "origin": "built in",
            "version": __version__,
            "source_hash": "",
            "paper": paper,
        }
    found = cell.brought.found
    return {
        "name": cell.fusion,
        "origin": found.origin,
        "version": found.version,
        "source_hash": cell.brought.source_hash,
        "paper": cell.brought.fusion.paper,
    }
