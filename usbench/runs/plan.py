"""`usbench run`: from the words of a user to finished cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from usbench.config import DEFAULT_FOLDS, Config, make_config, preset_names, read_config_file
from usbench.contracts.data import Task
from usbench.errors import UsbenchError, unknown
from usbench.runtime.console import say
from usbench.runtime.devices import PRECISIONS, choose_device

if TYPE_CHECKING:
    from usbench.contracts.method import Method
    from usbench.contracts.settings import DataSettings
    from usbench.datasets.resolve import TaskData
    from usbench.datasets.splits import Split
    from usbench.datasets.store import Store
    from usbench.fusions.registry import Brought
    from usbench.plugins.search import Found
    from usbench.runs.cell import Cell


@dataclass(frozen=True)
class Plan:
    """What a run is about to do, before any data is prepared.

    brought: the fusion, where a plugin brings it.
    """

    method: Method
    found: Found
    fusion: str
    task: Task
    task_data: TaskData
    config: Config
    device: str
    brought: Brought | None = None


@dataclass(frozen=True)
class Prepared:
    """The data of a task, ready for training, and its folds."""

    store: Store
    split: Split


def make_plan(
    method: str,
    fusion: str,
    task: str | None,
    *,
    task_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    data: str = "auto",
    modalities: Sequence[str] | None = None,
    merge_labels: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    device: str = "auto",
) -> Plan:
    """Resolve the words of `run` without preparing or training anything; the same errors."""
    from usbench.fusions.build import require_fusion
    from usbench.fusions.registry import get_fusion
    from usbench.methods.registry import all_problems, get_method
    from usbench.plugins.search import require_files

    if (task is None) == (task_dir is None):
        raise UsbenchError("name one of --task and --task-dir: a task, or a folder in MSD layout")
    files = [Path(p) for p in plugins]
    require_files(files)
    the_method, found = get_method(method, files)
    brought = get_fusion(fusion, files)
    require_fusion(the_method, fusion if brought is None else brought.fusion)
    the_task = make_task(task, task_dir, modalities, merge_labels, files)
    for problem in all_problems(files) if files else ():
        if problem.of_file:
            say(f"not used: {problem.text}")
    check_words(data, preset)
    chosen = choose_device(device)
    overrides = read_overrides(config, settings)
    # Settings are checked before a phantom is made or data is looked for.
    make_config(preset or "quick", the_method.settings, the_method.presets, overrides)
    task_data = find_task_data(the_task, data_dir, data, task_dir)
    return plan_of(the_method, found, fusion, the_task, task_data, preset, overrides, chosen, brought)


def make_task(
    task: str | None,
    task_dir: str | Path | None,
    modalities: Sequence[str] | None,
    merge_labels: str | None,
    plugins: Sequence[Path] = (),
) -> Task:
    """The task of that name or folder, with some of its modalities, and its labels merged."""
    from usbench.datasets.tasks import get_task, task_from_folder

    the_task = get_task(task, plugins) if task is not None else task_from_folder(Path(task_dir or "."))
    return the_task.with_modalities(modalities).merged(merge_labels)


def check_words(data: str, preset: str | None) -> None:
    """Raise `UsbenchError` for a kind of data or a preset that does not exist."""
    if data not in ("auto", "real", "phantom"):
        raise unknown("value of --data", data, ("auto", "real", "phantom"))
    if preset is not None and preset not in preset_names():
        raise unknown("preset", preset, preset_names())


def check_numbers(precision: str, limit: int | None, seed: int, cache_gb: float) -> None:
    """Raise `UsbenchError` for a precision that does not exist and for numbers out of range."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if limit is not None and limit < 2:
        raise UsbenchError(f"--limit {limit} leaves nothing to train on; use at least 2 cases")
    if not 0 <= seed < 2**31:
        raise UsbenchError(f"--seed {seed} is out of range; choose from 0 to {2**31 - 1}")
    if not 0 <= cache_gb < 1e6:
        raise UsbenchError(f"--cache-gb {cache_gb} is out of range; choose 0 or more GB")


def read_overrides(config: str | Path | None, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of a YAML file and those given one by one, which win."""
    return {**(read_config_file(Path(config)) if config else {}), **(settings or {})}


def find_task_data(
    task: Task, data_dir: str | Path | None, data: str, task_dir: str | Path | None
) -> TaskData:
    """Where the task's data is, see `usbench.datasets.resolve.find_data`."""
    from usbench.datasets.resolve import find_data

    return find_data(
        task,
        Path(data_dir) if data_dir else None,
        cast("Literal['auto', 'real', 'phantom']", data),
        Path(task_dir) if task_dir else None,
    )


def plan_of(
    method: Method,
    found: Found,
    fusion: str,
    task: Task,
    task_data: TaskData,
    preset: str | None,
    overrides: Mapping[str, Any],
    device: str,
    brought: Brought | None = None,
) -> Plan:
    """The plan of a method under a fusion protocol, once task, data and device are known."""
    name = preset or ("quick" if task_data.kind == "phantom" or device == "cpu" else "paper")
    own = {"train.mirror": task.mirrors, **overrides}
    effective = make_config(name, method.settings, method.presets, own)
    return Plan(method, found, fusion, task, task_data, effective, device, brought)


def prepare_data(task: Task, task_data: TaskData, settings: DataSettings, limit: int | None) -> Prepared:
    """Prepare the cases of a task, or the first `limit` of them, and split them into folds."""
    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.splits import make_split
    from usbench.datasets.store import prepare

    case_ids = open_reader(task, task_data.root).case_ids()[:limit] if limit else None
    store = prepare(task, task_data.root, settings, case_ids=case_ids)
    return Prepared(store, make_split(task, store.case_ids))


def find_prepared_data(
    task: Task, task_data: TaskData, settings: DataSettings, limit: int | None
) -> tuple[Store | None, Split]:
    """The store of a task, None where a case is still to be prepared, and its folds; nothing is written."""
    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.splits import make_split
    from usbench.datasets.store import find_prepared

    case_ids = open_reader(task, task_data.root).case_ids()[:limit]
    return find_prepared(task, task_data.root, settings, case_ids), make_split(task, case_ids)


def make_cells(
    plan: Plan,
    folds: str | Sequence[int] | None,
    seed: int,
    merge_labels: str | None,
    limit: int | None,
    precision: str,
    devices: int,
    runs_dir: Path,
    prepared: Prepared | None = None,
    digest: str | None = None,
) -> list[Cell]:
    """The cells of a plan, one a fold.

    prepared: the task's data, prepared here where it is not given. digest: the source hash of the
    method, likewise. devices: over all nodes.
    """
    from usbench.methods.registry import source_hash
    from usbench.runs.cell import Cell

    if prepared is None:
        prepared = prepare_data(plan.task, plan.task_data, plan.config.data, limit)
    chosen = parse_folds(
        DEFAULT_FOLDS[plan.config.preset] if folds is None else folds, len(prepared.split.folds)
    )
    code = source_hash(plan.method) if digest is None else digest
    return [
        Cell(
            task=plan.task,
            method=plan.method,
            found=plan.found,
            source_hash=code,
            fusion=plan.fusion,
            fold=fold,
            seed=seed,
            config=plan.config,
            kind=plan.task_data.kind,
            store=prepared.store,
            split=prepared.split,
            merge_labels=merge_labels,
            limit=limit,
            precision=precision,
            devices=devices,
            runs_dir=runs_dir,
            brought=plan.brought,
        )
        for fold in chosen
    ]


def parse_folds(folds: str | Sequence[int], count: int) -> list[int]:
    """ "all", "0,2" or numbers as a sorted list of folds below `count`."""
    if folds == "all":
        return list(range(count))
    parts = folds.split(",") if isinstance(folds, str) else list(folds)
    chosen = set()
    for part in parts:
        try:
            fold = int(part)
        except ValueError as error:
            raise UsbenchError(
                f"--folds '{folds}': '{part}' is not a fold; write all, or numbers such as 0,2"
            ) from error
        if not 0 <= fold < count:
            raise UsbenchError(f"--folds {fold}: this data has {count} folds; choose from 0 to {count - 1}")
        chosen.add(fold)
    return sorted(chosen)
