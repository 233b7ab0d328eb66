"""`usbench run`: from the words of a user to finished cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.config import CACHE_GB
from usbench.runs.plan import check_numbers, make_cells, make_plan
from usbench.runtime.console import say
from usbench.runtime.devices import is_first_process, make_fabric, require_devices
from usbench.storage.files import require_writable

if TYPE_CHECKING:
    from usbench.results.io import Result


def run(
    method: str = "unet",
    fusion: str = "late",
    task: str | None = None,
    *,
    task_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    data: str = "auto",
    modalities: Sequence[str] | None = None,
    merge_labels: str | None = None,
    folds: str | Sequence[int] | None = None,
    seed: int = 0,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    precision: str = "32",
    runs_dir: str | Path = "runs",
    limit: int | None = None,
    overwrite: bool = False,
    keep_weights: bool = False,
    cache_gb: float = CACHE_GB,
) -> list[Result]:
    """Compute cells of the benchmark, one for each fold, and return their results in order of fold.

    task: the name of a task, or task_dir: a folder in the layout of the Medical Segmentation Decathlon.
    data: "real" (absence is an error), "phantom", or "auto" (real data where data_dir or USBENCH_DATA
    has it, else the phantom). plugins: Python files with methods, tasks or fusions. modalities: a subset
    by name. merge_labels: one foreground class of that name. folds: "all", "0,2" or numbers; by default
    what the preset says. preset: "paper", "quick" or "smoke"; by default quick on phantoms and on a CPU,
    else paper. settings: {"train.epochs": 5}; config: a YAML file of such; settings win. device: "auto",
    "cpu" or "cuda"; devices: how many of them on each of `nodes` machines, on all of which the same call
    is made; precision: "32", "bf16" or "16". limit: use the first so many cases only. A finished cell is
    returned, not computed again, unless overwrite; a stopped one goes on from its last epoch. On a CPU
    torch is set to deterministic algorithms, for the process.

    Raises `UsbenchError`, one line that names what is wrong and the remedy.
    """
    plan = make_plan(
        method,
        fusion,
        task,
        task_dir=task_dir,
        data_dir=data_dir,
        data=data,
        modalities=modalities,
        merge_labels=merge_labels,
        preset=preset,
        settings=settings,
        config=config,
        plugins=plugins,
        device=device,
    )
    check_numbers(precision, limit, seed, cache_gb)
    require_devices(plan.device, devices, nodes)
    runs = Path(runs_dir)
    require_writable(runs)
    if is_first_process():
        say(plan.task_data.notice)
    cells = make_cells(plan, folds, seed, merge_labels, limit, precision, devices * nodes, runs)

    from usbench.runs.compute import compute

    fabric = make_fabric(plan.device, devices, precision, nodes)
    results = []
    for cell in cells:
        result, new = compute(cell, fabric, overwrite, keep_weights, cache_gb)
        if not new and fabric.is_global_zero:
            say(f"{result.path}: finished before, not computed again (--overwrite does)")
        results.append(result)
    return results
