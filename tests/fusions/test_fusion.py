"""The merges of late fusion, by hand and at extreme logits, and the padding of odd sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from usbench.checks.subject import mock_task
from usbench.config import Config
from usbench.contracts.method import EncoderDecoder, Method, Supervised
from usbench.contracts.settings import DataSettings, VolumeSettings
from usbench.errors import UsbenchError
from usbench.fusions.build import Padded, build_model
from usbench.fusions.merge import merge_logits
from usbench.fusions.networks import Late, _Mean
from usbench.fusions.registry import declared
from usbench.fusions.segmenter import Merged
from usbench.methods.registry import get_method

MERGES = ["mean-logits", "mean-probs", "vote", "learned"]


def stack(*values: float) -> torch.Tensor:
    """Logits of M networks for one pixel and one class: [1, M, 1, 1, 1]."""
    return torch.tensor(values).view(1, -1, 1, 1, 1)


def test_mean_of_logits() -> None:
    assert merge_logits(stack(3.0, -1.0), "mean-logits").item() == pytest.approx(1.0)


def test_mean_of_probabilities() -> None:
    # sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4, sigmoid(0) = 1/2: the mean is 1/2, its logit 0.
    assert merge_logits(stack(math.log(3), -math.log(3), 0.0), "mean-probs").item() == pytest.approx(
        0.0, abs=1e-6
    )
    # (3/4 + 1/2) / 2 = 5/8, whose logit is log(5/3).
    assert merge_logits(stack(math.log(3), 0.0), "mean-probs").item() == pytest.approx(
        math.log(5 / 3), abs=1e-6
    )
    # One sure network of two: (1 + 0) / 2, exactly at the threshold.
    assert merge_logits(stack(80.0, -80.0), "mean-probs").item() == pytest.approx(0.0, abs=1e-4)


def test_vote() -> None:
    # Two of three say yes: (2 + 1/2) / (1 + 1/2), however unsure they are.
    assert merge_logits(stack(0.1, 0.1, -50.0), "vote").item() == pytest.approx(math.log(2.5 / 1.5), abs=1e-5)
    # A tie goes to the mean logit's sign, and weighs less than a won vote.
    assert 0 < merge_logits(stack(5.0, -1.0), "vote").item() < merge_logits(stack(1.0, 1.0), "vote").item()
    assert merge_logits(stack(1.0, -5.0), "vote").item() < 0


def test_learned_weights() -> None:
    # Softmax of (log 3, 0) is (3/4, 1/4): 3/4 * 4 - 1/4 * 4 = 2.
    weight = torch.tensor([[math.log(3)], [0.0]])
    assert merge_logits(stack(4.0, -4.0), "learned", weight).item() == pytest.approx(2.0, abs=1e-6)
    with pytest.raises(UsbenchError, match="weights"):
        merge_logits(stack(1.0, 2.0), "learned")


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("extreme", [80.0, -80.0])
def test_gradient_lives_at_extreme_logits_in_bfloat16(merge: str, extreme: float) -> None:
    logits = torch.full((2, 3, 1, 4, 4), extreme, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.zeros(3, 1, requires_grad=True)
    merged = merge_logits(logits, merge, weight)
    target = torch.full_like(merged, 0.0 if extreme > 0 else 1.0)
    nn.functional.binary_cross_entropy_with_logits(merged, target).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad.abs() > 1e-4).all(), "a wrong and sure network must still learn"


@pytest.mark.parametrize("merge", MERGES)
def test_equal_networks_keep_their_decision(merge: str) -> None:
    values = torch.linspace(-3, 3, 24).view(1, 1, 2, 3, 4).expand(1, 3, 2, 3, 4)
    merged = merge_logits(values, merge, torch.zeros(3, 2))
    assert torch.equal(merged > 0, values[:, 0] > 0)


def test_padding_is_centred_and_cropped_back() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.shape)
            return images * 2

    images = torch.randn(2, 3, 33, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Padded(Look(), (32, 32))(images), images * 2)
    assert seen == [(2, 3, 64, 64)]
    Padded(Look(), (32, 32))(images[..., :32, :32])
    assert seen[-1] == (2, 3, 32, 32)


def test_what_stands_beside_logits_is_padded_and_merged_like_them() -> None:
    class Both(nn.Module):
        """Under late fusion: masks of two modalities, and beside them one that is not of a modality."""

        def forward(self, images: Tensor) -> Tensor | Supervised:
            masks = images.unsqueeze(2)
            return Supervised(masks, [images[:, :1] * 3], [0.5]) if self.training else masks

    images = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    network = Padded(Merged(Both(), 2, 1, "mean-logits"), (4, 4)).train()
    found = network(images)
    assert isinstance(found, Supervised)
    torch.testing.assert_close(found.logits, images.mean(1, keepdim=True))
    torch.testing.assert_close(found.auxiliary[0], images[:, :1] * 3)
    assert found.weights == [0.5]
    torch.testing.assert_close(network.eval()(images), images.mean(1, keepdim=True))


@pytest.mark.parametrize("size", [(4, 4), (5, 6)])
def test_more_than_logits_in_evaluation_is_an_error(size: tuple[int, int]) -> None:
    class Always(nn.Module):
        def forward(self, images: Tensor) -> Supervised:
            return Supervised(images, [images])

    with pytest.raises(UsbenchError, match="give logits alone unless"):
        Padded(Always(), (4, 4)).eval()(torch.zeros(1, 1, *size))


@pytest.mark.parametrize("merge", ["mean-logits", "mean-probs", "vote", "learned"])
def test_masks_of_a_segmenter_are_merged_as_asked(merge: str) -> None:
    class Masks(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :, None].expand(-1, -1, 3, -1, -1)

    images = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    merged = Merged(Masks(), 2, 3, merge)
    expected = merge_logits(images[:, :, None].expand(-1, -1, 3, -1, -1), merge, merged.weight)
    assert torch.equal(merged(images), expected)
    assert (merged.weight is not None) == (merge == "learned")


def test_a_segmenter_that_merges_by_itself_is_left_alone() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Merged(nn.Identity(), 2, 3, "vote")(logits), logits)


@pytest.mark.parametrize("merge", MERGES)
def test_absent_masks_have_no_say(merge: str) -> None:
    """Merging three masks of which one is absent is merging the two, slice by slice, with live gradients."""
    logits = torch.randn(3, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 4
    logits[:, 0] = 1000.0
    weight = torch.tensor([[0.3, 0.1], [0.2, -0.5], [-1.0, 0.4]])
    present = torch.tensor([[False, True, True], [False, False, True], [True, True, True]])
    merged = merge_logits(logits.requires_grad_(), merge, weight, present)
    for row, there in enumerate(present):
        alone = merge_logits(logits[row : row + 1, there], merge, weight[there])
        torch.testing.assert_close(merged[row : row + 1], alone)
    merged[0].sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[0, 0].any()


def test_a_logit_of_zero_is_no_vote() -> None:
    # Of two masks one says yes, the other is exactly undecided: one yes of two is a tie, which goes to the
    # sign of the mean logit with 1/2 log((M + 2) / M) = 1/2 log 2.
    logits = stack(4.0, 0.0, 9.0)
    two = merge_logits(logits, "vote", present=torch.tensor([[True, True, False]]))
    assert two.item() == pytest.approx(0.5 * math.log(2), abs=1e-6)
    one = merge_logits(logits, "vote", present=torch.tensor([[False, True, False]]))
    # No yes of one: log(1/2 over 3/2).
    assert one.item() == pytest.approx(-math.log(3), abs=1e-6)
    assert merge_logits(logits[:, :2], "vote").item() == pytest.approx(0.5 * math.log(2), abs=1e-6)


def test_a_segmenter_that_does_not_ask_is_not_told_what_is_present() -> None:
    class Doubles(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 2 * images[:, :, None]

    images = torch.tensor([3.0, 5.0]).view(1, 2, 1, 1)
    skips = Merged(Doubles(), 2, 1, "mean-logits")
    assert skips.takes_present
    # The first alone is 2 x 3, both are 2 x (3 + 5) / 2.
    assert skips(images, torch.tensor([[True, False]])).item() == 6.0
    assert skips(images).item() == 8.0
    zeros = Merged(Doubles(), 2, 1, "mean-logits", "zero")
    assert not zeros.takes_present
    assert zeros(images, torch.tensor([[True, False]])).item() == 8.0


def late(absent: str) -> Late:
    method, _ = get_method("unet-classic")
    torch.manual_seed(0)
    return Late(method, 3, 2, {**method.settings, "width": 4}, "mean-logits", absent).eval()


def test_late_fusion_leaves_out_what_is_absent_or_lets_zeros_speak() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images[:, 1] = 0
    present = torch.tensor([[True, False, True]] * 2)
    network = late("skip")
    asked = []
    network.networks[1].register_forward_hook(lambda *_: asked.append(1))
    with torch.no_grad():
        found = network(images, present=present)
        assert not asked, "a mask that nothing is made of is not computed"
        own = [network.networks[i](images[:, i : i + 1]) for i in (0, 2)]
        torch.testing.assert_close(found, (own[0] + own[1]) / 2)
        zeros = late("zero")
        assert not zeros.takes_present
        assert not torch.allclose(zeros(images), found)


def test_padding_and_merging_hand_on_what_is_present() -> None:
    class Wants(nn.Module):
        takes_present = True

        def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor:
            assert present is not None
            return images[:, :, None] * present[:, :, None, None, None]

    images = torch.ones(1, 2, 5, 5)
    present = torch.tensor([[True, False]])
    whole = Padded(Merged(Wants(), 2, 1, "mean-logits"), (4, 4))
    assert whole.takes_present
    assert torch.equal(whole(images, present=present), torch.ones(1, 1, 5, 5))
    # With "zero" the segmenter is told all the same, and its mask of zeros counts.
    assert torch.equal(
        Merged(Wants(), 2, 1, "mean-logits", "zero")(images, present), torch.full((1, 1, 5, 5), 0.5)
    )
    assert not Padded(nn.Identity(), (4, 4)).takes_present


def _three_d(in_channels: int, classes: int, shape: tuple[int, int, int]) -> EncoderDecoder:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(in_channels, 3, 3, padding=1)

        def forward(self, volumes: torch.Tensor) -> tuple[torch.Tensor, ...]:
            assert tuple(volumes.shape[2:]) == shape
            return (self.conv(volumes),)

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, classes, 1)

        def forward(self, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
            out: torch.Tensor = self.conv(maps[0])
            return out

    return EncoderDecoder(Encoder(), Decoder(), (3,))


@pytest.mark.parametrize("fusion", ["early", "hybrid", "late"])
def test_a_method_of_volumes_runs_under_every_fusion(fusion: str) -> None:
    method = Method(
        "deep", "nobody", build_network=_three_d, dims=3, takes_shape=True, size_multiple=(2, 8, 8)
    )
    config = Config("smoke", volume=VolumeSettings(mode="whole", shape=(3, 20, 24)))
    network = build_model(method, mock_task(2, 3), declared(fusion), config)
    volumes = torch.randn(2, 2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    assert network(volumes).shape == (2, 3, 3, 20, 24)


def test_padding_of_a_volume_repeats_its_edge_and_is_cropped_off() -> None:
    volumes = torch.randn(1, 2, 3, 10, 7, generator=torch.Generator().manual_seed(0))
    seen = []

    class Look(nn.Module):
        def forward(self, padded: torch.Tensor) -> torch.Tensor:
            seen.append(padded)
            return padded * 2

    assert torch.equal(Padded(Look(), (2, 4, 4))(volumes), volumes * 2)
    assert seen[0].shape == (1, 2, 4, 12, 8)
    assert torch.equal(seen[0][:, :, 3, 1:11, :7], volumes[:, :, 2])  # The last slice once more.


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"dims": 4}, "dims=4"),
        ({"size_multiple": (1, 2)}, "size_multiple"),
    ],
)
def test_what_is_wrong_with_dims_is_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(UsbenchError, match=named):
        Method("deep", "nobody", build_network=_three_d, **wrong)  # type: ignore[arg-type]


def test_a_builder_of_slices_is_told_the_size_that_they_are_padded_to() -> None:
    asked = []

    def build(in_channels: int, classes: int, shape: tuple[int, int]) -> EncoderDecoder:
        asked.append(shape)
        return small(in_channels, classes)

    small = get_method("unet-classic")[0].build_network
    assert small is not None
    method = Method("flat", "nobody", build_network=build, takes_shape=True, size_multiple=16)
    config = Config("smoke", data=DataSettings(size=50))
    build_model(method, mock_task(2, 3), declared("early"), config)
    assert asked == [(64, 64)]


def test_the_mean_of_maps_is_over_modalities_map_by_map() -> None:
    # Two modalities with two maps each: (1, 2) and (5, 8).
    maps = torch.tensor([1.0, 2.0, 5.0, 8.0]).view(1, 4, 1, 1)
    assert _Mean(2)(maps).flatten().tolist() == [3.0, 5.0]
