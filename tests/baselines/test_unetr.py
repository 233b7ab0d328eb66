"""UNETR: conformance, the printed count, and MONAI's own network."""

from __future__ import annotations

import pytest
import torch
from kit.volume_tests import assert_is_monais, volumes
from monai.networks.nets import UNETR
from torch import nn

from usbench.baselines.unetr import METHOD, build
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestUNETR(MethodTests):
    method = METHOD
    modalities = (2, 3)


@pytest.mark.parametrize("shape", [(16, 32, 48), (32, 16, 16), (48, 48, 32)])
def test_it_is_monais(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    ours = build(3, 2, shape, width=4, hidden=48, heads=3)
    torch.manual_seed(0)
    theirs = UNETR(3, 2, shape, feature_size=4, hidden_size=48, mlp_dim=192, num_heads=3)
    assert_is_monais(ours, theirs, [shape, shape], 3)


@pytest.mark.slow
def test_printed_count() -> None:
    # The paper prints 92.58M, of one channel, 14 classes and 96x96x96 voxels.
    network = build(1, 14, (96, 96, 96))
    assert sum(p.numel() for p in network.parameters()) == 92_784_046
    # Tools that count layer by layer leave out the position embedding, and those of then layer
    # normalisation; what remains is the printed number.
    positions = 6 * 6 * 6 * 768
    norms = sum(p.numel() for m in network.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters())
    assert norms == 25 * 2 * 768
    assert 92_784_046 - positions - norms == 92_579_758
    # MONAI's own network has, for every block, a norm before an attention that it lacks.
    theirs = UNETR(1, 14, (96, 96, 96))
    unused = sum(p.numel() for name, p in theirs.named_parameters() if "cross_attn" in name)
    assert sum(p.numel() for p in theirs.parameters()) - unused == 92_784_046


def test_maps_are_a_pyramid() -> None:
    network = build(2, 1, (32, 48, 64), width=4, hidden=48, heads=3)
    maps = network.encoder(volumes(2, (32, 48, 64)))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (4, 32, 48, 64),
        (8, 16, 24, 32),
        (16, 8, 12, 16),
        (32, 4, 6, 8),
        (48, 2, 3, 4),
    ]


def test_another_size_is_named() -> None:
    network = build(1, 1, (16, 32, 32), width=4, hidden=48, heads=3)
    with pytest.raises(UsbenchError, match="16x32x32 voxels and got 32x32x16"):
        network(volumes(1, (32, 32, 16)))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 0}, r"method\.width 0"),
        ({"hidden": 50}, r"method\.hidden 50 is no multiple of method\.heads 12"),
        ({"heads": 0}, r"method\.heads 0"),
        ({"shape": (16, 16, 16)}, "one patch of 16x16x16"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(UsbenchError, match=named):
        build(1, 1, **{"shape": (32, 32, 32), **wrong})
