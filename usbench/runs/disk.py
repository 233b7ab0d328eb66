"""What a dry run of a run or matrix says of the disk: what kept networks will take, and what it wrote."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.errors import UsbenchError
from usbench.storage.files import cache_dir

if TYPE_CHECKING:
    from torch import nn

    from usbench.runs.plan import Plan


def dry_run_line(plans: Iterable[Plan]) -> str:
    """The last line of a dry run: what it left undone, and what it had to make to know the folds.

    Args:
        plans: those that it listed.
    """
    cache = cache_dir()
    made = any(plan.task_data.root.is_relative_to(cache) for plan in plans)
    but = "; only phantoms that the cache had not yet were made" if made else ""
    return f"dry run: nothing was prepared, trained or written{but}"


def network_bytes(network: nn.Module) -> int:
    """The bytes of a network's weights in its file, but for the names of them.

    Args:
        network: on any device, "meta" included. Parameters that several layers share count once for each, as
            they are written.
    """
    import torch

    state = network.state_dict().values()
    return sum(value.numel() * value.element_size() for value in state if isinstance(value, torch.Tensor))


def bytes_of_plan(plan: Plan) -> int:
    """The bytes of the network that a plan trains; nothing is fetched, and torch draws no number.

    A network is built without memory where it can be; one with frozen parts is built as it is.

    Raises:
        UsbenchError: where it cannot be built here, as for weights that are not fetched yet.
    """
    import torch

    from usbench.fusions.build import build_model
    from usbench.weights.store import without_fetching

    def built() -> nn.Module:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), without_fetching():
            warnings.simplefilter("ignore")  # Weights that are loaded into no memory are no matter here.
            return build_model(plan.method, plan.task, plan.found_fusion.fusion, plan.config)

    if plan.method.features is None:
        try:
            with torch.device("meta"):
                return network_bytes(built())
        except (Exception, SystemExit):
            pass  # Not every network can be built without memory.
    return network_bytes(built())


def bytes_of_plans(plans: Iterable[Plan]) -> tuple[dict[int, int], dict[str, str]]:
    """The bytes of the networks of several plans; those that differ in nothing that shapes one share it.

    Returns:
        By `id` of a plan its bytes, and by name of a method why they are not known.
    """
    from usbench.storage.files import digest_of

    known: dict[str, int] = {}
    found: dict[int, int] = {}
    unknown: dict[str, str] = {}
    for plan in plans:
        if plan.method.pipeline is not None:
            continue  # It keeps none.
        settings = plan.config.as_dict()
        shape = [plan.method.name, plan.fusion, plan.task.modality_names, plan.task.class_names]
        parts = [settings.get(name) for name in ("method", "fusion", "data", "volume")]
        key = digest_of([*shape, *parts, plan.task.name])
        if key not in known and plan.method.name not in unknown:
            try:
                known[key] = bytes_of_plan(plan)
            except Exception as error:  # Of a plugin too: a dry run goes on without the number.
                unknown[plan.method.name] = " ".join(str(error).split()) or type(error).__name__
        if key in known:
            found[id(plan)] = known[key]
    return found, unknown


def network_line(sizes: Sequence[int], runs_dir: Path, unknown: Mapping[str, str] | None = None) -> str:
    """What a dry run says of the networks that will be kept.

    Args:
        sizes: bytes of each, one for each cell that is to be computed.
        runs_dir: where they go; it need not be there yet.
        unknown: methods whose networks have no known size, with the reason.

    Returns:
        A line, such as "network: 57.3 MB kept for each of 5 cells (--no-keep-weights leaves it out), 286.5 MB
        in all; 12.3 GB are free in runs"; "" where there is nothing to keep.
    """
    parts = []
    if sizes:
        low, high, total = min(sizes), max(sizes), sum(sizes)
        each = " to ".join(dict.fromkeys((size_words(low), size_words(high))))
        where = f"for each of {len(sizes)} cells" if len(sizes) > 1 else "for 1 cell"
        all_of_them = f", {size_words(total)} in all" if len(sizes) > 1 else ""
        parts.append(f"{each} kept {where} (--no-keep-weights leaves it out){all_of_them}")
        free = free_bytes(runs_dir)
        if total > free:
            parts.append(
                f"that is more than the {size_words(free)} that are free in {runs_dir}; "
                "usbench prune --networks removes those of finished cells"
            )
        else:
            parts.append(f"{size_words(free)} are free in {runs_dir}")
    parts += [f"unknown for {name} ({reason})" for name, reason in (unknown or {}).items()]
    return f"network: {'; '.join(parts)}" if parts else ""


def cells_to_do(plan: Plan, folds: Sequence[int]) -> int:
    """How many of the folds a run of this plan would compute; all where its data is not prepared yet."""
    from usbench.runs.plan import Prepared, find_prepared_data, make_cells

    if plan.request.overwrite:
        return len(folds)
    try:
        store, split = find_prepared_data(plan)
        cells = [] if store is None else make_cells(plan, Prepared(store, split))
    except UsbenchError:
        return len(folds)
    return len(folds) - sum((cell.folder / "result.json").exists() for cell in cells)


def pipeline_line(plan: Plan, case_ids: Sequence[str]) -> str:
    """What a dry run says of the folder that an outside pipeline is given.

    Args:
        plan: Of a pipeline.
        case_ids: The cases of its data; the first is read, and the others are taken to be as large.

    Returns:
        A line. Scans are written compressed, as int16 where that loses nothing, so it is a bound.
    """
    from usbench.datasets.readers.layouts import open_reader

    case = open_reader(plan.task, plan.task_data.root).read(case_ids[0])
    most = (case.images.nbytes + case.mask.nbytes) * len(case_ids)
    return (
        f"pipeline: its folder takes at most {size_words(most)} in {plan.request.runs_dir} while a cell is "
        "computed, beside what the program keeps there; "
        f"{size_words(free_bytes(plan.request.runs_dir))} are free"
    )


def free_bytes(folder: Path) -> int:
    """The bytes that are free on the disk of a folder, which need not be there yet."""
    folder = folder.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def size_words(size: float) -> str:
    """Bytes as text: 57.3 MB, 12.3 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
