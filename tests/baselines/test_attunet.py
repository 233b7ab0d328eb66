"""Attention U-Net: conformance, published count, and its gates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines.attunet import METHOD, AttentionGate, UpConv, build
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestAttUNet(MethodTests):
    method = METHOD
    modalities = (2, 3)


def randomised(module: nn.Module) -> nn.Module:
    """The module in evaluation with every weight and running statistic away from its start."""
    generator = torch.Generator().manual_seed(3)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return module.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_published_count() -> None:
    assert sum(p.numel() for p in build(3, 2).parameters()) == 34_878_638


def test_channel_plan() -> None:
    network = build(2, 1, width=8)
    assert network.channels == (8, 16, 32, 64, 128)
    maps = network.encoder(noise(2, 2, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(8 * 2**i, 64 // 2**i, 96 // 2**i) for i in range(5)]


def test_gate_is_the_formula() -> None:
    gate = randomised(AttentionGate(6))
    weights = {name: value.double() for name, value in gate.state_dict().items()}

    def mapped(name: str, x: Tensor) -> Tensor:
        """A 1x1 convolution and batch normalisation, as a matrix product and an affine map a channel."""
        y = torch.einsum("oi,bihw->bohw", weights[f"{name}.0.weight"][:, :, 0, 0], x)
        column = {k: weights[f"{name}.{k}"][:, None, None] for k in ("0.bias", "1.weight", "1.bias")}
        mean, variance = (weights[f"{name}.1.running_{k}"][:, None, None] for k in ("mean", "var"))
        normal = (y + column["0.bias"] - mean) / (variance + 1e-5).sqrt()
        return normal * column["1.weight"] + column["1.bias"]

    gating, skip = noise(2, 6, 5, 4, seed=1).double(), noise(2, 6, 5, 4, seed=2).double()
    score = mapped("score", (mapped("gating", gating) + mapped("skip", skip)).clamp(min=0))
    assert score.shape == (2, 1, 5, 4)
    wanted = skip / (1 + torch.exp(-score))
    assert torch.allclose(gate.double()(gating, skip), wanted, atol=1e-10)


def test_gate_works_at_half_the_channels() -> None:
    shapes = {name: tuple(p.shape) for name, p in AttentionGate(64).named_parameters() if p.ndim == 4}
    assert shapes == {
        "gating.0.weight": (32, 64, 1, 1),
        "skip.0.weight": (32, 64, 1, 1),
        "score.0.weight": (1, 32, 1, 1),
    }


@pytest.mark.parametrize("changed", ["gating", "skip"])
def test_gate_is_per_pixel(changed: str) -> None:
    gate = randomised(AttentionGate(8))
    inputs = {"gating": noise(1, 8, 6, 7, seed=1), "skip": noise(1, 8, 6, 7, seed=2)}
    before = gate(**inputs)
    inputs[changed] = inputs[changed].clone()
    inputs[changed][:, :, 2, 5] += 3
    differs = (gate(**inputs) != before).any(dim=1)[0]
    assert differs.nonzero().tolist() == [[2, 5]]


def test_gate_scales_all_channels_of_a_pixel_alike() -> None:
    gate = randomised(AttentionGate(8))
    skip = noise(2, 8, 6, 7, seed=2)
    attention = gate(noise(2, 8, 6, 7, seed=1), skip) / skip
    assert torch.allclose(attention, attention[:, :1].expand_as(attention), rtol=1e-4)
    assert ((attention >= 0) & (attention <= 1 + 1e-5)).all()


def test_up_repeats_pixels_then_convolves() -> None:
    up = randomised(UpConv(4, 3))
    x = noise(1, 4, 3, 5)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    convolved = functional.conv2d(repeated, up[1].weight, up[1].bias, padding=1)
    assert torch.allclose(up(x), up[2](convolved).relu(), atol=1e-6)


def test_every_level_puts_its_gated_skip_first() -> None:
    network = randomised(build(1, 1, width=4))
    seen: list[Tensor] = []
    for level in network.decoder.levels:
        level.block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    maps = network.encoder(noise(1, 1, 64, 64))
    network.decoder(maps)
    coarse = maps[-1]
    for level, skip, block_input in zip(network.decoder.levels, maps[-2::-1], tuple(seen), strict=True):
        up = level.up(coarse)
        assert torch.equal(block_input, torch.cat([level.gate(up, skip), up], dim=1))
        coarse = level.block(block_input)


def test_gates_have_a_say() -> None:
    # A gate that is shut takes its skip out of the network.
    network = randomised(build(1, 1, width=4))
    maps = network.encoder(noise(1, 1, 64, 64))
    finest = network.decoder.levels[-1].gate.score[1]
    finest.weight.data.zero_()
    finest.bias.data.fill_(-1e4)
    other = (maps[0] + 5, *maps[1:])
    assert torch.equal(network.decoder(maps), network.decoder(other))


@pytest.mark.parametrize("size", [64, 96, 160, 224])
def test_sizes(size: int) -> None:
    network = build(3, 2, width=4).eval()
    with torch.no_grad():
        assert network(noise(1, 3, size, size)).shape == (1, 2, size, size)


def test_a_width_without_room_for_gates_is_refused() -> None:
    with pytest.raises(UsbenchError, match=r"method\.width 1 is too small"):
        build(1, 1, width=1)
