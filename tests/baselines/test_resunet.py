"""ResUNet: conformance, published count, and its residual units."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines.resunet import METHOD, ResidualUnit, Stem, UpLevel, build
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestResUNet(MethodTests):
    method = METHOD
    modalities = (2, 3)


def randomised(module: nn.Module) -> nn.Module:
    """The module in evaluation with every weight and running statistic away from its start."""
    generator = torch.Generator().manual_seed(3)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return module.double().eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def normalised(x: Tensor, bn: nn.Module) -> Tensor:
    """Batch normalisation in evaluation, written out."""
    scale, shift, mean, variance = (
        v[:, None, None] for v in (bn.weight, bn.bias, bn.running_mean, bn.running_var)
    )
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def convolved(x: Tensor, convolution: nn.Module, stride: int = 1) -> Tensor:
    """A 3x3 convolution with padding 1, as the sum of nine shifted products."""
    height, width = x.shape[-2:]
    padded = functional.pad(x, (1, 1, 1, 1))
    total = convolution.bias[:, None, None].expand(-1, height, width)
    for row in range(3):
        for column in range(3):
            window = padded[..., row : row + height, column : column + width]
            total = total + torch.einsum("oi,bihw->bohw", convolution.weight[:, :, row, column], window)
    return total[..., ::stride, ::stride]


def test_published_count() -> None:
    # The public variant with 3x3 shortcuts and transposed upsampling, 3 input channels and 2 classes.
    assert sum(p.numel() for p in build(3, 2).parameters()) == 13_043_074


@pytest.mark.parametrize("stride", [1, 2])
def test_unit_normalises_and_activates_before_each_convolution(stride: int) -> None:
    unit = randomised(ResidualUnit(3, 4, stride))
    x = noise(2, 3, 8, 6)
    bn1, _, conv1, bn2, _, conv2 = unit.body
    y = convolved(normalised(x, bn1).clamp(min=0), conv1, stride)
    y = convolved(normalised(y, bn2).clamp(min=0), conv2)
    y = y + normalised(convolved(x, unit.shortcut[0], stride), unit.shortcut[1])
    result = unit(x)
    assert result.shape == (2, 4, 8 // stride, 6 // stride)
    assert torch.allclose(result, y)
    assert (result < 0).any()  # nothing follows the sum


def test_stem_takes_the_image_as_it_is() -> None:
    stem = randomised(Stem(2, 4))
    x = noise(2, 2, 6, 6)
    conv1, bn, _, conv2 = stem.body
    y = convolved(normalised(convolved(x, conv1), bn).clamp(min=0), conv2)
    assert torch.allclose(stem(x), y + convolved(x, stem.shortcut))


def test_step_up_keeps_channels_and_comes_first() -> None:
    level = randomised(UpLevel(8, 4))
    coarse, skip = noise(1, 8, 3, 5, seed=1), noise(1, 4, 6, 10, seed=2)
    tiles = torch.einsum("bihw,iokl->bohkwl", coarse, level.up.weight)
    up = tiles.reshape(1, 8, 6, 10) + level.up.bias[:, None, None]
    assert torch.allclose(level(coarse, skip), level.unit(torch.cat([up, skip], dim=1)))


def test_strides_and_no_pooling() -> None:
    network = build(3, 2)
    strided = [
        (name, m.in_channels, m.out_channels)
        for name, m in network.encoder.named_modules()
        if isinstance(m, nn.Conv2d) and m.stride == (2, 2)
    ]
    assert strided == [
        (f"units.{i}.{part}", 64 * 2**i, 128 * 2**i) for i in range(3) for part in ("body.2", "shortcut.0")
    ]
    assert not any(isinstance(m, nn.MaxPool2d | nn.AvgPool2d | nn.Upsample) for m in network.modules())


def test_maps() -> None:
    network = build(2, 1, width=8)
    assert network.channels == (8, 16, 32, 64)
    maps = network.encoder(noise(2, 2, 64, 96).float())
    assert [tuple(m.shape[1:]) for m in maps] == [(8 * 2**i, 64 // 2**i, 96 // 2**i) for i in range(4)]


def test_output_is_logits() -> None:
    logits = randomised(build(1, 1, width=4))(noise(1, 1, 64, 64))
    assert logits.min() < 0 or logits.max() > 1


@pytest.mark.parametrize("size", [64, 72, 160, 224])
def test_sizes(size: int) -> None:
    network = build(3, 2, width=4).eval()
    with torch.no_grad():
        assert network(noise(1, 3, size, size).float()).shape == (1, 2, size, size)


def test_no_width_is_refused() -> None:
    with pytest.raises(UsbenchError, match=r"method\.width 0"):
        build(1, 1, width=0)
