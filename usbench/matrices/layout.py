"""Which cells a matrix has, which of them are done, and what does not apply.

A cell here is the cell of `usbench run` with the same words: the same functions make both. A task's data is
found, prepared and split once, a method's code is hashed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.config import DEFAULT_FOLDS, make_config
from usbench.errors import UsbenchError, unknown
from usbench.matrices.words import Words
from usbench.results.io import load_result
from usbench.runs.plan import (
    Plan,
    Prepared,
    check_numbers,
    check_words,
    find_prepared_data,
    find_task_data,
    make_cells,
    make_task,
    parse_folds,
    plan_of,
    prepare_data,
)

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.contracts.method import Method
    from usbench.datasets.resolve import TaskData
    from usbench.fusions.registry import Brought
    from usbench.plugins.search import Found
    from usbench.results.io import Result
    from usbench.runs.cell import Cell


@dataclass(eq=False)
class Entry:
    """One cell of the matrix and what is known of it.

    cell: None where the task's data is not prepared yet (a dry run only). result: where it is
    finished. reason: why it cannot be used as it is: its result was edited, or it failed in this matrix.
    """

    plan: Plan
    task_dir: Path | None
    fold: int
    seed: int
    cell: Cell | None = None
    result: Result | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        plan = self.plan
        return f"{plan.task.name} {plan.method.name} {plan.fusion}, fold {self.fold}, seed {self.seed}"

    @cached_property
    def folder(self) -> Path | None:
        """The cell's folder; its name is a digest that is taken once."""
        return None if self.cell is None else self.cell.folder

    def look(self) -> bool:
        """Read the result if it is there; whether the cell is finished. Raises as `load_result` does."""
        if self.folder is not None and (self.folder / "result.json").exists():
            self.result = load_result(self.folder)
        return self.result is not None


@dataclass(frozen=True)
class Absent:
    """What was asked for by "all" and does not apply; method and fusion are "" for a whole task."""

    task: str
    method: str
    fusion: str
    reason: str

    def __str__(self) -> str:
        return " ".join(word for word in (self.task, self.method, self.fusion) if word) + f": {self.reason}"


@dataclass
class Layout:
    """A matrix before it is computed.

    broken: tasks whose data cannot be prepared, with the reason. remarks: lines for the user.
    """

    entries: list[Entry] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Ready:
    """A method with what is computed once for it: the digest of its code, and its settings."""

    method: Method
    found: Found
    digest: str
    overrides: Mapping[str, Any]


def lay_out(words: Words, device: str, prepare: bool = True) -> Layout:
    """The cells of a matrix, the finished ones read and verified.

    device: "cpu" or "cuda", where the cells are computed. prepare: prepare data that is not; else cells
    of such a task have no `cell`. Raises `UsbenchError` for words that are wrong and for names that were
    asked for and cannot be had; what "all" asks for and cannot be had is listed in `absent`. Data that
    cannot be prepared is listed in `broken`.
    """
    layout = Layout()
    check_words(words.data, words.preset)
    for seed in words.seeds:
        check_numbers(words.precision, words.limit, seed, words.cache_gb)
    methods = _methods(words, layout)
    fusions = _fusions(words)
    for task, task_data, task_dir in _tasks(words, layout):
        layout.remarks.append(task_data.notice)
        plans = []
        for ready in methods:
            for fusion in fusions:
                name, brought = fusion
                if reason := _not_applicable(ready.method, name, brought):
                    layout.absent.append(Absent(task.name, ready.method.name, name, reason))
                    continue
                facts = (ready.method, ready.found, name, task, task_data)
                plan = plan_of(*facts, words.preset, ready.overrides, device, brought)
                plans.append((plan, ready.digest))
        if plans:
            _add_task(layout, words, plans, task_dir, prepare)
    if not (layout.entries or layout.broken):
        raise UsbenchError(f"no cell is left to compute: {layout.absent[0]}")
    layout.entries = _ordered(layout.entries)
    return layout


def _add_task(
    layout: Layout,
    words: Words,
    plans: Sequence[tuple[Plan, str]],
    task_dir: Path | None,
    prepare: bool,
) -> None:
    first = plans[0][0]
    try:
        # Settings of the data belong to the preset, not to a method: all plans of a task have the same.
        store, split = find_prepared_data(first.task, first.task_data, first.config.data, words.limit)
    except UsbenchError as error:
        layout.broken[first.task.name] = str(error)
        return
    folds = parse_folds(
        DEFAULT_FOLDS[first.config.preset] if words.folds is None else words.folds, len(split.folds)
    )
    try:
        if store is None and prepare:
            store = prepare_data(first.task, first.task_data, first.config.data, words.limit).store
    except UsbenchError as error:
        layout.broken[first.task.name] = str(error)
        return
    for plan, digest in plans:
        for seed in words.seeds:
            if store is None:
                layout.entries += [Entry(plan, task_dir, fold, seed) for fold in folds]
                continue
            cells = make_cells(
                plan,
                folds,
                seed,
                words.merge_labels,
                words.limit,
                words.precision,
                words.devices,
                words.runs_dir,
                Prepared(store, split),
                digest,
            )
            for cell in cells:
                entry = Entry(plan, task_dir, cell.fold, seed, cell)
                layout.entries.append(entry)
                try:
                    entry.look()
                except UsbenchError as error:
                    entry.reason = str(error)


def _methods(words: Words, layout: Layout) -> list[_Ready]:
    from usbench.methods.registry import search
    from usbench.plugins.search import require_files

    require_files(words.plugins)
    methods = search(words.plugins)
    if words.methods is None:
        layout.absent += [Absent("", p.name or p.origin, "", p.text) for p in methods.problems]
    else:
        layout.remarks += [f"not used: {p.text}" for p in methods.problems if p.of_file]
    ready = []
    for name in words.methods or sorted(methods.found):
        where = methods.get(name) if words.methods else methods.found[name]
        try:
            ready.append(_ready(words, where))
        except UsbenchError as error:
            if words.methods is not None or not (where.installed or where.path):
                raise
            layout.absent.append(Absent("", name, "", str(error)))
    own = {key for key in words.overrides if key.startswith("method.")}
    for key in sorted(own):
        takers = [one.method.name for one in ready if key in one.overrides]
        if not takers:
            choices = {f"method.{inner}" for one in ready for inner in one.method.settings}
            raise unknown("setting of the methods", key, choices)
        if len(takers) < len(ready):
            layout.remarks.append(f"{key} is a setting of {', '.join(takers)}; the other methods have none")
    return ready


def _ready(words: Words, found: Found) -> _Ready:
    from usbench.methods.registry import source_hash

    method = found.load()
    overrides = words.overrides_for(method)
    # Settings are checked before a phantom is made or data is looked for.
    make_config(words.preset or "quick", method.settings, method.presets, overrides)
    return _Ready(method, found, source_hash(method), overrides)


def _fusions(words: Words) -> list[tuple[str, Brought | None]]:
    """The fusions by name; "all" are the three protocols, those of plugins are named."""
    from usbench.contracts.names import PROTOCOLS
    from usbench.fusions.registry import get_fusion

    return [(name, get_fusion(name, words.plugins)) for name in words.fusions or PROTOCOLS]


def _not_applicable(method: Method, fusion: str, brought: Brought | None) -> str:
    """Why the method does not run under the fusion; "" if it does."""
    from usbench.fusions.build import require_fusion

    try:
        require_fusion(method, fusion if brought is None else brought.fusion)
    except UsbenchError as error:
        return str(error)
    return ""


def _tasks(words: Words, layout: Layout) -> list[tuple[Task, TaskData, Path | None]]:
    from usbench.datasets.tasks import search_tasks, task_names

    named: Sequence[str] = words.tasks or ()
    every = words.tasks == ("all",) or (words.tasks is None and not words.task_dirs)
    there = [*task_names(), *sorted(search_tasks(words.plugins).found)] if every else []
    places: list[tuple[str | None, Path | None]] = [
        *((name, None) for name in (there if every else named)),
        *((None, folder) for folder in words.task_dirs),
    ]
    found = []
    for name, folder in places:
        try:
            task = make_task(name, folder, words.modalities, words.merge_labels, words.plugins)
            found.append((task, find_task_data(task, words.data_dir, words.data, folder), folder))
        except UsbenchError as error:
            if not every or folder is not None:
                raise
            layout.absent.append(Absent(str(name), "", "", str(error)))
    return found


def _ordered(entries: Sequence[Entry]) -> list[Entry]:
    """Seed by seed and fold by fold, so that a table fills evenly.

    One cell of every task and method with frozen parts comes first: it makes what the others wait for.
    """
    indexed = sorted(enumerate(entries), key=lambda pair: (pair[1].seed, pair[1].fold, pair[0]))
    first, rest, last = [], [], []
    seen = set()
    for _, entry in indexed:
        plan = entry.plan
        key = (plan.task_data.root, plan.task.name, plan.method.name)
        if plan.method.features is None:
            rest.append(entry)
        elif key in seen:
            last.append(entry)
        else:
            seen.add(key)
            first.append(entry)
    return [*first, *rest, *last]
