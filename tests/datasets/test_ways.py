"""From what a network sees back to the prepared slices: MONAI's window, one tile, a ball in millimetres."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit.stacked import ball, stacked
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from usbench.config import Config
from usbench.contracts.settings import VolumeSettings
from usbench.datasets.ways import BySlices, ByVolumes, way_of
from usbench.methods.cost import gflops_of_slice
from usbench.runs.predict import predict

CPU = torch.device("cpu")


class Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Conv3d(2, 3, 3, padding=1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, volumes: Tensor) -> Tensor:
        self.seen.append(tuple(volumes.shape))
        logits: Tensor = self.layers(volumes)
        return logits


def slices(count: int = 6, side: int = 16) -> Tensor:
    return torch.from_numpy(stacked(count, side).images).float()


def test_which_way() -> None:
    assert isinstance(way_of(Config("smoke")), BySlices)
    assert way_of(Config("smoke", volume=VolumeSettings())) == ByVolumes(VolumeSettings())


def test_one_tile_is_the_plain_forward() -> None:
    network, images = Smooth(), slices()
    way = ByVolumes(VolumeSettings("patch", patch=(6, 16, 16)))
    with torch.no_grad():
        found = way.logits(network, images, 3.0)
        plain = network.layers(images.transpose(0, 1)[None])[0].transpose(0, 1)
    assert network.seen == [(1, 2, 6, 16, 16)]
    assert torch.allclose(found, plain, atol=1e-6)
    whole = ByVolumes(VolumeSettings("whole", shape=(6, 16, 16)))
    with torch.no_grad():
        assert torch.equal(whole.logits(network, images, 3.0), plain)


def test_tiles_are_put_together_as_monais_inferer_does() -> None:
    network, images = Smooth(), slices(9, 24)
    way = ByVolumes(VolumeSettings("patch", patch=(4, 10, 10), overlap=0.25))
    theirs = SlidingWindowInferer((4, 10, 10), 4, 0.25, mode="gaussian", padding_mode="replicate")
    with torch.no_grad():
        found = way.logits(network, images, 3.0)
        wanted = theirs(images.transpose(0, 1)[None], network)[0].transpose(0, 1)
    assert found.shape == (9, 3, 24, 24)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("mode", ["whole", "patch"])
def test_volumes_thinner_than_what_the_network_sees(count: int, mode: str) -> None:
    network = Smooth()
    settings = VolumeSettings(mode, shape=(8, 16, 16), patch=(8, 16, 16))  # type: ignore[arg-type]
    with torch.no_grad():
        found = ByVolumes(settings).logits(network, slices(count), 3.0)
    assert found.shape == (count, 3, 16, 16)
    assert network.seen == [(1, 2, 8, 16, 16)]


@pytest.mark.parametrize(
    "settings",
    [
        VolumeSettings("whole", shape=(32, 48, 48)),
        VolumeSettings("whole", shape=(13, 64, 64)),
        VolumeSettings("patch", patch=(8, 32, 32)),
        VolumeSettings("patch", patch=(16, 40, 40), spacing=2.0),
    ],
    ids=["whole, finer slices", "whole, as it is", "patch", "patch, spacing 2 mm"],
)
def test_a_ball_comes_back_where_it_lies(settings: VolumeSettings) -> None:
    """Tilted axes, slices of 7.7 mm: the mask is that of the native grid to half a voxel at its surface."""
    patient, depth = ball()

    class Shown(nn.Module):
        def forward(self, volumes: Tensor) -> Tensor:
            return volumes

    found = predict(Shown(), patient, 1, CPU, way=ByVolumes(settings)).volume
    assert found.shape == depth.shape
    truth = depth > 0
    wrong = (found == 1) != truth
    assert np.abs(depth[wrong]).max() < 7.7 / 2
    assert wrong.sum() < 0.04 * truth.sum()
    off = np.argwhere(found).mean(axis=0) - np.argwhere(truth).mean(axis=0)
    assert np.abs(off).max() < 0.1


def test_the_words_of_a_patient_go_to_every_patch() -> None:
    told: list[Tensor] = []

    class Told(nn.Module):
        def forward(self, volumes: Tensor, present: Tensor) -> Tensor:
            assert len(present) == len(volumes)
            told.append(present)
            return volumes[:, :1]

    images = slices(9, 24)
    present = torch.tensor([True, False]).expand(9, -1)
    for settings in (VolumeSettings("patch", patch=(4, 10, 10)), VolumeSettings("whole", shape=(4, 8, 8))):
        ByVolumes(settings).logits(Told(), images, 3.0, present=present)
    assert torch.equal(torch.cat(told), torch.tensor([[True, False]]).expand(len(torch.cat(told)), -1))


def test_gflops_of_a_slice_are_those_of_the_whole_patient() -> None:
    """Counted by torch over a whole prediction, and by the way from one input of the network."""
    from torch.utils.flop_counter import FlopCounterMode

    network, case = Smooth(), stacked(9, 24)
    for settings in (VolumeSettings("patch", patch=(4, 10, 10)), VolumeSettings("whole", shape=(4, 8, 8))):
        way = ByVolumes(settings)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            way.logits(network, slices(9, 24), 3.0)
        example = way.example(case, CPU)
        assert example.images.shape[2:] == settings.network_shape
        found = gflops_of_slice(network, *example)
        assert found == pytest.approx(counter.get_total_flops() / 1e9 / 9)
        assert way.nominal(2, 24).images.shape[2:] == settings.network_shape
    assert way.nominal(2, 24).per_slice == 1 / 4
