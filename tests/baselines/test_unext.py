"""UNeXt: conformance, published parameter counts, and its blocks against formulae written apart from them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines.unext import METHOD, SMALL, ShiftedBlock, build, build_small, shift
from usbench.contracts.method import EncoderDecoder
from usbench.testing import MethodTests


@pytest.mark.slow
class TestUNeXt(MethodTests):
    method = METHOD


class TestSmallUNeXt(MethodTests):
    method = SMALL
    thorough = True


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def shaken(network: EncoderDecoder) -> EncoderDecoder:
    """The network with norms that are not the identity, so that a missing one shows."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.5, 0.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.5, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def test_published_counts() -> None:
    assert count(build(3, 2)) == 1_471_938
    assert count(build_small(3, 2)) == 253_570


def test_only_stem_and_head_depend_on_channels_and_classes() -> None:
    assert count(build(3, 2)) - count(build(1, 2)) == 2 * 16 * 3 * 3 == 288
    assert count(build(3, 5)) - count(build(3, 2)) == 3 * (16 + 1)


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(256, [52, 52, 52, 52, 48]), (128, [26, 26, 26, 26, 24]), (160, [32] * 5), (64, [13, 13, 13, 13, 12])],
)
@pytest.mark.parametrize("axis", [1, 2])
def test_shift_moves_the_stated_groups_and_fills_with_zeros(
    channels: int, groups: list[int], axis: int
) -> None:
    height, width = 5, 7
    tokens = noise(2, height, width, channels)
    expected = torch.zeros_like(tokens)
    moves = [move for move, size in zip((-2, -1, 0, 1, 2), groups, strict=True) for _ in range(size)]
    for channel, move in enumerate(moves):
        for row in range(height):
            for column in range(width):
                y, x = (row - move, column) if axis == 1 else (row, column - move)
                if 0 <= y < height and 0 <= x < width:
                    expected[:, row, column, channel] = tokens[:, y, x, channel]
    assert torch.equal(shift(tokens, axis), expected)


def test_shift_by_hand() -> None:
    # A column of four places counted from 1, five channels, one a group.
    column = torch.arange(1.0, 5.0).view(1, 4, 1, 1).expand(1, 4, 3, 5)
    by_hand = torch.tensor([[3.0, 4, 0, 0], [2, 3, 4, 0], [1, 2, 3, 4], [0, 1, 2, 3], [0, 0, 1, 2]])
    assert torch.equal(shift(column, 1), by_hand.t().view(1, 4, 1, 5).expand(1, 4, 3, 5))
    row = column.transpose(1, 2)
    assert torch.equal(shift(row, 2), by_hand.t().view(1, 1, 4, 5).expand(1, 3, 4, 5))


def rolled(image: Tensor, dim: int) -> Tensor:
    """The shift as the paper draws it, on [B, C, H, W]: pad both axes, roll, crop."""
    height, width = image.shape[-2:]
    parts = functional.pad(image, (2, 2, 2, 2)).chunk(5, dim=1)
    mixed = torch.cat([part.roll(move, dim) for part, move in zip(parts, range(-2, 3), strict=True)], dim=1)
    return mixed[:, :, 2 : 2 + height, 2 : 2 + width]


def test_shifted_block() -> None:
    torch.manual_seed(0)
    block = ShiftedBlock(24)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    image = noise(2, 24, 6, 4)
    x = functional.layer_norm(image.permute(0, 2, 3, 1), (24,), block.norm.weight, block.norm.bias)
    x = rolled(x.permute(0, 3, 1, 2), dim=2)
    x = functional.conv2d(x, block.fc1.weight[:, :, None, None], block.fc1.bias)
    x = functional.conv2d(x, block.depthwise.weight, block.depthwise.bias, padding=1, groups=24)
    x = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    x = rolled(x, dim=3)
    x = functional.conv2d(x, block.fc2.weight[:, :, None, None], block.fc2.bias)
    ours = block(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, image + x, rtol=1e-5, atol=1e-5)


def test_encoder_stages() -> None:
    torch.manual_seed(0)
    network = shaken(build_small(2, 3))
    image = noise(2, 2, 64, 96)
    stages = network.encoder.stages
    with torch.no_grad():
        maps = network.encoder(image)
        shapes = [tuple(m.shape) for m in maps]
        wanted, x = [], image
        for stage in stages[:3]:
            x = functional.conv2d(x, stage.convolution.weight, stage.convolution.bias, padding=1)
            x = functional.relu(functional.max_pool2d(stage.norm(x), kernel_size=2))
            wanted.append(x)
        for embedding, mixer in stages[3:]:
            x = functional.conv2d(x, embedding.project.weight, embedding.project.bias, stride=2, padding=1)
            tokens = embedding.norm(x.flatten(2).transpose(1, 2)).unflatten(1, x.shape[-2:])
            x = mixer.norm(mixer.block(tokens)).permute(0, 3, 1, 2)
            wanted.append(x)
    assert shapes == [(2, 8, 32, 48), (2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]
    assert [s[1] for s in shapes] == list(network.channels)
    for ours, theirs in zip(maps, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def doubled(image: Tensor) -> Tensor:
    """Bilinear x2 with half-pixel centres: a quarter of the neighbour outside, the edge repeated."""
    for dim in (2, 3):
        size = image.shape[dim]
        before = torch.cat([image.narrow(dim, 0, 1), image.narrow(dim, 0, size - 1)], dim)
        after = torch.cat([image.narrow(dim, 1, size - 1), image.narrow(dim, size - 1, 1)], dim)
        pair = torch.stack([0.75 * image + 0.25 * before, 0.75 * image + 0.25 * after], dim=dim + 1)
        image = pair.flatten(dim, dim + 1)
    return image


def test_decoder_adds_its_skips() -> None:
    torch.manual_seed(0)
    network = shaken(build_small(2, 3))
    decoder = network.decoder
    t1, t2, t3, t4, x = (
        noise(2, width, 32 // 2**i, 64 // 2**i) for i, width in enumerate((8, 16, 32, 64, 128))
    )
    with torch.no_grad():
        ours = decoder((t1, t2, t3, t4, x))
        for step, skip in enumerate((t4, t3, t2, t1)):
            up = decoder.ups[step]
            x = functional.conv2d(x, up.convolution.weight, up.convolution.bias, padding=1)
            x = functional.relu(doubled(up.norm(x))) + skip
            if step < 2:
                mixer = decoder.mixers[step]
                x = mixer.norm(mixer.block(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        last = decoder.last.convolution
        x = functional.relu(doubled(functional.conv2d(x, last.weight, last.bias, padding=1)))
        x = functional.conv2d(x, decoder.head.weight, decoder.head.bias)
    assert ours.shape == (2, 3, 64, 128)
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-5)


def test_batch_norms_are_seven() -> None:
    # Three on the way down and four on the way up: the fifth step up has none.
    norms = [m for m in build(3, 2).modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m.num_features for m in norms] == [16, 32, 128, 160, 128, 32, 16]


def test_tokenised_parts_start_as_the_authors_start_them() -> None:
    torch.manual_seed(0)
    network = build(3, 2)
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert len(linears) == 8
    for linear in linears:
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not linear.bias.any()
    embedding, mixer = network.encoder.stages[4]
    assert embedding.project.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.05)
    assert mixer.block.depthwise.weight.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.1)
    assert not embedding.project.bias.any()
    assert not mixer.block.depthwise.bias.any()


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (224, 224), (32, 256)])
def test_sizes(size: tuple[int, int]) -> None:
    network = build(1, 4).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, *size)).shape == (1, 4, *size)


@pytest.mark.slow
def test_compiles_to_one_graph() -> None:
    torch.manual_seed(0)
    network = build_small(2, 1).eval()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    image = noise(1, 2, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), network(image))
