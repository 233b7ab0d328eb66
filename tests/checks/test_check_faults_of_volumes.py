"""Networks of volumes with one fault each: found, by the right check and by no other; sound ones pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.faulty_methods import verdicts
from kit.faulty_volumes import OF_VOLUMES, SoundOfVolumes, ToldOfVolumes, method_of_volumes
from torch import Tensor, nn

from usbench.checks.suite import CHECKS
from usbench.contracts.data import Task
from usbench.contracts.method import Method

pytestmark = pytest.mark.usefixtures("own_loss")


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(fault, marks=() if place % 5 == 1 else pytest.mark.slow, id=fault.__name__)
        for place, fault in enumerate(OF_VOLUMES)
    ],
)
def test_fault_is_found_by_its_check_alone(network: type[nn.Module], folder: Path) -> None:
    found = verdicts(method_of_volumes(network), folder)
    failures = {v.check: v.reason for v in found if v.state == "fail"}
    assert set(failures) == {OF_VOLUMES[network]}, failures


@pytest.mark.parametrize("network", [SoundOfVolumes, ToldOfVolumes], ids=lambda network: network.__name__)
def test_sound_network_passes_all(network: type[nn.Module], folder: Path) -> None:
    found = verdicts(method_of_volumes(network), folder)
    expected = dict.fromkeys([c.name for c in CHECKS], "pass") | {"frozen": "n/a"}
    expected |= {} if network is ToldOfVolumes else {"present": "n/a"}
    assert {v.check: v.state for v in found} == expected, [v for v in found if v.state == "fail"]


class OfOneSize(SoundOfVolumes):
    """Built for volumes of one size, and refuses others."""

    def __init__(self, modalities: int, classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__(modalities, classes)
        self.shape = shape

    def forward(self, images: Tensor) -> Tensor:
        assert tuple(images.shape[2:]) == self.shape
        logits: Tensor = super().forward(images)
        return logits


def build_of_one_size(task: Task, fusion: str, shape: tuple[int, int, int]) -> nn.Module:
    return OfOneSize(len(task.modalities), len(task.classes), shape)


@pytest.mark.parametrize("mode", ["whole", "patch"])
def test_a_network_of_one_size_passes_all(mode: str, folder: Path) -> None:
    presets = {"smoke": {"volume.mode": mode, "volume.patch": (4, 15, 15), "volume.shape": (5, 16, 15)}}
    method = Method(
        "of-one-size",
        "nobody",
        build_segmenter=build_of_one_size,
        fusions=("early",),
        dims=3,
        takes_shape=True,
        size_multiple=(2, 8, 8),
        presets=presets,
    )
    found = verdicts(method, folder)
    assert [v for v in found if v.state == "fail"] == []
