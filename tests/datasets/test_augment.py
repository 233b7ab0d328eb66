"""Where the pixels of augmented slices come from."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import affine_grid

from usbench.datasets.augment import places


@pytest.mark.parametrize("height", [1, 2, 7, 37, 64, 96, 256])
@pytest.mark.parametrize("width", [1, 3, 32, 53, 96, 200])
def test_places_are_those_of_torch(height: int, width: int) -> None:
    draw = torch.Generator().manual_seed(height * 1000 + width)
    theta = torch.randn(3, 2, 3, generator=draw)
    expected = affine_grid(theta, [3, 1, height, width], align_corners=False)
    # A processor may round once for a product and its sum: then the last bits differ.
    torch.testing.assert_close(places(theta, height, width), expected, rtol=0, atol=1e-6)


def test_places_of_double_precision() -> None:
    theta = torch.randn(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = affine_grid(theta, [2, 1, 5, 9], align_corners=False)
    torch.testing.assert_close(places(theta, 5, 9), expected, rtol=0, atol=1e-14)


def test_places_by_hand() -> None:
    """Two pixels in a row are centred at -1/2 and 1/2; half the scale and a shift of 1/4 move them."""
    theta = torch.tensor([[[0.5, 0.0, 0.25], [0.0, 1.0, 0.0]]])
    assert places(theta, 1, 2).tolist() == [[[[0.0, 0.0], [0.5, 0.0]]]]
