"""Several trained networks that predict one patient together: their probabilities are averaged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from usbench.contracts.classes import add_class
from usbench.datasets.patients.case import Patient, PatientCase
from usbench.datasets.tasks import names_file
from usbench.errors import UsbenchError
from usbench.results.io import load_result
from usbench.results.usable import named_runs
from usbench.runs.needed import weights_of_result
from usbench.runs.network import TrainedNetwork, load_network
from usbench.weights.needed import require_weights


@dataclass(frozen=True, eq=False)
class Predicted:
    """What some runs say together of a patient.

    Attributes:
        patient: The scans.
        case: The patient as prepared for the first run.
        mask: uint8 [X, Y, Z], with classes or regions as `Case.mask` has them.
        probabilities: float32 [K, X, Y, Z], where they were asked for or several runs were averaged.
        milliseconds: Of the forward passes of a slice, all runs together.
        seconds: From the scans to the mask.
    """

    patient: Patient
    case: PatientCase
    mask: np.ndarray
    probabilities: np.ndarray | None
    milliseconds: float
    seconds: float


def load_runs(
    runs: Sequence[str | Path], device: str = "auto", plugins: Sequence[str | Path] = ()
) -> list[TrainedNetwork]:
    """The networks of some runs, which must be of one kind.

    Args:
        runs: Folders of runs, or folders that hold them.
        device: Where the networks go.
        plugins: Files that bring methods, fusions or the task.

    Raises:
        UsbenchError: For a folder without runs, a run that is not finished, one whose network cannot be
            loaded, weights that are absent, all of them, and runs of different tasks, modalities or classes.
    """
    folders = named_runs(runs)
    files = [file for file in plugins if not names_file(str(file))]
    require_weights(name for folder in folders for name in weights_of_result(load_result(folder), files))
    networks = [load_network(folder, device=device, plugins=plugins) for folder in folders]
    first = networks[0]
    for other in networks[1:]:
        for what, one, two in (
            ("task", first.task.name, other.task.name),
            ("modalities", first.task.modality_names, other.task.modality_names),
            ("classes", first.task.class_names, other.task.class_names),
            ("regions", first.task.thresholds, other.task.thresholds),
        ):
            if one != two:
                raise UsbenchError(
                    f"{other.result.path}: its {what} are {_words(two)}, those of {first.result.path} are "
                    f"{_words(one)}; predict by each of them alone"
                )
    return networks


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def prepare_for(networks: Sequence[TrainedNetwork], patient: Patient) -> list[PatientCase]:
    """A patient prepared for each of some networks; those of the same settings share one."""
    made: dict[str, PatientCase] = {}
    for network in networks:
        key = repr(network.config.data)
        if key not in made:
            made[key] = network.prepared(patient)
    return [made[repr(network.config.data)] for network in networks]


def predict_together(
    networks: Sequence[TrainedNetwork],
    patient: Patient,
    prepared: Sequence[PatientCase],
    probabilities: bool = False,
) -> Predicted:
    """Predict a patient by one run as the run itself does, or by the mean probabilities of several.

    Args:
        networks: Of one task.
        patient: The scans.
        prepared: The patient prepared for each network.
        probabilities: Whether those of one run alone are kept too.

    Returns:
        The mask and what belongs to it; probabilities of several runs are those averaged.
    """
    start = time.perf_counter()
    task, several = networks[0].task, len(networks) > 1
    total: np.ndarray | None = None
    mask, milliseconds = None, 0.0
    for network, case in zip(networks, prepared, strict=True):
        found = network.predict_patient(case, probabilities or several)
        milliseconds += found.ms_per_slice
        mask = found.volume
        if found.probabilities is not None:
            total = found.probabilities if total is None else total + found.probabilities
    mean = total
    if several:
        assert total is not None
        mean = total / np.float32(len(networks))
        mask = labels_of(mean, task.thresholds)
    assert mask is not None
    return Predicted(patient, prepared[0], mask, mean, milliseconds, time.perf_counter() - start)


def labels_of(probabilities: np.ndarray, thresholds: Mapping[str, float] | None) -> np.ndarray:
    """The mask that probabilities decide on, as `usbench.runs.labels.to_labels` does on logits.

    Args:
        probabilities: [K, X, Y, Z].
        thresholds: Of regions in order; None where classes exclude each other.

    Returns:
        uint8 [X, Y, Z]. Of classes that exclude each other the most probable one above 0.5, the first of
        equals; of regions all above their threshold.
    """
    if thresholds is None:
        label: np.ndarray = (probabilities.argmax(axis=0) + 1).astype(np.uint8)
        label[~(probabilities.max(axis=0) > 0.5)] = 0
        return label
    mask = np.zeros(probabilities.shape[1:], np.uint8)
    for index, threshold in enumerate(thresholds.values()):
        add_class(mask, index, probabilities[index] > threshold, regions=True)
    return mask
