"""What networks of volumes in two halves have in common: hybrid fusion, parameter by parameter."""

from __future__ import annotations

import pytest
import torch
from kit.volume_tests import volume_config, volumes
from torch import nn

from usbench.baselines import dynunet, segresnet, swin_unetr, unet3d, unetr
from usbench.config import Config
from usbench.contracts.method import EncoderDecoder, Method
from usbench.errors import UsbenchError
from usbench.fusions.build import build_model
from usbench.fusions.registry import declared
from usbench.testing import mock_task

SHAPE = (32, 32, 64)
"""Nothing is padded."""


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    "method", [unet3d.METHOD, segresnet.METHOD, unetr.METHOD, swin_unetr.METHOD, dynunet.METHOD]
)
def test_hybrid_adds_encoders_and_merges_alone(method: Method) -> None:
    # One encoder a modality, one decoder, and a 1x1x1 convolution of M * C to C channels a map.
    config = volume_config(method, SHAPE)
    one = build_model(method, mock_task(1, 2), declared("early"), config).network.network
    assert isinstance(one, EncoderDecoder)
    with torch.no_grad():
        assert tuple(m.shape[1] for m in one.eval().encoder(volumes(1, SHAPE))) == one.channels
    merges = sum(3 * c * c + c for c in one.channels)
    three = {f: build_model(method, mock_task(3, 2), declared(f), config) for f in ("hybrid", "late")}
    assert count(three["hybrid"]) == count(one) + 2 * count(one.encoder) + merges
    assert count(three["late"]) == 3 * count(one)
    concat = Config("smoke", fusion={"hybrid": "concat"}, method=config.method, volume=config.volume)
    with pytest.raises(UsbenchError, match=r"fixed width; use fusion\.hybrid=conv1x1"):
        build_model(method, mock_task(2, 2), declared("hybrid"), concat)
