"""From logits to masks: the quick ways against the plain ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from usbench.runs.labels import to_labels


def plain(logits: torch.Tensor, side: int) -> torch.Tensor:
    """By the index of the largest enlarged logit."""
    large = functional.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
    highest, label = large.max(dim=1)
    return ((label + 1) * (highest > 0)).to(torch.uint8)


@pytest.mark.parametrize("classes", [1, 2, 4, 7])
@pytest.mark.parametrize("shift", [0.0, -2.0, -3.5, -9.0])
@pytest.mark.parametrize("side", [24, 50, 17])
def test_the_mask_is_that_of_the_largest_enlarged_logit(classes: int, shift: float, side: int) -> None:
    draw = torch.Generator().manual_seed(classes)
    logits = torch.randn(5, classes, 24, 24, generator=draw) + shift
    logits[0] = -1.0  # a slice without any class
    logits[1, 0] = 0.0  # exactly on the border: background
    assert torch.equal(to_labels(logits, side=side), plain(logits, side))


def test_maps_that_are_nowhere_above_zero_are_left_out_without_a_trace() -> None:
    logits = torch.full((1, 3, 2, 2), -0.5)
    logits[0, 1, 0, 0] = 4.0
    # Bilinear, 2 -> 4: the corner has the weights 1, 3/4, 1/4 and 0 along each axis, and the rest is -0.5.
    assert to_labels(logits, side=4)[0].tolist() == [
        [2, 2, 2, 0],
        [2, 2, 2, 0],
        [2, 2, 0, 0],
        [0, 0, 0, 0],
    ]


def test_of_equal_logits_the_first_class_wins() -> None:
    assert to_labels(torch.full((1, 3, 1, 1), 0.25)).item() == 1


def test_what_is_not_a_number_is_background_and_hides_no_other_slice() -> None:
    logits = torch.full((2, 2, 4, 4), -1.0)
    logits[0, 0] = float("nan")
    logits[1, 1] = 1.0
    mask = to_labels(logits, side=8)
    assert mask[0].unique().tolist() == [0]
    assert mask[1].unique().tolist() == [2]
    assert torch.equal(to_labels(logits[:1], side=8), plain(logits[:1], 8))
