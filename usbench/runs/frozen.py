"""What frozen parts of a method say of the cases of a cell: computed once, stored, and read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from usbench.features.rows import Rows
from usbench.features.store import CaseFeatures, FeatureStore, fresh_rows, rows_in_memory

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.contracts.data import Task
    from usbench.contracts.method import Feature, Method
    from usbench.contracts.settings import TrainSettings
    from usbench.datasets.batches import View
    from usbench.datasets.patients.case import PatientCase
    from usbench.datasets.store import Store
    from usbench.runs.cell import Cell


@dataclass(frozen=True)
class Frozen:
    """The features of some cases, and how to compute what is not stored. Empty for most methods.

    Attributes:
        cases: By case id.
        fresh: By feature, how to make the rows of a batch of images [B, M, S, S].
        views: Changed slices of the training cases with their features.
        remarks: What fell back or was cut, a line each.
        of_slices: Whether rows belong to slices as they are. Those of a patient or a modality alone do not:
            slices are then augmented as without any.
    """

    cases: dict[str, CaseFeatures] = field(default_factory=dict)
    fresh: dict[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    views: list[tuple[View, Rows]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    of_slices: bool = False

    def rows(self, case_ids: Sequence[str]) -> list[Rows]:
        """The rows of some cases, as `usbench.datasets.batches.Slices` takes them."""
        return [self.cases[case_id].rows for case_id in case_ids] if self.cases else []

    def notes(self) -> dict[str, dict[str, Any]]:
        """By case and feature, what their computation said; cases of which nothing was said are left out."""
        said = {i: {n: note for n, note in case.notes.items() if note} for i, case in self.cases.items()}
        return {case_id: notes for case_id, notes in said.items() if notes}


def frozen_features(
    method: Method,
    fusion: str,
    task: Task,
    config: Config,
    source_hash: str,
    store: Store,
    device: torch.device,
    cache_gb: float,
    test: Sequence[str],
    train: Sequence[str] = (),
) -> Frozen:
    """The features of a method: read where they are stored, else computed now.

    Args:
        method: the method; one without frozen parts has no features.
        fusion: name of the fusion, which decides in what form rows are stored.
        task: the task, with the modalities and classes that are used.
        config: the effective configuration.
        source_hash: of the code of the method.
        store: the prepared cases.
        device: where features are computed.
        cache_gb: bound on stored features, in GB (10^9 bytes).
        test: ids of cases whose slices are used as they are.
        train: ids of cases of which views are made too, where the configuration augments slices.

    Returns:
        The features of all these cases.
    """
    if method.features is None:
        return Frozen()
    features = features_of(method, task, config, device)
    stored = FeatureStore(features, source_hash, task, store, device, cache_gb, fusion)
    settings = config.train
    views = views_wanted(features, settings) if train else 0
    found = stored.collect((*train, *test), train, views, settings.mirror)
    remarks = [
        remark
        for f in features
        for remark in f.remarks([case.notes[f.name] for case in found.cases.values()])
    ]
    return Frozen(found.cases, fresh_rows(features, fusion), found.views, remarks, _of_slices(features))


def views_wanted(features: Sequence[Feature], settings: TrainSettings) -> int:
    """How many augmented views of a training slice are stored.

    Args:
        features: Those of the method. Where none depends on a slice, slices are augmented in every batch.
        settings: Of training.
    """
    return settings.views if settings.augment == "light" and _of_slices(features) else 0


def _of_slices(features: Sequence[Feature]) -> bool:
    """Whether a feature depends on a slice: then its rows belong to slices as they are."""
    return any(feature.per_slice for feature in features)


def features_of(method: Method, task: Task, config: Config, device: torch.device) -> list[Feature]:
    """The features of a method as a run uses them.

    A run that leaves out modalities needs the rows of every modality, even where a network takes no more than
    their mean.
    """
    assert method.features is not None
    features = list(method.features(task, device, **config.method))
    if config.train.modality_dropout:
        features = [replace(feature, mean_under=()) for feature in features]
    return features


def frozen_in_memory(
    method: Method,
    fusion: str,
    task: Task,
    config: Config,
    device: torch.device,
    case: PatientCase,
    told: bool = False,
) -> Frozen:
    """The features of a patient who is in no store; nothing is written.

    Args:
        method: the method; one without frozen parts has no features.
        fusion: name of the fusion, which decides in what form rows would be stored.
        task: the task, with the modalities and classes that are used.
        config: the effective configuration.
        device: where features are computed.
        case: the prepared patient.
        told: whether the network is told which modalities are there.
    """
    if method.features is None:
        return Frozen()
    features = features_of(method, task, config, device)
    found = rows_in_memory(features, case, device, fusion, told)
    return Frozen({case.case_id: found}, fresh_rows(features, fusion))


def frozen_of(cell: Cell, device: torch.device, cache_gb: float) -> Frozen:
    """The features of all cases of a cell, and views of those that it is trained on."""
    return frozen_features(
        cell.method,
        cell.fusion,
        cell.task,
        cell.config,
        cell.source_hash,
        cell.store,
        device,
        cache_gb,
        cell.split.test(cell.fold),
        cell.train_ids,
    )
