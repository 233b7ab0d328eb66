"""Before hours of frozen features, or more than fit, a run asks; a dry run says what they take."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from usbench.datasets.store import Store
from usbench.errors import UsbenchError
from usbench.features.total import features_dir, stored_bytes
from usbench.runtime.console import count, duration

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.features.estimate import Ahead, Need
    from usbench.runs.cell import Cell
    from usbench.runs.plan import Plan

ASK_SECONDS = 3600.0
"""Features that take longer than this are not computed without a yes."""

FEW_SLICES = 40
"""So few are computed without asking, and without timing one first."""


@dataclass(frozen=True)
class Outlook:
    """What the features of some cells will take, and what there is.

    Attributes:
        needs: By feature; empty where all are stored.
        cache_gb: The bound on stored features, in GB (10^9 bytes).
        held: Bytes that stored features take now.
        free: Bytes that are free on the disk of the cache.
        device: Where features are computed, in words.
    """

    needs: Sequence[Need]
    cache_gb: float
    held: int
    free: int
    device: str

    @property
    def seconds(self) -> float:
        """Of computing what can be stored."""
        return sum(need.seconds for need in self.needs)

    @property
    def bytes(self) -> int:
        """Of all that is to be stored, were there no bound."""
        return sum(need.bytes for need in self.needs)

    @property
    def excess(self) -> list[str]:
        """Which bounds are exceeded, in words; empty where nothing needs to be asked."""
        found = []
        bounded = sum(need.bytes for need in self.needs if need.bounded)
        room = max(0.0, self.cache_gb * 1e9 - self.held)
        written = self.bytes - bounded + min(bounded, room)
        if self.seconds > ASK_SECONDS:
            found.append(f"that is more than {duration(ASK_SECONDS)}")
        if bounded > room:
            found.append(
                f"--cache-gb {self.cache_gb:g} leaves {room / 1e9:.1f} GB, and what does not fit is computed "
                "anew in every batch"
            )
        if written > self.free:
            found.append(f"{self.free / 1e9:.1f} GB are free in {features_dir()}")
        return found

    @property
    def words(self) -> str:
        """Time and size together, as in "about 3.2 h and 41.0 GB"."""
        return f"about {duration(self.seconds)} and {_size(self.bytes)}"

    def lines(self) -> list[str]:
        """What a dry run prints of the features."""
        if not self.needs:
            return ["features: all are stored"]
        found = [
            f"features: {need.what}: {count(need.slices, 'slice')} to compute, about {_size(need.bytes)}"
            + (f" and {duration(need.seconds)}" if need.seconds else "")
            for need in self.needs
        ]
        found.append(f"features: {self.words} in all, estimated from the time of a slice on {self.device}")
        return [*found, *(f"features: {words}; a run asks first (--yes)" for words in self.excess)]


def full_line(task: Task, needs: Sequence[Need]) -> str:
    """What features take for the full data set of a task, by the pace of those of some data.

    Args:
        task: Whose published numbers of cases and slices count.
        needs: Of the data at hand.

    Returns:
        A line; "" where nothing is to be computed, or the task does not state its slices.
    """
    if not task.slices or not needs:
        return ""
    found = [need.at(len(task.case_ids), task.slices) for need in needs]
    seconds, size = sum(one for one, _ in found), sum(one for _, one in found)
    return (
        f"features: of the full data set ({count(task.case_ids, 'patient')}, "
        f"{count(task.slices, 'published slice')}) about {duration(seconds)} and {_size(size)}, "
        "at the same pace"
    )


def outlook(cells: Sequence[Cell], device: str) -> Outlook | None:
    """What the features of some cells will take; None where their methods have none.

    Args:
        cells: Of one run or matrix.
        device: "cpu" or "cuda".

    Raises:
        UsbenchError: For weights that are absent.
    """
    ahead = _ahead(cells, device)
    return None if ahead is None else _outlook(ahead.needs(), cells[0].request.cache_gb, device)


def require_consent(cells: Sequence[Cell], device: str, yes: bool) -> None:
    """Ask before features are computed that take long or do not fit.

    Args:
        cells: Those that are about to be computed.
        device: "cpu" or "cuda".
        yes: Whether the user has agreed beforehand; then nothing is estimated.

    Raises:
        UsbenchError: Where the user says no; and where there is nobody to ask, with what to do.
    """
    if yes:
        return
    ahead = _ahead(cells, device)
    if ahead is None or ahead.slices < FEW_SLICES:
        return
    found = _outlook(ahead.needs(), cells[0].request.cache_gb, device)
    if not found.excess:
        return
    what = f"frozen features ({', '.join(need.what for need in found.needs)}): {found.words}"
    why = "; ".join(found.excess)
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsbenchError(
            f"{what}; {why}; nobody is there to be asked: add --yes to go on (yes=True in Python), "
            "use a smaller --set method.size where the method has it, or --limit"
        )
    sys.stderr.write(f"{what}; {why}\n{found.words}; go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsbenchError("not started: the features were declined; a smaller --set method.size takes less")


def outlook_lines(plans: Sequence[Plan]) -> list[str]:
    """What a dry run says of the features of some plans, a line each; nothing is fetched or prepared.

    Of data that is not prepared one case is read, and the others are taken to be like it.
    """
    from usbench.runs.plan import Prepared, find_prepared_data, make_cells
    from usbench.weights.store import without_fetching

    cells: list[Cell] = []
    unprepared: dict[tuple[Any, ...], Store] = {}
    try:
        for plan in plans:
            if plan.method.features is None:
                continue
            store, split = find_prepared_data(plan)
            if store is None:
                key = (plan.task_data.root, plan.task.name, plan.task.modality_names, plan.config.data)
                if key not in unprepared:
                    unprepared[key] = _Unprepared(plan)
                store = unprepared[key]
            cells += make_cells(plan, Prepared(store, split))
        if not cells:
            return []
        with without_fetching():
            found = outlook(cells, plans[0].device)
    except UsbenchError as error:
        return [f"features: what they take is unknown ({error})"]
    remark = "features: the data is not prepared; one case was read, the others are taken to be like it"
    if found is None:
        return []
    lines = [*found.lines(), *([remark] if unprepared else [])]
    # Of several tasks or partial data the shares of each would be mixed.
    tasks = {cell.task.name: cell.task for cell in cells}
    partial = any(plan.task_data.kind != "real" for plan in plans)
    full = full_line(next(iter(tasks.values())), found.needs) if partial and len(tasks) == 1 else ""
    return [*lines, *([full] if full else [])]


class _Unprepared(Store):
    """Stands for the prepared data of a plan: every case is taken to be like the first one, which is read."""

    def __init__(self, plan: Plan) -> None:
        from usbench.datasets.preprocess import prepare_arrays
        from usbench.datasets.readers.layouts import open_reader

        task, settings = plan.task, plan.config.data
        reader = open_reader(task, plan.task_data.root)
        case_ids = reader.case_ids()[: plan.request.limit]
        super().__init__(Path(), task, settings, dict.fromkeys(case_ids, "not prepared"))
        made = prepare_arrays(reader.read(case_ids[0]), settings, task.modality_names)
        self._first = SimpleNamespace(
            images=made.images, mask=made.mask, foreground=made.mask.any(axis=(1, 2))
        )

    def case(self, case_id: str) -> Any:
        """The first case, whichever is asked for."""
        return self._first


def _ahead(cells: Sequence[Cell], device: str) -> Ahead | None:
    """The features that the cells need and that are not stored; None where no method has features."""
    import torch

    from usbench.features.estimate import Ahead
    from usbench.features.store import FeatureStore
    from usbench.runs.frozen import features_of, views_wanted

    ahead, known = Ahead(), dict[Any, FeatureStore]()
    where = torch.device(device)
    for cell in cells:
        if cell.method.features is None:
            continue
        settings = tuple(sorted(cell.config.method.items(), key=lambda pair: pair[0]))
        dropout = bool(cell.config.train.modality_dropout)
        key = (cell.method.name, cell.fusion, str(settings), id(cell.store), cell.task, dropout)
        if key not in known:
            known[key] = FeatureStore(
                features_of(cell.method, cell.task, cell.config, where),
                cell.source_hash,
                cell.task,
                cell.store,
                where,
                cell.request.cache_gb,
                cell.fusion,
            )
        train, test = cell.train_ids, cell.split.test(cell.fold)
        views = views_wanted(known[key].features, cell.config.train)
        ahead.add(known[key], (*train, *test), train, views, cell.config.train.mirror)
    return ahead if known else None


def _outlook(needs: Sequence[Need], cache_gb: float, device: str) -> Outlook:
    import torch

    from usbench.runtime.devices import device_name

    folder = features_dir()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Outlook(needs, cache_gb, stored_bytes(), free, device_name(torch.device(device)))


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
