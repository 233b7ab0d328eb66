"""The task of other data, with the modalities and the classes that a run has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from usbench.contracts.data import Modality, Task
from usbench.errors import UsbenchError


def as_in_run(
    task: Task, own: Task, merged: str | None, labels: Mapping[str, str], what: str
) -> tuple[Task, dict[str, str]]:
    """A task of other data with the modalities and classes of a run, in its order and under its names.

    Args:
        task: Of the other data.
        own: Of the run.
        merged: The name of the one class that the run merged all into, None where it did not.
        labels: Class of the run -> class of the data, where they have other names.
        what: What an error speaks of, such as the folder of the run.

    Returns:
        The task, and the pairs of `labels` that are not of one name.

    Raises:
        UsbenchError: Where the data lacks a modality or a class, has more than one modality of a name, or
            has regions and the run none, or the other way round.
    """
    if task.regions != own.regions:
        raise UsbenchError(
            f"{what}: its classes and those of {task.name} are not both regions; choose other data"
        )
    if merged and not labels:  # A class of the data that is named for the merged one is that class alone.
        task = task.merged(merged)
    modalities = tuple(_modality(task, wanted, own, what) for wanted in own.modalities)
    here = _class_names(task, own, labels, what)
    by_name = {structure.name: structure for structure in task.classes}
    classes = tuple(
        replace(by_name[here[one.name]], name=one.name, words=one.words, threshold=one.threshold)
        for one in own.classes
    )
    tolerance = own.nsd_tolerance_mm or task.nsd_tolerance_mm
    task = replace(task, modalities=modalities, classes=classes, nsd_tolerance_mm=tolerance)
    return task, {name: other for name, other in here.items() if name != other}


def _modality(task: Task, wanted: Modality, own: Task, what: str) -> Modality:
    names = {wanted.name, *wanted.aliases}
    fits = [m for m in task.modalities if wanted.is_called(m.name) or any(map(m.is_called, names))]
    if len(fits) != 1:
        raise UsbenchError(
            f"{what}: {task.name} has {'no' if not fits else 'more than one'} modality {wanted.name} "
            f"among {', '.join(task.modality_names)}; the network needs {', '.join(own.modality_names)}"
        )
    return fits[0]


def _class_names(task: Task, own: Task, labels: Mapping[str, str], what: str) -> dict[str, str]:
    """The name in the data of each class of the run."""
    if unknown := sorted(set(labels) - set(own.class_names)):
        raise UsbenchError(
            f"--labels {unknown[0]}={labels[unknown[0]]}: the run has no class {unknown[0]}; its classes are "
            f"{', '.join(own.class_names)}"
        )
    here = {name: labels.get(name, name) for name in own.class_names}
    if lost := [(name, other) for name, other in here.items() if other not in task.class_names]:
        raise UsbenchError(
            f"{what}: the run has class {lost[0][0]} (of {', '.join(own.class_names)}), {task.name} has "
            f"{', '.join(task.class_names)}; say which is meant: --labels {lost[0][0]}=CLASS"
        )
    if len(set(here.values())) < len(here):
        raise UsbenchError("--labels gives two classes of the run one class of the data; each needs its own")
    return here
