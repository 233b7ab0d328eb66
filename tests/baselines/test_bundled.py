"""`pretrained=bundled`: EfficientNet-Lite0 out of a package is timm's network, and starts unet and unetpp."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines.missformer import build as missformer
from usbench.baselines.pretrained import BUNDLED_ENCODER, make_encoder, renamed
from usbench.baselines.unet import METHOD as UNET
from usbench.baselines.unet import build as unet
from usbench.baselines.unetpp import METHOD as UNETPP
from usbench.baselines.unetpp import build as unetpp
from usbench.checks.suite import check, require_passed
from usbench.errors import UsbenchError
from usbench.runtime.torchvision_cpu import make_importable
from usbench.testing import MethodTests
from usbench.weights.store import find_weight, weight_digest, weight_path, without_fetching

NAME = "efficientnet-lite0"
BUNDLED = {"encoder": "resnet18", "pretrained": "bundled"}


@pytest.fixture(scope="module")
def path() -> Path:
    """The file that the package ships."""
    try:
        return weight_path(NAME, fetch=False)
    except UsbenchError:
        pytest.skip("USBENCH_WEIGHTS names no folder of `usbench weights fetch --set bundled`")


def state_of(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@cache
def classifier(path: Path | None = None) -> nn.Module:
    """timm's whole classifier, with the weights of the file."""
    make_importable()
    import timm

    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if path is not None:
        network.load_state_dict(renamed(state_of(path)), strict=True)  # None missing, none unexpected.
    return network.eval()


def image(size: int = 224) -> Tensor:
    """The photograph of Rear Admiral Hopper that comes with matplotlib, [1, 3, size, size] in -1..1."""
    from matplotlib import cbook
    from PIL import Image

    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as file:
        picture = file.convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), 3)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    cut = np.array(picture.crop((left, top, left + size, top + size)), dtype=np.float32)
    return torch.from_numpy(cut).permute(2, 0, 1)[None] / 127.5 - 1


def same(images: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    """A convolution with TensorFlow's "same" padding for even sides: the odd pixel is at the end."""
    kernel = weight.shape[-1]
    total = kernel - stride
    padded = functional.pad(images, (total // 2, total - total // 2) * 2)
    return functional.conv2d(padded, weight, stride=stride, groups=groups)


def norm(x: Tensor, state: dict[str, Tensor], key: str) -> Tensor:
    mean, var, scale, shift = (
        state[f"{key}.{leaf}"][None, :, None, None]
        for leaf in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-3) * scale + shift


def test_names_follow_the_order_of_both_networks(path: Path) -> None:
    """Both list their layers in the order of the forward path, so names must pair as they stand."""
    theirs = classifier().state_dict()
    assert list(renamed(state_of(path))) == list(theirs)
    assert [tuple(v.shape) for v in state_of(path).values()] == [tuple(v.shape) for v in theirs.values()]


def test_classifier_knows_a_uniform(path: Path) -> None:
    with torch.no_grad():
        best = classifier(path)(image()).softmax(1)[0].topk(3).indices.tolist()
    # ImageNet's classes 652 "military uniform", 667 "mortarboard", 400 "academic gown".
    assert set(best) == {652, 667, 400}


@pytest.mark.parametrize("size", [224, 96])
def test_first_layers_by_hand(path: Path, size: int) -> None:
    """Stem, first block and second block by the names of the file: "same" padding, 1e-3 in norms, ReLU6."""
    state, photo = state_of(path), image(size)
    with torch.no_grad():
        x = norm(same(photo, state["_conv_stem.weight"], 2), state, "_bn0").clamp(0, 6)
        x = norm(same(x, state["_blocks.0._depthwise_conv.weight"], 1, 32), state, "_blocks.0._bn1").clamp(
            0, 6
        )
        first = norm(same(x, state["_blocks.0._project_conv.weight"], 1), state, "_blocks.0._bn2")
        x = norm(same(first, state["_blocks.1._expand_conv.weight"], 1), state, "_blocks.1._bn0").clamp(0, 6)
        x = norm(same(x, state["_blocks.1._depthwise_conv.weight"], 2, 96), state, "_blocks.1._bn1").clamp(
            0, 6
        )
        second = norm(same(x, state["_blocks.1._project_conv.weight"], 1), state, "_blocks.1._bn2")
        ours = unet(3, 2, **BUNDLED).encoder.eval()
        assert torch.allclose(ours(photo)[0], first, atol=1e-4)
        blocks = classifier(path).get_submodule("blocks")
        assert torch.allclose(blocks.get_submodule("1.0")(first), second, atol=1e-4)


def test_encoder_is_the_classifier_without_its_head(path: Path) -> None:
    ours, photo = unet(3, 2, **BUNDLED).encoder.eval(), image()
    network: Any = classifier(path)
    with torch.no_grad():
        x, expected = network.bn1(network.conv_stem(photo)), []
        for stage in network.blocks:
            x = stage(x)
            expected.append(x)
        found = ours(photo)
    for mine, theirs in zip(found, [expected[i] for i in (0, 1, 2, 4, 6)], strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)
    norms = [m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.eps for m in norms} == {1e-3}


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_first_convolution_of_other_channels(path: Path, channels: int) -> None:
    stem = state_of(path)["_conv_stem.weight"]
    found = make_encoder(BUNDLED_ENCODER, channels, "bundled").get_submodule("model.conv_stem").weight
    wanted = stem.sum(1, keepdim=True) if channels == 1 else stem[:, [0, 1, 2, 0][:channels]] * 3 / channels
    assert torch.allclose(found, wanted)


@pytest.mark.parametrize(
    ("build", "channels", "count"),
    [(unet, 3, 5_198_306), (unet, 1, 5_197_730), (unetpp, 3, 5_429_826), (unetpp, 1, 5_429_250)],
)
def test_counts_are_the_librarys(
    path: Path, build: Callable[..., nn.Module], channels: int, count: int
) -> None:
    import segmentation_models_pytorch as smp

    kind = {unet: smp.Unet, unetpp: smp.UnetPlusPlus}[build]
    theirs = kind(BUNDLED_ENCODER, encoder_weights=None, in_channels=channels, classes=2)
    made = build(channels, 2, **BUNDLED)
    assert [sum(p.numel() for p in one.parameters()) for one in (made, theirs)] == [count, count]
    # All of the published network but its last convolution, norm and classifier.
    published = sum(p.numel() for p in classifier().parameters())
    assert published == 4_652_008
    encoder = sum(p.numel() for p in made.get_submodule("encoder").parameters())
    assert (
        encoder + (3 - channels) * 288
        == published - (320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000)
        == 2_958_848
    )


@pytest.mark.slow
@pytest.mark.usefixtures("path")
class TestBundledUNet(MethodTests):
    method = UNET
    settings = {"method.pretrained": "bundled"}  # noqa: RUF012


@pytest.mark.slow
@pytest.mark.usefixtures("path")
class TestBundledUNetPlusPlus(TestBundledUNet):
    method = UNETPP


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["unet", "unetpp"])
def test_quick_checks_pass(name: str) -> None:
    some = ["shape", "saves", "same-seed"]
    verdicts = check(name, checks=some, settings={"method.pretrained": "bundled"}, fusions=["late"])
    require_passed(verdicts)
    assert {v.check for v in verdicts if v.state == "pass"} >= set(some)


def test_what_a_result_says(path: Path) -> None:
    for method in (UNET, UNETPP):
        words = method.weights(BUNDLED)
        assert words == f"bundled {NAME} ({weight_digest(NAME)[:8]})" == f"bundled {NAME} (57934424)"
        assert method.licence(BUNDLED) == "Apache-2.0" == find_weight(NAME).licence
        assert tuple(method.needed_weights(BUNDLED)) == (NAME,)
        assert tuple(method.needed_weights({**BUNDLED, "pretrained": "imagenet"})) == ()


def test_presets_start_as_before() -> None:
    assert UNET.settings["pretrained"] == "imagenet"
    assert {preset["pretrained"] for preset in UNET.presets.values()} == {"none"}


def test_another_encoder_is_refused() -> None:
    for build in (unet, unetpp):
        with pytest.raises(UsbenchError, match=r"method\.encoder 'resnet50'.*tu-tf_efficientnet_lite0 alone"):
            build(1, 1, encoder="resnet50", pretrained="bundled")
    with pytest.raises(UsbenchError, match=r"value of method\.pretrained for encoder mit_b1 'bundled'"):
        missformer(1, 1, pretrained="bundled")


def test_absent_weights_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USBENCH_WEIGHTS", str(tmp_path))
    with without_fetching(), pytest.raises(UsbenchError) as caught:
        unet(1, 1, **BUNDLED)
    assert "\n" not in str(caught.value)
    assert f"usbench weights fetch {NAME}" in str(caught.value)


def test_file_of_a_timm_encoder_takes_other_channels(tmp_path: Path) -> None:
    make_importable()
    import timm

    theirs = timm.create_model("resnet18", pretrained=False, num_classes=0)
    torch.save(theirs.state_dict(), tmp_path / "r.pth")
    one, two = (make_encoder("tu-resnet18", n, str(tmp_path / "r.pth")) for n in (1, 2))
    stem = theirs.get_submodule("conv1").weight
    assert torch.allclose(one.get_submodule("model.conv1").weight, stem.sum(1, keepdim=True))
    assert torch.allclose(two.get_submodule("model.conv1").weight, stem[:, :2] * 1.5)
