"""Frozen features of a method: made once for every case, stored, and handed back with each batch.

Rows are stored at half precision, each case in a folder of its own with the digest of its bytes, and
memory-mapped. What a store holds depends on the feature's own key and on the prepared case alone, so
folds, seeds, fusions and runs share it, and an interrupted run goes on where it stopped. The store is
bounded: past the bound, rows that depend on their own slice only are computed anew in every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from usbench.arrays import load_arrays, save_arrays
from usbench.console import progress, say
from usbench.errors import UsbenchError
from usbench.files import cache_dir, digest_of, locked
from usbench.methods.contract import Feature
from usbench.views import View, view_key, view_of

if TYPE_CHECKING:
    from usbench.datasets.base import Task
    from usbench.datasets.store import PreparedCase, Store

# Raise it when the same feature would be stored differently.
VERSION = 1

Rows = dict[str, dict[str, np.ndarray | None]]
"""By case, then by feature: an array [Z, ...], or None where it is computed in every batch."""


@dataclass(frozen=True)
class CaseFeatures:
    """What is known of a case beside its images.

    rows: by feature an array [Z, ...], memory-mapped, or None where it is computed in every batch.
    notes: by feature what its computation said of the case (the texts of a language model).
    """

    rows: Mapping[str, np.ndarray | None]
    notes: Mapping[str, Any] = field(default_factory=dict)


def collect_features(
    features: Sequence[Feature],
    source_hash: str,
    task: Task,
    store: Store,
    case_ids: Sequence[str],
    device: torch.device,
    cache_gb: float,
    view: int = 0,
    mirror: bool = False,
) -> dict[str, CaseFeatures]:
    """The features of some cases: from the store, or computed now, with a progress bar.

    source_hash: of the method's code; other code has other features. cache_gb: bound on all stored
    features together, in GB (10^9 bytes); features that do not depend on one slice alone are always
    stored. view: of the cases themselves, or from 1 of a view of them (`usbench.views`), mirrored
    in part with `mirror`. One feature after
    the other is computed for all cases and its models let go, so that two large ones are never in memory
    together.
    Raises `UsbenchError` where a feature has not one row a slice, and where the disk is full.
    """
    rows: Rows = {case_id: {} for case_id in case_ids}
    notes: dict[str, dict[str, Any]] = {case_id: {} for case_id in case_ids}
    for feature in features:
        folder = feature_folder(feature, source_hash, task, store, view, mirror)
        if not _take(feature, folder, store, case_ids, rows, notes):
            continue
        waiting = f"{folder}: another process is computing {feature.what}; waiting for it"
        with locked(folder.with_name(f".{folder.name}.lock"), waiting):
            missing = _take(feature, folder, store, case_ids, rows, notes)
            _make(feature, folder, task, store, missing, device, cache_gb, view, mirror, rows, notes)
        absent = sum(rows[case_id][feature.name] is None for case_id in case_ids)
        if absent:
            say(
                f"{feature.what} of {absent} cases are computed in every batch: {features_dir()} holds "
                f"{stored_bytes() / 1e9:.1f} of {cache_gb:g} GB; raise --cache-gb or remove what is old there"
            )
        else:
            feature.free()
    return {case_id: CaseFeatures(rows[case_id], notes[case_id]) for case_id in case_ids}


def _take(
    feature: Feature,
    folder: Path,
    store: Store,
    case_ids: Sequence[str],
    rows: Rows,
    notes: dict[str, dict[str, Any]],
) -> list[str]:
    """Put what is stored of a feature into `rows` and `notes`; the cases of which nothing is stored."""
    missing = []
    for case_id in case_ids:
        stored = _load(_place(folder, case_id, store))
        if stored is None:
            missing.append(case_id)
        else:
            rows[case_id][feature.name], notes[case_id][feature.name] = stored
    return missing


def _make(
    feature: Feature,
    folder: Path,
    task: Task,
    store: Store,
    case_ids: Sequence[str],
    device: torch.device,
    cache_gb: float,
    view: int,
    mirror: bool,
    rows: Rows,
    notes: dict[str, dict[str, Any]],
) -> None:
    """Compute a feature of some cases into `rows` and `notes`, and store it as far as the bound allows."""
    if not case_ids:
        return
    with progress() as bar:
        of_view = f", view {view}" if view else ""
        line = bar.add_task(f"{task.name}: {feature.what}{of_view}", total=len(case_ids))
        for case_id in case_ids:
            case = view_of(task, store, case_id, view, mirror) if view else store.case(case_id)
            size = _expected_bytes(rows, feature.name, len(case.mask))
            found: tuple[np.ndarray | None, Any] = (None, None)
            if not feature.per_slice or stored_bytes() + size <= cache_gb * 1e9:
                array, note = _compute(feature, case, device)
                if not feature.per_slice or stored_bytes() + array.nbytes <= cache_gb * 1e9:
                    found = _save(_place(folder, case_id, store), array, note, feature), note
            rows[case_id][feature.name], notes[case_id][feature.name] = found
            bar.advance(line)


def features_dir() -> Path:
    """Where features are stored: below the cache folder."""
    return cache_dir() / "features"


def stored_bytes() -> int:
    """Bytes that all stored features take."""
    return sum(path.stat().st_size for path in features_dir().glob("*/*/rows.npy"))


def collect_views(
    features: Sequence[Feature],
    source_hash: str,
    task: Task,
    store: Store,
    case_ids: Sequence[str],
    device: torch.device,
    cache_gb: float,
    views: int,
    mirror: bool,
    of_slices: Mapping[str, CaseFeatures],
) -> list[tuple[View, Mapping[str, np.ndarray | None]]]:
    """`views` views of each case with their features, all cases of one view after the other.

    of_slices: the features of the cases themselves. Those that do not depend on one slice alone (a text on
    a whole case) are the same for a view.
    """
    alone = [feature for feature in features if feature.per_slice]
    made: list[tuple[View, Mapping[str, np.ndarray | None]]] = []
    for number in range(1, views + 1):
        found = collect_features(alone, source_hash, task, store, case_ids, device, cache_gb, number, mirror)
        for case_id in case_ids:
            rows = dict(found[case_id].rows)
            for name, whole in of_slices[case_id].rows.items():
                if name not in rows:
                    assert whole is not None
                    rows[name] = whole[np.flatnonzero(store.case(case_id).foreground)]
            made.append((view_of(task, store, case_id, number, mirror), rows))
    return made


def feature_folder(
    feature: Feature, source_hash: str, task: Task, store: Store, view: int = 0, mirror: bool = False
) -> Path:
    """The folder of a feature on data prepared in one way; its cases lie in it."""
    data = [task.name, task.modality_names, asdict(store.settings), view_key(view, mirror) if view else []]
    key = digest_of([VERSION, feature.name, feature.key, source_hash, data])
    return features_dir() / f"{feature.name}-{key[:16]}"


def _place(folder: Path, case_id: str, store: Store) -> Path:
    # The content is in the name: a changed case is another case.
    return folder / f"{case_id}-{digest_of(store.contents[case_id])[:12]}"


def _expected_bytes(rows: Mapping[str, Mapping[str, np.ndarray | None]], name: str, slices: int) -> int:
    """What the next case will take, judged by one that is stored; 0 where none is."""
    for found in rows.values():
        array = found.get(name)
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
