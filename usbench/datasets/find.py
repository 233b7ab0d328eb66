"""Finding a prepared store again from what a finished run says of its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from usbench.contracts.data import Modality, Structure, Task
from usbench.contracts.settings import DataSettings
from usbench.datasets.notes import STORE_VERSION, case_folder, read_meta
from usbench.datasets.store import Store
from usbench.errors import UsbenchError
from usbench.storage.files import cache_dir, digest_of
from usbench.storage.texts import read_json


def find_store(
    task: str,
    modalities: Sequence[str],
    classes: Sequence[str],
    settings: Mapping[str, Any],
    case_ids: Sequence[str],
    fingerprint: str,
    cache: Path | None = None,
    regions: bool = False,
    some: bool = False,
) -> Store | None:
    """The prepared store that a run used, found by what its result.json says.

    A store is taken only if what its cases hold has the very fingerprint of the run, so a picture never shows
    other images under the same name. Nothing is prepared or written. The store's task has names alone: raw
    data cannot be read with it.

    Args:
        task: Name of the task.
        modalities: Names of its modalities, in order.
        classes: Names of its classes, in order.
        settings: The section "data" of "config".
        case_ids: All cases of "split", training and test.
        fingerprint: SHA-256 (hex) of "data".
        cache: The folder of the stores (default: "prepared" in the user's cache folder).
        regions: Whether the classes are regions ("task.regions").
        some: Whether the data has more cases than these, as where few patients are trained on.

    Returns:
        The store, None where this machine does not have it any more.
    """
    wanted = {
        "version": STORE_VERSION,
        "task": task,
        "modalities": list(modalities),
        "classes": list(classes),
        "settings": dict(settings),
        "regions": True if regions else None,
    }
    for index in sorted(Path(cache or cache_dir() / "prepared").glob("*/index.json")):
        try:
            found = read_json(index, "the index of a prepared store", "prepare it again")
            if not isinstance(found, dict) or any(found.get(key) != wanted[key] for key in wanted):
                continue
            every = _all_cases(index.parent) if some else case_ids
            metas = {case_id: _meta(index.parent, case_id) for case_id in every}
            contents = {case_id: str(meta["content"]) for case_id, meta in metas.items()}
            if digest_of(contents) == fingerprint:
                known = DataSettings(**settings)
                store_task = _named(task, modalities, classes, regions)
                return Store(index.parent, store_task, known, contents)
        except UsbenchError:
            continue
    return None


def _all_cases(store: Path) -> list[str]:
    return sorted(folder.name for folder in (store / "cases").iterdir() if not folder.name.startswith("."))


def _meta(store: Path, case_id: str) -> dict[str, Any]:
    # An id from a result is other people's text: it may name a case, never a way out of the store.
    if case_id in ("", ".", "..") or Path(case_id).name != case_id:
        raise UsbenchError(f"{store}: '{case_id}' is not the name of a case; prepare it again")
    meta = read_meta(case_folder(store, case_id))
    if meta is None:
        raise UsbenchError(f"{store}: case '{case_id}' is not there as it was prepared; prepare it again")
    return meta


def _named(task: str, modalities: Sequence[str], classes: Sequence[str], regions: bool) -> Task:
    return Task(
        name=task,
        title=task,
        reader=_unreadable,
        modalities=tuple(Modality(name, name) for name in modalities),
        classes=tuple(Structure(name, name) for name in classes),
        nsd_tolerance_mm=0.0,
        licence="",
        citation="",
        regions=regions,
    )


def _unreadable(task: Task, folder: Path) -> NoReturn:
    raise UsbenchError(
        f"{folder}: a store found again knows no raw data; get the task {task.name} by its name"
    )
