"""Trained networks: kept beside a result by `--keep-weights`, and given back by `usbench.load_network`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from usbench.config import Config
from usbench.contracts.data import Modality, Structure, Task
from usbench.contracts.request import CACHE_GB
from usbench.contracts.settings import DataSettings, TrainSettings
from usbench.errors import UsbenchError
from usbench.results.digests import DEFAULTS
from usbench.results.io import PROTOCOL_VERSION, load_result
from usbench.results.result import Result
from usbench.runs.frozen import frozen_features
from usbench.runs.predict import predict_cases
from usbench.storage.files import atomic_path, sha256_file
from usbench.storage.state_dict import read_state

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.contracts.method import Method
    from usbench.datasets.store import Store
    from usbench.fusions.registry import FoundFusion
    from usbench.runs.predict import Predicted

FILE = "network.safetensors"
"""The weights of a trained network, in the folder of its run."""

_OLD_FILE = "weights.pt"  # what older versions wrote
_AGAIN = "run it again with --keep-weights --overwrite"


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network, as it was when its run ended, and what the run knew.

    Attributes:
        network: Images [B, M, H, W] -> logits [B, K, H, W], in evaluation mode on `device`; a method with
            frozen parts also takes its features by name, which `predict` gives it.
        task: The task with the modalities (M) and the classes (K) of the run.
        config: The effective configuration.
        method: The method.
        result: The result of the run.
        source_hash: Of the code of the method, as it is here.
        fabric: The device and the numerical precision.
    """

    network: nn.Module
    task: Task
    config: Config
    method: Method
    result: Result
    source_hash: str
    fabric: Fabric

    @property
    def fusion(self) -> str:
        """The name of its fusion."""
        return str(self.result.data["cell"]["fusion"])

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        device: torch.device = self.fabric.device
        return device

    def predict_cases(
        self,
        store: Store,
        case_ids: Sequence[str],
        folder: Path | None = None,
        cache_gb: float = CACHE_GB,
    ) -> Iterator[Predicted]:
        """Predict cases of a prepared store, as the run predicts its test cases.

        Args:
            store: cases prepared with the settings of the run (`config.data`), see
                `usbench.datasets.store.prepare`.
            case_ids: which, in this order.
            folder: where masks are written as CASE.nii.gz; None for nowhere.
            cache_gb: bound on stored features of frozen parts, in GB (10^9 bytes).

        Yields:
            Each case with its mask, once it is asked for.
        """
        task, device = self.task, self.device
        fusion = self.result.data["cell"]["fusion"]
        frozen = frozen_features(
            self.method, fusion, task, self.config, self.source_hash, store, device, cache_gb, case_ids
        )
        yield from predict_cases(
            self.network,
            store,
            case_ids,
            len(task.classes),
            device,
            frozen,
            self.fabric,
            folder,
            task.thresholds,
        )


def write_network(network: nn.Module, path: Path) -> None:
    """Write the weights of a network with all their digits, whole or not at all.

    Args:
        network: on any device. Parameters that several layers share are written once for each.
        path: the file, in the format of safetensors.

    Raises:
        UsbenchError: where the file cannot be written, or the network keeps something besides tensors.
    """
    from safetensors.torch import save_file

    state = network.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise UsbenchError(
                f"{path}: '{name}' of the network is a {type(value).__name__}, and only tensors are kept; "
                "leave it out of the method's state_dict, or run without --keep-weights"
            )
    # The format takes no two names for one memory, so each gets its own.
    own = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(own, temporary)


def load_network(
    result: Result | str | Path,
    *,
    device: str = "auto",
    plugins: Sequence[str | Path] = (),
    allow_other_code: bool = False,
) -> TrainedNetwork:
    """Give the trained network of a finished run back, ready to predict.

    The method, the task, the fusion and the settings are those of the result; the random numbers of torch
    stay what they were.

    Args:
        result: a result, or the path of its folder or its result.json; it was made with `--keep-weights`.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        plugins: the Python files that bring the method, the fusion or the task; by default those that the
            run used.
        allow_other_code: load even where the code of the method is not what it was then.

    Returns:
        The network with all that is needed to use it.

    Raises:
        UsbenchError: where the run kept no network, its file is damaged or does not fit, a plugin is
            missing, or the code of the method has changed.
    """
    from usbench.fusions.build import build_model
    from usbench.fusions.registry import get_fusion
    from usbench.methods.registry import get_method, source_hash
    from usbench.runtime.devices import choose_device, make_fabric

    if not isinstance(result, Result):
        result = load_result(result)
    data = result.data
    file = _kept(result)
    files = [Path(p) for p in plugins] or _plugin_files(data)
    method, _ = get_method(data["cell"]["method"], files)
    fusion = get_fusion(data["cell"]["fusion"], files)
    code = source_hash(method)
    if not allow_other_code:
        _require_same_code(result, code, fusion)
    task, config = _task_of(data, files), _config_of(result)
    chosen = choose_device(device)
    precision = data["cost"]["precision"]
    fabric = make_fabric(chosen, 1, "32" if (chosen, precision) == ("cpu", "16") else precision)
    with torch.random.fork_rng(devices=[]):
        network = build_model(method, task, fusion.fusion, config)
    state = read_state(file, _AGAIN)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise UsbenchError(
            f"{file}: does not fit the network that method '{method.name}' builds now "
            f"({words[:300]}); {_AGAIN}"
        ) from error
    return TrainedNetwork(network.to(fabric.device).eval(), task, config, method, result, code, fabric)


def _kept(result: Result) -> Path:
    """The file with the weights, once it is known to be what the run wrote."""
    digests = result.data["files"]
    name = next((name for name in (FILE, _OLD_FILE) if name in digests), None)
    if name is None:
        raise UsbenchError(f"{result.path}: this run kept no trained network; {_AGAIN}")
    file = result.path / name
    if not file.is_file():
        raise UsbenchError(f"{file}: missing beside its result; copy it there, or {_AGAIN}")
    if sha256_file(file) != digests[name]:
        raise UsbenchError(f"{file}: is not what the run wrote (its digest does not fit); {_AGAIN}")
    return file


def _plugin_files(data: Mapping[str, Any]) -> list[Path]:
    """The plugin files that a run used, as its result names them."""
    files = []
    for kind in ("method", "fusion", "task"):
        origin = data.get(kind, {}).get("origin", "")
        if origin.startswith("file ") and (path := Path(origin.removeprefix("file "))) not in files:
            if not path.is_file():
                name = data["cell"][kind]
                raise UsbenchError(
                    f"{path}: the plugin of {kind} '{name}' is not there; name it in plugins=[...]"
                )
            files.append(path)
    return files


def _require_same_code(result: Result, code: str, fusion: FoundFusion) -> None:
    """Refuse weights that other code was trained to use."""
    data = result.data
    codes = [("method", code, data["method"]["source_hash"])]
    if fusion.source_hash:
        codes.append(("fusion", fusion.source_hash, data["fusion"]["source_hash"]))
    for kind, here, then in codes:
        if here != then:
            raise UsbenchError(
                f"{result.path}: the code of {kind} '{data['cell'][kind]}' has changed since this run; "
                f"restore it, {_AGAIN}, or load it all the same with allow_other_code=True"
            )


def _task_of(data: Mapping[str, Any], plugins: Sequence[Path]) -> Task:
    """The task of a result; how its data is read is known only of tasks that are found here."""
    from usbench.datasets.tasks import get_task

    said = data["task"]
    words = said.get("words") or {"modalities": said["modalities"], "classes": said["classes"]}
    thresholds = said.get("regions")
    task = Task(
        name=said["name"],
        title=said["title"],
        modalities=tuple(map(Modality, said["modalities"], words["modalities"])),
        classes=tuple(
            Structure(name, word, threshold=thresholds[name] if thresholds else 0.5)
            for name, word in zip(said["classes"], words["classes"], strict=True)
        ),
        regions=thresholds is not None,
        nsd_tolerance_mm=said.get("nsd_tolerance_mm") or 0.0,
        licence="not stated",
        citation="not stated",
    )
    try:
        known = (
            get_task(said["name"], plugins).with_modalities(said["modalities"]).merged(said["merge_labels"])
        )
    except UsbenchError:
        return task  # of a folder, or of a plugin that is not here
    if known.modality_names != task.modality_names or known.class_names != task.class_names:
        return task
    if known.regions != task.regions:
        return task
    if "words" not in said:
        return known
    return replace(
        known,
        nsd_tolerance_mm=said["nsd_tolerance_mm"],
        modalities=tuple(
            replace(one, words=then.words)
            for one, then in zip(known.modalities, task.modalities, strict=True)
        ),
        classes=tuple(
            replace(one, words=then.words, threshold=then.threshold)
            for one, then in zip(known.classes, task.classes, strict=True)
        ),
    )


def _config_of(result: Result) -> Config:
    said, usual = result.data["config"], DEFAULTS[PROTOCOL_VERSION]
    try:  # What an older result does not state was as it is by the defaults of the protocol.
        return Config(
            preset=result.data["preset"],
            data=DataSettings(**{**usual["data"], **said["data"]}),
            train=TrainSettings(**{**usual["train"], **said["train"]}),
            fusion=dict(said["fusion"]),
            method=dict(said["method"]),
        )
    except TypeError as error:
        raise UsbenchError(
            f"{result.path}: its settings are not those of this usbench ({error}); "
            f"use the version that wrote it ({result.data['usbench']}), or {_AGAIN}"
        ) from error
