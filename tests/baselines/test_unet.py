"""U-Net: conformance, published parameter counts, and fusion by structure."""

from __future__ import annotations

import pytest

from usbench.baselines.unet import METHOD, build
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestUNet(MethodTests):
    method = METHOD
    thorough = True


@pytest.mark.parametrize(
    ("encoder", "count"), [("resnet18", 14_328_354), ("resnet34", 24_436_514), ("resnet50", 32_521_250)]
)
def test_published_counts(encoder: str, count: int) -> None:
    # Counts of segmentation-models-pytorch's Unet with 3 input channels and 2 classes.
    network = build(3, 2, encoder=encoder)
    assert sum(p.numel() for p in network.parameters()) == count


def test_late_is_whole_networks_and_hybrid_adds_only_its_merges() -> None:
    tests = TestUNet()
    one = sum(p.numel() for p in build(1, 2, encoder="resnet18").parameters())
    encoder = sum(p.numel() for p in build(1, 2, encoder="resnet18").encoder.parameters())
    late, hybrid, early = (
        sum(p.numel() for p in tests.build(f, 3).parameters()) for f in ("late", "hybrid", "early")
    )
    assert late == 3 * one
    # resnet18 gives maps of 64, 64, 128, 256 and 512 channels; a merge is a 1x1 convolution from 3c to c.
    merges = sum(3 * c * c + c for c in (64, 64, 128, 256, 512))
    assert hybrid == one + 2 * encoder + merges
    assert early == one + 2 * 64 * 7 * 7  # two more input channels in the 7x7 stem


def test_unknown_encoder_is_named() -> None:
    with pytest.raises(UsbenchError, match="did you mean 'resnet18'"):
        build(1, 1, encoder="resnet81")


def test_default_says_what_it_starts_from() -> None:
    assert METHOD.weights({"encoder": "resnet34", "pretrained": "imagenet"}) == "imagenet"
