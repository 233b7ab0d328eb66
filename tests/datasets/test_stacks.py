"""Stacks: resizing against torch and Pillow, and that a part of one is what it is in the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit.stacked import stacked
from PIL import Image
from torch.nn import functional

from usbench.contracts.settings import VolumeSettings
from usbench.datasets.stacks import Axis, Stack, resize_all, shape_of


def test_growing_is_torchs_trilinear_interpolation() -> None:
    values = torch.randn(2, 3, 5, 7, 6, generator=torch.Generator().manual_seed(0))
    theirs = functional.interpolate(values, (13, 7, 20), mode="trilinear", align_corners=False)
    assert torch.allclose(resize_all(values, (13, 7, 20)), theirs, atol=1e-5)


@pytest.mark.parametrize("size", [3, 7, 11, 20])
def test_shrinking_is_pillows_antialiased_filter(size: int) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)
    theirs = np.asarray(Image.fromarray(rows).resize((size, 4), Image.Resampling.BILINEAR))
    found = Axis(20, size).resize(torch.from_numpy(rows), 1).numpy()
    assert np.allclose(found, theirs, atol=1e-5)


@pytest.mark.parametrize(("length", "size"), [(20, 7), (7, 20), (9, 9), (1, 5), (5, 1), (40, 39)])
def test_a_part_of_an_axis_has_the_very_values_of_the_whole(length: int, size: int) -> None:
    values = torch.randn(length, 4, generator=torch.Generator().manual_seed(1))
    axis = Axis(length, size)
    whole = axis.resize(values, 0)
    assert len(whole) == size
    for start in range(size):
        for stop in range(start + 1, size + 1):
            low, high = axis.span(start, stop)
            assert torch.equal(axis.resize(values[low:high], 0, start, stop), whole[start:stop])


def test_a_plane_stays_where_it_is_in_millimetres() -> None:
    """A ramp along the slices, on three times as many: what lies at a place keeps its value."""
    ramp = torch.arange(10.0)
    found = Axis(10, 30).resize(ramp, 0)
    places = (torch.arange(30.0) + 0.5) / 3 - 0.5
    inside = (places >= 0) & (places <= 9)
    assert torch.allclose(found[inside], places[inside], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (VolumeSettings("whole", shape=(4, 8, 9)), (4, 8, 9)),
        (VolumeSettings("patch"), (20, 64, 64)),
        (VolumeSettings("patch", spacing=1.5), (40, 64, 64)),
        (VolumeSettings("patch", spacing=100.0), (1, 64, 64)),
    ],
)
def test_the_grid_that_a_network_sees(settings: VolumeSettings, wanted: tuple[int, int, int]) -> None:
    assert shape_of(20, 64, 3.0, settings) == wanted


@pytest.mark.parametrize(
    "settings",
    [
        VolumeSettings("patch"),
        VolumeSettings("patch", spacing=1.3),
        VolumeSettings("patch", spacing=7.0),
        VolumeSettings("whole", shape=(9, 8, 21)),
    ],
)
def test_parts_of_a_stack_are_those_of_the_whole_kept_or_not(settings: VolumeSettings) -> None:
    case = stacked(slices=11)
    read, kept = Stack(case, settings), Stack(case, settings)
    kept.keep(torch.device("cpu"))
    depth = read.shape[0]
    images, mask = read.images(0, depth), read.mask(0, depth)
    assert tuple(images.shape) == (depth, 2, *read.shape[1:])
    assert images.dtype == torch.float16
    for start, stop in ((0, 1), (depth // 2, depth), (1, max(2, depth - 2))):
        for stack in (read, kept):
            assert torch.equal(stack.images(start, stop), images[start:stop])
            assert torch.equal(stack.mask(start, stop), mask[start:stop])
    counts = np.stack([(mask.numpy() == k).sum(axis=(1, 2)) for k in (1, 2)])
    assert np.array_equal(read.voxels(2, regions=False), counts)


def test_a_stack_that_is_not_resized_is_what_is_stored() -> None:
    case = stacked()
    stack = Stack(case, VolumeSettings("patch"))
    assert np.array_equal(stack.images(0, 6).numpy(), case.images)
    assert np.array_equal(stack.mask(2, 4).numpy(), case.mask[2:4])
