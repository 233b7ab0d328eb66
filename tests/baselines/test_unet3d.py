"""3D U-Net: conformance, the stated count, and the plan of the paper's figure 2."""

from __future__ import annotations

import pytest
import torch
from kit.volume_tests import volumes
from torch import nn
from torch.nn import functional

from usbench.baselines.unet3d import METHOD, UpLevel, build
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestUNet3d(MethodTests):
    method = METHOD
    modalities = (2, 3)


def test_published_count() -> None:
    # "The architecture has 19069955 parameters in total", of three input channels and three classes.
    network = build(3, 3)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    weights = sum(m.weight.numel() for m in convolutions)
    head = network.decoder.head.bias.numel()
    normalised = [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm3d)]
    assert (weights, head, sum(normalised)) == (19_067_616, 3, 2_336)
    assert weights + head + sum(normalised) == 19_069_955  # One number for each channel ...
    assert sum(p.numel() for p in network.parameters()) == 19_069_955 + 2_336  # ... where there are two.


def test_channel_plan() -> None:
    # Figure 2 of the paper, from the volume to the logits.
    network = build(3, 3)
    assert network.channels == (64, 128, 256, 512)
    plan = [
        (type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0])
        for m in network.modules()
        if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)
    ]
    down = [(3, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    wanted = [("Conv3d", i, o, 3) for i, o in down]
    for coarse, fine in ((512, 256), (256, 128), (128, 64)):
        wanted += [
            ("ConvTranspose3d", coarse, coarse, 2),
            ("Conv3d", coarse + fine, fine, 3),
            ("Conv3d", fine, fine, 3),
        ]
    assert plan == [*wanted, ("Conv3d", 64, 3, 1)]
    assert not [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d)]


def test_encoder_pools_the_largest_of_eight() -> None:
    encoder = build(1, 1, width=4).encoder.eval()
    first, second = encoder(volumes(1, (8, 16, 24)))[:2]
    cubes = first.reshape(1, 4, 4, 2, 8, 2, 12, 2)
    assert torch.equal(second, encoder.blocks[1](cubes.amax(dim=(3, 5, 7))))


def test_step_up_puts_the_skip_first() -> None:
    level = UpLevel(8, 4).eval()
    coarse, skip = volumes(8, (2, 3, 5), seed=1), volumes(4, (4, 6, 10), seed=2)
    # With kernel and stride equal, each voxel becomes its own 2x2x2 cube.
    cubes = torch.einsum("bidhw,ioklm->bodkhlwm", coarse, level.up.weight)
    up = cubes.reshape(1, 8, 4, 6, 10)
    assert torch.allclose(level(coarse, skip), level.block(torch.cat([skip, up], dim=1)), atol=1e-5)


def test_double_convolution_by_functions() -> None:
    block = build(3, 1, width=6).encoder.blocks[0].train()
    x = volumes(3, (4, 8, 8), batch=2)
    wanted = x
    for convolution in (block[0], block[3]):
        wanted = functional.conv3d(wanted, convolution.weight, padding=1)
        mean = wanted.mean((0, 2, 3, 4), keepdim=True)
        variance = wanted.var((0, 2, 3, 4), keepdim=True, correction=0)
        wanted = ((wanted - mean) / (variance + 1e-5).sqrt()).relu()
    assert wanted.shape == (2, 6, 4, 8, 8)
    assert torch.allclose(block(x), wanted, atol=1e-5)


@pytest.mark.parametrize("width", [0, -2, 7])
def test_a_width_that_cannot_be_halved_is_refused(width: int) -> None:
    with pytest.raises(UsbenchError, match=rf"method\.width {width} is no even number"):
        build(1, 1, width=width)
