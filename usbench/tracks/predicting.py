"""Predicting a case under many conditions: a modality is damaged, and seen by frozen parts, once a kind."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from usbench.datasets.stacks import slice_distance
from usbench.datasets.ways import way_of
from usbench.features.rows import form_of
from usbench.fusions.segmenter import takes_present
from usbench.runs.frozen import Frozen, features_of, frozen_features
from usbench.runs.labels import to_labels
from usbench.runs.predict import wait
from usbench.scores.robustness import CLEAN
from usbench.tracks.damage import Scans, variant

if TYPE_CHECKING:
    from usbench.contracts.method import Feature
    from usbench.datasets.store import PreparedCase, Store
    from usbench.runs.network import TrainedNetwork
    from usbench.scores.robustness import Condition


@dataclass(eq=False)
class Predictor:
    """A trained network that predicts cases under conditions.

    Args:
        trained: The network.
        store: The prepared cases.
        case_ids: Those that will be predicted.
        cache_gb: Bound on stored features of frozen parts, in GB.
    """

    trained: TrainedNetwork
    store: Store
    case_ids: Sequence[str]
    cache_gb: float
    seconds: float = 0.0
    frozen: Frozen = field(init=False)
    features: list[Feature] = field(init=False)

    def __post_init__(self) -> None:
        one = self.trained
        self.told = takes_present(one.network)
        self.way = way_of(one.config)
        self.frozen = frozen_features(
            one.method,
            one.fusion,
            one.task,
            one.config,
            one.source_hash,
            self.store,
            one.device,
            self.cache_gb,
            self.case_ids,
        )
        has = one.method.features is not None
        self.features = features_of(one.method, one.task, one.config, one.device) if has else []

    def predict(self, case: PreparedCase, conditions: Sequence[Condition]) -> _Masks:
        """The masks of a case under all conditions.

        Args:
            case: The prepared case.
            conditions: In order; "clean" is predicted as the run itself predicts.

        Returns:
            The masks, packed; the seconds of all forward passes are added to `seconds`.
        """
        images = np.asarray(case.images[:], dtype=np.float32)
        data = self.trained.config.data
        scans = Scans(case.case_id, images, self.trained.task.modality_names, data.normalise)
        made = _Variants(self, scans)
        for condition in conditions:
            if condition.kind not in ("clean", *(("missing",) if self.told else ())):
                made.add(condition)
        masks = _Masks(case)
        for group in self.way.groups(len(images)):
            made.see(group)
            for condition in conditions:
                masks.add(condition.name, self._labels(case, scans, made, group, condition))
        return masks

    def _labels(
        self, case: PreparedCase, scans: Scans, made: _Variants, group: np.ndarray, condition: Condition
    ) -> np.ndarray:
        """The mask of a group of slices on the native grid of a slice, uint8 [B, side, side]."""
        one = self.trained
        images = torch.from_numpy(made.images(group, condition)).to(one.device)
        words: dict[str, Tensor] = {}
        if self.features:
            words = (
                self._clean_rows(case, images, group) if condition.kind == "clean" else made.rows(condition)
            )
        present = self._present(condition)
        if present is not None:
            words = {**words, "present": present.to(one.device).expand(len(group), -1)}
        precision: AbstractContextManager[object] = one.fabric.autocast()
        with torch.inference_mode(), precision:
            wait(one.device)
            start = time.perf_counter()
            logits = self.way.logits(one.network, images, slice_distance(case), **words)
            wait(one.device)
            self.seconds += time.perf_counter() - start
            return to_labels(logits.float(), one.task.thresholds, case.geometry.side).cpu().numpy()

    def _clean_rows(self, case: PreparedCase, images: Tensor, group: np.ndarray) -> dict[str, Tensor]:
        (stored,) = self.frozen.rows([case.case_id])
        rows = {}
        for name, array in stored.items():
            if array is None:
                rows[name] = self.frozen.fresh[name](images)
            else:
                rows[name] = torch.from_numpy(np.array(array[group])).to(self.trained.device).float()
        return rows

    def _present(self, condition: Condition) -> Tensor | None:
        """Which modalities are there, bool [1, M]; None where the network is not told or all are."""
        if not self.told or condition.kind != "missing":
            return None
        return torch.tensor([[name not in condition.modalities for name in self.trained.task.modality_names]])


class _Variants:
    """A case's scans in every way that conditions damage them, each made once, and their rows.

    Where a feature looks at every modality by itself (`Feature.per_modality`), the rows of a condition are
    put together from those of damaged and of clean modalities; else they are computed for each condition.
    """

    def __init__(self, predictor: Predictor, scans: Scans) -> None:
        self.predictor, self.scans = predictor, scans
        self._images: dict[Condition, np.ndarray] = {}
        self._whole: dict[tuple[str, Any], Tensor] = {}
        self._group = np.arange(0)
        self._rows: dict[tuple[str, Any], Tensor] = {}

    def add(self, condition: Condition) -> None:
        """Damage every modality in the way of a condition, unless that was done before."""
        kind = variant(condition)
        if kind.kind != "missing" and kind not in self._images:
            damaged = [self.scans.modality(m, kind) for m in range(len(self.scans.names))]
            self._images[kind] = np.stack(damaged, axis=1)

    def see(self, group: np.ndarray) -> None:
        """Go on to another group of slices, int [B]."""
        self._group, self._rows = group, {}

    def images(self, group: np.ndarray, condition: Condition) -> np.ndarray:
        """The slices of a group under a condition, float32 [B, M, S, S]."""
        images: np.ndarray = self.scans.images[group]
        if condition.kind == "clean":
            return images
        chosen = [m for m, name in enumerate(self.scans.names) if name in condition.modalities]
        if condition.kind == "missing":
            images[:, chosen] = 0.0
        else:
            images[:, chosen] = self._images[variant(condition)][group][:, chosen]
        return images

    def rows(self, condition: Condition) -> dict[str, Tensor]:
        """The rows of the group's slices under a condition, by feature, as the network gets them."""
        one = self.predictor.trained
        names = self.scans.names
        told = self.predictor.told and condition.kind == "missing"
        there = [m for m, name in enumerate(names) if name not in condition.modalities] if told else None
        found = {}
        for feature in self.predictor.features:
            if not feature.per_modality:
                raw = self._computed(feature, condition)
            else:
                raw = self._computed(feature, CLEAN).clone()
                chosen = [m for m, name in enumerate(names) if name in condition.modalities]
                # As images of absent modalities are 0, for a network that does not listen all the same.
                raw[:, chosen] = 0 if told else self._computed(feature, variant(condition))[:, chosen]
            found[feature.name] = form_of(feature, one.fusion).rounded(raw, there)
        return found

    def _computed(self, feature: Feature, condition: Condition) -> Tensor:
        """Rows [B, ...] of the group; a condition without modalities is one on all of them."""
        key = (feature.name, condition)
        if feature.per_slice:
            if key not in self._rows:
                self._rows[key] = self._compute(feature, condition, self._group)
            return self._rows[key]
        if key not in self._whole:
            self._whole[key] = self._compute(feature, condition, np.arange(len(self.scans.images)))
        return self._whole[key][torch.from_numpy(self._group)]

    def _compute(self, feature: Feature, condition: Condition, group: np.ndarray) -> Tensor:
        damaged = condition
        if condition.kind != "clean" and not condition.modalities:
            damaged = type(condition)(condition.kind, self.scans.names, condition.level)
        images = torch.from_numpy(self.images(group, damaged)).to(self.predictor.trained.device)
        with torch.no_grad():
            return feature.compute(images)[0].detach()


class _Masks:
    """The masks of a case, by name of the condition; slices are packed while the others are predicted."""

    def __init__(self, case: PreparedCase) -> None:
        self.case = case
        self._packed: dict[str, list[tuple[tuple[int, ...], bytes]]] = {}

    def add(self, name: str, labels: np.ndarray) -> None:
        """Add slices, uint8 [B, side, side], after those that are there."""
        self._packed.setdefault(name, []).append((labels.shape, zlib.compress(labels.tobytes(), 1)))

    def volume(self, name: str) -> np.ndarray:
        """The mask of a condition on the native grid, uint8 [X, Y, Z]."""
        parts = [
            np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)
            for shape, data in self._packed[name]
        ]
        return np.ascontiguousarray(self.case.geometry.from_slices(np.concatenate(parts)))
