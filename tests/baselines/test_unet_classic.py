"""Classic U-Net: conformance, published count, and the paper's plan."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines.unet_classic import METHOD, DoubleConv, UpLevel, build
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestUNetClassic(MethodTests):
    method = METHOD
    modalities = (2, 3)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_published_count() -> None:
    assert sum(p.numel() for p in build(3, 2).parameters()) == 31_037_698


def test_channel_plan() -> None:
    # The paper's figure 1, from the image to the logits.
    network = build(3, 2)
    assert network.channels == (64, 128, 256, 512, 1024)
    plan = [
        (type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0])
        for m in network.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    down = [(3, 64), (64, 64)]
    for channels in (64, 128, 256, 512):
        down += [(channels, 2 * channels), (2 * channels, 2 * channels)]
    wanted = [("Conv2d", i, o, 3) for i, o in down]
    for channels in (512, 256, 128, 64):
        wanted += [
            ("ConvTranspose2d", 2 * channels, channels, 2),
            ("Conv2d", 2 * channels, channels, 3),
            ("Conv2d", channels, channels, 3),
        ]
    assert plan == [*wanted, ("Conv2d", 64, 2, 1)]
    assert len(plan) == 23  # "In total the network has 23 convolutional layers."


def test_only_upsampling_and_head_have_a_bias() -> None:
    biased = [
        name
        for name, m in build(3, 2, width=4).named_modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.bias is not None
    ]
    assert biased == [*(f"decoder.levels.{i}.up" for i in range(4)), "decoder.head"]


def test_maps() -> None:
    maps = build(2, 1, width=8).encoder(noise(2, 2, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(8 * 2**i, 64 // 2**i, 96 // 2**i) for i in range(5)]


def test_encoder_pools_the_largest_of_four() -> None:
    encoder = build(1, 1, width=4).encoder.eval()
    first, second = encoder(noise(1, 1, 32, 32))[:2]
    windows = first.reshape(1, 4, 16, 2, 16, 2)
    assert torch.equal(second, encoder.blocks[1](windows.amax(dim=(3, 5))))


def test_double_convolution_by_functions() -> None:
    block = DoubleConv(3, 5).train()
    x = noise(2, 3, 8, 8)
    wanted = x
    for convolution in (block[0], block[3]):
        wanted = functional.conv2d(wanted, convolution.weight, padding=1)
        mean = wanted.mean((0, 2, 3), keepdim=True)
        variance = wanted.var((0, 2, 3), keepdim=True, correction=0)
        wanted = ((wanted - mean) / (variance + 1e-5).sqrt()).relu()
    assert torch.allclose(block(x), wanted, atol=1e-5)


def test_step_up_puts_the_skip_first() -> None:
    level = UpLevel(8, 4).eval()
    coarse, skip = noise(1, 8, 3, 5, seed=1), noise(1, 4, 6, 10, seed=2)
    # With kernel and stride equal, each pixel becomes its own 2x2 tile.
    tiles = torch.einsum("bihw,iokl->bohkwl", coarse, level.up.weight)
    up = tiles.reshape(1, 4, 6, 10) + level.up.bias[:, None, None]
    assert torch.allclose(level(coarse, skip), level.block(torch.cat([skip, up], dim=1)), atol=1e-5)


def test_weights_start_as_in_the_paper() -> None:
    torch.manual_seed(0)
    network = build(3, 2, width=32)
    # "for a 3x3 convolution and 64 feature channels in the previous layer N = 9 * 64"
    third = network.encoder.blocks[1][3].weight
    assert math.isclose(third.std().item(), math.sqrt(2 / (9 * 64)), rel_tol=0.03)
    up = network.decoder.levels[2].up.weight
    assert math.isclose(up.std().item(), math.sqrt(2 / 128), rel_tol=0.03)
    assert abs(third.mean().item()) < 0.003


@pytest.mark.parametrize("size", [64, 96, 160, 224])
def test_sizes(size: int) -> None:
    network = build(3, 2, width=4).eval()
    with torch.no_grad():
        assert network(noise(1, 3, size, size)).shape == (1, 2, size, size)


def test_no_width_is_refused() -> None:
    with pytest.raises(UsbenchError, match=r"method\.width 0"):
        build(1, 1, width=0)
