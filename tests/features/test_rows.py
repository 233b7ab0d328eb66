"""The forms in which rows are kept: eight bits, and the mean over modalities alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
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
from usbench.features.rows import Form, MeanRows, PackedRows
from usbench.features.store import FeatureStore, fresh_rows
from usbench.features.total import features_dir, stored_bytes

TASK = get_task("msd-prostate")
CPU = torch.device("cpu")


class Maps:
    """A feature with four maps of every modality, [N, M, 4, 16, 16], that counts its calls."""

    def __init__(self, bits: int = 16, mean_under: tuple[str, ...] = ("hybrid",)) -> None:
        self.calls = 0
        self.feature = Feature("maps", "maps", 1, self.compute, bits=bits, mean_under=mean_under)

    def compute(self, images: Tensor) -> tuple[Tensor, Any]:
        self.calls += 1
        scale = torch.tensor([0.01, 1.0, 30.0, 0.0]).view(4, 1, 1)
        return images.unsqueeze(2) * scale + scale / 3, None


def made(maps: Maps, store: Store, fusion: str = "", gb: float = 1.0) -> Any:
    stored = FeatureStore([maps.feature], "s", TASK, store, CPU, gb, fusion)
    return stored.collect(store.case_ids, store.case_ids[:1], 1)


def test_a_worked_map_in_eight_bits() -> None:
    """Largest value 2: a step is 2/127, so 1 is 63.5 steps, rounded to the even 64."""
    rows = torch.tensor([[[[2.0, 1.0], [-2.0, 0.0]]]]).half()
    arrays = Form(bits=8).arrays(rows)
    assert arrays["rows"].dtype == np.int8
    assert arrays["rows"].tolist() == [[[[127, 64], [-127, 0]]]]
    np.testing.assert_allclose(arrays["scale"], [[[[2 / 127]]]], rtol=1e-6)
    read = Form(bits=8).opened(arrays)
    np.testing.assert_allclose(read[0], [[[2, 128 / 127], [-2, 0]]], rtol=1e-3)


@pytest.mark.parametrize("shape", [(3, 2, 4, 5, 5), (3, 4, 5, 5), (3, 7), (3, 2, 6), (3,)])
@pytest.mark.parametrize("mean", [False, True])
def test_what_is_stored_is_what_a_batch_computes(shape: tuple[int, ...], mean: bool) -> None:
    if mean and len(shape) < 2:
        return
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 5
    for bits in (8, 16):
        form = Form(mean, bits)
        arrays = form.arrays(rows.half())
        assert set(arrays) == set(form.names)
        read = np.asarray(form.opened(arrays))
        assert read.dtype == np.float16
        assert torch.equal(torch.from_numpy(read).float(), form.rounded(rows))
        expected = rows.numpy().mean(1, keepdims=True) if mean else rows.numpy()
        # Half a step of the largest value, and the rounding to half precision twice.
        most = np.abs(expected).max() * ((1 / 254 if bits == 8 else 0) + 2e-3)
        np.testing.assert_allclose(read, expected, atol=most, rtol=0)


def test_every_map_has_its_own_scale() -> None:
    """A faint map beside a strong one keeps its contrast; zeros stay zeros, whole numbers stay whole."""
    rows = torch.ones(2, 3, 4, 4) * torch.tensor([1e-3, 1e3, 0.0]).view(3, 1, 1)
    np.testing.assert_allclose(Form(bits=8).rounded(rows), rows, rtol=1e-3)
    numbers = torch.arange(600).reshape(2, 300)
    kept = Form(bits=8).opened(Form(bits=8).arrays(numbers))
    assert np.array_equal(kept, numbers)
    assert torch.equal(Form(bits=8).rounded(numbers), numbers)


def test_rows_are_read_like_an_array() -> None:
    full = torch.randn(6, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).half()
    packed = Form(bits=8).opened(Form(bits=8).arrays(full))
    for rows in (packed, MeanRows(full.numpy())):
        whole = np.asarray(rows)
        assert (rows.shape, len(rows), rows.nbytes) == (whole.shape, 6, whole.nbytes)
        for index in (3, slice(2, 5), slice(0, 0), np.array([5, 0])):
            assert np.array_equal(rows[index], whole[index])


def test_other_forms_are_other_features(store: Store) -> None:
    def folder(maps: Maps, fusion: str) -> Path:
        return FeatureStore([maps.feature], "s", TASK, store, CPU, 1.0, fusion).folder(maps.feature)

    eight, sixteen, plain = Maps(8), Maps(16), Maps(16, ())
    folders = [folder(maps, fusion) for maps in (eight, sixteen) for fusion in ("late", "hybrid")]
    assert len(set(folders)) == 4
    # Where nothing of it is asked for, the folder is that of older features.
    assert folder(plain, "hybrid") == folder(plain, "") == folder(sixteen, "late")
    with pytest.raises(UsbenchError, match="feature 'maps' has bits=4; choose 8 or 16"):
        Maps(4)


def test_eight_bits_take_half_and_mean_takes_its_share(store: Store) -> None:
    slices = sum(len(store.case(i).mask) for i in store.case_ids)
    slices += int(store.case(store.case_ids[0]).foreground.sum())  # of the view
    before, numbers = 0, slices * 4 * 16 * 16
    for bits, fusion, size in ((16, "late", 4), (8, "late", 2), (8, "hybrid", 1)):
        made(Maps(bits), store, fusion)
        scales = slices * 4 * 4 * (size if bits == 8 else 0)
        files = 2 * (1 + (bits == 8)) * 5 * 128  # numpy's headers
        taken = stored_bytes() - before
        assert numbers * size + scales <= taken <= numbers * size + scales + files
        before += taken


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("fusion", ["late", "hybrid"])
def test_batches_are_the_same_however_rows_come(bits: int, fusion: str, store: Store) -> None:
    """Stored, past the bound, on the device or read: the same; and near what was computed."""
    cases = [store.case(i) for i in store.case_ids]
    group = np.arange(0, sum(len(c.mask) for c in cases), 3)
    seen = []
    for gb in (1.0, 0.0):
        maps = Maps(bits)
        found = made(maps, store, fusion, gb)
        fresh = fresh_rows([maps.feature], fusion)
        extras = [found.cases[i].rows for i in store.case_ids]
        for resident in (True, False):
            slices = Slices(cases, 1, CPU, extras, fresh, resident=resident)
            images, _, rows = next(iter(slices.batches([group])))
            seen.append(rows["maps"])
    assert seen[0].shape[1:] == (1 if fusion == "hybrid" else 2, 4, 16, 16)
    assert all(torch.equal(seen[0], other) for other in seen[1:])
    expected = Maps().compute(images)[0]
    expected = expected.mean(1, keepdim=True) if fusion == "hybrid" else expected
    error = (seen[0] - expected).norm() / expected.norm()
    assert error < (0.01 if bits == 8 else 1e-3)


def test_means_are_read_from_rows_of_every_modality(store: Store) -> None:
    """Late fusion first: hybrid computes and stores nothing, and gets the very means that it would store."""
    alone = {i: np.asarray(c.rows["maps"]) for i, c in made(Maps(), store, "hybrid").cases.items()}
    shutil.rmtree(features_dir())
    made(Maps(), store, "late")
    taken, maps = stored_bytes(), Maps()
    found = made(maps, store, "hybrid")
    assert maps.calls == 0
    assert stored_bytes() == taken
    assert all(isinstance(found.cases[i].rows["maps"], MeanRows) for i in store.case_ids)
    assert all(np.array_equal(found.cases[i].rows["maps"], alone[i]) for i in store.case_ids)
    # From eight bits it would be another mean.
    eight = Maps(8)
    assert isinstance(made(eight, store, "hybrid").cases[store.case_ids[0]].rows["maps"], PackedRows)
    assert eight.calls == 5


def test_one_modality_has_no_mean(small_prostate: Path, store: Store) -> None:
    task = TASK.with_modalities(["t2"])
    one = prepare(task, small_prostate, DataSettings(size=16), workers=1)
    feature = Maps().feature
    of = [FeatureStore([feature], "s", task, one, CPU, 1.0, fusion) for fusion in ("late", "hybrid")]
    assert of[0].folder(feature) == of[1].folder(feature)


def test_rows_without_modalities_have_no_mean(store: Store) -> None:
    feature = replace(Maps().feature, compute=lambda images: (images.mean((1, 2, 3)), None))
    with pytest.raises(UsbenchError, match=r"shape \[\d+\] for 2 modalities; with mean_under a row begins"):
        FeatureStore([feature], "s", TASK, store, CPU, 1.0, "hybrid").collect(store.case_ids)
