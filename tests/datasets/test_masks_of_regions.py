"""Regions from a raw mask to batches: what readers give, what the store keeps, what training is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from kit.synthetic import write_msd

from usbench import Case, Modality, Structure, Task, UsbenchError
from usbench.contracts.settings import DataSettings
from usbench.datasets.batches import Slices
from usbench.datasets.find import find_store
from usbench.datasets.phantom import make_phantom
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.store import Store, prepare
from usbench.datasets.tasks import get_task
from usbench.datasets.tasks.checks import check_task
from usbench.features.views import changed

CPU = torch.device("cpu")
SMALL = DataSettings(size=16)

GLAND = Task(
    name="gland",
    title="Gland and its zones",
    modalities=(Modality("t2", "T2"), Modality("adc", "ADC")),
    classes=(
        Structure("gland", "gland", labels=(1, 2)),
        Structure("zone", "zone", labels=(2,), threshold=0.3),
    ),
    regions=True,
    nsd_tolerance_mm=2.0,
    licence="none",
    citation="nobody",
)
"""On what `write_msd` writes: value 1 in 24 voxels and value 2 in 12."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_msd(tmp_path / "gland")


def raw_mask(data: Path, case_id: str) -> np.ndarray:
    return np.asarray(nibabel.load(data / "labelsTr" / f"{case_id}.nii.gz").dataobj)  # type: ignore[attr-defined]


def test_a_reader_gives_bits_of_overlapping_regions(data: Path) -> None:
    raw = raw_mask(data, "case_2")
    mask = open_reader(GLAND, data).read("case_2").mask
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask & 1 != 0, raw > 0)
    np.testing.assert_array_equal(mask & 2 != 0, raw == 2)
    assert np.bincount(mask.ravel()).tolist() == [8 * 9 * 7 - 36, 24, 0, 12]
    merged = open_reader(GLAND.merged("all"), data).read("case_2").mask
    np.testing.assert_array_equal(merged, raw > 0)


def test_values_of_no_region_are_named(data: Path) -> None:
    zone = replace(GLAND, classes=GLAND.classes[1:])
    with pytest.raises(UsbenchError, match="mask values 1 are unknown, allowed are 0, 2"):
        open_reader(zone, data).read("case_2")


def test_the_store_keeps_bits_and_knows_regions_from_classes(data: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store = prepare(GLAND, data, SMALL, 1, cache)
    case = store.case("case_2")
    np.testing.assert_array_equal(case.truth() & 2 != 0, raw_mask(data, "case_2") == 2)
    assert set(np.unique(case.mask)) == {0, 1, 3}
    # A threshold decides after training: the same store, whatever it is.
    other = replace(GLAND, classes=(GLAND.classes[0], replace(GLAND.classes[1], threshold=0.9)))
    assert prepare(other, data, SMALL, 1, cache).path == store.path
    classes = replace(
        GLAND,
        regions=False,
        classes=(replace(GLAND.classes[0], labels=(1,)), replace(GLAND.classes[1], threshold=0.5)),
    )
    assert prepare(classes, data, SMALL, 1, cache).path != store.path
    known = (
        "gland",
        ["t2", "adc"],
        ["gland", "zone"],
        SMALL.to_json(),
        list(store.case_ids),
        store.fingerprint,
    )
    found = find_store(*known, cache=cache, regions=True)
    assert found is not None
    assert found.path == store.path
    assert found.task.regions
    assert find_store(*known, cache=cache) is None


def test_stores_of_classes_are_where_they_were(data: Path, tmp_path: Path) -> None:
    """A change of the key would prepare everybody's data again; this is its content, written out."""
    from usbench.datasets.store import STORE_VERSION
    from usbench.storage.files import digest_of

    task = replace(GLAND, regions=False, classes=(Structure("gland", "gland", labels=(1, 2)),))
    store = prepare(task, data, SMALL, 1, tmp_path / "cache")
    wanted = {
        "version": STORE_VERSION,
        "task": "gland",
        "modalities": ["t2", "adc"],
        "classes": [{"name": "gland", "words": "gland", "labels": [1, 2], "ranges": []}],
        "settings": SMALL.to_json(),
        "root": str(data.resolve()),
    }
    assert store.path.name == f"gland-{digest_of(wanted)[:12]}"
    index = json.loads((store.path / "index.json").read_text())
    assert "regions" not in index


@pytest.mark.parametrize("resident", [True, False])
def test_targets_of_regions_overlap(data: Path, tmp_path: Path, resident: bool) -> None:
    store = prepare(GLAND, data, SMALL, 1, tmp_path / "cache")
    cases = [store.case(case_id) for case_id in store.case_ids]
    slices = Slices(cases, 2, CPU, resident=resident, regions=True)
    ((_, target, _),) = slices.batches([np.arange(len(slices))])
    masks = np.concatenate([case.mask for case in cases])
    np.testing.assert_array_equal(target[:, 0].numpy(), masks > 0)
    np.testing.assert_array_equal(target[:, 1].numpy(), masks == 3)
    assert target.dtype == torch.float32
    assert (target[:, 1] <= target[:, 0]).all()
    assert target[:, 1].sum() > 0


def test_views_keep_bits(data: Path, tmp_path: Path) -> None:
    store = prepare(GLAND, data, SMALL, 1, tmp_path / "cache")
    _, mask = changed(store.case("case_2"), seed=1, mirror=True)
    assert set(np.unique(mask)) == {0, 1, 3}


def own_reader(mask: np.ndarray) -> Callable[[Task, Path], Any]:
    """A plugin's reader of one case with this mask."""

    class Own:
        def __init__(self, task: Task, root: Path) -> None:
            self.root = root

        def case_ids(self) -> list[str]:
            return ["a"]

        def files(self, case_id: str) -> list[Path]:
            return [self.root / "dataset.json"]

        def read(self, case_id: str) -> Case:
            images = np.random.default_rng(0).random((2, *mask.shape)).astype(np.float32)
            return Case("a", images, mask, np.eye(4))

    return Own


def test_a_plugins_reader_gives_bits_and_no_others(data: Path, tmp_path: Path) -> None:
    mask = np.zeros((8, 9, 7), dtype=np.uint8)
    mask[2:5, 2:5, 2:5], mask[3, 3, 3] = 1, 3
    task = replace(GLAND, reader=own_reader(mask))
    np.testing.assert_array_equal(open_reader(task, data).read("a").mask, mask)
    store = prepare(task, data, SMALL, 1, tmp_path / "cache")
    np.testing.assert_array_equal(store.case("a").truth(), mask)
    wrong = replace(GLAND, reader=own_reader(mask + np.uint8(4)))
    with pytest.raises(
        UsbenchError, match=r"the mask holds 7, .* 2 regions .* at most 3; set bit i, of value"
    ):
        open_reader(wrong, data).read("a")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"classes": tuple(Structure(f"r{i}", "r", (i + 1,)) for i in range(9))}, "9 regions"),
        ({"regions": False}, "threshold 0.3, which only regions have"),
        ({"regions": 1}, "regions is 1; write True or False"),
        ({"classes": (Structure("a", "a", ()),)}, "class a has labels"),
        (
            {"classes": (replace(GLAND.classes[1], threshold=50),)},
            "threshold 50; give a number between 0 and 1",
        ),
        ({"reader": "chaos"}, "modality t2 is none of CHAOS"),
    ],
)
def test_a_plugins_task_of_regions_is_checked(changes: dict[str, Any], fault: str) -> None:
    check_task(GLAND, "file x.py")
    with pytest.raises(UsbenchError, match=fault):
        check_task(replace(GLAND, **changes), "file x.py")


def test_chaos_has_no_regions_and_classes_may_not_share_values() -> None:
    with pytest.raises(UsbenchError, match="grey values of CHAOS exclude each other"):
        check_task(replace(get_task("chaos"), regions=True), "file x.py")
    sharing = replace(GLAND, regions=False, classes=(GLAND.classes[0], Structure("zone", "zone", (2,))))
    with pytest.raises(UsbenchError, match=r"value 2 belongs to two classes; .*\(regions=True\)"):
        check_task(sharing, "file x.py")


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store]:
    """One brain phantom and its store as regions."""
    folder = tmp_path_factory.mktemp("brain")
    task = get_task("msd-brain-regions")
    make_phantom(task, folder, cases=1, seed=5)
    return folder, prepare(task, folder, DataSettings(size=32), 1, folder / "cache")


def test_brain_regions_are_those_of_brats(brain: tuple[Path, Store]) -> None:
    folder, store = brain
    task, whole = get_task("msd-brain-regions"), get_task("msd-brain")
    assert (task.folder, task.case_ids, task.folds, task.phantom) == (
        whole.folder,
        whole.case_ids,
        whole.folds,
        whole.phantom,
    )
    assert (task.modalities, task.reader, task.mirrors) == (whole.modalities, whole.reader, whole.mirrors)
    raw = raw_mask(folder / "Task01_BrainTumour", store.case_ids[0])
    assert set(np.unique(raw)) == {0, 1, 2, 3}
    truth = store.case(store.case_ids[0]).truth()
    for bit, values in enumerate(((1, 2, 3), (2, 3), (3,))):
        np.testing.assert_array_equal(truth & (1 << bit) != 0, np.isin(raw, values))
    one = prepare(whole, folder, DataSettings(size=32), 1, folder / "cache")
    np.testing.assert_array_equal(one.case(one.case_ids[0]).truth(), raw > 0)
    assert one.path != store.path
