"""Training volumes and patches: what is drawn, where, at which edges, and with how much memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kit.stacked import stacked

from usbench.contracts.settings import TrainSettings, VolumeSettings
from usbench.datasets.volumes import Volumes

CPU = torch.device("cpu")
TRAIN = TrainSettings(batch=2)


def made(settings: VolumeSettings, count: int = 2, resident: bool | None = None, **words: Any) -> Volumes:
    return Volumes([stacked(seed=i, **words) for i in range(count)], 2, CPU, settings, resident=resident)


@pytest.mark.parametrize(
    "settings",
    [
        VolumeSettings("patch", patch=(4, 8, 8)),
        VolumeSettings("patch", patch=(9, 20, 6)),
        VolumeSettings("patch", patch=(4, 8, 8), spacing=1.0),
        VolumeSettings("whole", shape=(8, 12, 12)),
    ],
)
def test_what_is_read_as_needed_is_what_stays_in_memory(settings: VolumeSettings) -> None:
    here, there = made(settings, resident=True), made(settings, resident=False)
    groups = here.epoch(TRAIN, 3, 5, 1)
    assert [g.tolist() for g in groups] == [g.tolist() for g in there.epoch(TRAIN, 3, 5, 1)]
    for one, two in zip(here.batches(groups), there.batches(groups), strict=True):
        assert one[0].shape[2:] == settings.network_shape
        assert one[1].shape[1:] == (2, *settings.network_shape)
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
        assert one[2] == two[2] == {}


def test_an_epoch_takes_each_volume_as_often_as_asked_and_is_a_function_of_seed_and_epoch() -> None:
    volumes = made(VolumeSettings("patch", patch=(4, 8, 8), patches=3), count=3)
    groups = volumes.epoch(TRAIN, 0, 0, 1)
    assert np.array_equal(np.bincount(np.concatenate(groups)[:, 0]), [3, 3, 3])
    assert {len(group) for group in groups} <= {1, 2}
    same, later = volumes.epoch(TRAIN, 0, 0, 1), volumes.epoch(TRAIN, 0, 1, 1)
    assert [g.tolist() for g in groups] == [g.tolist() for g in same]
    assert [g.tolist() for g in groups] != [g.tolist() for g in later]
    whole = made(VolumeSettings("whole", shape=(4, 8, 8)), count=3).epoch(TRAIN, 0, 0, 1)
    assert sorted(np.concatenate(whole)[:, 0]) == [0, 1, 2]


def test_few_volumes_come_again_for_the_batches_that_are_asked_for() -> None:
    volumes = made(VolumeSettings("whole", shape=(4, 8, 8)))
    assert len(volumes.epoch(TrainSettings(batch=2, min_batches=5), 0, 0, 1)) == 5


def test_two_processes_get_a_sample_each_where_one_has_two() -> None:
    volumes = made(VolumeSettings("patch", patch=(4, 8, 8)), count=3)
    alone, shared = volumes.epoch(TRAIN, 0, 0, 1), volumes.epoch(TRAIN, 0, 0, 2)
    assert np.concatenate(alone).tolist() == np.concatenate(shared).tolist()
    assert min(map(len, shared)) >= 2


def test_foreground_patches_are_of_every_class_alike() -> None:
    """A class of one voxel is drawn as often as one of hundreds, each voxel of a class as often."""
    mask = np.zeros((9, 32, 32), np.uint8)
    mask[2:7, 8:24, 8:24] = 1
    mask[4, 3, 28] = 2
    settings = VolumeSettings("patch", patch=(1, 1, 1), foreground=1.0, patches=1000)
    volumes = Volumes([stacked(9, 32, mask=mask)], 2, CPU, settings)
    places = np.concatenate(volumes.epoch(TrainSettings(batch=1000), 0, 0, 1))[:, 1:]
    values = mask[tuple(places.T)]
    assert set(values) == {1, 2}
    assert abs((values == 2).mean() - 0.5) < 0.05
    drawn = places[values == 1]
    assert np.abs(drawn.mean(axis=0) - (4.0, 15.5, 15.5)).max() < 0.8
    assert drawn.min(axis=0).tolist() == [2, 8, 8]
    assert drawn.max(axis=0).tolist() == [6, 23, 23]


def test_the_share_of_foreground_and_that_the_others_lie_anywhere() -> None:
    mask = np.zeros((8, 32, 32), np.uint8)
    mask[0, 0, 0] = 1
    settings = VolumeSettings("patch", patch=(2, 4, 4), foreground=0.25, patches=2000)
    volumes = Volumes([stacked(8, 32, mask=mask)], 1, CPU, settings)
    places = np.concatenate(volumes.epoch(TrainSettings(batch=2000), 0, 0, 1))[:, 1:]
    corner = (places == 0).all(axis=1)
    assert abs(corner.mean() - 0.25) < 0.03
    assert places.min(axis=0).tolist() == [0, 0, 0]
    assert places.max(axis=0).tolist() == [6, 28, 28]
    assert np.abs(places[~corner].mean(axis=0) - (3, 14, 14)).max() < 0.7


def test_patches_stay_within_the_volume_and_are_what_lies_there() -> None:
    case = stacked(seed=1)
    volumes = Volumes([case], 2, CPU, VolumeSettings("patch", patch=(3, 5, 6), patches=20))
    groups = volumes.epoch(TRAIN, 0, 0, 1)
    for group, (images, target, _) in zip(groups, volumes.batches(groups), strict=True):
        for row, (_, z, y, x) in enumerate(group):
            where = (slice(z, z + 3), slice(y, y + 5), slice(x, x + 6))
            assert np.array_equal(images[row, 1].numpy(), case.images[:, 1][where])
            assert np.array_equal(target[row, 1].numpy(), case.mask[where] == 2)


@pytest.mark.parametrize(("slices", "patch"), [(3, (8, 16, 16)), (1, (4, 8, 8)), (5, (4, 21, 8))])
@pytest.mark.parametrize("resident", [True, False])
def test_beyond_a_volume_its_edge_is_repeated(
    slices: int, patch: tuple[int, int, int], resident: bool
) -> None:
    mask = np.zeros((slices, 16, 16), np.uint8)
    mask[0, 4:9, 4:9] = 1
    case = stacked(slices, mask=mask)
    volumes = Volumes([case], 1, CPU, VolumeSettings("patch", patch=patch), resident=resident)
    groups = volumes.epoch(TRAIN, 0, 0, 1)
    lack = [max(0, p - n) for p, n in zip(patch, mask.shape, strict=True)]
    sides = [(n // 2, n - n // 2) for n in lack]
    images = np.pad(case.images, [sides[0], (0, 0), *sides[1:]], mode="edge")
    masks = np.pad(mask, sides, mode="edge")
    for group, (found, target, _) in zip(groups, volumes.batches(groups), strict=True):
        for row, (_, *begin) in enumerate(group):
            z, y, x = (b + s[0] for b, s in zip(begin, sides, strict=True))
            where = (slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2]))
            assert np.array_equal(found[row, 0].numpy(), images[:, 0][where])
            assert np.array_equal(target[row, 0].numpy(), masks[where])


def test_a_volume_without_foreground_gives_patches_from_anywhere() -> None:
    empty = stacked(mask=np.zeros((6, 16, 16), np.uint8))
    settings = VolumeSettings("patch", patch=(2, 4, 4), foreground=1.0, patches=50)
    volumes = Volumes([empty, stacked(seed=1)], 2, CPU, settings)
    places = np.concatenate(volumes.epoch(TRAIN, 0, 0, 1))
    assert len(np.unique(places[places[:, 0] == 0], axis=0)) > 30


def test_regions_overlap_in_the_target() -> None:
    mask = np.zeros((4, 8, 8), np.uint8)
    mask[1:3, 2:6, 2:6] = 1  # the first region alone
    mask[1:3, 3:5, 3:5] = 3  # both
    volumes = Volumes(
        [stacked(4, 8, mask=mask)], 2, CPU, VolumeSettings("whole", shape=(4, 8, 8)), regions=True
    )
    (batch,) = volumes.batches(volumes.epoch(TRAIN, 0, 0, 1))
    assert np.array_equal(batch[1][0, 0].numpy(), mask > 0)
    assert np.array_equal(batch[1][0, 1].numpy(), mask == 3)
    settings = VolumeSettings("patch", patch=(1, 1, 1), foreground=1.0, patches=40)
    drawn = Volumes([stacked(4, 8, mask=mask)], 2, CPU, settings, regions=True).epoch(TRAIN, 0, 0, 1)
    assert set(mask[tuple(np.concatenate(drawn)[:, 1:].T)]) == {1, 3}


class Counted:
    """An array [Z, ...] that remembers which of its slices were read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.read = array, array.shape, set[int]()

    def __getitem__(self, key: Any) -> Any:
        self.read |= set(range(len(self.array))[key])
        return self.array[key]


def test_only_the_slices_of_a_patch_are_read() -> None:
    case = stacked(slices=40)
    images = Counted(case.images)
    object.__setattr__(case, "images", images)
    settings = VolumeSettings("patch", patch=(4, 8, 8), foreground=0.0)
    volumes = Volumes([case], 2, CPU, settings, resident=False)
    assert images.read == set()
    group = np.array([[0, 17, 2, 2]])
    next(iter(volumes.batches([group])))
    assert images.read == {17, 18, 19, 20}


def test_left_and_right_lie_along_the_slices_of_sagittal_ones() -> None:
    from dataclasses import replace

    axial = stacked()
    sagittal = replace(axial, geometry=replace(axial.geometry, plane="sagittal"))
    settings = VolumeSettings("whole", shape=(4, 8, 8))
    assert Volumes([axial], 2, CPU, settings).left_right == -1
    assert Volumes([sagittal], 2, CPU, settings).left_right == 2
