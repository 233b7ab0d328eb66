"""UNet++: conformance, published parameter counts, and its nested nodes."""

from __future__ import annotations

import pytest
import torch

from usbench.baselines.unet import METHOD as UNET
from usbench.baselines.unetpp import METHOD, build
from usbench.config import make_config
from usbench.contracts.method import Method
from usbench.errors import UsbenchError
from usbench.fusions.build import build_model
from usbench.fusions.registry import get_fusion
from usbench.testing import MethodTests, mock_task


@pytest.mark.slow
class TestUNetPlusPlus(MethodTests):
    method = METHOD
    sizes = ((50, 75),)
    modalities = (2, 3)


@pytest.mark.parametrize(("encoder", "count"), [("resnet18", 15_970_594), ("resnet34", 26_078_754)])
def test_published_counts(encoder: str, count: int) -> None:
    # Counts of segmentation-models-pytorch's UnetPlusPlus with 3 input channels and 2 classes.
    network = build(3, 2, encoder=encoder)
    assert sum(p.numel() for p in network.parameters()) == count


def test_same_as_the_library_whole() -> None:
    # Cut in two and put together again, the network is the library's.
    network = build(3, 2, encoder="resnet18").eval()
    import segmentation_models_pytorch as smp

    whole = smp.UnetPlusPlus("resnet18", encoder_weights=None, in_channels=3, classes=2).eval()
    whole.encoder.load_state_dict(network.encoder.encoder.state_dict())
    whole.decoder.load_state_dict(network.decoder.decoder.state_dict())
    whole.segmentation_head.load_state_dict(network.decoder.head.state_dict())
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(images), whole(images))


def test_nodes_are_the_papers_triangle() -> None:
    # Between five encoder maps there are 4 + 3 + 2 + 1 nested nodes; one more block reaches image size.
    blocks = build(1, 1, encoder="resnet18").decoder.decoder.blocks
    assert set(blocks) == {f"x_{i}_{j}" for j in range(4) for i in range(j + 1)} | {"x_0_4"}
    # A node sees the map below it, and every node before it in its row: here 64 + (3 + 1) * 64 channels.
    assert blocks["x_0_3"].conv1[0].in_channels == 64 + 4 * 64


@pytest.mark.slow
def test_unused_centre_of_vgg_is_left_out() -> None:
    network = build(2, 1, encoder="vgg11")
    network(torch.zeros(2, 2, 32, 32)).square().mean().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "encoder"), [(UNET, "mit_b0"), (METHOD, "tu-convnext_atto")])
def test_encoders_that_start_with_stride_four(method: Method, encoder: str) -> None:
    # Their map at half size has no channels: it must not reach the merges of hybrid fusion.
    config = make_config("smoke", method.settings, method.presets, {"method.encoder": encoder})
    network = build_model(method, mock_task(2, 1), get_fusion("hybrid").fusion, config)
    logits = network(torch.randn(2, 2, 64, 96, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 1, 64, 96)
    logits.square().mean().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 96, 160, 224])
def test_sizes(size: int) -> None:
    network = build(2, 3, encoder="resnet18").eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 2, size, size)).shape == (1, 3, size, size)


def test_unknown_encoder_is_named() -> None:
    with pytest.raises(UsbenchError, match="did you mean 'resnet18'"):
        build(1, 1, encoder="resnet81")


def test_encoder_that_the_library_refuses_is_named() -> None:
    with pytest.raises(UsbenchError, match="'mit_b0' does not go with unetpp"):
        build(1, 1, encoder="mit_b0", pretrained="imagenet")


def test_same_settings_as_unet() -> None:
    assert METHOD.settings == UNET.settings == {"encoder": "resnet34", "pretrained": "imagenet"}
    assert METHOD.weights(METHOD.settings) == "imagenet"
    assert METHOD.weights(METHOD.presets["quick"]) == "none"
