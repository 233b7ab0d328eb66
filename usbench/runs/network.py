"""Trained networks: kept beside a result unless `--no-keep-weights`, given back by `usbench.load_network`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from usbench.config import Config
from usbench.contracts.data import Task
from usbench.contracts.request import CACHE_GB
from usbench.datasets.patients.case import Patient, PatientCase, prepare_patient
from usbench.datasets.patients.given import Given, name_of, read_given
from usbench.datasets.ways import way_of
from usbench.errors import UsbenchError
from usbench.fusions.segmenter import takes_present
from usbench.results.io import load_result
from usbench.results.network_file import NETWORK, NETWORKS, NO_NETWORK, is_outside
from usbench.results.result import Result
from usbench.runs.frozen import frozen_features, frozen_in_memory
from usbench.runs.of_result import RUN_AGAIN, config_of, plugin_files, task_of
from usbench.runs.predict import Prediction, predict, predict_cases
from usbench.storage.files import atomic_path, sha256_file
from usbench.storage.state_dict import read_state
from usbench.weights.needed import require_weights

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.contracts.method import Method
    from usbench.datasets.store import Store
    from usbench.fusions.registry import FoundFusion
    from usbench.runs.predict import Predicted

FILE = NETWORK
"""The weights of a trained network, in the folder of its run."""


@dataclass(frozen=True, eq=False)
class PatientPrediction:
    """A predicted patient on their own grid.

    Attributes:
        case_id: what the patient is called.
        mask: uint8 [X, Y, Z]; class i (from 0) has the value i + 1, or as a region the bit of value 2**i.
        affine: float64 [4, 4], voxel index to RAS+ mm.
        milliseconds: of the forward pass of a slice.
        thresholds: of regions by name; None where classes exclude each other.
        probabilities: float32 [K, X, Y, Z], where they were asked for.
    """

    case_id: str
    mask: np.ndarray
    affine: np.ndarray
    milliseconds: float
    thresholds: Mapping[str, float] | None = None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network, as it was when its run ended, and what the run knew.

    Attributes:
        network: Images [B, M, H, W] -> logits [B, K, H, W], of a method of volumes [B, M, D, H, W] ->
            [B, K, D, H, W], in evaluation mode on `device`; a method with frozen parts also takes its
            features by name, which `predict` gives it.
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

    def predict(
        self,
        images: Mapping[str, Given],
        case_id: str | None = None,
        *,
        resample: bool = False,
        allow_missing: bool = False,
        probabilities: bool = False,
    ) -> PatientPrediction:
        """Predict one patient, for whom no mask and no prepared store is needed.

        Args:
            images: by modality a NIfTI file ("case.nii.gz:0" for the first of its volumes), the folder of a
                DICOM series, or an array [X, Y, Z] with its affine [4, 4].
            case_id: what the patient is called; by default after the first file.
            resample: bring scans on another grid onto that of the first modality; else they are refused,
                unless the task resamples its own data.
            allow_missing: take the patient although modalities are absent; they are zeros then.
            probabilities: keep them too.

        Returns:
            The mask on the patient's own grid, and what belongs to it.

        Raises:
            UsbenchError: for scans that cannot be used, naming the file and the remedy.
        """
        name = case_id or name_of(images, self.task.modality_names)
        patient = read_given(self.task, images, name, resample, allow_missing)
        found = self.predict_patient(self.prepared(patient), probabilities)
        thresholds = self.task.thresholds
        return PatientPrediction(
            name, found.volume, patient.affine, found.ms_per_slice, thresholds, found.probabilities
        )

    def prepared(self, patient: Patient) -> PatientCase:
        """A patient prepared as the training cases of the run were."""
        return prepare_patient(patient, self.config.data, self.task.modality_names)

    def predict_patient(self, case: PatientCase, probabilities: bool = False) -> Prediction:
        """Predict a patient who was prepared with `prepared`.

        Args:
            case: the patient.
            probabilities: keep them too.
        """
        told = takes_present(self.network)
        frozen = frozen_in_memory(self.method, self.fusion, self.task, self.config, self.device, case, told)
        return predict(
            self.network,
            case,
            len(self.task.classes),
            self.device,
            extras=frozen.rows([case.case_id]),
            fresh=frozen.fresh,
            fabric=self.fabric,
            thresholds=self.task.thresholds,
            probabilities=probabilities,
            present=case.present if told and not all(case.present) else None,
            way=way_of(self.config),
        )

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
        frozen = frozen_features(
            self.method, self.fusion, task, self.config, self.source_hash, store, device, cache_gb, case_ids
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
            way_of(self.config),
        )


def why_not_kept(network: nn.Module) -> str:
    """Why the weights of a network cannot be kept, in words; "" where they can.

    Args:
        network: on any device, "meta" included.
    """
    for name, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            return (
                f"the trained network is not kept, since '{name}' of its state is of type "
                f"{type(value).__name__} and only tensors are; leave that out of the method's state_dict"
            )
    return ""


def write_network(network: nn.Module, path: Path) -> None:
    """Write the weights of a network with all their digits, whole or not at all.

    Args:
        network: on any device. Parameters that several layers share are written once for each.
        path: the file, in the format of safetensors.

    Raises:
        UsbenchError: where the file cannot be written, or the network keeps something besides tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if why := why_not_kept(network):
        raise UsbenchError(f"{path}: {why}")
    state = network.state_dict()
    # The format takes no two names for one memory, so each gets its own.
    own = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}
    with atomic_path(path, durable=False) as temporary:
        try:
            save_file(own, temporary)
        except SafetensorError as error:  # What it meets on the disk is told in a text alone.
            raise UsbenchError(
                f"{path}: cannot write the trained network ({error}); free some space and start the same "
                "command again, which goes on from here, or leave it out with --no-keep-weights"
            ) from error


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
        result: a result, or the path of its folder or its result.json; its network was
            kept.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        plugins: the Python files that bring the method, the fusion or the task; by default those that the
            run used. A task file (.yaml) may be among them: it says how scans on another grid are treated.
        allow_other_code: load even where the code of the method is not what it was then.

    Returns:
        The network with all that is needed to use it.

    Raises:
        UsbenchError: where the run kept no network, its file is damaged or does not fit, a plugin is
            missing, or the code of the method has changed.
    """
    from usbench.datasets.tasks import names_file
    from usbench.fusions.build import build_model
    from usbench.fusions.registry import get_fusion
    from usbench.methods.registry import get_method, source_hash
    from usbench.runtime.devices import choose_device, make_fabric

    if not isinstance(result, Result):
        result = load_result(result)
    data = result.data
    if is_outside(result):
        raise UsbenchError(f"{result.path}: this run {NO_NETWORK}; choose a run of a network")
    file = _kept(result)
    given = [Path(p) for p in plugins]
    described = [p for p in given if names_file(str(p))]
    files = [p for p in given if p not in described] or plugin_files(data)
    method, _ = get_method(data["cell"]["method"], files)
    fusion = get_fusion(data["cell"]["fusion"], files)
    code = source_hash(method)
    if not allow_other_code:
        _require_same_code(result, code, fusion)
    task, config = task_of(data, [*files, *described]), config_of(result)
    require_weights(method.needed_weights(config.method))
    chosen = choose_device(device)
    precision = data["cost"]["precision"]
    fabric = make_fabric(chosen, 1, "32" if (chosen, precision) == ("cpu", "16") else precision)
    with torch.random.fork_rng(devices=[]):
        network = build_model(method, task, fusion.fusion, config)
    state = read_state(file, RUN_AGAIN)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise UsbenchError(
            f"{file}: does not fit the network that method '{method.name}' builds now "
            f"({words[:300]}); {RUN_AGAIN}"
        ) from error
    return TrainedNetwork(network.to(fabric.device).eval(), task, config, method, result, code, fabric)


def _kept(result: Result) -> Path:
    """The file with the weights, once it is known to be what the run wrote."""
    digests = result.data["files"]
    name = next((name for name in NETWORKS if name in digests), None)
    if name is None:
        raise UsbenchError(f"{result.path}: this run kept no trained network; {RUN_AGAIN}")
    file = result.path / name
    if not file.is_file():
        raise UsbenchError(
            f"{file}: was removed since the run (usbench prune does that); copy it back, or {RUN_AGAIN}"
        )
    if sha256_file(file) != digests[name]:
        raise UsbenchError(f"{file}: is not what the run wrote (its digest does not fit); {RUN_AGAIN}")
    return file


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
                f"restore it, {RUN_AGAIN}, or load it all the same with allow_other_code=True"
            )
