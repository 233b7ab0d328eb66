"""A cell by hand: every part of its hash is written here, nothing is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from usbench.config import make_config
from usbench.contracts.request import Request, run_options
from usbench.datasets.splits import make_split
from usbench.datasets.store import Store
from usbench.datasets.tasks import get_task
from usbench.fusions.registry import get_fusion
from usbench.methods.registry import get_method
from usbench.runs.cell import Cell


def built_in_cell(fusion: str, task: str = "msd-prostate", **changes: Any) -> Cell:
    """U-Net on a built-in task with preset smoke, with made-up digests of data and code."""
    method, found = get_method("unet")
    the_task = changes.get("task_itself") or get_task(task)
    found_fusion = changes.pop("found_fusion", None) or get_fusion(fusion)
    own = {"train.mirror": the_task.mirrors}
    config = make_config("smoke", method.settings, method.presets, own, found_fusion.fusion)
    ids = changes.pop("case_ids", None) or the_task.case_ids
    changes.pop("task_itself", None)
    store = Store(Path("store"), the_task, config.data, dict.fromkeys(ids, "c" * 64))
    asked = {name: changes.pop(name) for name in list(changes) if name in run_options()}
    parts: dict[str, Any] = {
        "request": Request(fusion=fusion, task=task, **asked),
        "task": the_task,
        "method": method,
        "found": found,
        "source_hash": "a" * 64,
        "found_fusion": found_fusion,
        "fold": 0,
        "config": config,
        "kind": "phantom",
        "store": store,
        "split": make_split(the_task, ids),
    }
    return Cell(**{**parts, **changes})
