"""Frozen features of a method: made once for every case, stored, and handed back with each batch.

Rows are stored at half precision or in eight bits (`usbench.features.rows`), each case in a folder of its
own with the digest of its bytes, and memory-mapped. What a store holds depends on the feature's own key and
on the prepared case alone, so folds, seeds and runs share it, and an interrupted run goes on where it
stopped. The store is bounded: past the bound, rows that depend on their own slice only are computed anew in
every batch.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from usbench.contracts.method import Feature
from usbench.datasets.batches import View
from usbench.errors import UsbenchError
from usbench.features.rows import Form, MeanRows, Rows, form_of, row_bytes
from usbench.features.total import StoredTotal, features_dir
from usbench.features.views import view_key, view_of
from usbench.runtime.console import count, progress, say
from usbench.runtime.devices import device_name
from usbench.storage.arrays import load_arrays, save_arrays
from usbench.storage.files import digest_of, locked
from usbench.storage.in_use import use

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.datasets.patients.case import PatientCase
    from usbench.datasets.store import PreparedCase, Store

# Raise it when the same feature would be stored differently.
VERSION = 1

_Found = dict[str, tuple[Any, Any]]  # by case: rows and note of one feature


@dataclass(frozen=True)
class CaseFeatures:
    """What is known of a case beside its images.

    Attributes:
        rows: By feature, see `usbench.features.rows.Rows`.
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
        fusion: Under which the rows are used; it decides their form.
    """

    features: Sequence[Feature]
    source_hash: str
    task: Task
    store: Store
    device: torch.device
    cache_gb: float
    fusion: str = ""

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
        rows: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        notes: dict[str, dict[str, Any]] = defaultdict(dict)
        total = StoredTotal()
        for feature in self.features:
            absent = 0
            for view in range(1 + (views if feature.per_slice else 0)):
                found = self._of(feature, viewed if view else case_ids, view, mirror, total)
                for case_id, (array, note) in found.items():
                    rows[case_id, view][feature.name] = array
                    absent += array is None
                    if not view:
                        notes[case_id][feature.name] = note
            if absent:
                say(
                    f"{feature.what} of {count(absent, 'case')}{' and views' if views else ''}: computed in "
                    f"every batch; {features_dir()} holds {total.bytes() / 1e9:.1f} of {self.cache_gb:g} GB; "
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
        form = self.form(feature).key
        key = digest_of([VERSION, feature.name, feature.key, self.source_hash, data, *form])
        return features_dir() / f"{feature.name}-{key[:16]}"

    def form(self, feature: Feature) -> Form:
        """The form in which the rows of a feature are kept; of one modality there is no mean."""
        form = form_of(feature, self.fusion)
        return replace(form, mean=form.mean and len(self.task.modalities) > 1)

    def place(self, feature: Feature, case_id: str, view: int = 0, mirror: bool = False) -> Path:
        """The folder in which the rows of a case are, or will be."""
        return self._place(self.folder(feature, view, mirror), case_id)

    def full_folder(self, feature: Feature, view: int = 0, mirror: bool = False) -> Path | None:
        """The folder of rows of every modality, where the means of this feature can be read from those."""
        if self.form(feature) != Form(mean=True):
            return None
        return self.folder(replace(feature, mean_under=()), view, mirror)

    def _of(
        self, feature: Feature, case_ids: Sequence[str], view: int, mirror: bool, total: StoredTotal
    ) -> _Found:
        folder, full = self.folder(feature, view, mirror), self.full_folder(feature, view, mirror)
        form = self.form(feature)
        for place in (folder, full):
            if place is not None:
                use(place)

        def stored() -> _Found:
            found = self._stored(folder, case_ids, form)
            if full is not None:
                others = [case_id for case_id in case_ids if case_id not in found]
                for case_id, (rows, note) in self._stored(full, others, Form()).items():
                    found[case_id] = MeanRows(rows), note
            return found

        found = stored()
        if len(found) == len(case_ids):
            return found
        waiting = f"{folder}: another process is computing {feature.what}; waiting for it"
        with locked(folder.with_name(f".{folder.name}.lock"), waiting):
            found = stored()
            missing = [case_id for case_id in case_ids if case_id not in found]
            if missing:
                self._make(feature, folder, missing, view, mirror, found, total)
        return found

    def _stored(self, folder: Path, case_ids: Sequence[str], form: Form) -> _Found:
        loaded = ((case_id, _load(self._place(folder, case_id), form)) for case_id in case_ids)
        return {case_id: stored for case_id, stored in loaded if stored is not None}

    def _make(
        self,
        feature: Feature,
        folder: Path,
        case_ids: Sequence[str],
        view: int,
        mirror: bool,
        found: _Found,
        total: StoredTotal,
    ) -> None:
        """Compute a feature of some cases into `found`, and store it as far as the bound allows."""
        bound, form = self.cache_gb * 1e9, self.form(feature)
        row = next((row_bytes(rows) for rows, _ in found.values() if rows is not None), 0)
        with progress() as bar:
            of_view = f", view {view}" if view else ""
            line = bar.add_task(f"{self.task.name}: {feature.what}{of_view}", total=len(case_ids))
            for case_id in case_ids:
                case = (
                    view_of(self.task, self.store, case_id, view, mirror)
                    if view
                    else self.store.case(case_id)
                )
                found[case_id] = (None, None)
                if not feature.per_slice or total.bytes() + row * len(case.mask) <= bound:
                    start = time.perf_counter()
                    rows, note = _compute(feature, case, self.device, form)
                    arrays = form.arrays(rows)
                    size = sum(array.nbytes for array in arrays.values())
                    row = size // max(1, len(rows))  # what the next case will take, a slice
                    if not feature.per_slice or total.bytes() + size <= bound:
                        seconds = time.perf_counter() - start
                        place = self._place(folder, case_id)
                        found[case_id] = _save(place, arrays, note, feature, form, seconds, self.device)
                        total.add(size)
                bar.advance(line)

    def _place(self, folder: Path, case_id: str) -> Path:
        # The content is in the name: a changed case is another case.
        return folder / f"{case_id}-{digest_of(self.store.contents[case_id])[:12]}"


def _compute(
    feature: Feature, case: PreparedCase | PatientCase | View, device: torch.device, form: Form
) -> tuple[Tensor, Any]:
    """The rows of a case at half precision, of every modality whatever the form, and their note."""
    images = torch.from_numpy(case.images[:].astype("float32")).to(device)
    tensor, note = feature.compute(images)
    if tensor.shape[0] != len(images):
        raise UsbenchError(
            f"feature '{feature.name}' has {tensor.shape[0]} rows for {len(images)} slices of case "
            f"{case.case_id}; return one row a slice"
        )
    if form.mean and tensor.shape[1:2] != images.shape[1:2]:
        raise UsbenchError(
            f"feature '{feature.name}' has rows of shape {list(tensor.shape)} for {images.shape[1]} "
            "modalities; with mean_under a row begins with one entry for each"
        )
    half = tensor.detach().half() if tensor.is_floating_point() else tensor.detach()
    if half.is_floating_point() and not torch.isfinite(half).all():
        raise UsbenchError(
            f"feature '{feature.name}' of case {case.case_id} is not finite at half precision; "
            "check the weights and the images"
        )
    return half, note


def _save(
    place: Path,
    arrays: Mapping[str, np.ndarray],
    note: Any,
    feature: Feature,
    form: Form,
    seconds: float,
    device: torch.device,
) -> tuple[Any, Any]:
    """Store rows and their note, and give the rows memory-mapped, and the note."""
    took = {"seconds": seconds, "device": device_name(device)}
    save_arrays(place, arrays, {"feature": feature.name, "key": feature.key, "note": note, **took})
    files = {name: place / f"{name}.npy" for name in form.names}
    opened = {name: np.load(file, mmap_mode="r", allow_pickle=False) for name, file in files.items()}
    return form.opened(opened), note


def _load(place: Path, form: Form) -> tuple[Any, Any] | None:
    """Stored rows and their note, or None where there are none or they are damaged."""
    stored = load_arrays(place, form.names)
    return None if stored is None else (form.opened(stored[0]), stored[1].get("note"))


def rows_in_memory(
    features: Sequence[Feature],
    case: PatientCase,
    device: torch.device,
    fusion: str = "",
    told: bool = False,
) -> CaseFeatures:
    """The features of a case that is in no store, rounded as those that are read from one.

    Args:
        features: Of a method.
        case: The prepared case.
        device: Where they are computed.
        fusion: Under which the rows are used.
        told: Whether the network is told which modalities are there; then a mean is that of those alone.

    Raises:
        UsbenchError: Where a feature has not one row a slice.
    """
    found: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    for feature in features:
        form = form_of(feature, fusion)
        form = replace(form, mean=form.mean and case.images.shape[1] > 1)
        rows, notes[feature.name] = _compute(feature, case, device, form)
        there = [m for m, is_there in enumerate(case.present) if is_there] if told else None
        found[feature.name] = form.opened(form.arrays(rows, there))
        if len(features) > 1:
            feature.free()  # Two large models are never in memory together.
    return CaseFeatures(found, notes)


def fresh_rows(features: Sequence[Feature], fusion: str = "") -> dict[str, Callable[[Tensor], Tensor]]:
    """For features of single slices, how to compute the rows of a batch of images [B, M, S, S].

    Args:
        features: Of a method.
        fusion: Under which the rows are used.

    Returns:
        By name, the function.
    """

    def computing(feature: Feature) -> Callable[[Tensor], Tensor]:
        def rows(images: Tensor) -> Tensor:
            with torch.no_grad():
                # Rounded as the stored ones are, so that a bound changes no result.
                return form_of(feature, fusion).rounded(feature.compute(images)[0])

        return rows

    return {feature.name: computing(feature) for feature in features if feature.per_slice}
