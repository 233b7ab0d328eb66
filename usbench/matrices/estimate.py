"""What a cell will take, from finished cells that differ in nothing but fold, seed, data and code.

Nothing is guessed: where no such cell is finished, the answer is that it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.contracts.few import FewPatients, few_of
from usbench.errors import UsbenchError
from usbench.results.io import load_result
from usbench.results.network_file import NETWORKS
from usbench.results.result import Result
from usbench.storage.files import digest_of

if TYPE_CHECKING:
    from usbench.matrices.plan import PlannedCell


@dataclass(frozen=True)
class Measured:
    """What finished cells took, as means over them.

    Attributes:
        seconds: training, predicting and scoring together.
        bytes: size of the cell's folder on disk, without the trained network, which a cell may keep or not.
    """

    seconds: float
    bytes: float


def measure(runs_dir: Path) -> dict[str, Measured]:
    """What the finished cells in a folder of runs took; results that cannot be read are passed over.

    Args:
        runs_dir: the folder of the runs.

    Returns:
        The means over the cells that share a key, by that key (see `key_of`).
    """
    found: dict[str, list[tuple[float, int]]] = {}
    for file in sorted(runs_dir.glob("*/*/*/result.json")):
        try:
            result = load_result(file)
            seconds = float(result.data["cost"]["seconds"])
            key = key_of(result)
        except (UsbenchError, KeyError, TypeError, ValueError):
            continue  # Of an earlier version, or not to be trusted.
        size = 0
        for path in file.parent.rglob("*"):
            if path.is_file() and not (path.parent == file.parent and path.name in NETWORKS):
                with suppress(FileNotFoundError):  # A run that ends in this moment removes some.
                    size += path.stat().st_size
        found.setdefault(key, []).append((seconds, size))
    return {
        key: Measured(
            sum(seconds for seconds, _ in rows) / len(rows),
            sum(size for _, size in rows) / len(rows),
        )
        for key, rows in found.items()
    }


def key_of(result: Result) -> str:
    """Digest of what decides the time and the size of a finished cell.

    Fold, seed, the content of the data and the code do not enter: cells that differ in these alone share it.
    """
    data = result.data
    device = "cpu" if data["cost"]["device"].startswith("CPU") else "cuda"
    return _key(data, data["task"], data["data"], data["cost"], device, data["config"], few_of(data["split"]))


def key_of_planned(planned: PlannedCell) -> str:
    """The digest of `key_of` for a cell that is still to be computed."""
    plan = planned.plan
    cell = {"task": plan.task.name, "method": plan.method.name, "fusion": plan.fusion}
    task = {"modalities": list(plan.task.modality_names), "classes": list(plan.task.class_names)}
    data = {"kind": plan.task_data.kind, "limit": plan.request.limit}
    cost = {"precision": plan.request.precision, "devices": plan.request.all_devices}
    config = plan.config.as_dict()
    top = {"cell": cell, "preset": plan.config.preset}
    if plan.method.pipeline is not None:  # As its results state it.
        config |= {"data": {}, "train": {}}
        top["preset"], cost["precision"] = "outside", "not known"
    return _key(top, task, data, cost, plan.device, config, planned.few)


def _key(
    top: Mapping[str, Any],
    task: Mapping[str, Any],
    data: Mapping[str, Any],
    cost: Mapping[str, Any],
    device: str,
    config: Mapping[str, Any],
    few: FewPatients | None,
) -> str:
    return digest_of(
        {
            "cell": {name: top["cell"][name] for name in ("task", "method", "fusion")},
            "preset": top["preset"],
            "modalities": task["modalities"],
            "classes": task["classes"],
            "kind": data["kind"],
            "limit": data["limit"],
            "precision": cost["precision"],
            "devices": cost["devices"],
            "device": device,
            "config": config,
            "few": None if few is None else few.facts,
        }
    )
