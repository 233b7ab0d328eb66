"""Pretrained starts of the encoders: files, sets of the library, and what is said where they are absent."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from usbench.baselines.missformer import METHOD as MISSFORMER
from usbench.baselines.missformer import FeedForward
from usbench.baselines.missformer import build as missformer
from usbench.baselines.pretrained import is_file, licence, make_encoder, weights_name
from usbench.baselines.unet import METHOD as UNET
from usbench.baselines.unet import build as unet
from usbench.errors import UsbenchError
from usbench.runtime.torchvision_cpu import make_importable
from usbench.storage.files import sha256_file


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(module: nn.Module, seed: int) -> nn.Module:
    """No parameter left where it started, so that one that was not copied shows."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A ResNet-18 as torchvision saves one, classifier and all, and the network itself."""
    make_importable()
    from torchvision.models import resnet18

    network = shaken(resnet18(weights=None), seed=1)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return path, network


def test_torchvision_file_gives_its_features(resnet_file: tuple[Path, nn.Module]) -> None:
    path, theirs = resnet_file
    ours = unet(3, 2, encoder="resnet18", pretrained=str(path)).encoder.eval()
    image = noise(1, 3, 64, 64)
    x = theirs.get_submodule("maxpool")(
        torch.relu(theirs.get_submodule("bn1")(theirs.get_submodule("conv1")(image)))
    )
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = theirs.get_submodule(name)(x)
    with torch.no_grad():
        assert torch.allclose(ours(image)[-1], x, atol=1e-4)


def test_first_convolution_follows_the_stated_rule(resnet_file: tuple[Path, nn.Module]) -> None:
    path, theirs = resnet_file
    stem = theirs.get_submodule("conv1").weight
    one, four = (make_encoder("resnet18", n, str(path)).get_submodule("conv1").weight for n in (1, 4))
    assert torch.allclose(one, stem.sum(dim=1, keepdim=True))
    assert torch.allclose(four, stem[:, [0, 1, 2, 0]] * 3 / 4)


def test_timm_file(tmp_path: Path) -> None:
    make_importable()
    import timm
    from safetensors.torch import save_file

    theirs = shaken(timm.create_model("resnet18", pretrained=False, num_classes=0), seed=2)
    save_file(theirs.state_dict(), tmp_path / "r.safetensors")
    ours = make_encoder("tu-resnet18", 3, str(tmp_path / "r.safetensors")).eval()
    image = noise(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours(image)[-1], theirs.forward_features(image), atol=1e-4)


@pytest.mark.slow
def test_missformer_starts_from_mit(tmp_path: Path) -> None:
    """Without what MISSFormer adds inside its feed-forward parts, its encoder is the library's MiT-B1."""
    mit = shaken(make_encoder("mit_b1", 3, "none"), seed=3)
    torch.save(mit.state_dict(), tmp_path / "mit.pth")
    network = missformer(3, 2, bridge_layers=0, pretrained=str(tmp_path / "mit.pth")).eval()

    def plain(self: FeedForward, grid: Tensor) -> Tensor:
        hidden = self.fc1(grid).permute(0, 3, 1, 2)
        return self.fc2(nn.functional.gelu(self.depthwise(hidden)).permute(0, 2, 3, 1))

    image = noise(1, 3, 64, 96)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(FeedForward, "forward", plain)
        # MiT's norms add 1e-6 where torch's add 1e-5.
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6
        for level in range(1, 5):
            mit.get_submodule(f"patch_embed{level}.norm").eps = 1e-6
        ours, theirs = network.encoder(image), mit(image)
    for mine, other in zip(ours, theirs[2:], strict=True):
        assert torch.allclose(mine, other, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2])
def test_missformer_takes_other_channels(channels: int, tmp_path: Path) -> None:
    torch.save(make_encoder("mit_b1", 3, "none").state_dict(), tmp_path / "mit.pth")
    network = missformer(channels, 1, bridge_layers=0, pretrained=str(tmp_path / "mit.pth"))
    assert network(noise(1, channels, 32, 32)).shape == (1, 1, 32, 32)


def test_what_a_result_says(resnet_file: tuple[Path, nn.Module]) -> None:
    path = resnet_file[0]
    assert UNET.weights({"encoder": "resnet18", "pretrained": str(path)}) == weights_name(str(path))
    assert weights_name(str(path)) == f"resnet18.pth ({sha256_file(path)[:8]})"
    assert weights_name("imagenet") == "imagenet"
    assert not is_file("imagenet")
    assert is_file("~/w.npz")
    assert UNET.licence({"encoder": "resnet34", "pretrained": "imagenet"}).startswith("BSD-3-Clause")
    assert MISSFORMER.licence({"pretrained": "imagenet"}).startswith("NVIDIA")
    assert licence("resnet34", "none") == "none"
    assert licence("resnet34", str(path)) == "unknown"
    assert licence("tu-resnet34", "imagenet") == "apache-2.0"


def broken(path: Path) -> None:
    path.write_bytes(b"not weights")


def other_network(path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), path)


def other_shape(path: Path) -> None:
    state = make_encoder("resnet18", 3, "none").state_dict()
    state["conv1.weight"] = torch.zeros(64, 5, 7, 7)
    torch.save(state, path)


def no_state(path: Path) -> None:
    torch.save([1, 2], path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (None, "no such file"),
        (broken, "cannot be read as weights"),
        (other_network, "has no tensor 'conv1.weight'"),
        (other_shape, r"tensor 'conv1.weight' is \(64, 5, 7, 7\)"),
        (no_state, "holds no tensors by name"),
    ],
)
def test_bad_files_are_named(make: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    if make is not None:
        make(path)
    with pytest.raises(UsbenchError, match=rf"w\.pth: {words}.*method\.pretrained=none"):
        unet(1, 1, encoder="resnet18", pretrained=str(path))


def test_offline_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    for build, repository in ((unet, "smp-hub/resnet34.imagenet"), (missformer, "smp-hub/mit_b1.imagenet")):
        with pytest.raises(UsbenchError, match=rf"hf download {repository} --revision [0-9a-f]{{40}}"):
            build(1, 1, pretrained="imagenet")
    with pytest.raises(UsbenchError, match="did you mean 'imagenet'"):
        unet(1, 1, pretrained="imagenett")
