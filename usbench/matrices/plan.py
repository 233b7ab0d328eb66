"""Which cells a matrix has, which of them are done, and what does not apply.

A cell here is the cell of `usbench run` with the same words: the same functions make both. A task's data is
found, prepared and split once, a method's code is hashed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.config import Config, make_config
from usbench.errors import UsbenchError, unknown
from usbench.fusions.registry import settings_of
from usbench.matrices.request import ALL
from usbench.matrices.weights import have_weights
from usbench.results.io import load_result
from usbench.runs.plan import (
    Plan,
    Prepared,
    chosen_parts,
    find_prepared_data,
    find_task_data,
    make_cells,
    make_task,
    plan_of,
    prepare_data,
    require_pipeline_request,
)

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.contracts.few import FewPatients
    from usbench.contracts.fusion import Fusion
    from usbench.contracts.method import Method
    from usbench.contracts.request import Request
    from usbench.datasets.resolve import TaskData
    from usbench.fusions.registry import FoundFusion
    from usbench.matrices.request import MatrixRequest
    from usbench.plugins.search import Found
    from usbench.results.result import Result
    from usbench.runs.cell import Cell


@dataclass(eq=False)
class PlannedCell:
    """One cell of the matrix and what is known of it.

    Attributes:
        plan: what `usbench run` would do for its task, method, fusion and seed.
        fold: the test fold, from 0.
        cell: None where the task's data is not prepared yet (a dry run only).
        result: its result, None where it is not finished.
        reason: why it has no usable result: the result was edited, or the cell failed in this matrix. Else
            "".
        few: what part of the training patients it is trained on, None for all.
    """

    plan: Plan
    fold: int
    cell: Cell | None = None
    result: Result | None = None
    reason: str = ""
    few: FewPatients | None = None

    @property
    def seed(self) -> int:
        """The seed of the cell."""
        return self.plan.request.seed

    @property
    def name(self) -> str:
        """The cell in words: task, method, fusion, fold, seed and part of the training patients."""
        plan = self.plan
        part = "" if self.few is None else f", {self.few}"
        return f"{plan.task.name} {plan.method.name} {plan.fusion}, fold {self.fold}, seed {self.seed}{part}"

    @cached_property
    def folder(self) -> Path | None:
        """The cell's folder; its name is a digest that is taken once."""
        return None if self.cell is None else self.cell.folder

    @property
    def command(self) -> str:
        """The command line that computes this cell alone, "" where its data is not prepared yet."""
        return "" if self.cell is None else str(self.cell.request)

    def look(self) -> bool:
        """Read the cell's result into `result`, if it is there.

        Returns:
            Whether the cell is finished.

        Raises:
            UsbenchError: where the result cannot be read or was edited, as `load_result` does.
        """
        if self.folder is not None and (self.folder / "result.json").exists():
            self.result = load_result(self.folder)
        return self.result is not None


@dataclass(frozen=True)
class NotApplicable:
    """What was asked for by "all" and does not apply.

    Attributes:
        task: name of the task; "" where a method cannot be used at all.
        method: name of the method; "" for a whole task.
        fusion: name of the fusion; "" for a whole task or method.
        reason: why it does not apply.
    """

    task: str
    method: str
    fusion: str
    reason: str

    def __str__(self) -> str:
        return " ".join(word for word in (self.task, self.method, self.fusion) if word) + f": {self.reason}"


@dataclass
class PlannedMatrix:
    """A matrix before it is computed.

    Attributes:
        cells: in the order in which they are to be computed.
        not_applicable: what "all" asks for and does not apply.
        broken: tasks whose data cannot be prepared, each with the reason.
        remarks: lines for the user.
    """

    cells: list[PlannedCell] = field(default_factory=list)
    not_applicable: list[NotApplicable] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Ready:
    """A method with what is computed once for it: the digest of its code, and its settings."""

    method: Method
    found: Found
    digest: str
    settings: Mapping[str, Any]


def plan_matrix(request: MatrixRequest, device: str, prepare: bool = True) -> PlannedMatrix:
    """The cells of a matrix, the finished ones read and verified.

    Args:
        request: what was asked for, its file of settings read and its folders absolute.
        device: "cpu" or "cuda", where the cells are computed.
        prepare: prepare data that is not; else cells of such a task have no `cell`.

    Returns:
        The matrix. What "all" asks for and does not apply is listed in `not_applicable`, data that cannot be
        prepared in `broken`.

    Raises:
        UsbenchError: for values that are wrong and for names that were asked for and are not there.
    """
    matrix = PlannedMatrix()
    fusions = _fusions(request, matrix)
    methods = _with_weights(request, _methods(request, matrix), matrix, prepare)
    for task, task_data, shared in _tasks(request, matrix):
        matrix.remarks.append(task_data.notice)
        plans = []
        for ready in methods:
            for fusion in fusions:
                if reason := _not_applicable(ready.method, fusion.fusion):
                    why = NotApplicable(task.name, ready.method.name, fusion.name, reason)
                    matrix.not_applicable.append(why)
                    continue
                settings = settings_of(fusion.fusion, ready.settings)
                own = shared.with_(method=ready.method.name, fusion=fusion.name, settings=settings)
                facts = (ready.method, ready.found, fusion, task, task_data, settings, device)
                plans.append((plan_of(own, *facts), ready.digest))
        if plans:
            _add_task(matrix, request.seeds, plans, prepare)
    if not (matrix.cells or matrix.broken):
        raise UsbenchError(f"no cell is left to compute: {matrix.not_applicable[0]}")
    matrix.cells = _ordered(matrix.cells)
    return matrix


def _add_task(
    matrix: PlannedMatrix, seeds: Sequence[int], plans: Sequence[tuple[Plan, str]], prepare: bool
) -> None:
    # Settings of the data belong to the preset, not to a method: all plans of a task have the same.
    first = plans[0][0]
    try:
        store, split = find_prepared_data(first)
    except UsbenchError as error:
        matrix.broken[first.task.name] = str(error)
        return
    parts = chosen_parts(first, split)
    try:
        if store is None and prepare:
            store = prepare_data(first).store
    except UsbenchError as error:
        matrix.broken[first.task.name] = str(error)
        return
    for plan, digest in plans:
        for seed in seeds:
            seeded = replace(plan, request=plan.request.with_(seed=seed))
            if store is None:
                matrix.cells += [PlannedCell(seeded, fold, few=few) for fold, few in parts]
                continue
            for cell in make_cells(seeded, Prepared(store, split), digest):
                planned = PlannedCell(seeded, cell.fold, cell, few=cell.few)
                matrix.cells.append(planned)
                try:
                    planned.look()
                except UsbenchError as error:
                    planned.reason = str(error)


def _methods(request: MatrixRequest, matrix: PlannedMatrix) -> list[_Ready]:
    from usbench.methods.registry import search
    from usbench.plugins.search import require_files

    plugins, every = request.shared.plugins, request.methods == ALL
    require_files(plugins)
    methods = search(plugins)
    if every:
        matrix.not_applicable += [NotApplicable("", p.name or p.origin, "", p.text) for p in methods.problems]
    else:
        matrix.remarks += [f"not used: {p.text}" for p in methods.problems if p.of_file]
    ready = []
    for name in sorted(methods.found) if every else request.methods:
        where = methods.found[name] if every else methods.get(name)
        try:
            one = _ready(request, where)
        except UsbenchError as error:
            if not every or not (where.installed or where.path):
                raise
            matrix.not_applicable.append(NotApplicable("", name, "", str(error)))
            continue
        if not (why := _lacks_its_program(request, one)):
            ready.append(one)
        elif every:
            matrix.not_applicable.append(NotApplicable("", name, "", why))
        else:
            raise UsbenchError(why)
    if ready and all(one.method.pipeline is not None for one in ready):
        # Beside networks such a setting is of them; here it is of nobody.
        for one in ready:
            require_pipeline_request(one.method, request.shared, request.shared.settings)
    own = {key for key in request.shared.settings if key.startswith(("method.", "volume."))}
    for key in sorted(own):
        takers = [one.method.name for one in ready if key in one.settings]
        if not takers:
            choices = {f"method.{inner}" for one in ready for inner in one.method.settings}
            if key.startswith("volume."):
                raise UsbenchError(
                    f"setting {key}: none of the methods is one of volumes (dims=3); leave it out"
                )
            raise unknown("setting of the methods", key, choices)
        if len(takers) < len(ready):
            matrix.remarks.append(f"{key} is a setting of {', '.join(takers)}; the other methods have none")
    return ready


def _with_weights(
    request: MatrixRequest, ready: Sequence[_Ready], matrix: PlannedMatrix, prepare: bool
) -> list[_Ready]:
    """The methods whose pretrained weights are here, see `usbench.matrices.weights.have_weights`."""
    networks = {one.method.name: one for one in ready if one.method.pipeline is None}
    needed = {name: one.method.needed_weights(_config(request, one).method) for name, one in networks.items()}
    why, remarks = have_weights(needed, request.shared.runs_dir, request.methods == ALL, prepare)
    matrix.remarks += remarks
    matrix.not_applicable += [NotApplicable("", name, "", reason) for name, reason in why.items()]
    return [one for one in ready if one.method.name not in why]


def _ready(request: MatrixRequest, found: Found) -> _Ready:
    from usbench.methods.registry import source_hash

    method = found.load()
    one = _Ready(method, found, source_hash(method), request.settings_for(method))
    _config(request, one)  # Settings are checked before a phantom is made or data is looked for.
    return one


def _config(request: MatrixRequest, one: _Ready) -> Config:
    own = {key: value for key, value in one.settings.items() if not key.startswith("fusion.")}
    of, preset = one.method, request.shared.preset or "quick"
    return make_config(preset, of.settings, of.presets, own, dims=of.dims)


def _lacks_its_program(request: MatrixRequest, one: _Ready) -> str:
    """Why the program of an outside pipeline cannot run here; "" where it can, and for other methods."""
    pipeline = one.method.pipeline
    if pipeline is not None and pipeline.check is not None:
        try:
            pipeline.check(_config(request, one).method)
        except UsbenchError as error:
            return str(error)
    return ""


def _fusions(request: MatrixRequest, matrix: PlannedMatrix) -> list[FoundFusion]:
    """The fusions; "all" are the three protocols, those of plugins are named."""
    from usbench.contracts.names import PROTOCOLS
    from usbench.fusions.registry import get_fusion, require_settings

    shared = request.shared
    names = PROTOCOLS if request.fusions == ALL else request.fusions
    fusions = [get_fusion(name, shared.plugins) for name in names]
    require_settings(fusions, shared.settings)
    for key in sorted(key for key in shared.settings if key.startswith("fusion.")):
        takers = [one.name for one in fusions if key.removeprefix("fusion.") in one.fusion.settings]
        if len(takers) < len(fusions):
            matrix.remarks.append(f"{key} is a setting of {', '.join(takers)}; the other fusions have none")
    for one in fusions:
        # Their values are checked before a phantom is made or data is looked for.
        own = settings_of(one.fusion, shared.settings)
        of_fusion = {key: value for key, value in own.items() if key.startswith("fusion.")}
        make_config(shared.preset or "quick", {}, {}, of_fusion, one.fusion)
    return fusions


def _not_applicable(method: Method, fusion: Fusion) -> str:
    """Why the method does not run under the fusion; "" if it does."""
    from usbench.fusions.build import require_fusion

    try:
        require_fusion(method, fusion)
    except UsbenchError as error:
        return str(error)
    return ""


def _tasks(request: MatrixRequest, matrix: PlannedMatrix) -> list[tuple[Task, TaskData, Request]]:
    """The tasks with their data, and the request that all their cells share."""
    from usbench.datasets.tasks import benchmark_tasks, search_tasks

    shared, every = request.shared, request.every_task
    there = request.tasks or ()
    if every:
        there = (*benchmark_tasks(), *sorted(search_tasks(shared.plugins).found))
    asked = [
        *(shared.with_(task=name) for name in there),
        *(shared.with_(task_dir=folder) for folder in request.task_dirs),
    ]
    found = []
    for one in asked:
        try:
            task = make_task(one)
            found.append((task, find_task_data(task, one), one))
        except UsbenchError as error:
            if not every or one.task is None:
                raise
            matrix.not_applicable.append(NotApplicable(one.task, "", "", str(error)))
    return found


def _ordered(cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Seed by seed and fold by fold, so that a table fills evenly.

    One cell of every task and method with frozen parts comes first: it makes what the others wait for.
    """
    indexed = sorted(enumerate(cells), key=lambda pair: (pair[1].seed, pair[1].fold, pair[0]))
    # Rows of every modality, which late fusion has stored, also give the means that other fusions read.
    indexed.sort(key=lambda pair: pair[1].plan.method.features is not None and pair[1].plan.fusion != "late")
    first, rest, last = [], [], []
    seen = set()
    for _, planned in indexed:
        plan = planned.plan
        key = (plan.task_data.root, plan.task.name, plan.method.name)
        if plan.method.features is None:
            rest.append(planned)
        elif key in seen:
            last.append(planned)
        else:
            seen.add(key)
            first.append(planned)
    return [*first, *rest, *last]
