"""SegResNet: conformance, and MONAI's own network."""

from __future__ import annotations

import pytest
import torch
from kit.volume_tests import assert_is_monais
from monai.networks.nets import SegResNet

from usbench.baselines.segresnet import METHOD, build
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestSegResNet(MethodTests):
    method = METHOD
    modalities = (2, 3)


@pytest.mark.parametrize(("channels", "classes", "dropout"), [(1, 1, 0.0), (4, 3, 0.2)])
def test_it_is_monais(channels: int, classes: int, dropout: float) -> None:
    torch.manual_seed(0)
    ours = build(channels, classes, width=8, dropout=dropout)
    torch.manual_seed(0)
    theirs = SegResNet(3, 8, channels, classes, dropout_prob=dropout)
    assert_is_monais(ours, theirs, [(8, 16, 24), (16, 32, 32), (24, 8, 40)], channels)


def test_count_of_the_whole_network() -> None:
    # Worked by hand from the paper's table 1: four input channels, three classes, 32 channels at full size.
    def block(c: int) -> int:
        return 2 * (27 * c * c + 2 * c)  # Two of: group normalisation, 3x3x3 convolution without bias.

    down = sum(27 * c // 2 * c for c in (64, 128, 256))
    up = sum(2 * c * c for c in (128, 64, 32))
    blocks = sum(n * block(c) for n, c in ((1, 32), (2, 64), (4, 256), (2, 128), (1, 128), (1, 64), (1, 32)))
    head = 2 * 32 + 32 * 3 + 3
    assert sum(p.numel() for p in build(4, 3).parameters()) == 27 * 4 * 32 + down + up + blocks + head


def test_dropout_is_that_of_the_paper() -> None:
    assert METHOD.settings["dropout"] == 0.2
    assert build(1, 1, width=8).encoder.dropout.p == 0.2


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"width": 0}, r"method\.width 0"), ({"width": 12}, r"width 12"), ({"dropout": 1.0}, r"dropout 1\.0")],
)
def test_what_cannot_be_is_refused(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(UsbenchError, match=named):
        build(1, 1, **wrong)
