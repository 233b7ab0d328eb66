"""TransUNet: conformance, published counts, its parts against other formulations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines import transunet
from usbench.baselines.transunet import METHOD, build
from usbench.config import make_config
from usbench.contracts.method import EncoderDecoder
from usbench.errors import UsbenchError
from usbench.fusions.build import build_model
from usbench.fusions.registry import get_fusion
from usbench.testing import MethodTests, mock_task


@pytest.mark.slow
class TestTransUNet(MethodTests):
    method = METHOD
    settings = {"method.layers": 1}  # noqa: RUF012
    sizes = ((64, 64), (50, 75))
    overfit_lr = 3e-4


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def randomised(seed: int, **settings: int) -> EncoderDecoder:
    """A network of one layer in which no parameter is left at 0 or 1, in evaluation."""
    torch.manual_seed(seed)
    network = build(3, 2, layers=1, **settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def source() -> EncoderDecoder:
    """A network of one layer with a 14 x 14 position embedding."""
    return randomised(1, grid=14)


def images(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Counts


def test_published_counts() -> None:
    # The network of the paper at 256 pixels with 3 input channels and 2 classes.
    with torch.device("meta"):
        network, wide = build(3, 2), build(3, 2, bottlenecks=3)
    assert count(network) == 105_322_146
    assert count(network.encoder) == 97_934_656
    assert count(network.decoder.head) == 290
    assert count(network.decoder) == 7_387_200 + 290
    # Dai et al., Table 2: late is three networks, hybrid three encoders and one widened decoder.
    assert 3 * count(network) == 315_966_438
    assert 3 * count(wide.encoder) + count(wide.decoder) == 308_269_346
    assert count(wide) == 112_400_034


def test_counts_of_the_fusions_here() -> None:
    # A modality by itself is repeated to three channels, as published: the printed counts, to the digit.
    # With filters of one channel there are 2 * 64 * 7 * 7 fewer in each encoder.
    fewer = 3 * 2 * 64 * 7 * 7
    task = mock_task(modalities=3, classes=2)
    expected = {"early": 105_322_146, "late": 315_966_438, "hybrid": 308_269_346}
    for name, parameters in expected.items():
        fusion = get_fusion(name).fusion
        own = {"fusion.hybrid": "concat"} if name == "hybrid" else {}
        for stem in ("published", "own"):
            overrides = {**own, "method.stem": stem}
            config = make_config("paper", METHOD.settings, METHOD.presets, overrides, fusion)
            less = fewer if stem == "own" and name != "early" else 0
            with torch.device("meta"):
                assert count(build_model(METHOD, task, fusion, config)) == parameters - less, (name, stem)


@pytest.mark.slow
def test_whole_network_trains() -> None:
    torch.manual_seed(0)
    network = build(1, 1).train()
    network(images(2, 1, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


# Sizes


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (96, 64), (160, 224)])
def test_maps_and_logits_at_other_sizes(source: EncoderDecoder, size: tuple[int, int]) -> None:
    with torch.no_grad():
        maps = source.encoder(images(1, 3, *size))
        assert source.decoder(maps).shape == (1, 2, *size)
    for feature, channels, step in zip(maps, (64, 256, 512, 768), (2, 4, 8, 16), strict=True):
        assert feature.shape == (1, channels, size[0] // step, size[1] // step)


@pytest.mark.parametrize(("size", "left"), [(256, 63), (96, 23)])
def test_pool_leaves_one_pixel_less_and_only_the_skip_is_padded(
    source: EncoderDecoder, size: int, left: int
) -> None:
    seen: dict[str, Tensor] = {}
    resnet = source.encoder.resnet
    hooks = [
        resnet.blocks[0].register_forward_hook(lambda m, i, o: seen.update(entered=i[0], quarter=o)),
        resnet.blocks[1].register_forward_hook(lambda m, i, o: seen.update(main=i[0])),
    ]
    with torch.no_grad():
        half, skip, eighth, deepest = resnet(images(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    assert torch.equal(seen["entered"], functional.max_pool2d(half, kernel_size=3, stride=2, padding=0))
    assert seen["quarter"].shape[-2:] == (left, left)
    assert seen["main"] is seen["quarter"]
    assert skip.shape[-2:] == (left + 1, left + 1)
    assert torch.equal(skip[..., :left, :left], seen["quarter"])
    assert not skip[..., left, :].any()
    assert not skip[..., :, left].any()
    assert eighth.shape[-1] == size // 8
    assert deepest.shape[-1] == size // 16


# The stem of one channel


def test_one_channel_is_repeated_to_three_as_published() -> None:
    torch.manual_seed(0)
    resnet = build(1, 2, layers=1).double().encoder.resnet
    x = images(2, 1, 64, 96).double()
    filters = resnet.root.weight.detach().numpy()
    assert filters.shape == (64, 3, 7, 7)
    # One by one: a filter's mean and biased variance are over its 147 weights, three channels of them.
    expected = torch.zeros(2, 64, 32, 48).double()
    for index, values in enumerate(filters):
        mean = values.sum() / 147
        variance = ((values - mean) ** 2).sum() / 147
        used = torch.from_numpy((values - mean) / np.sqrt(variance + 1e-5))
        for channel in range(3):
            answer = functional.conv2d(x, used[channel].view(1, 1, 7, 7), stride=2, padding=3)
            expected[:, index] += answer[:, 0]
    groups = expected.reshape(2, 32, -1)
    spread = groups.var(dim=2, correction=0, keepdim=True)
    expected = ((groups - groups.mean(dim=2, keepdim=True)) / (spread + 1e-6).sqrt()).reshape(2, 64, 32, 48)
    with torch.no_grad():
        assert torch.allclose(resnet(x)[0], expected.relu(), atol=1e-12, rtol=0)


def test_stem_of_one_channel_is_another_function() -> None:
    torch.manual_seed(0)
    published, own = build(1, 2, layers=1), build(1, 2, layers=1, stem="own")
    three = build(3, 2, layers=1)
    three.load_state_dict(published.state_dict())
    x = images(1, 1, 64, 64)
    with torch.no_grad():
        same = three.double().eval()(x.double().repeat(1, 3, 1, 1))
        assert torch.allclose(published.double().eval()(x.double()), same, atol=1e-12, rtol=0)
        assert own.encoder.resnet.root.weight.shape == (64, 1, 7, 7)
        # The same three-channel filters summed: standardised over 7x7 they weigh otherwise.
        own.encoder.resnet.root.weight.copy_(published.encoder.resnet.root.weight.sum(1, keepdim=True))
        first = [n.double().encoder.resnet(x.double())[0] for n in (published, own)]
    assert (first[0] - first[1]).abs().max() > 0.1
    with pytest.raises(UsbenchError, match=r"method\.stem"):
        build(1, 2, layers=1, stem="grey")


# The parts


def test_standardised_convolution_follows_its_formula() -> None:
    torch.manual_seed(0)
    layer = transunet.StandardisedConv(6, 8, 3, stride=2, padding=1, bias=False).double()
    x = images(2, 6, 9, 9).double()
    filters = layer.weight.detach().numpy()
    for index, values in enumerate(filters):
        squared = sum((v - values.mean()) ** 2 for v in values.ravel()) / values.size
        standardised = torch.from_numpy((values - values.mean()) / np.sqrt(squared + 1e-5))[None]
        expected = functional.conv2d(x, standardised, stride=2, padding=1)
        assert torch.allclose(layer(x)[:, index : index + 1], expected)


def test_standardised_convolution_of_hand_worked_numbers() -> None:
    layer = transunet.StandardisedConv(1, 1, (1, 2), bias=False)
    layer.weight.data.copy_(torch.tensor([1.0, 5.0]).view(1, 1, 1, 2))
    # Mean 3, biased variance 4: the filter in use is (-1, 1); unbiased it would be 1 / sqrt(2) of it.
    assert layer(torch.tensor([[[[10.0, 13.0]]]])).item() == pytest.approx(3.0, abs=1e-4)


def test_unit_equals_another_formulation() -> None:
    from usbench.runtime.torchvision_cpu import make_importable

    make_importable()
    from timm.layers import StdConv2d

    def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
        other = StdConv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, eps=1e-5)
        other.padding = layer.padding
        other.load_state_dict(layer.state_dict())
        return other(x)

    def norm(layer: nn.GroupNorm, x: Tensor, groups: int, eps: float) -> Tensor:
        grouped = x.unflatten(1, (groups, -1))
        spread, mean = torch.var_mean(grouped, dim=(2, 3, 4), correction=0, keepdim=True)
        flat = ((grouped - mean) / (spread + eps).sqrt()).flatten(1, 2)
        return flat * layer.weight[:, None, None] + layer.bias[:, None, None]

    torch.manual_seed(0)
    first = transunet.ResidualUnit(64, 256, stride=2, project=True)
    second = transunet.ResidualUnit(256, 256, stride=1, project=False)
    for parameter in [*first.parameters(), *second.parameters()]:
        nn.init.normal_(parameter)
    x = images(2, 64, 7, 7)
    shortcut = norm(first.shortcut.norm, conv(first.shortcut.conv, x), groups=256, eps=1e-5)
    for unit, skipped in ((first, shortcut), (second, None)):
        y = norm(unit.norm1, conv(unit.conv1, x), 32, 1e-6).relu()
        y = norm(unit.norm2, conv(unit.conv2, y), 32, 1e-6).relu()
        y = norm(unit.norm3, conv(unit.conv3, y), 32, 1e-6)
        expected = (y + (x if skipped is None else skipped)).relu()
        x_next = unit(x)
        assert torch.allclose(x_next, expected, atol=1e-4, rtol=1e-4)
        x = x_next.detach()
    assert x.shape == (2, 256, 4, 4)


def test_resnet_has_the_units_and_strides_of_the_paper(source: EncoderDecoder) -> None:
    blocks = source.encoder.resnet.blocks
    assert [len(block) for block in blocks] == [3, 4, 9]
    strides = [[unit.conv2.stride[0] for unit in block] for block in blocks]
    assert strides == [[1] * 3, [2] + [1] * 3, [2] + [1] * 8]


def test_layer_equals_that_of_torch() -> None:
    torch.manual_seed(0)
    layer = transunet.Layer().eval()
    for norm in (layer.norm1, layer.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    other = nn.TransformerEncoderLayer(
        768, 12, 3072, 0.1, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()
    heads = layer.attention
    with torch.no_grad():
        parts = (heads.query, heads.key, heads.value)
        other.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        other.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    pairs = [(other.self_attn.out_proj, heads.out), (other.linear1, layer.fc1), (other.linear2, layer.fc2)]
    for theirs, ours in [*pairs, (other.norm1, layer.norm1), (other.norm2, layer.norm2)]:
        theirs.load_state_dict(ours.state_dict())
    tokens = images(2, 10, 768)
    with torch.no_grad():
        assert torch.allclose(layer(tokens), other(tokens), atol=1e-5, rtol=1e-4)


def test_decoder_equals_a_plain_chain() -> None:
    torch.manual_seed(0)
    decoder = transunet.Decoder(classes=3, bottlenecks=2).eval()
    for module in decoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            nn.init.uniform_(module.running_var, 0.5, 2)
    half, quarter, eighth = images(1, 64, 16, 16), images(1, 256, 8, 8), images(1, 512, 4, 4)
    deepest = images(1, 2 * 768, 2, 2)
    convs = [m for m in decoder.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in decoder.modules() if isinstance(m, nn.BatchNorm2d)]
    twice = nn.UpsamplingBilinear2d(scale_factor=2)  # corners on corners
    with torch.no_grad():
        x = norms[0](convs[0](deepest)).relu()
        for step, skip in enumerate((eighth, quarter, half, None)):
            x = twice(x) if skip is None else torch.cat([twice(x), skip], dim=1)
            for i in (2 * step + 1, 2 * step + 2):
                x = norms[i](convs[i](x)).relu()
        assert torch.allclose(decoder((half, quarter, eighth, deepest)), convs[9](x), atol=1e-6)
    widths = [(2 * 768, 512), (1024, 256), (256, 256), (512, 128), (128, 128)]
    widths += [(192, 64), (64, 64), (64, 16), (16, 16), (16, 3)]
    assert [(c.in_channels, c.out_channels) for c in convs] == widths


def test_mlp_starts_as_xavier_and_positions_as_zero() -> None:
    torch.manual_seed(0)
    network = build(1, 1, layers=1)
    layer = network.encoder.layers[0]
    bound = (6 / (768 + 3072)) ** 0.5
    for linear in (layer.fc1, layer.fc2):
        assert linear.weight.abs().max() <= bound
        assert linear.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
        assert 0 < linear.bias.abs().max() < 1e-5
    assert network.encoder.positions.shape == (1, 768, 16, 16)
    assert not network.encoder.positions.any()
    drops = [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
    assert drops == [0.1, 0.1]


# Position embedding


@pytest.mark.parametrize(("before", "after"), [(14, (16, 16)), (16, (4, 6)), (2, (3, 3)), (5, (5, 5))])
def test_positions_are_resized_bilinearly(before: int, after: tuple[int, int]) -> None:
    positions = images(1, 3, before, before)
    zoom = (1, 1, after[0] / before, after[1] / before)
    expected = ndimage.zoom(positions.numpy(), zoom, order=1)
    assert np.allclose(transunet.resize_positions(positions, after), expected, atol=1e-5)


def test_forward_resizes_positions_to_the_input(source: EncoderDecoder) -> None:
    x = images(1, 3, 64, 96)
    tokens: list[Tensor] = []
    hook = source.encoder.layers[0].register_forward_pre_hook(lambda m, i: tokens.append(i[0]))
    with torch.no_grad():
        source.encoder(x)
        features = source.encoder.embedding(source.encoder.resnet(x)[-1])
    hook.remove()
    added = tokens[0].transpose(1, 2).reshape(1, 768, 4, 6) - features
    expected = ndimage.zoom(source.encoder.positions.detach().numpy(), (1, 1, 4 / 14, 6 / 14), order=1)
    assert np.allclose(added, expected, atol=1e-4)


@pytest.mark.parametrize(("size", "grid"), [(224, 14), (256, 16), (250, 16), (64, 4)])
def test_positions_have_the_grid_of_the_slices_trained_on(size: int, grid: int) -> None:
    early = get_fusion("early").fusion
    config = make_config("paper", METHOD.settings, METHOD.presets, {"data.size": size}, early)
    with torch.device("meta"):
        network = build_model(METHOD, mock_task(3, 2), early, config)
    assert dict(network.named_parameters())["network.network.encoder.positions"].shape == (1, 768, grid, grid)


def test_state_does_not_depend_on_the_input(source: EncoderDecoder) -> None:
    before = {name: value.shape for name, value in source.state_dict().items()}
    with torch.no_grad():
        source(images(1, 3, 96, 64))
    assert {name: value.shape for name, value in source.state_dict().items()} == before


# Settings


def test_weights_are_named() -> None:
    assert METHOD.weights(METHOD.settings) == "none"
    assert METHOD.weights({**METHOD.settings, "pretrained": "/a/b.npz"}) == "b.npz"


@pytest.mark.parametrize(("name", "value"), [("grid", -1), ("layers", 0), ("bottlenecks", 0)])
def test_settings_out_of_range(name: str, value: int) -> None:
    with pytest.raises(UsbenchError, match=f"method.{name}: {value} is out of range"):
        build(1, 1, **{name: value})


@pytest.mark.slow
def test_hybrid_by_concatenation_runs_and_trains() -> None:
    torch.manual_seed(0)
    overrides = {"method.layers": 1, "fusion.hybrid": "concat"}
    hybrid = get_fusion("hybrid").fusion
    config = make_config("smoke", METHOD.settings, METHOD.presets, overrides, hybrid)
    network = build_model(METHOD, mock_task(modalities=2, classes=2), hybrid, config)
    logits = network(images(1, 2, 64, 64))
    assert logits.shape == (1, 2, 64, 64)
    logits.square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
