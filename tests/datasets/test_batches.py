"""Batches of slices: the same from memory and from the compressed store, within a bound on memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kit.tiny_set import SETTINGS, write_set

import usbench.datasets.batches as batches
from usbench.datasets.batches import RESIDENT_BYTES, Slices, resident_bound
from usbench.datasets.store import PreparedCase, prepare
from usbench.datasets.tasks import task_from_folder

CPU = torch.device("cpu")


@pytest.fixture
def cases(tmp_path: Path) -> list[PreparedCase]:
    data = write_set(tmp_path / "tiny")
    store = prepare(task_from_folder(data), data, SETTINGS, 1, tmp_path / "cache")
    return [store.case(case_id) for case_id in store.case_ids]


def test_a_batch_is_the_same_from_memory_and_from_the_compressed_store(cases: list[PreparedCase]) -> None:
    images = np.concatenate([np.asarray(case.images) for case in cases])
    masks = np.concatenate([np.asarray(case.mask) for case in cases])
    numbers = np.random.default_rng(2).permutation(len(masks))
    groups = [numbers[:4], numbers[4:5], numbers[5:]]
    features = [{"row": np.arange(len(case.mask), dtype=np.float16)[:, None]} for case in cases]
    rows = np.concatenate([extra["row"] for extra in features])
    for resident in (True, False):
        slices = Slices(cases, 2, CPU, features, resident=resident)
        for group, (image, target, extras) in zip(groups, slices.batches(groups), strict=True):
            np.testing.assert_array_equal(image.numpy(), images[group].astype(np.float32))
            np.testing.assert_array_equal(target[:, 0].numpy(), masks[group] == 1)
            np.testing.assert_array_equal(target[:, 1].numpy(), masks[group] == 2)
            np.testing.assert_array_equal(extras["row"].numpy(), rows[group].astype(np.float32))


def test_data_beyond_the_bound_stays_in_the_store(
    cases: list[PreparedCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(case.images.nbytes + case.mask.nbytes for case in cases)
    for bound, resident in ((size, True), (size - 1, False)):
        monkeypatch.setattr(batches, "resident_bound", lambda device, bound=bound: bound)
        slices = Slices(cases, 2, CPU)
        assert slices.resident is resident
        assert hasattr(slices, "_all_images") is resident


@pytest.mark.parametrize(
    ("threads", "cores", "free", "bound"),
    [
        (16, 16, 10**12, RESIDENT_BYTES),  # a run alone
        (4, 16, 10**12, RESIDENT_BYTES // 4),  # one of four workers
        (1, 16, 10**12, RESIDENT_BYTES // 16),
        (32, 16, 10**12, RESIDENT_BYTES),
        (16, 16, 2 * 10**9, 5 * 10**8),  # a small machine
    ],
)
def test_workers_share_the_bound_as_they_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int, cores: int, free: int, bound: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(batches, "usable_cores", lambda: cores)
    monkeypatch.setattr(batches, "free_memory", lambda device: free)
    assert resident_bound(CPU) == bound
    assert resident_bound(torch.device("cuda")) == min(RESIDENT_BYTES, free // 4)
