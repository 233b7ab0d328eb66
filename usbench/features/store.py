"""Frozen features of a method: made once for every case, stored, and handed back with each batch.

Rows are stored at half precision, each case in a folder of its own with the digest of its bytes, and
memory-mapped. What a store holds depends on the feature's own key and on the prepared case alone, so
folds, seeds, fusions and runs share it, and an interrupted run goes on where it stopped. The store is
bounded: past the bound, rows that depend on their own slice only are computed anew in every batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from usbench.contracts.method import Feature
from usbench.datasets.batches import View
from usbench.errors import UsbenchError
from usbench.features.views import view_key, view_of
from usbench.runtime.console import progress, say
from usbench.storage.arrays import load_arrays, save_arrays
from usbench.storage.files import cache_dir, digest_of, locked

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.datasets.store import PreparedCase, Store

# Raise it when the same feature would be stored differently.
VERSION = 1

Rows = Mapping[str, np.ndarray | None]
"""By feature: an array [Z, ...], memory-mapped, or None where it is computed in every batch."""

_Found = dict[str, tuple[np.ndarray | None, Any]]  # by case: rows and note of one feature


@dataclass(frozen=True)
class CaseFeatures:
    """What is known of a case beside its images.

    Attributes:
        rows: By feature, see `Rows`.
        notes: By feature what its computation said of the case (the texts of a language model).
    """

    rows: Rows
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Collected:
    """The features of cases, and views of some of them, all cases of one view after the other."""

    cases: dict[str, CaseFeatures]
    views: list[tuple[View, Rows]]


@dataclass(frozen=True)
class FeatureStore:
    """The stored features of a method on the prepared data of a task.

    Attributes:
        features: Those of the method.
        source_hash: Of the method's code; other code has other features.
        task: The task.
        store: Its prepared data.
        device: Where features are computed.
        cache_gb: Bound on all stored features together, in GB (10^9 bytes); features that do not depend on
            one slice alone are always stored.
    """

    features: Sequence[Feature]
    source_hash: str
    task: Task
    store: Store
    device: torch.device
    cache_gb: float

    def collect(
        self, case_ids: Sequence[str], viewed: Sequence[str] = (), views: int = 0, mirror: bool = False
    ) -> Collected:
        """Features of cases, and of views of some of them: stored, or computed now.

        Features that do not depend on one slice alone (a text on a whole case) are the same for a view. One
        feature after the other is computed for all cases and views, with a progress bar, and its models let
        go, so that two large ones are never in memory together.

        Args:
            case_ids: The cases.
            viewed: Those of them whose views are wanted too.
            views: Views of each.
            mirror: Whether views may exchange left and right (`usbench.features.views`).

        Raises:
            UsbenchError: Where a feature has not one row a slice, and where the disk is full.
        """
        rows: dict[tuple[str, int], dict[str, np.ndarray | None]] = defaultdict(dict)
        notes: dict[str, dict[str, Any]] = defaultdict(dict)
        for feature in self.features:
            absent = 0
            for view in range(1 + (views if feature.per_slice else 0)):
                found = self._of(feature, viewed if view else case_ids, view, mirror)
                for case_id, (array, note) in found.items():
                    rows[case_id, view][feature.name] = array
                    absent += array is None
                    if not view:
                        notes[case_id][feature.name] = note
            if absent:
                say(
                    f"{feature.what} of {absent} cases{' and views' if views else ''} are computed in every "
                    f"batch: {features_dir()} holds {stored_bytes() / 1e9:.1f} of {self.cache_gb:g} GB; "
                    "raise --cache-gb or remove what is old there"
                )
            else:
                feature.free()
        made: list[tuple[View, Rows]] = []
        for view in range(1, views + 1):
            for case_id in viewed:
                full = np.flatnonzero(self.store.case(case_id).foreground)
                whole = {
                    name: array[full]
                    for name, array in rows[case_id, 0].items()
                    if name not in rows[case_id, view] and array is not None
                }
                changed = view_of(self.task, self.store, case_id, view, mirror)
                made.append((changed, {**rows[case_id, view], **whole}))
        return Collected({i: CaseFeatures(rows[i, 0], notes[i]) for i in case_ids}, made)

    def folder(self, feature: Feature, view: int = 0, mirror: bool = False) -> Path:
        """The folder of a feature on this data, or on a view of it; its cases lie in it."""
        task, of_view = self.task, view_key(view, mirror) if view else []
        data = [task.name, task.modality_names, asdict(self.store.settings), of_view]
        key = digest_of([VERSION, feature.name, feature.key, self.source_hash, data])
        return features_dir() / f"{feature.name}-{key[:16]}"

    def _of(self, feature: Feature, case_ids: Sequence[str], view: int, mirror: bool) -> _Found:
        folder = self.folder(feature, view, mirror)
        found = self._stored(folder, case_ids)
        if len(found) == len(case_ids):
            return found
        waiting = f"{folder}: another process is computing {feature.what}; waiting for it"
        with locked(folder.with_name(f".{folder.name}.lock"), waiting):
            found = self._stored(folder, case_ids)
            missing = [case_id for case_id in case_ids if case_id not in found]
            if missing:
                self._make(feature, folder, missing, view, mirror, found)
        return found

    def _stored(self, folder: Path, case_ids: Sequence[str]) -> _Found:
        loaded = ((case_id, _load(self._place(folder, case_id))) for case_id in case_ids)
        return {case_id: stored for case_id, stored in loaded if stored is not None}

    def _make(
        self,
        feature: Feature,
        folder: Path,
        case_ids: Sequence[str],
        view: int,
        mirror: bool,
        found: _Found,
    ) -> None:
        """Compute a feature of some cases into `found`, and store it as far as the bound allows."""
        bound = self.cache_gb * 1e9
        with progress() as bar:
            of_view = f", view {view}" if view else ""
            line = bar.add_task(f"{self.task.name}: {feature.what}{of_view}", total=len(case_ids))
            for case_id in case_ids:
                case = (
                    view_of(self.task, self.store, case_id, view, mirror)
                    if view
                    else self.store.case(case_id)
                )
                size = _expected_bytes(found, len(case.mask))
                found[case_id] = (None, None)
                if not feature.per_slice or stored_bytes() + size <= bound:
                    array, note = _compute(feature, case, self.device)
                    if not feature.per_slice or stored_bytes() + array.nbytes <= bound:
                        found[case_id] = _save(self._place(folder, case_id), array, note, feature), note
                bar.advance(line)

    def _place(self, folder: Path, case_id: str) -> Path:
        # The content is in the name: a changed case is another case.
        return folder / f"{case_id}-{digest_of(self.store.contents[case_id])[:12]}"


def features_dir() -> Path:
    """Where features are stored: below the cache folder."""
    return cache_dir() / "features"


def stored_bytes() -> int:
    """Bytes that all stored features take."""
    return sum(path.stat().st_size for path in features_dir().glob("*/*/rows.npy"))


def _expected_bytes(found: _Found, slices: int) -> int:
    """What the next case will take, judged by one that is stored; 0 where none is."""
    for array, _ in found.values():
        if array is not None and len(array):
            return array.nbytes // len(array) * slices
    return 0


def _compute(feature: Feature, case: PreparedCase | View, device: torch.device) -> tuple[np.ndarray, Any]:
    images = torch.from_numpy(case.images[:].astype("float32")).to(device)
    tensor, note = feature.compute(images)
    if tensor.shape[0] != len(images):
        raise UsbenchError(
            f"feature '{feature.name}' has {tensor.shape[0]} rows for {len(images)} slices of case "
            f"{case.case_id}; return one row a slice"
        )
    half = tensor.detach().half() if tensor.is_floating_point() else tensor.detach()
    if half.is_floating_point() and not torch.isfinite(half).all():
        raise UsbenchError(
            f"feature '{feature.name}' of case {case.case_id} is not finite at half precision; "
            "check the weights and the images"
        )
    return np.ascontiguousarray(half.cpu().numpy()), note


def _save(place: Path, array: np.ndarray, note: Any, feature: Feature) -> np.ndarray:
    """Store rows and their note, and give the rows memory-mapped."""
    save_arrays(place, {"rows": array}, {"feature": feature.name, "key": feature.key, "note": note})
    mapped: np.ndarray = np.load(place / "rows.npy", mmap_mode="r", allow_pickle=False)
    return mapped


def _load(place: Path) -> tuple[np.ndarray, Any] | None:
    """Stored rows and their note, or None where there are none or they are damaged."""
    stored = load_arrays(place, ["rows"])
    return None if stored is None else (stored[0]["rows"], stored[1].get("note"))


def fresh_rows(features: Sequence[Feature]) -> dict[str, Callable[[Tensor], Tensor]]:
    """For features of single slices, how to compute the rows of a batch of images [B, M, S, S]."""

    def computing(feature: Feature) -> Callable[[Tensor], Tensor]:
        def rows(images: Tensor) -> Tensor:
            with torch.no_grad():
                # Rounded as the stored ones are, so that a bound changes no result.
                return feature.compute(images)[0].half().float()

        return rows

    return {feature.name: computing(feature) for feature in features if feature.per_slice}
