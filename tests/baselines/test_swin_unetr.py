"""Swin UNETR: conformance, the printed count, and MONAI's own network."""

from __future__ import annotations

import pytest
import torch
from kit.volume_tests import assert_is_monais, volumes
from monai.networks.nets import SwinUNETR
from torch import nn

from usbench.baselines.swin_unetr import METHOD, build
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestSwinUNETR(MethodTests):
    method = METHOD
    modalities = (2,)


@pytest.mark.parametrize(
    ("channels", "shape", "window"), [(1, (32, 32, 64), 7), (3, (32, 64, 32), 4), (2, (32, 32, 64), 3)]
)
def test_it_is_monais(channels: int, shape: tuple[int, int, int], window: int) -> None:
    torch.manual_seed(0)
    ours = build(channels, 2, shape, width=12, window=window)
    torch.manual_seed(0)
    theirs = SwinUNETR(channels, 2, feature_size=12, window_size=window)
    assert_is_monais(ours, theirs, [shape], channels)


@pytest.mark.slow
def test_printed_count() -> None:
    # The paper prints 61.98M, of four channels and three classes.
    network = build(4, 3, (96, 96, 96))
    assert sum(p.numel() for p in network.parameters()) == 62_191_941
    # Tools that count layer by layer leave out the tables of relative positions, and those of then layer
    # normalisation; what remains is the printed number.
    tables = [p.numel() for name, p in network.named_parameters() if name.endswith("position_bias_table")]
    assert sum(tables) == 2 * 13**3 * (3 + 6 + 12 + 24)
    norms = sum(p.numel() for m in network.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters())
    assert 62_191_941 - sum(tables) - norms == 61_976_931


def test_maps_are_a_pyramid() -> None:
    network = build(2, 1, (32, 64, 32), width=12)
    assert network.channels == (12, 12, 24, 48, 96, 192)
    with torch.no_grad():
        maps = network.encoder(volumes(2, (32, 64, 32)))
    wanted = [(c, 32 // 2**i, 64 // 2**i, 32 // 2**i) for i, c in enumerate(network.channels)]
    assert [tuple(m.shape[1:]) for m in maps] == wanted


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 0}, r"method\.width 0"),
        ({"width": 30}, "multiple of 12"),
        ({"window": 1}, r"method\.window 1"),
        ({"shape": (32, 32, 32)}, "a single voxel"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(UsbenchError, match=named):
        build(1, 1, **{"shape": (32, 64, 64), **wrong})
