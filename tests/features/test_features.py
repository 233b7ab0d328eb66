"""Frozen features: stored once, verified, bounded, resumed, and the same rows however they come."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from usbench.contracts.method import Feature
from usbench.contracts.settings import DataSettings
from usbench.datasets.batches import Slices
from usbench.datasets.store import Store, prepare
from usbench.datasets.tasks import get_task
from usbench.errors import UsbenchError
from usbench.features.store import Collected, FeatureStore, fresh_rows
from usbench.features.total import stored_bytes
from usbench.features.views import view_of

TASK = get_task("msd-prostate")
CPU = torch.device("cpu")


class Counting:
    """A feature that counts how often it is computed and let go."""

    def __init__(self, name: str = "means", per_slice: bool = True, key: Any = 1, scale: float = 1.0) -> None:
        self.calls: list[int] = []
        self.freed = 0
        self.scale = scale
        self.feature = Feature(name, "means", key, self.compute, per_slice, self.free)

    def compute(self, images: Tensor) -> tuple[Tensor, Any]:
        self.calls.append(len(images))
        return images.mean((2, 3)) * self.scale, {"slices": len(images)}

    def free(self) -> None:
        self.freed += 1


def feature_store(*countings: Counting, store: Store, gb: float = 1.0, source: str = "s") -> FeatureStore:
    return FeatureStore([counting.feature for counting in countings], source, TASK, store, CPU, gb)


def collect(counting: Counting, store: Store, gb: float = 1.0, source: str = "s") -> Any:
    return feature_store(counting, store=store, gb=gb, source=source).collect(store.case_ids).cases


def test_rows_are_the_computed_ones_at_half_precision(store: Store) -> None:
    made = collect(Counting(), store)
    for case_id in store.case_ids:
        images = np.asarray(store.case(case_id).images, dtype=np.float32)
        rows = made[case_id].rows["means"]
        assert rows.dtype == np.float16
        np.testing.assert_allclose(rows, images.mean((2, 3)), atol=1e-3)
        assert made[case_id].notes["means"] == {"slices": len(images)}


def test_computed_once_and_shared(store: Store) -> None:
    first, second = Counting(), Counting()
    collect(first, store)
    collect(second, store)
    assert len(first.calls) == 4
    assert first.freed == 1
    assert second.calls == []


@pytest.mark.parametrize("other", ["key", "source", "data"])
def test_other_keys_are_other_features(other: str, store: Store, small_prostate: Path) -> None:
    collect(Counting(), store)
    changed = Counting(key=2 if other == "key" else 1)
    if other == "data":
        store = prepare(TASK, small_prostate, DataSettings(size=16, normalise="minmax"), workers=1)
    collect(changed, store, source="t" if other == "source" else "s")
    assert len(changed.calls) == 4


def test_a_damaged_file_is_made_again(store: Store) -> None:
    first = Counting()
    collect(first, store)
    folder = feature_store(first, store=store).folder(first.feature)
    file = sorted(folder.glob("*/rows.npy"))[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 0xFF
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))
    again = Counting()
    made = collect(again, store)
    assert len(again.calls) == 1
    case_id = store.case_ids[0]
    images = np.asarray(store.case(case_id).images, dtype=np.float32)
    np.testing.assert_allclose(made[case_id].rows["means"], images.mean((2, 3)), atol=1e-3)


def test_past_the_bound_rows_are_computed_in_batches(store: Store) -> None:
    """Some cases stored, others not: training sees the very same rows."""
    bounded, unbounded = Counting(), Counting()
    one_case = store.case(store.case_ids[0])
    gb = 1.5 * len(one_case.mask) * 2 * 2 / 1e9
    made = collect(bounded, store, gb=gb)
    kept = [case_id for case_id in store.case_ids if made[case_id].rows["means"] is not None]
    assert 0 < len(kept) < 4
    assert stored_bytes() <= gb * 1e9 + 1024
    assert bounded.freed == 0  # Still needed for the batches.
    whole = collect(unbounded, store)
    cases = [store.case(i) for i in store.case_ids]
    fresh = fresh_rows([bounded.feature])
    group = np.arange(0, sum(len(c.mask) for c in cases), 3)
    batches = []
    for found, resident in ((made, True), (made, False), (whole, True), (whole, False)):
        extras = [found[i].rows for i in store.case_ids]
        slices = Slices(cases, 1, CPU, extras, fresh, resident=resident)
        images, target, rows = next(iter(slices.batches([group])))
        batches.append((images, target, rows["means"]))
    for other in batches[1:]:
        assert all(torch.equal(a, b) for a, b in zip(batches[0], other, strict=True))


def test_what_belongs_to_a_case_is_stored_whatever_the_bound(store: Store) -> None:
    counting = Counting(per_slice=False)
    made = collect(counting, store, gb=0.0)
    assert all(made[i].rows["means"] is not None for i in store.case_ids)


def test_wrong_number_of_rows_is_named(store: Store) -> None:
    feature = Feature("odd", "odd", 1, lambda images: (images[:-1], None))
    with pytest.raises(UsbenchError, match=r"feature 'odd' has .* rows for .* slices of case"):
        FeatureStore([feature], "s", TASK, store, CPU, 1.0).collect(store.case_ids)


def test_what_half_precision_cannot_hold_is_named(store: Store) -> None:
    with pytest.raises(UsbenchError, match="not finite at half precision"):
        collect(Counting(scale=1e9), store)


def test_a_full_disk_is_one_line_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    counting = Counting()
    with pytest.raises(UsbenchError, match=r"cannot write \(No space left on device\); free some space"):
        collect(counting, store)
    folder = feature_store(counting, store=store).folder(counting.feature)
    assert list(folder.iterdir()) == []


SLOW = """
import sys, time, torch
from pathlib import Path
from usbench.datasets.preprocess import DataSettings
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task
from usbench.features.store import FeatureStore
from usbench.contracts.method import Feature
task = get_task("msd-prostate")
store = prepare(task, Path(sys.argv[1]), DataSettings(size=16), workers=1)
def compute(images):
    print("computing", flush=True)
    time.sleep(float(sys.argv[2]))
    return images.mean((2, 3)), None
feature = Feature("slow", "slow", 1, compute)
views = int(sys.argv[3]) if len(sys.argv) > 3 else 0
features = FeatureStore([feature], "s", task, store, torch.device("cpu"), 1.0)
features.collect(store.case_ids, store.case_ids, views)
"""


@pytest.mark.slow
def test_a_killed_precomputation_resumes(store: Store, small_prostate: Path, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    command = [sys.executable, str(script), str(small_prostate)]
    process = subprocess.Popen([*command, "2"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for _ in range(3):  # The third case has begun: two are stored.
        process.stdout.readline()
    time.sleep(0.2)
    process.kill()
    process.wait()
    again = subprocess.run([*command, "0"], capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("computing") == 2


@pytest.mark.slow
def test_two_processes_at_once_compute_each_row_once(
    store: Store, small_prostate: Path, tmp_path: Path
) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    command = [sys.executable, str(script), str(small_prostate), "0.3", "1"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    # Four cases, and a view of each.
    assert sum(out.count("computing") for out, _ in said) == 8
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_slices_without_extras_give_none() -> None:
    case: Any = SimpleNamespace(
        images=np.zeros((3, 2, 4, 4), np.float16),
        mask=np.zeros((3, 4, 4), np.uint8),
        foreground=np.zeros(3, bool),
    )
    for resident in (True, False):
        batch = next(iter(Slices([case], 1, CPU, resident=resident).batches([np.arange(2)])))
        assert batch[2] == {}


def test_views_are_changed_slices_with_foreground(store: Store) -> None:
    case_id = store.case_ids[0]
    case = store.case(case_id)
    full = np.flatnonzero(case.foreground)
    one, two, again = (view_of(TASK, store, case_id, number) for number in (1, 2, 1))
    assert one.images.shape == (len(full), *case.images.shape[1:])
    assert one.images.dtype == np.float16
    assert one.mask.shape == (len(full), *case.mask.shape[1:])
    assert np.array_equal(one.images, again.images)
    assert np.array_equal(one.mask, again.mask)
    assert not np.array_equal(one.images, two.images)
    assert not np.array_equal(one.mask, case.mask[full])
    # The structure moved, it did not vanish; where it went, the image went too.
    share = (one.mask > 0).mean() / (case.mask[full] > 0).mean()
    assert 0.6 < share < 1.6


def test_training_reaches_every_view_with_its_own_rows(store: Store) -> None:
    """A row is the mean of its image, whichever view, whichever bound, near or far."""
    cases = [store.case(i) for i in store.case_ids]
    place = "case"
    for gb, resident in ((1.0, True), (1.0, False), (0.0, True), (0.0, False)):
        counting, belonging = Counting(key=gb), Counting(place, per_slice=False)
        made = feature_store(counting, belonging, store=store, gb=gb).collect(
            store.case_ids, store.case_ids, 2, True
        )
        assert all((rows["means"] is None) == (gb == 0) for _, rows in made.views)
        extras = [made.cases[i].rows for i in store.case_ids]
        fresh = fresh_rows([counting.feature])
        slices = Slices(cases, 1, CPU, extras, fresh, resident=resident, views=made.views)
        assert slices.views == 2
        assert len(slices) == sum(len(case.mask) for case in cases)
        full, empty = np.flatnonzero(slices.foreground), np.flatnonzero(~slices.foreground)
        numbers = np.concatenate([full[:3], full[-3:], empty[:2]])
        for view in (0, 1, 2):
            group = slices.variant(numbers, np.full(len(numbers), view))
            images, target, rows = next(iter(slices.batches([group])))
            torch.testing.assert_close(rows["means"], images.mean((2, 3)), atol=2e-3, rtol=0)
            plain, plain_target, plain_rows = next(iter(slices.batches([numbers])))
            # What belongs to the whole slice or case is that of the slice itself.
            torch.testing.assert_close(rows[place], plain_rows[place])
            assert torch.equal(images[6:], plain[6:])
            same = torch.equal(images[:6], plain[:6]) and torch.equal(target[:6], plain_target[:6])
            assert same == (view == 0)


def test_views_are_computed_once(store: Store) -> None:
    first, second = Counting(), Counting()
    made: list[Collected] = []
    for counting in (first, second):
        made.append(feature_store(counting, store=store).collect(store.case_ids, store.case_ids[:2], 3))
    assert len(first.calls) == 4 + 2 * 3
    assert second.calls == []
    assert first.freed == 1  # After all views: a large model is loaded once.
    assert [view.case_id for view, _ in made[0].views] == 3 * list(store.case_ids[:2])
