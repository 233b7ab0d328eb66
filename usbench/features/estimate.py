"""What the features of some cells will take before they are computed: slices, seconds and bytes."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from usbench.errors import UsbenchError
from usbench.features.store import FeatureStore
from usbench.features.views import view_place
from usbench.runtime.console import progress
from usbench.runtime.devices import device_name
from usbench.storage.texts import read_json

if TYPE_CHECKING:
    from usbench.contracts.method import Feature

_LOOKED_AT = 8  # so many stored cases say how long a slice took


@dataclass(frozen=True)
class Need:
    """What one feature, or the augmented views, will take. All but `slices` is an estimate.

    Attributes:
        what: The feature in words.
        slices: Still to be computed.
        seconds: That it takes on this device.
        bytes: On disk.
        bounded: Whether `--cache-gb` bounds those bytes.
        pace: What `seconds` and `bytes` were found by.
        share: Rows for each slice of the data, with those of its augmented views.
    """

    what: str
    slices: int
    seconds: float
    bytes: int
    bounded: bool
    pace: Pace
    share: float = 1.0

    def at(self, cases: int, slices: int) -> tuple[float, int]:
        """Seconds and bytes for a data set of so many cases and slices, of which nothing is stored yet."""
        number = slices * self.share
        return self.pace.per_case * cases + self.pace.per_slice * number, int(self.pace.row_bytes * number)


@dataclass(frozen=True)
class Pace:
    """What a feature takes: seconds for every case beside those for every slice of it, bytes of a row."""

    per_case: float
    per_slice: float
    row_bytes: float


@dataclass
class _Pending:
    """One stored form of a feature: the slices of every case, or view of it, that is not stored yet."""

    feature: Feature
    stored: FeatureStore
    slices: dict[Path, int] = field(default_factory=dict)


class Ahead:
    """The features that are still to be computed for some cells; what several of them share counts once."""

    def __init__(self) -> None:
        self._pending: dict[Path, _Pending] = {}
        self._instead: dict[Path, Path] = {}  # where a mean lies, and where the rows that it can be read from
        self._views: dict[Path, tuple[int, int]] = {}
        self._rows: dict[Path, dict[Path, int]] = {}  # by feature and place, stored or not
        self._slices: dict[tuple[int, str], int] = {}

    def add(
        self,
        stored: FeatureStore,
        case_ids: Sequence[str],
        viewed: Sequence[str],
        views: int,
        mirror: bool,
    ) -> None:
        """Count what `FeatureStore.collect` would compute, called with the same arguments."""
        for case_id in case_ids:
            numbers = range(1 + (views if case_id in viewed else 0))
            case = stored.store.case(case_id)
            full = int(np.count_nonzero(case.foreground))
            self._slices[id(stored.store), case_id] = len(case.mask)
            for view in numbers:
                slices = full if view else len(case.mask)
                if (
                    view
                    and not (place := view_place(stored.task, stored.store, case_id, view, mirror)).is_dir()
                ):
                    # Images at half precision and a mask of bytes.
                    bytes_each = int(np.prod(case.images.shape[1:])) * 2 + int(np.prod(case.mask.shape[1:]))
                    self._views[place] = (full, full * bytes_each)
                for feature in stored.features:
                    if feature.per_slice or not view:
                        self._add_rows(stored, feature, case_id, view, mirror, slices)

    def _add_rows(
        self, stored: FeatureStore, feature: Feature, case_id: str, view: int, mirror: bool, slices: int
    ) -> None:
        place = stored.place(feature, case_id, view, mirror)
        self._rows.setdefault(stored.folder(feature), {})[place] = slices
        full = stored.full_folder(feature, view, mirror)
        if (place / "meta.json").is_file() or (full and (full / place.name / "meta.json").is_file()):
            return
        if full:
            self._instead[place] = full / place.name
        folder = stored.folder(feature)
        self._pending.setdefault(folder, _Pending(feature, stored)).slices[place] = slices

    @property
    def slices(self) -> int:
        """How many rows are still to be computed, of all features together."""
        return sum(sum(self._of(pending).values()) for pending in self._pending.values())

    def needs(self) -> list[Need]:
        """What the features take; a slice is timed where nothing stored says how long one took.

        Raises:
            UsbenchError: Where a feature cannot be computed, for weights that are absent too.
        """
        needs = []
        for folder, pending in self._pending.items():
            if not (slices := self._of(pending)):
                continue
            feature, number = pending.feature, sum(slices.values())
            pace = stored_pace(folder, pending.stored.device) or self._measured(pending)
            seconds = pace.per_case * len(slices) + pace.per_slice * number
            size = int(pace.row_bytes * number)
            share = sum(self._rows[folder].values()) / sum(self._slices.values())
            needs.append(Need(feature.what, number, seconds, size, feature.per_slice, pace, share))
        if self._views:
            number, size = map(sum, zip(*self._views.values(), strict=True))
            pace, share = Pace(0.0, 0.0, size / max(1, number)), number / sum(self._slices.values())
            needs.append(Need("augmented views", number, 0.0, size, False, pace, share))
        return needs

    def _of(self, pending: _Pending) -> dict[Path, int]:
        """The slices of a feature without those whose mean is read from other rows, stored by then."""
        others = {place for one in self._pending.values() for place in one.slices}
        return {
            place: number
            for place, number in pending.slices.items()
            if self._instead.get(place) not in others
        }

    def _measured(self, pending: _Pending) -> Pace:
        stored, feature = pending.stored, pending.feature
        name = next(iter(pending.slices)).name.rpartition("-")[0]
        case = stored.store.case(name)
        # Drawn anew each time: what a feature has met before it may know already.
        chosen = random.SystemRandom().choices(range(len(case.mask)), k=4)
        images = torch.from_numpy(np.stack([np.asarray(case.images[z], np.float32) for z in chosen]))
        try:
            return measure(feature, images.to(stored.device), stored)
        finally:
            feature.free()


def stored_pace(folder: Path, device: torch.device) -> Pace | None:
    """What a feature took where cases of it are stored that were computed on such a device, else None.

    Args:
        folder: Of the feature.
        device: Where the others will be computed.
    """
    seconds, sizes, here = [], [], device_name(device)
    for place in sorted(folder.glob("*"))[:_LOOKED_AT]:
        try:
            meta = read_json(place / "meta.json", "the notes of stored rows", "remove it")
            shape = np.load(place / "rows.npy", mmap_mode="r", allow_pickle=False).shape
            if meta["device"] != here or not shape[0]:
                continue
            seconds.append(float(meta["seconds"]) / shape[0])
            sizes.append(sum(file.stat().st_size for file in place.glob("*.npy")) / shape[0])
        except (UsbenchError, OSError, ValueError, KeyError, TypeError, IndexError):
            continue  # Of an older version, or damaged.
    return Pace(0.0, statistics.median(seconds), statistics.median(sizes)) if seconds else None


def measure(feature: Feature, images: Tensor, stored: FeatureStore) -> Pace:
    """Time a feature on some slices.

    The first slice loads the models and is not counted. Where a row depends on its slice alone, the time of
    a slice is that of two further ones together; else what a call with one and a call with two slices take
    tells what belongs to a case and what to a slice.

    Args:
        feature: The feature.
        images: Four different slices [4, M, S, S], on the device.
        stored: Where its rows are to be stored.

    Returns:
        The pace.
    """
    timed: list[float] = []
    rows: Any = None

    def one(some: Tensor) -> None:
        nonlocal rows
        rows = timing(lambda: feature.compute(some)[0], images.device, timed)

    with progress() as bar:
        line = bar.add_task(f"timing a slice: {feature.what}", total=3)
        for some in images.split((1, 1, 2)):
            one(some)
            bar.advance(line)
    _, single, double = timed
    size = sum(array.nbytes for array in stored.form(feature).arrays(rows.detach().half()).values()) / 2
    if feature.per_slice:
        return Pace(0.0, double / 2, size)
    each = max(0.0, double - single)
    return Pace(max(0.0, single - each), each, size)


def timing(act: Callable[[], Any], device: torch.device, seconds: list[float]) -> Any:
    """What `act` returns; how long it took on the device is put into `seconds`."""
    start = time.perf_counter()
    found = act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds.append(time.perf_counter() - start)
    return found
