"""TransUNet's published weights: their layout, what is made of them, and files that are not they."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines import transunet
from usbench.baselines.transunet import build
from usbench.contracts.method import EncoderDecoder
from usbench.errors import UsbenchError


def randomised(seed: int, **settings: int) -> EncoderDecoder:
    """A network of one layer in which no parameter is left at 0 or 1, in evaluation."""
    torch.manual_seed(seed)
    network = build(3, 2, layers=1, **settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def published(encoder: transunet.Encoder) -> dict[str, np.ndarray]:
    """An encoder's weights under the names and in the layout of R50+ViT-B_16.npz."""
    arrays: dict[str, np.ndarray] = {}

    def put(key: str, values: Tensor) -> None:
        arrays[key] = values.detach().numpy().copy()

    def put_norm(key: str, norm: nn.Module, *shape: int) -> None:
        put(f"{key}/scale", norm.weight.view(*shape, -1))
        put(f"{key}/bias", norm.bias.view(*shape, -1))

    resnet = encoder.resnet
    put("conv_root/kernel", resnet.root.weight.permute(2, 3, 1, 0))
    put_norm("gn_root", resnet.root_norm, 1, 1, 1)
    for b, block in enumerate(resnet.blocks):
        for u, unit in enumerate(block):
            names = [(getattr(unit, f"conv{i}"), getattr(unit, f"norm{i}"), str(i)) for i in (1, 2, 3)]
            names += [(unit.shortcut.conv, unit.shortcut.norm, "_proj")] if u == 0 else []
            for conv, norm, name in names:
                put(f"block{b + 1}/unit{u + 1}/conv{name}/kernel", conv.weight.permute(2, 3, 1, 0))
                put_norm(f"block{b + 1}/unit{u + 1}/gn{name}", norm, 1, 1, 1)
    put("embedding/kernel", encoder.embedding.weight.permute(2, 3, 1, 0))
    put("embedding/bias", encoder.embedding.bias)
    put("cls", torch.full((1, 1, 768), 7.0))
    positions = encoder.positions.flatten(2).transpose(1, 2)
    put("Transformer/posembed_input/pos_embedding", functional.pad(positions, (0, 0, 1, 0), value=9.0))
    for i, layer in enumerate(encoder.layers):
        key = f"Transformer/encoderblock_{i}"
        put_norm(f"{key}/LayerNorm_0", layer.norm1)
        put_norm(f"{key}/LayerNorm_2", layer.norm2)
        heads = f"{key}/MultiHeadDotProductAttention_1"
        for name in ("query", "key", "value"):
            linear = getattr(layer.attention, name)
            put(f"{heads}/{name}/kernel", linear.weight.T.reshape(768, 12, 64))
            put(f"{heads}/{name}/bias", linear.bias.reshape(12, 64))
        put(f"{heads}/out/kernel", layer.attention.out.weight.T.reshape(12, 64, 768))
        put(f"{heads}/out/bias", layer.attention.out.bias)
        for name, linear in (("Dense_0", layer.fc1), ("Dense_1", layer.fc2)):
            put(f"{key}/MlpBlock_3/{name}/kernel", linear.weight.T)
            put(f"{key}/MlpBlock_3/{name}/bias", linear.bias)
    put_norm("Transformer/encoder_norm", encoder.norm)
    put("head/kernel", torch.zeros(768, 5))
    put("head/bias", torch.zeros(5))
    return arrays


@pytest.fixture(scope="module")
def source() -> EncoderDecoder:
    """A network of one layer with a 14 x 14 position embedding, that of the published file."""
    return randomised(1, grid=14)


@pytest.fixture(scope="module")
def archive(source: EncoderDecoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "R50+ViT-B_16.npz"
    np.savez(path, **published(source.encoder))
    return path


def images(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
def test_archive_fills_another_network(source: EncoderDecoder, archive: Path) -> None:
    torch.manual_seed(5)
    network = build(3, 2, pretrained=str(archive), grid=14, layers=1).eval()
    want, have = source.encoder.state_dict(), network.encoder.state_dict()
    assert want.keys() == have.keys()
    assert [name for name in want if not torch.equal(want[name], have[name])] == []
    x = images(1, 3, 96, 64)
    with torch.no_grad():
        for expected, found in zip(source.encoder(x), network.encoder(x), strict=True):
            assert torch.equal(expected, found)
    # The decoder has no published weights: it starts from the seed.
    torch.manual_seed(5)
    fresh = build(3, 2, grid=14, layers=1).decoder.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in network.decoder.state_dict().items())


def test_archive_is_read_as_timm_reads_it(source: EncoderDecoder, archive: Path) -> None:
    # timm reads the same layout into its own hybrid, whose transformer is the same.
    from usbench.runtime.torchvision_cpu import make_importable

    make_importable()
    import timm

    theirs = timm.create_model("vit_base_r50_s16_224", pretrained=False, num_classes=0, depth=1).eval()
    theirs.load_pretrained(str(archive))
    network = build(3, 2, pretrained=str(archive), grid=14, layers=1).eval()
    resnet, backbone = network.encoder.resnet, theirs.patch_embed.backbone
    assert torch.equal(resnet.root.weight, backbone.stem.conv.weight)
    for block, stage in zip(resnet.blocks, backbone.stages, strict=True):
        for unit, other in zip(block, stage.blocks, strict=True):
            for name in ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3"):
                assert torch.equal(getattr(unit, name).weight, getattr(other, name).weight)
        assert torch.equal(block[0].shortcut.conv.weight, stage.blocks[0].downsample.conv.weight)
        assert torch.equal(block[0].shortcut.norm.bias, stage.blocks[0].downsample.norm.bias)
    positions = network.encoder.positions.flatten(2).transpose(1, 2)
    assert torch.equal(positions, theirs.pos_embed[:, 1:])
    features = images(1, 1024, 14, 14)
    with torch.no_grad():
        tokens = network.encoder.embedding(features).flatten(2).transpose(1, 2) + positions
        ours = network.encoder.norm(network.encoder.layers[0](tokens))
        embedded = theirs.patch_embed.proj(features).flatten(2).transpose(1, 2)
        expected = theirs.norm(theirs.blocks(embedded + theirs.pos_embed[:, 1:]))
    assert torch.allclose(ours, expected, atol=1e-4, rtol=1e-4)


def test_archive_positions_are_resized_without_the_class_token(source: EncoderDecoder, archive: Path) -> None:
    network = build(3, 2, pretrained=str(archive), grid=16, layers=1)
    stored = source.encoder.positions.detach().numpy()
    expected = ndimage.zoom(stored, (1, 1, 16 / 14, 16 / 14), order=1)
    assert np.allclose(network.encoder.positions.detach(), expected, atol=1e-5)
    # The class token's row is 9 everywhere: none of it has leaked in.
    assert network.encoder.positions.abs().max() < 5


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_first_convolution_for_other_channels(source: EncoderDecoder, archive: Path, channels: int) -> None:
    network = build(channels, 2, pretrained=str(archive), grid=14, layers=1, stem="own").eval()
    summed = source.encoder.resnet.root.weight.detach().sum(dim=1)
    root = network.encoder.resnet.root.weight.detach()
    assert root.shape == (64, channels, 7, 7)
    assert all(torch.allclose(root[:, c], summed / channels) for c in range(channels))
    # Equal channels are what a grey image is to the published kernel ...
    grey = images(1, 1, 64, 64)
    equal, three = grey.expand(-1, channels, -1, -1), grey.expand(-1, 3, -1, -1)
    stored = source.encoder.resnet.root
    found, expected = functional.conv2d(equal, root), functional.conv2d(three, stored.weight.detach())
    assert torch.allclose(found, expected, atol=1e-4)
    # ... and standardised, each filter answers the same up to its scale.
    with torch.no_grad():
        answers = [
            layer(x).flatten(2) for layer, x in ((network.encoder.resnet.root, equal), (stored, three))
        ]
    assert functional.cosine_similarity(*answers, dim=-1).min() > 0.9999


def test_published_stem_and_grid_take_the_file_as_it_is(source: EncoderDecoder, archive: Path) -> None:
    # At 224 pixels, one channel: filters of three colours, and 14 x 14 positions, neither resized nor summed.
    network = build(1, 2, pretrained=str(archive), layers=1, shape=(224, 224))
    for name in ("resnet.root.weight", "positions"):
        assert torch.equal(network.encoder.get_parameter(name), source.encoder.get_parameter(name))


def _without(key: str) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda arrays: arrays.pop(key)


def _instead(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda arrays: arrays.update({key: change(arrays[key])})


FC1 = "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"
QUERY = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"
POSITIONS = "Transformer/posembed_input/pos_embedding"
FOREIGN = {
    "no root": (_without("conv_root/kernel"), "it has no array 'conv_root/kernel'"),
    "transposed": (_instead(FC1, np.transpose), "is 3072 x 768, not 768 x 3072"),
    "flat heads": (_instead(QUERY, lambda a: a.reshape(768, 768)), "is 768 x 768, not 768 x 12 x 64"),
    "four colours": (
        _instead("conv_root/kernel", lambda a: np.concatenate([a, a[:, :, :1]], axis=2)),
        "is 7 x 7 x 4 x 64, not 7 x 7 x 3 x 64",
    ),
    "norm": (_instead("gn_root/scale", lambda a: a[..., :32]), "is 1 x 1 x 1 x 32, not 64"),
    "positions": (_instead(POSITIONS, lambda a: a[:, 1:]), "is 1 x 196 x 768, not 1 x 1 \\+ a square x 768"),
    "scalar": (_instead(POSITIONS, lambda a: np.float32(1)), "is a number, not"),
    "nan": (_instead("embedding/bias", lambda a: a * np.nan), "numbers that are not finite"),
    "integers": (_instead("embedding/bias", lambda a: a.astype(int)), "holds int64"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_archives_are_named(source: EncoderDecoder, tmp_path: Path, case: str) -> None:
    change, words = FOREIGN[case]
    arrays = published(source.encoder)
    change(arrays)
    path = tmp_path / "other.npz"
    np.savez(path, **arrays)
    encoder = copy.deepcopy(source.encoder)
    with pytest.raises(UsbenchError, match=words) as caught:
        transunet.load_published(encoder, str(path))
    path.unlink()  # 80 MB, of which pytest would keep many
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("--set method.pretrained=none")


def test_missing_and_damaged_files_are_named(source: EncoderDecoder, archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    truncated, flipped, empty = tmp_path / "cut.npz", tmp_path / "flipped.npz", tmp_path / "empty.npz"
    truncated.write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 4
    flipped.write_bytes(
        whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 64]) + whole[middle + 64 :]
    )
    empty.write_bytes(b"")
    page, single = tmp_path / "page.npz", tmp_path / "single.npy"
    page.write_text("<html>404</html>")
    np.save(single, np.zeros(3))
    expected = {
        tmp_path / "nowhere.npz": "there is no such file",
        tmp_path: "a folder, not a file",
        truncated: "not a readable .npz archive",
        flipped: "cannot be read",
        empty: "not a readable .npz archive",
        page: "not a readable .npz archive",
        single: "a single array, not a .npz archive",
    }
    for path, words in expected.items():
        with pytest.raises(UsbenchError, match=words) as caught:
            transunet.load_published(source.encoder, str(path))
        assert str(caught.value).startswith(str(path))
        assert "vit_models/imagenet21k" in str(caught.value)


def test_more_layers_than_the_archive_has(archive: Path) -> None:
    with pytest.raises(UsbenchError, match="no array 'Transformer/encoderblock_1/LayerNorm_0/scale'"):
        build(3, 2, pretrained=str(archive), layers=2)
