"""`usbench.matrix`: every missing cell of a table is computed, whatever becomes of some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.contracts.request import CACHE_GB
from usbench.matrices.request import ALL, MatrixRequest
from usbench.runtime.console import count, say
from usbench.weights.needed import require_weights

if TYPE_CHECKING:
    from pandas import DataFrame

    from usbench.matrices.estimate import Measured
    from usbench.matrices.plan import NotApplicable, PlannedCell
    from usbench.results.result import Results
    from usbench.runs.plan import Plan


@dataclass(repr=False)
class Matrix:
    """A matrix after it was computed.

    Attributes:
        cells: its cells; `planned.result` is the finished cell, `planned.reason` says why there is none.
        not_applicable: what "all" asks for and does not apply.
        broken: tasks whose data cannot be prepared, each with the reason.
        runs_dir: the folder below which the results are.
        computed: how many cells were computed now.
        before: how many cells were finished before.
        workers: how many cells at once.
        measured: in a dry run, what finished cells say of the time and size of those to be computed.
        features: in a dry run, what the frozen features of those to be computed will take, in lines.
        evaluated: how many tracks were computed now.
        lost: by name of a cell and a track, why that track failed.
        keep: whether the trained networks are kept.
        networks: in a dry run, the bytes of the network of each cell to be computed, where it is kept.
        unknown: in a dry run, methods whose networks have no known size, with the reason.
    """

    cells: list[PlannedCell]
    not_applicable: list[NotApplicable]
    broken: dict[str, str]
    runs_dir: Path
    computed: int = 0
    before: int = 0
    workers: int = 1
    measured: dict[PlannedCell, Measured] = field(default_factory=dict)
    features: list[str] = field(default_factory=list)
    evaluated: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    keep: bool = True
    networks: dict[PlannedCell, int] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def results(self) -> Results:
        """The finished cells."""
        from usbench.results.result import Results

        return Results(planned.result for planned in self.cells if planned.result is not None)

    def to_frame(self) -> DataFrame:
        """The finished cells as a data frame, a row each: as `usbench.run(...).to_frame()`."""
        return self.results.to_frame()

    def __repr__(self) -> str:
        return (
            f"<Matrix: {count(self.cells, 'cell')}, {len(self.results)} finished, {len(self.failed)} failed, "
            f"{self.runs_dir}>"
        )

    def _repr_html_(self) -> str:
        """The finished cells and the reasons of what failed, for a notebook."""
        failed = "".join(f"<li>{escape(f'{name}: {reason}')}</li>" for name, reason in self.failed.items())
        return f"<p>{escape(repr(self)[1:-1])}</p>{self.results._repr_html_()}<ul>{failed}</ul>"

    @property
    def failed(self) -> dict[str, str]:
        """What failed: the name of the cell, or of the task whose data is broken, and the reason."""
        cells = {planned.name: planned.reason for planned in self.cells if planned.reason}
        return {**self.broken, **cells, **self.lost}


def matrix(
    methods: str | Sequence[str] = "all",
    fusions: str | Sequence[str] = "all",
    tasks: str | Sequence[str] | None = None,
    *,
    task_dirs: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
    data: str = "auto",
    scanner: int = 1,
    modalities: Sequence[str] | None = None,
    merge_labels: str | None = None,
    folds: str | Sequence[int] | None = None,
    train_share: str | float | Sequence[float] = (),
    train_cases: str | int | Sequence[int] = (),
    seeds: str | int | Sequence[int] = (0,),
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    device: str = "auto",
    devices: int = 1,
    precision: str = "32",
    runs_dir: str | Path = "runs",
    limit: int | None = None,
    keep_weights: bool = True,
    loggers: Sequence[str] = (),
    cache_gb: float = CACHE_GB,
    yes: bool = False,
    address: str | None = None,
    slurm: str | None = None,
    workers: int | None = None,
    cpus_per_run: int | None = None,
    gpus_per_run: float | None = None,
    tracks: Sequence[str] = (),
    external: str | None = None,
    labels: str | None = None,
    dry_run: bool = False,
) -> Matrix:
    """Compute the cells methods x fusions x tasks x folds x seeds that are not finished yet.

    The cells are those of `usbench.run`. What fails is told in `Matrix.failed` and in matrix-failures.json,
    and stops nothing else. What "all" names and does not apply is left out and listed.

    Args:
        methods: names, or "all", those of plugins among them.
        fusions: names, or "all": early, hybrid and late.
        tasks: names, or "all", those of plugins among them; by default all, or none with `task_dirs`.
        task_dirs: folders in the layout of the Medical Segmentation Decathlon.
        data_dir: as for `usbench.run`, and so are the options from here to `yes`.
        data: "auto", "real" or "phantom".
        scanner: of phantoms: 1, or 2 for other patients in another scanner.
        modalities: a subset, by name.
        merge_labels: makes one foreground class of that name out of all.
        folds: "all", "0,2" or numbers.
        train_share: shares of a fold's training patients to train on, such as (0.1, 0.3, 1), a cell each.
        train_cases: the same as numbers of patients, such as (2, 5).
        seeds: numbers, or a text such as "0,1,2".
        preset: "paper", "quick" or "smoke".
        settings: {"train.epochs": 5}; "method.KEY" goes to the methods that have it.
        config: a YAML file of settings.
        plugins: Python files with methods, tasks or fusions.
        device: "auto", "cpu" or "cuda".
        devices: how many of them train one cell together.
        precision: "32", "bf16" or "16".
        runs_dir: where results are written.
        limit: use the first so many cases only.
        keep_weights: keep the trained network of each cell beside its result.
        loggers: experiment trackers, of `usbench.contracts.request.LOGGERS`, which follow every cell.
        cache_gb: bound on stored features of frozen parts, in GB.
        yes: compute frozen features without asking, however long they take and whether they fit or not.
        address: of a Ray cluster.
        slurm: compute cells as jobs of Slurm, as in "partition=gpu,gpus=1,time=12:00:00"; "default" asks for
            nothing, "local" tries it on this machine.
        workers: how many cells at once, by default as many as fit; with one, or without Ray, cells are
            computed one after another in this process.
        cpus_per_run: cores of one cell (default: 1; all with one worker).
        gpus_per_run: GPUs of one cell (default: 0.5).
        tracks: "robustness", "external": then the network of every finished cell is tested on these.
        external: other data for the track external: a task, a task file or a folder in MSD layout; by default
            scanner 2 of phantoms.
        labels: for the track external, "class of the cells=class of the data,...".
        dry_run: compute nothing.

    Returns:
        The cells, with the results of those that are finished.

    Raises:
        UsbenchError: for values that are wrong, before anything is computed.
    """
    # Before any other name is bound: the arguments are the options of a request, under their own names.
    options = dict(locals())
    del options["dry_run"]
    return compute_matrix(MatrixRequest.of(**options), dry_run)


def compute_matrix(request: MatrixRequest, dry_run: bool = False) -> Matrix:
    """Compute the cells of a request that are not finished yet.

    Args:
        request: what was asked for.
        dry_run: compute and write nothing but phantoms that are not there, only say which cells are missing
            and what they are likely to take.

    Returns:
        The cells, with the results of those that are finished.

    Raises:
        UsbenchError: for values that are wrong, before anything is computed.
    """
    from usbench.matrices.drive import compute_all
    from usbench.matrices.estimate import key_of_planned, measure
    from usbench.matrices.plan import plan_matrix
    from usbench.matrices.resources import find_place
    from usbench.matrices.slurm_words import parse_slurm
    from usbench.runs.consent import outlook_lines, require_consent
    from usbench.runs.disk import bytes_of_plans
    from usbench.storage.files import require_writable
    from usbench.tracks.external import parse_labels

    parse_labels(request.labels)
    if request.slurm is not None:
        parse_slurm(request.slurm)
    request = _settled(request)
    runs_dir = request.shared.runs_dir
    with ExitStack() as stack:
        place = find_place(stack, request)
        if not dry_run:
            require_writable(runs_dir)
        plan = plan_matrix(request, place.device, prepare=not dry_run)
        for line in plan.remarks:
            say(line)
        before = sum(planned.result is not None for planned in plan.cells)
        made = Matrix(plan.cells, plan.not_applicable, plan.broken, runs_dir, before=before)
        made.workers = place.workers if place.parallel or place.queue else 1
        made.keep = request.shared.keep_weights
        if dry_run:
            known = measure(runs_dir)
            keys = {planned: key_of_planned(planned) for planned in plan.cells}
            made.measured = {planned: known[key] for planned, key in keys.items() if key in known}
            made.features = outlook_lines(_plans_to_do(plan.cells))
            if made.keep:
                todo = [planned for planned in plan.cells if planned.result is None]
                sizes, made.unknown = bytes_of_plans(planned.plan for planned in todo)
                made.networks = {one: sizes[id(one.plan)] for one in todo if id(one.plan) in sizes}
        else:
            cells = [planned.cell for planned in plan.cells if planned.cell and not planned.result]
            if request.methods != ALL:
                require_weights(name for c in cells for name in c.method.needed_weights(c.config.method))
            require_consent(cells, place.device, request.shared.yes)
            made.computed = compute_all(stack, plan, runs_dir, place)
            if request.tracks:
                from usbench.matrices.evaluating import evaluate_all

                made.evaluated, made.lost = evaluate_all(stack, plan.cells, request, place)
    return made


def _plans_to_do(cells: Sequence[PlannedCell]) -> list[Plan]:
    """The plans of the cells that are not finished, each for the folds that are left of it."""
    folds: dict[int, tuple[Plan, list[int]]] = {}
    for planned in cells:
        if planned.result is None:
            folds.setdefault(id(planned.plan), (planned.plan, []))[1].append(planned.fold)
    return [
        replace(plan, request=plan.request.with_(folds=",".join(map(str, numbers))))
        for plan, numbers in folds.values()
    ]


def _settled(request: MatrixRequest) -> MatrixRequest:
    """The request with its file of settings read, once, and with folders that hold in every process."""
    from usbench.runs.plan import read_settings

    shared = request.shared
    data_dir = shared.data_dir.absolute() if shared.data_dir else None
    settled = shared.with_(
        settings=read_settings(shared),
        config=None,
        data_dir=data_dir,
        runs_dir=shared.runs_dir.absolute(),
    )
    return request.with_(shared=settled)
