"""`usbench run`: from what a user asks for to the cells that are to be computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.config import DEFAULT_FOLDS, Config, make_config, read_config_file
from usbench.contracts.data import Task
from usbench.contracts.few import FewPatients
from usbench.contracts.names import PROTOCOLS
from usbench.errors import UsbenchError
from usbench.runtime.console import say
from usbench.runtime.devices import choose_device, has_bfloat16, is_first_process, require_precision
from usbench.runtime.process import import_torch

if TYPE_CHECKING:
    from usbench.contracts.method import Method
    from usbench.contracts.request import Request
    from usbench.datasets.resolve import TaskData
    from usbench.datasets.splits import Split
    from usbench.datasets.store import Store
    from usbench.fusions.registry import FoundFusion
    from usbench.plugins.search import Found
    from usbench.runs.cell import Cell


@dataclass(frozen=True)
class Plan:
    """What a run is about to do, before any data is prepared.

    Attributes:
        request: what was asked for.
        method: the method.
        found: where the method was found.
        found_fusion: the fusion, and where it was found.
        task: the task, with the modalities and classes of this run.
        task_data: where the data of the task is.
        config: the effective settings.
        device: "cpu" or "cuda".
    """

    request: Request
    method: Method
    found: Found
    found_fusion: FoundFusion
    task: Task
    task_data: TaskData
    config: Config
    device: str

    @property
    def fusion(self) -> str:
        """The name of the fusion."""
        return self.found_fusion.name


@dataclass(frozen=True)
class Prepared:
    """The data of a task, ready for training.

    Attributes:
        store: the prepared cases.
        split: their folds.
    """

    store: Store
    split: Split


def make_plan(request: Request, weights: bool = False) -> Plan:
    """What `usbench run` is about to do, without preparing or training anything.

    Args:
        request: what a user asked for; `preset` and `device` may be left to the data and the machine.
        weights: have the pretrained weights here before data is looked for or a phantom is made, unless
            what is asked for may be finished already.

    Returns:
        The plan; its `request` is the one given.

    Raises:
        UsbenchError: for a method, fusion, task, preset, setting, device or data that is not there, and for
            weights, all that are absent.
    """
    import_torch()
    from usbench.fusions.build import require_fusion
    from usbench.fusions.registry import get_fusion, require_settings
    from usbench.methods.registry import all_problems, get_method
    from usbench.plugins.search import require_files
    from usbench.results.io import has_results
    from usbench.weights.needed import require_weights

    if (request.task is None) == (request.task_dir is None):
        raise UsbenchError(
            "name one of --task and --task-dir: a task, such as chaos (usbench data list shows all), or a "
            "folder in MSD layout"
        )
    files = list(request.plugins)
    require_files(files)
    method, found = get_method(request.method, files)
    found_fusion = get_fusion(request.fusion, files)
    require_fusion(method, found_fusion.fusion)
    task = make_task(request)
    for problem in all_problems(files) if files else ():
        if problem.of_file:
            say(f"not used: {problem.text}")
    device = choose_device(request.device)
    require_precision(request.precision, device)
    if (device, request.precision) == ("cpu", "bf16") and not has_bfloat16() and is_first_process():
        say("--precision bf16: this processor has no instructions for it; 32 is several times as fast here")
    settings = read_settings(request)
    require_pipeline_request(method, request, settings)
    # Settings are checked before a phantom is made or data is looked for.
    if method.pipeline is None:
        require_settings([found_fusion], settings)
    if method.pipeline is not None:
        # Of a matrix: what concerns networks alone is nothing to a pipeline.
        settings = {key: value for key, value in settings.items() if key.startswith("method.")}
    preset = request.preset or "quick"
    of_fusion = found_fusion.fusion if method.pipeline is None else None
    early = make_config(preset, method.settings, method.presets, settings, of_fusion, method.dims)
    if method.pipeline is not None and method.pipeline.check is not None:
        method.pipeline.check(early.method)
    if weights and (
        request.overwrite or not has_results(request.runs_dir, task.name, method.name, found_fusion.name)
    ):
        require_weights(method.needed_weights(early.method))
    task_data = find_task_data(task, request)
    return plan_of(request, method, found, found_fusion, task, task_data, settings, device)


def require_pipeline_request(method: Method, request: Request, settings: Mapping[str, Any]) -> None:
    """Raise `UsbenchError` for what an outside pipeline has no use for; nothing for other methods."""
    if method.pipeline is None:
        return
    for key in settings:
        if not key.startswith("method."):
            own = ", ".join(f"method.{name}" for name in method.settings) or "none"
            raise UsbenchError(
                f"setting {key}: method '{method.name}' is an outside pipeline and has no such setting; "
                f"leave it out (its own: {own})"
            )
    if request.all_devices > 1:
        raise UsbenchError(
            f"--devices and --nodes: method '{method.name}' is an outside pipeline, which usbench runs once; "
            "leave them out"
        )


def make_task(request: Request) -> Task:
    """The task that a request names, with the modalities and the merged labels that it asks for.

    Raises:
        UsbenchError: for an unknown task or modality, or a folder that is not in MSD layout.
    """
    from usbench.datasets.tasks import get_task, task_from_folder

    if request.task is not None:
        task = get_task(request.task, request.plugins)
    else:
        task = task_from_folder(request.task_dir or Path("."))
    return task.with_modalities(request.modalities).merged(request.merge_labels)


def read_settings(request: Request) -> dict[str, Any]:
    """The settings of the request's YAML file and those given one by one, which win.

    Raises:
        UsbenchError: where the file cannot be read or holds no settings.
    """
    given = {**(read_config_file(request.config) if request.config else {}), **request.settings}
    return {_short(key): value for key, value in given.items()}


def _short(key: str) -> str:
    """A setting of a fusion under its usual name: "fusion.late.absent" is "fusion.absent"."""
    section, _, rest = key.partition(".")
    of, _, inner = rest.partition(".")
    return f"fusion.{inner}" if section == "fusion" and of in PROTOCOLS and inner else key


def find_task_data(task: Task, request: Request) -> TaskData:
    """Where the task's data is, see `usbench.datasets.resolve.find_data`."""
    from usbench.datasets.resolve import find_data

    return find_data(task, request.data_dir, request.data, request.task_dir, request.scanner)


def plan_of(
    request: Request,
    method: Method,
    found: Found,
    found_fusion: FoundFusion,
    task: Task,
    task_data: TaskData,
    settings: Mapping[str, Any],
    device: str,
) -> Plan:
    """The plan of a request, once method, fusion, task, data and device are known.

    Args:
        request: what was asked for; without a `preset`, one is chosen by data and device.
        method: the method.
        found: where the method was found.
        found_fusion: the fusion, and where it was found.
        task: the task, with the modalities and classes of this run.
        task_data: where the data of the task is.
        settings: those of the request and of its file together, for this method and this fusion.
        device: "cpu" or "cuda".

    Raises:
        UsbenchError: for an unknown preset or setting, a value that is wrong, and a precision that a CPU
            lacks for volumes.
    """
    preset = request.preset or ("quick" if task_data.kind == "phantom" or device == "cpu" else "paper")
    if method.dims == 3 and device == "cpu" and request.precision != "32":
        # Found with torch 2.13: a convolution of 384 channels on 2 x 4 x 4 voxels, NaN in one step of twelve.
        raise UsbenchError(
            f"--precision {request.precision}: torch's gradients of 3D convolutions in bfloat16 are not "
            f"always written on a CPU, and '{method.name}' sees volumes; use --precision 32"
        )
    own = {"train.mirror": task.mirrors, **settings}
    fusion = found_fusion.fusion if method.pipeline is None else None
    effective = make_config(preset, method.settings, method.presets, own, fusion, method.dims)
    return Plan(request, method, found, found_fusion, task, task_data, effective, device)


def prepare_data(plan: Plan) -> Prepared:
    """Prepare the cases of a plan's task, or the first `limit` of them, and split them into folds.

    Raises:
        UsbenchError: for data that cannot be read or split, and for a full disk.
    """
    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.splits import make_split
    from usbench.datasets.store import prepare

    task, root, limit = plan.task, plan.task_data.root, plan.request.limit
    case_ids = open_reader(task, root).case_ids()[:limit] if limit else None
    store = prepare(task, root, plan.config.data, case_ids=case_ids)
    return Prepared(store, make_split(task, store.case_ids))


def find_prepared_data(plan: Plan) -> tuple[Store | None, Split]:
    """What is prepared of the data of a plan's task; nothing is written.

    Returns:
        The store, None where a case is still to be prepared, and the folds.

    Raises:
        UsbenchError: for data that is not there or cannot be split.
    """
    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.splits import make_split
    from usbench.datasets.store import find_prepared

    task, root = plan.task, plan.task_data.root
    case_ids = open_reader(task, root).case_ids()[: plan.request.limit]
    return find_prepared(task, root, plan.config.data, case_ids), make_split(task, case_ids)


def chosen_folds(plan: Plan, count: int) -> list[int]:
    """The folds that a plan asks for, out of `count`; by default those of its preset.

    Raises:
        UsbenchError: for a fold that is not there.
    """
    folds = plan.request.folds
    return parse_folds(DEFAULT_FOLDS[plan.config.preset] if folds is None else folds, count)


def make_cells(plan: Plan, prepared: Prepared | None = None, digest: str | None = None) -> list[Cell]:
    """The cells of a plan, one for each fold and part of its training patients.

    Args:
        plan: what is asked for.
        prepared: the task's data, prepared here where it is not given.
        digest: the source hash of the method, computed here where it is not given.

    Returns:
        Cells in order of fold, then as the parts were asked for; the request of each asks for it alone.

    Raises:
        UsbenchError: for data that cannot be prepared and for a fold that is not there.
    """
    from usbench.methods.registry import source_hash
    from usbench.runs.cell import Cell

    prepared = prepared or prepare_data(plan)
    code = source_hash(plan.method) if digest is None else digest
    alone = plan.request.with_(preset=plan.config.preset, device=plan.device)
    return [
        Cell(
            request=alone.with_(folds=str(fold), **_asked(few)),
            task=plan.task,
            method=plan.method,
            found=plan.found,
            source_hash=code,
            found_fusion=plan.found_fusion,
            fold=fold,
            config=plan.config,
            kind=plan.task_data.kind,
            store=prepared.store,
            split=prepared.split,
            few=few,
            root=plan.task_data.root,
            outside=None if plan.method.pipeline is None else "pipeline",
        )
        for fold, few in chosen_parts(plan, prepared.split)
    ]


def chosen_parts(plan: Plan, split: Split) -> list[tuple[int, FewPatients | None]]:
    """The folds that a plan asks for, each with every part of its training patients that is asked for.

    Args:
        plan: what is asked for.
        split: the folds of its data.

    Returns:
        Pairs of fold and part, in order of fold; a part that leaves nobody out in any fold is None.

    Raises:
        UsbenchError: for a fold that is not there, and for more patients than a fold has to train on.
    """
    sizes = [len(split.train(fold)) for fold in range(len(split.folds))]
    folds = chosen_folds(plan, len(sizes))
    asked = [
        *(FewPatients(share=share) for share in plan.request.train_share if share < 1),
        *(FewPatients(cases=number) for number in plan.request.train_cases),
    ]
    for few in asked:
        for fold in folds:
            if few.of(sizes[fold]) > sizes[fold]:
                raise UsbenchError(
                    f"--train-cases {few.cases}: fold {fold} of this data has {sizes[fold]} training "
                    f"patients; choose from 1 to {sizes[fold]}"
                )
    parts: list[FewPatients | None] = [
        few if any(few.of(size) < size for size in sizes) else None for few in asked
    ]
    if not parts or 1.0 in plan.request.train_share:
        parts.append(None)
    return [(fold, few) for fold in folds for few in dict.fromkeys(parts)]


def _asked(few: FewPatients | None) -> dict[str, Any]:
    """The options of a request for one part of the training patients alone."""
    if few is None:
        return {"train_share": (), "train_cases": ()}
    return {
        "train_share": () if few.share is None else (few.share,),
        "train_cases": () if few.cases is None else (few.cases,),
    }


def parse_folds(folds: str | Sequence[int], count: int) -> list[int]:
    """The folds that a user names, sorted and each once.

    Args:
        folds: "all", a text such as "0,2", or numbers.
        count: how many folds there are.

    Raises:
        UsbenchError: for what is no number, and for a fold that is not in 0..count - 1.
    """
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
