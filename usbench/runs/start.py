"""`usbench run`: from what a user asks for to finished cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.contracts.request import CACHE_GB, Request
from usbench.results.network_file import is_outside, network_state
from usbench.results.result import Result, Results
from usbench.results.running import PROGRESS
from usbench.runs.consent import require_consent
from usbench.runs.pipelines.places import FOLDER
from usbench.runs.plan import make_cells, make_plan
from usbench.runs.watchers.group import require_watchers
from usbench.runs.watchers.loggers import make_loggers
from usbench.runtime.console import say
from usbench.runtime.devices import is_first_process, make_fabric, require_devices
from usbench.storage.files import require_writable
from usbench.weights.needed import require_weights

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.contracts.watcher import Watcher


def run(
    method: str = "unet",
    fusion: str = "late",
    task: str | None = None,
    *,
    task_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    data: str = "auto",
    scanner: int = 1,
    modalities: Sequence[str] | None = None,
    merge_labels: str | None = None,
    folds: str | Sequence[int] | None = None,
    train_share: str | float | Sequence[float] = (),
    train_cases: str | int | Sequence[int] = (),
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
    keep_weights: bool = True,
    loggers: Sequence[str] = (),
    cache_gb: float = CACHE_GB,
    yes: bool = False,
    watchers: Sequence[Watcher] = (),
) -> Results:
    """Compute cells of the benchmark, one for each fold and each part of its training patients.

    A finished cell is returned, not computed again, unless `overwrite`; a stopped one goes on from its last
    epoch. On a CPU torch is set to deterministic algorithms, for the process.

    Args:
        method: name of a method.
        fusion: "early", "hybrid", "late", or the name of a plugin's fusion.
        task: name of a task; or give `task_dir`.
        task_dir: a folder in the layout of the Medical Segmentation Decathlon.
        data_dir: the folder that holds the data sets; by default what USBENCH_DATA names.
        data: "real" (absence is an error), "phantom", or "auto" (real data where it is, else the phantom).
        scanner: of a phantom: 1, or 2 for other patients in another scanner.
        modalities: a subset, by name.
        merge_labels: makes one foreground class of that name out of all.
        folds: "all", "0,2" or numbers; by default what the preset says.
        train_share: shares of a fold's training patients to train on, such as (0.1, 0.3, 1), a cell each; by
            default all of them.
        train_cases: the same as numbers of patients, such as (2, 5).
        seed: of every random draw, 0 to 2**31 - 1.
        preset: "paper", "quick" or "smoke"; by default quick on phantoms and on a CPU, else paper.
        settings: {"train.epochs": 5}; they win over those of `config`.
        config: a YAML file of settings.
        plugins: Python files with methods, tasks or fusions.
        device: "auto", "cpu" or "cuda".
        devices: how many of them train a cell together on each node.
        nodes: how many machines train together; the same call is made on each of them.
        precision: "32", "bf16" or "16".
        runs_dir: where results are written.
        limit: use the first so many cases only; such a run is never ranked.
        overwrite: compute finished cells again.
        keep_weights: keep the trained network beside the result, see `usbench.load_network`.
        loggers: experiment trackers, of `usbench.contracts.request.LOGGERS`.
        cache_gb: bound on stored features of frozen parts, in GB.
        yes: compute frozen features without asking, however long they take and whether they fit or not.
        watchers: your own, see `usbench.Watcher`.

    Returns:
        The results, in order of fold: a list, and with `to_frame()` a table.

    Raises:
        UsbenchError: one line that names what is wrong and the remedy.
    """
    # Before any other name is bound: the arguments are the options of a request, under their own names.
    asked = {name: value for name, value in locals().items() if name != "watchers"}
    return run_request(Request(**asked), watchers)


def run_request(request: Request, watchers: Sequence[Watcher] = ()) -> Results:
    """Compute the cells that a request asks for.

    Args:
        request: one method under one fusion on one task.
        watchers: of the user; they see what is computed, one cell after the other.

    Returns:
        The results, one for each fold and part of its training patients, in order of fold.

    Raises:
        UsbenchError: one line that names what is wrong and the remedy.
    """
    require_watchers(watchers)
    make_loggers(request.loggers)
    plan = make_plan(request, weights=True)
    require_devices(plan.device, request.devices, request.nodes)
    require_writable(request.runs_dir)
    if is_first_process():
        say(plan.task_data.notice)
    cells = make_cells(plan)
    done = {} if request.overwrite else {cell.key: found for cell in cells if (found := cell.finished())}
    todo = [cell for cell in cells if cell.key not in done]
    if todo:
        require_weights(plan.method.needed_weights(plan.config.method))
    if todo and is_first_process():
        require_consent(todo, plan.device, request.yes)
    if request.all_devices > 1:
        done = {}  # The processes of a cell must all go the same way, and start together.

    fabric: Fabric | None = None
    results = Results()
    for cell in cells:
        result, new = done.get(cell.key), False
        if result is None or _unfinished_business(cell.folder):
            # Both take seconds to import, which a run that has all its results does not need.
            from usbench.runs.compute import compute

            if fabric is None:
                fabric = make_fabric(plan.device, request.devices, request.precision, request.nodes)
            result, new = compute(cell, fabric, watchers)
        if not new and (fabric is None or fabric.is_global_zero):
            say(_finished_before(result, request.keep_weights))
        results.append(result)
    return results


def _unfinished_business(folder: Path) -> bool:
    """Whether a finished cell still has what its training left, since it was killed just after its result."""
    left = [folder / FOLDER, folder / PROGRESS, *folder.glob("checkpoint*")]
    return any(one.exists() for one in left)


def _finished_before(result: Result, keep: bool) -> str:
    """What is said of a cell that was not computed now; `keep`: its network was asked for."""
    state = network_state(result)
    if not keep or state == "kept" or is_outside(result):
        return f"{result.path}: finished before, not computed again (--overwrite does)"
    what = "its network was removed since" if state == "removed" else "without its network"
    return f"{result.path}: finished before, {what}; --overwrite computes it again and keeps it"
