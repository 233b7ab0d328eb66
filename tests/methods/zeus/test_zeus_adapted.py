"""Zeus with LoRA in its image encoder: the encoder is part of the network, and nothing else of it changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit.tiny_models import parts
from torch import Tensor, nn

from usbench.contracts.settings import TrainSettings
from usbench.methods.zeus.frozen import features
from usbench.methods.zeus.model import METHOD, Zeus, build
from usbench.methods.zeus.parts import PARAMETERS, frozen_parameters
from usbench.methods.zeus.vision import SamTower
from usbench.runs.frozen import views_wanted
from usbench.testing import MethodTests, mock_task

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {**METHOD.settings, "size": 32, "instruction": "none"}


@pytest.mark.slow
class TestAdaptedZeus(MethodTests):
    method = METHOD
    settings = {"method.instruction": "none", "method.size": 32, "method.encoder_lora": 2}  # noqa: RUF012
    modalities = (2,)
    overfit_steps = 150

    def call(self, network: nn.Module, images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits


def images(side: int = 32) -> Tensor:
    return torch.randn(2, 2, side, side, generator=torch.Generator().manual_seed(0))


def adapted(fusion: str = "hybrid", rank: int = 2) -> Any:
    torch.manual_seed(0)
    return build(mock_task(2, 3), fusion, **{**SETTINGS, "encoder_lora": rank})


@pytest.mark.parametrize("fusion", ["hybrid", "late"])
def test_at_the_start_it_is_the_frozen_encoders_zeus(fusion: str) -> None:
    """LoRA starts at zero: the same masks as from the rows that the frozen encoder makes."""
    network = adapted(fusion).eval()
    rows = SamTower(parts(size=32), CPU)(images().flatten(0, 1)).unflatten(0, (2, 2))
    with torch.no_grad():
        torch.testing.assert_close(network(images()), network(images(), embedding=rows), rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        assert not network(images()).requires_grad


def test_lora_alone_trains_in_the_encoder() -> None:
    network = adapted().train()
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(2):  # the first step moves b, which is zero at the start, and only then a gets a gradient
        optimizer.zero_grad()
        network(images()).square().mean().backward()
        optimizer.step()
    changed = {
        name for name, value in network.encoder.state_dict().items() if not torch.equal(value, before[name])
    }
    adapters = {name for name in before if "lora_" in name}
    assert changed == adapters
    # Two matrices for each of two layers in the attention of ten blocks; the first stage has convolutions.
    assert len(adapters) == 2 * 2 * (2 + 6 + 2)
    widths = [128] * 2 + [160] * 6 + [320] * 2
    # From w to 3 w numbers (queries, keys, values), and from w to w.
    count = sum(2 * (w + 3 * w) + 2 * (w + w) for w in widths)
    assert sum(p.numel() for p in network.encoder.parameters() if p.requires_grad) == count
    with torch.no_grad():
        rows = SamTower(parts(size=32), CPU)(images().flatten(0, 1)).unflatten(0, (2, 2))
        assert not torch.allclose(network(images()), network(images(), embedding=rows), atol=1e-3)


def test_an_absent_modality_has_no_say() -> None:
    network = adapted().eval()
    present = torch.tensor([[True, False], [True, True]])
    other = images()
    other[0, 1] = 3.0
    with torch.no_grad():
        torch.testing.assert_close(network(images(), present=present), network(other, present=present))


def test_nothing_of_a_slice_is_stored_and_slices_are_augmented_in_every_batch() -> None:
    task = mock_task(2, 3)
    train = TrainSettings(augment="light", views=4)
    frozen = features(task, CPU, **SETTINGS)
    assert [one.name for one in frozen] == ["embedding"]
    assert views_wanted(frozen, train) == 4
    words = {**SETTINGS, "instruction": "fixed", "per": "modality", "encoder_lora": 2}
    found = features(task, CPU, **words)
    assert [one.name for one in found] == ["instruction"]
    assert views_wanted(found, train) == 0
    assert features(task, CPU, **{**SETTINGS, "encoder_lora": 2}) == []


def test_the_encoder_counts_in_the_network_and_not_beside_it() -> None:
    words = {**SETTINGS, "encoder_lora": 2}
    assert frozen_parameters(SETTINGS) == PARAMETERS["litemedsam"]
    assert frozen_parameters(words) == 0
    held = sum(p.numel() for n, p in adapted().encoder.named_parameters() if "lora_" not in n)
    assert held == PARAMETERS["litemedsam"]
    # The language model looks through an encoder without LoRA, which is then loaded beside the network.
    looks = {**words, "instruction": "text", "per": "case"}
    assert frozen_parameters(looks) == sum(PARAMETERS[one] for one in ("litemedsam", "smollm2", "minilm"))


def test_another_seed_draws_another_start() -> None:
    first: Zeus = adapted()
    torch.manual_seed(1)
    second = build(mock_task(2, 3), "hybrid", **{**SETTINGS, "encoder_lora": 2})
    names = [n for n, _ in first.named_parameters() if "lora_A" in n]
    assert names
    for name in names:
        assert not torch.equal(first.get_parameter(name), second.get_parameter(name))
