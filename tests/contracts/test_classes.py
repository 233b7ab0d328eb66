"""What masks hold: classes that exclude each other by value, regions that overlap by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from usbench import Structure, UsbenchError
from usbench.contracts.classes import (
    add_class,
    class_faults,
    class_maps,
    is_class,
    largest_value,
    mask_key,
    value_fault,
    value_of,
)
from usbench.datasets.tasks import get_task

REGIONS = get_task("msd-brain-regions")


def test_a_region_is_a_bit_and_a_class_a_value() -> None:
    assert [value_of(i, regions=True) for i in range(8)] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert [value_of(i, regions=False) for i in range(3)] == [1, 2, 3]
    assert [largest_value(k, regions=True) for k in (1, 2, 3, 8)] == [1, 3, 7, 255]
    assert largest_value(4, regions=False) == 4
    with pytest.raises(UsbenchError, match="at most 8 regions, this task has more; split it"):
        value_of(8, regions=True)
    assert value_of(8, regions=False) == 9


def test_maps_of_a_mask_worked_by_hand() -> None:
    # No region, the whole alone, whole and core, all three, core alone (it need not lie in the whole).
    mask = np.array([[0, 1, 3, 7, 2]], dtype=np.uint8)
    whole, core, enhancing = [[0, 1, 1, 1, 0]], [[0, 0, 1, 1, 1]], [[0, 0, 0, 1, 0]]
    assert class_maps(mask, 3, regions=True).astype(int).tolist() == [whole, core, enhancing]
    assert class_maps(np.array([0, 1, 3, 2]), 3, regions=False).astype(int).tolist() == [
        [0, 1, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
    ]
    tensor = is_class(torch.from_numpy(mask), 1, regions=True)
    assert tensor.dtype == torch.bool
    assert tensor.tolist() == [[False, False, True, True, True]]


@pytest.mark.parametrize("regions", [False, True])
def test_marking_is_the_way_back(regions: bool) -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((8, 5, 6)) < 0.3
    mask = np.zeros((5, 6), dtype=np.uint8)
    for index, where in enumerate(maps):
        add_class(mask, index, where, regions)
    found = class_maps(mask, 8, regions)
    if regions:
        np.testing.assert_array_equal(found, maps)
    else:  # the last one that is marked stays
        last = np.where(maps.any(0), 7 - maps[::-1].argmax(0), -1)
        np.testing.assert_array_equal(found, np.arange(8)[:, None, None] == last)


def test_values_that_a_mask_cannot_hold() -> None:
    mask = np.full((2, 2), 4, dtype=np.uint8)
    assert value_fault(mask, ["a", "b", "c"], regions=True) == ""
    assert value_fault(mask, ["a", "b"], regions=True) == (
        "the mask holds 4, but the task has 2 regions (a, b), whose bits make at most 3"
    )
    assert value_fault(mask, ["a"], regions=False) == "the mask holds 4, but the task has 1 class (a)"


def test_a_threshold_changes_no_mask_and_regions_do() -> None:
    one, other = Structure("a", "a", (1,)), Structure("a", "a", (1,), threshold=0.3)
    assert mask_key([one], False) == [{"name": "a", "words": "a", "labels": (1,), "ranges": ()}]
    assert mask_key([one], True) == mask_key([other], True) != mask_key([one], False)


@pytest.mark.parametrize(
    ("classes", "regions", "fault"),
    [
        ([Structure(f"r{i}", "r", (1,)) for i in range(9)], True, "9 regions, a mask holds at most 8"),
        (
            [Structure("a", "a", (1,), threshold=1.0)],
            True,
            "class a has threshold 1.0; give a number between",
        ),
        ([Structure("a", "a", (1,), threshold=0)], True, "class a has threshold 0; give"),
        ([Structure("a", "a", (1,), threshold=float("nan"))], True, "class a has threshold nan; give"),
        ([Structure("a", "a", (1,), threshold="0.5")], True, "class a has threshold '0.5'; give"),  # type: ignore[arg-type]
        ([Structure("a", "a", (1,), threshold=0.4)], False, "threshold 0.4, which only regions have"),
        ([Structure("a", "a", (1,))], "yes", "regions is 'yes'; write True or False"),
    ],
)
def test_what_no_task_may_say_of_its_classes(classes: list[Structure], regions: bool, fault: str) -> None:
    (found,) = class_faults(classes, regions)
    assert fault in found


def test_sound_regions_have_no_fault() -> None:
    assert not list(class_faults(REGIONS.classes, REGIONS.regions))
    assert REGIONS.thresholds == {"whole-tumour": 0.5, "tumour-core": 0.5, "enhancing-tumour": 0.5}
    assert get_task("msd-brain").thresholds is None


def test_merged_regions_are_one_ordinary_class() -> None:
    merged = REGIONS.merged("tumour")
    assert (merged.class_names, merged.regions, merged.thresholds) == (("tumour",), False, None)
    assert merged.classes[0].labels == (1, 2, 3)
    chaos = get_task("chaos")
    assert chaos.merged("organ").classes[0].ranges == tuple(r for c in chaos.classes for r in c.ranges)
