"""MISSFormer: conformance, its parameter count, and its blocks against formulae written apart from them."""

from __future__ import annotations

import math
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines.missformer import (
    METHOD,
    WIDTHS,
    Attention,
    Block,
    BridgeAttention,
    BridgeLayer,
    Expansion,
    FeedForward,
    build,
    to_grids,
    to_tokens,
)
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestMISSFormer(MethodTests):
    method = METHOD
    sizes = ((50, 75),)
    modalities = (2, 3)


SIZES_AT_224 = [(56, 56), (28, 28), (14, 14), (7, 7)]
SMALL_SIZES = [(16, 24), (8, 12), (4, 6), (2, 3)]

Part = TypeVar("Part", bound=nn.Module)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(part: Part) -> Part:
    """The part with parameters none of which is 0 or 1, so that a missing one shows."""
    generator = torch.Generator().manual_seed(3)
    for parameter in part.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
        parameter.data.normal_(0, 1 / math.sqrt(fan_in), generator=generator)
    return part.eval()


def grids(sizes: list[tuple[int, int]], batch: int = 1) -> list[Tensor]:
    return [noise(batch, h, w, c, seed=h) for (h, w), c in zip(sizes, WIDTHS, strict=True)]


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def layer_norm(tokens: Tensor, norm: nn.LayerNorm) -> Tensor:
    mean = tokens.mean(-1, keepdim=True)
    variance = tokens.var(-1, keepdim=True, unbiased=False)
    return (tokens - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias


def test_count() -> None:
    network = build(3, 2)
    assert count(network) == 35_452_290
    # What the authors' code has beside it, none of which ever gets a gradient: two norms of width
    # 4C in each feed-forward part (8 in the encoder, 16 in the bridge, 6 in the decoder's upper
    # three steps), and on the coarsest step two whole blocks and a linear layer for a concatenation.
    norms = sum(2 * 2 * 4 * c for c in WIDTHS)
    upper = sum(2 * 2 * 4 * c for c in WIDTHS[:3])
    blocks = 2 * (count(Block(512, 8, 1)) + 2 * 2 * 4 * 512)
    dead = 2 * norms + 4 * norms + 2 * upper + blocks + count(nn.Linear(1024, 512))
    assert dead == 7_009_792
    assert count(network) + dead == 42_462_082


@pytest.mark.slow
def test_only_stem_and_head_depend_on_channels_and_classes() -> None:
    assert count(build(3, 2)) - count(build(1, 2)) == 2 * 64 * 7 * 7
    assert count(build(3, 5)) - count(build(3, 2)) == 3 * (64 + 1)


def test_every_parameter_gets_a_gradient_that_is_not_zero() -> None:
    # The bias of the keys is the exception: a softmax does not see it, so it stays at rounding error.
    torch.manual_seed(0)
    network = build(3, 2)
    network(noise(1, 3, 64, 64)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_token_order() -> None:
    maps = grids(SIZES_AT_224, batch=2)
    tokens = to_tokens(maps)
    assert tokens.shape == (2, 6076, 64)
    starts = (0, 3136, 3136 + 1568, 3136 + 1568 + 980)
    for grid, start in zip(maps, starts, strict=True):
        height, width, channels = grid.shape[1:]
        for y, x, channel in (
            (0, 0, 0),
            (0, 1, 63),
            (1, 0, 64),
            (height - 1, width - 1, channels - 1),
            (3, 5, 40),
        ):
            if channel < channels:
                row = start + (y * width + x) * (channels // 64) + channel // 64
                assert torch.equal(tokens[:, row, channel % 64], grid[:, y, x, channel])
    for grid, again in zip(maps, to_grids(tokens, SIZES_AT_224), strict=True):
        assert torch.equal(grid, again)


def test_bridge_reduces_its_keys() -> None:
    attention = shaken(BridgeAttention())
    maps = grids(SIZES_AT_224)
    with torch.no_grad():
        ours = attention.reduced(to_tokens(maps), SIZES_AT_224)
        rows = []
        for grid, reduce, ratio in zip(maps, attention.reduce, (8, 4, 2), strict=False):
            # A convolution whose kernel is its stride is a linear layer on patches.
            patches = grid.unflatten(1, (7, ratio)).unflatten(3, (7, ratio)).permute(0, 1, 3, 5, 2, 4)
            small = patches.flatten(3) @ reduce.weight.flatten(1).t() + reduce.bias
            rows.append(small.reshape(1, -1, 64))
        rows.append(maps[3].reshape(1, -1, 64))
        assert [row.shape[1] for row in rows] == [49, 98, 245, 392]
        assert ours.shape == (1, 784, 64)
        close(ours, layer_norm(torch.cat(rows, dim=1), attention.norm))


def test_bridge_attention_is_one_head_over_all_scales() -> None:
    attention = shaken(BridgeAttention())
    tokens = to_tokens(grids(SMALL_SIZES, batch=2))
    with torch.no_grad():
        source = attention.reduced(tokens, SMALL_SIZES)
        key_weight, value_weight = attention.key_value.weight.split(64)
        key_bias, value_bias = attention.key_value.bias.split(64)
        query = tokens @ attention.query.weight.t() + attention.query.bias
        scores = query @ (source @ key_weight.t() + key_bias).transpose(1, 2) / 8
        mixed = scores.softmax(-1) @ (source @ value_weight.t() + value_bias)
        close(attention(tokens, SMALL_SIZES), mixed @ attention.project.weight.t() + attention.project.bias)


def test_bridge_layer() -> None:
    layer = shaken(BridgeLayer())
    tokens = to_tokens(grids(SMALL_SIZES, batch=2))
    with torch.no_grad():
        x = tokens + layer.attention(layer_norm(tokens, layer.norm1), SMALL_SIZES)
        normed, fed, start = layer_norm(x, layer.norm2), [], 0
        for (height, width), channels, feed in zip(SMALL_SIZES, WIDTHS, layer.feed_forward, strict=True):
            stop = start + height * width * channels // 64
            fed.append(feed(normed[:, start:stop].reshape(2, height, width, channels)).reshape(2, -1, 64))
            start = stop
        close(layer(tokens, SMALL_SIZES), x + torch.cat(fed, dim=1))


def test_bridge_lets_every_scale_see_every_other() -> None:
    torch.manual_seed(0)
    layer = BridgeLayer()
    maps = [grid.requires_grad_() for grid in grids(SMALL_SIZES)]
    for i, result in enumerate(to_grids(layer(to_tokens(maps), SMALL_SIZES), SMALL_SIZES)):
        for j, gradient in enumerate(torch.autograd.grad(result.sum(), maps, retain_graph=True)):
            assert gradient.abs().max() > 1e-6, f"map {i} does not see map {j}"


def test_feed_forward() -> None:
    part = shaken(FeedForward(12))
    grid = noise(2, 5, 6, 12)
    with torch.no_grad():
        hidden = grid @ part.fc1.weight.t() + part.fc1.bias
        padded = functional.pad(hidden, (0, 0, 1, 1, 1, 1))
        near = part.depthwise.bias + sum(
            padded[:, y : y + 5, x : x + 6] * part.depthwise.weight[:, 0, y, x]
            for y in range(3)
            for x in range(3)
        )
        x = layer_norm(near + hidden, part.norm)
        x = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        close(part(grid), x @ part.fc2.weight.t() + part.fc2.bias)
    assert hidden.shape[-1] == 48


@pytest.mark.parametrize(("heads", "reduction"), [(1, 1), (5, 1), (5, 2), (1, 4)])
def test_attention_is_that_of_pytorch(heads: int, reduction: int) -> None:
    part = shaken(Attention(20, heads, reduction))
    grid = noise(2, 8, 4, 20)
    query = grid.flatten(1, 2)
    with torch.no_grad():
        source = query
        if part.reduce is not None:
            small = functional.conv2d(
                grid.permute(0, 3, 1, 2), part.reduce.weight, part.reduce.bias, stride=reduction
            )
            assert small.shape[2:] == (8 // reduction, 4 // reduction)
            source = layer_norm(small.flatten(2).transpose(1, 2), part.norm)
        theirs, _ = functional.multi_head_attention_forward(
            query.transpose(0, 1),
            source.transpose(0, 1),
            source.transpose(0, 1),
            20,
            heads,
            torch.cat([part.query.weight, part.key_value.weight]),
            torch.cat([part.query.bias, part.key_value.bias]),
            None,
            None,
            False,
            0.0,
            part.project.weight,
            part.project.bias,
        )
        close(part(grid).flatten(1, 2), theirs.transpose(0, 1))


def test_block_adds_its_parts() -> None:
    block = shaken(Block(16, 2, 2))
    grid = noise(2, 4, 6, 16)
    with torch.no_grad():
        x = grid + block.attention(layer_norm(grid, block.norm1))
        close(block(grid), x + block.feed_forward(layer_norm(x, block.norm2)))


@pytest.mark.parametrize(("channels", "out", "factor"), [(12, 6, 2), (8, 8, 4)])
def test_expansion_is_a_pixel_shuffle(channels: int, out: int, factor: int) -> None:
    part = shaken(Expansion(channels, out, factor))
    grid = noise(2, 3, 5, channels)
    with torch.no_grad():
        wide = grid @ part.expand.weight.t()
        # torch orders (channel, row, column) where this one has (row, column, channel).
        ordered = wide.unflatten(-1, (factor * factor, out)).transpose(-1, -2).flatten(-2)
        shuffled = functional.pixel_shuffle(ordered.permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1)
        assert shuffled.shape == (2, 3 * factor, 5 * factor, out)
        close(part(grid), layer_norm(shuffled, part.norm))


def test_expansion_by_hand() -> None:
    part = Expansion(2, 1, 2)
    part.norm = nn.Identity()  # type: ignore[assignment]
    part.expand.weight.data = torch.tensor([[1.0, 0], [0, 1], [10, 0], [0, 10]])
    grid = torch.tensor([[[[1.0, 2], [3, 4]]]])
    by_hand = torch.tensor([[1.0, 2, 3, 4], [10, 20, 30, 40]])
    assert torch.equal(part(grid)[0, :, :, 0], by_hand)


def test_encoder_maps() -> None:
    torch.manual_seed(0)
    network = build(2, 3).eval()
    image = noise(1, 2, 96, 64)
    with torch.no_grad():
        maps = network.encoder(image)
        first = network.encoder.stages[0]
        x = functional.conv2d(image, first.embed.weight, first.embed.bias, stride=4, padding=3)
        x = layer_norm(x.permute(0, 2, 3, 1), first.embed_norm)
        for block in first.blocks:
            x = block(x)
        close(maps[0], layer_norm(x, first.norm).permute(0, 3, 1, 2))
    assert [tuple(m.shape) for m in maps] == [
        (1, 64, 24, 16),
        (1, 128, 12, 8),
        (1, 320, 6, 4),
        (1, 512, 3, 2),
    ]
    assert [m.shape[1] for m in maps] == list(network.channels)
    heads = [stage.blocks[1].attention.heads for stage in network.encoder.stages]
    ratios = [getattr(stage.blocks[0].attention.reduce, "stride", (1, 1)) for stage in network.encoder.stages]
    assert heads == [1, 2, 5, 8]
    assert ratios == [(8, 8), (4, 4), (2, 2), (1, 1)]


def test_decoder_puts_its_parts_together() -> None:
    decoder = shaken(build(1, 3, bridge_layers=2).decoder)
    sizes = SMALL_SIZES
    with torch.no_grad():
        ours = decoder(tuple(grid.permute(0, 3, 1, 2).contiguous() for grid in grids(sizes)))
        tokens = torch.cat([grid.reshape(1, -1, 64) for grid in grids(sizes)], dim=1)
        for layer in decoder.bridge:
            tokens = layer(tokens, sizes)
        ends = [0, 16 * 24, 16 * 24 + 8 * 12 * 2, 16 * 24 + 8 * 12 * 2 + 4 * 6 * 5, tokens.shape[1]]
        one, two, three, x = (
            tokens[:, ends[i] : ends[i + 1]].reshape(1, *sizes[i], WIDTHS[i]) for i in range(4)
        )
        for i, skip in enumerate((three, two, one)):
            coarse = decoder.expansions[i](x)
            assert coarse.shape == (*skip.shape[:3], x.shape[-1] // 2)
            weight_coarse, weight_skip = decoder.steps[i].join.weight.split(
                [coarse.shape[-1], skip.shape[-1]], dim=1
            )
            x = coarse @ weight_coarse.t() + skip @ weight_skip.t() + decoder.steps[i].join.bias
            for block in decoder.steps[i].blocks:
                x = block(x)
        x = decoder.last(x) @ decoder.head.weight.flatten(1).t() + decoder.head.bias
    assert ours.shape == (1, 3, 64, 96)
    close(ours, x.permute(0, 3, 1, 2))


def test_decoder_starts_by_xavier() -> None:
    torch.manual_seed(0)
    decoder = build(1, 2).decoder
    for part in (decoder.expansions, decoder.steps, decoder.last, decoder.head):
        for module in part.modules():
            if isinstance(module, nn.Linear):
                bound = math.sqrt(6 / (module.in_features + module.out_features))
                assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
                assert module.bias is None or not module.bias.any()


def test_without_a_bridge() -> None:
    one, none = build(1, 2, bridge_layers=1), build(1, 2, bridge_layers=0)
    assert count(one) - count(none) == count(BridgeLayer())
    with torch.no_grad():
        assert none.eval()(noise(1, 1, 64, 64)).shape == (1, 2, 64, 64)
    with pytest.raises(UsbenchError, match="bridge_layers"):
        build(1, 2, bridge_layers=-1)


@pytest.mark.slow
def test_sizes() -> None:
    network = build(1, 4).eval()
    with torch.no_grad():
        for size in ((64, 64), (96, 160), (224, 224), (32, 256)):
            assert network(torch.zeros(1, 1, *size)).shape == (1, 4, *size)


@pytest.mark.slow
def test_compiles_to_one_graph() -> None:
    torch.manual_seed(0)
    network = build(2, 1, bridge_layers=1).eval()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    image = noise(1, 2, 64, 64)
    with torch.no_grad():
        close(compiled(image), network(image))
