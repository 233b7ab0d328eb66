"""`usbench.matrix`: every missing cell of a table is computed, whatever becomes of some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.config import CACHE_GB
from usbench.matrices.words import Names, Words, names, numbers
from usbench.runtime.console import say

if TYPE_CHECKING:
    from usbench.matrices.estimate import Measured
    from usbench.matrices.layout import Absent, Entry
    from usbench.results.io import Result


@dataclass
class Matrix:
    """A matrix after it was computed.

    entries: its cells; `entry.result` is the finished cell, `entry.reason` says why there is none.
    absent: what does not apply. broken: tasks whose data cannot be prepared, with the reason.
    computed, before: how many cells were computed now, and how many were finished before. workers: how many
    at once. measured: in a dry run, what finished cells say of those that are to be computed.
    """

    entries: list[Entry]
    absent: list[Absent]
    broken: dict[str, str]
    runs_dir: Path
    computed: int = 0
    before: int = 0
    workers: int = 1
    measured: dict[Entry, Measured] = field(default_factory=dict)

    @property
    def results(self) -> list[Result]:
        """The finished cells."""
        return [entry.result for entry in self.entries if entry.result is not None]

    @property
    def failed(self) -> dict[str, str]:
        """What failed: the name of the cell, or of the task whose data is broken, and the reason."""
        return {**self.broken, **{entry.name: entry.reason for entry in self.entries if entry.reason}}


def matrix(
    methods: Names = "all",
    fusions: Names = "all",
    tasks: Names | None = None,
    *,
    task_dirs: Sequence[str | Path] = (),
    folds: str | Sequence[int] | None = None,
    seeds: str | int | Sequence[int] = (0,),
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    modalities: Sequence[str] | None = None,
    merge_labels: str | None = None,
    data_dir: str | Path | None = None,
    data: str = "auto",
    plugins: Sequence[str | Path] = (),
    device: str = "auto",
    devices: int = 1,
    precision: str = "32",
    runs_dir: str | Path = "runs",
    limit: int | None = None,
    cache_gb: float = CACHE_GB,
    address: str | None = None,
    workers: int | None = None,
    cpus_per_run: int | None = None,
    gpus_per_run: float | None = None,
    dry_run: bool = False,
) -> Matrix:
    """Compute the cells methods x fusions x tasks x folds x seeds that are not finished yet.

    methods, fusions, tasks: names, or "all"; tasks are all by default, none where task_dirs names
    folders in MSD layout. All methods and tasks are those of plugins too, all fusions are early, hybrid
    and late. What "all" names and does not apply is left out and listed. The words from folds to
    cache_gb are those of `usbench.run`, and so are the cells; a setting "method.KEY" goes to the methods
    that have it. address: of a Ray cluster. workers: how many cells at once; by default as many as fit
    with cpus_per_run cores (default 1) and, on a GPU, gpus_per_run of one (default 0.5); with one, or
    without Ray, cells are computed one after another in this process. dry_run: compute nothing.

    What fails is told in `Matrix.failed` and in matrix-failures.json, and stops nothing else.
    Raises `UsbenchError` for words that are wrong, before anything is computed.
    """
    from usbench.matrices.drive import compute_all
    from usbench.matrices.estimate import key_of_entry, measure
    from usbench.matrices.layout import lay_out
    from usbench.matrices.resources import find_place
    from usbench.runs.plan import read_overrides
    from usbench.storage.files import require_writable

    chosen = names(tasks, "--tasks")
    if tasks is not None and chosen is None and task_dirs:
        chosen = ("all",)
    words = Words(
        methods=names(methods, "--methods"),
        fusions=names(fusions, "--fusions"),
        tasks=chosen,
        task_dirs=tuple(Path(folder) for folder in task_dirs),
        folds=folds,
        seeds=numbers(seeds, "--seeds"),
        preset=preset,
        overrides=read_overrides(config, settings),
        modalities=modalities,
        merge_labels=merge_labels,
        data_dir=Path(data_dir).expanduser().absolute() if data_dir else None,
        data=data,
        plugins=tuple(Path(plugin) for plugin in plugins),
        devices=devices,
        precision=precision,
        runs_dir=Path(runs_dir).absolute(),
        limit=limit,
        cache_gb=cache_gb,
    )
    with ExitStack() as stack:
        place = find_place(stack, device, devices, address, workers, cpus_per_run, gpus_per_run)
        if not dry_run:
            require_writable(words.runs_dir)
        layout = lay_out(words, place.device, prepare=not dry_run)
        for line in layout.remarks:
            say(line)
        before = sum(entry.result is not None for entry in layout.entries)
        made = Matrix(layout.entries, layout.absent, layout.broken, words.runs_dir, before=before)
        made.workers = place.workers if place.parallel else 1
        if dry_run:
            known = measure(words.runs_dir)
            keys = {entry: key_of_entry(entry, words, place.device) for entry in layout.entries}
            made.measured = {entry: known[key] for entry, key in keys.items() if key in known}
        else:
            made.computed = compute_all(stack, layout, words, place)
    return made
