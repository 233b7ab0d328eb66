"""MulModSeg: its head beside torch's convolutions, its count by hand, what it is told, and the controls."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines import unet
from usbench.errors import UsbenchError
from usbench.methods.mulmodseg import texts
from usbench.methods.mulmodseg.head import WRITTEN, Head, convolved
from usbench.methods.mulmodseg.model import METHOD, NETWORKS, MulModSeg, build
from usbench.methods.mulmodseg.texts import Texts, sentences
from usbench.methods.registry import modules_of, source_hash
from usbench.plugins.code_hash import source_files
from usbench.testing import mock_task

SMALL = {**METHOD.settings, "network": "unet-classic", "width": 2, "text": "random"}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(fusion: str, modalities: int = 2, classes: int = 2, **changes: Any) -> MulModSeg:
    torch.manual_seed(0)
    return build(mock_task(modalities, classes), fusion, **{**SMALL, **changes}).eval()


def test_the_head_by_hand() -> None:
    """D 16, C 512, E 384, as with a ResNet-34 and MiniLM: 153 numbers a class, 309,569 parameters."""
    assert WRITTEN == (8 * 8 + 8) + (8 * 8 + 8) + (8 + 1) == 153
    text, image, last, controller = 384 * 256 + 256, 2 * 512 + 512 * 256 + 256, 2 * 16 + 16 * 8 + 8, 513 * 153
    assert count(Head(16, 512, 384)) == text + image + last + controller == 309_569
    assert count(Head(16, 512, 512)) == 309_569 + 128 * 256


@pytest.mark.parametrize("fusion", METHOD.fusions)
def test_counts_beside_the_networks_own(fusion: str) -> None:
    """U-Net with a ResNet-34, three modalities, two classes: its last layer gives way to the head."""
    one, stem, last = 24_436_514, 64 * 49, 16 * 2 * 9 + 2
    encoder, scales = 21_284_672, (64, 64, 128, 256, 512)
    merges = sum(3 * c * c + c for c in scales)
    single = one - 2 * stem
    wanted = {
        "early": one - last + 309_569,
        "hybrid": single + 2 * (encoder - 2 * stem) + merges - last + 309_569,
        "late": 3 * (single - last + 309_569),
    }
    with torch.device("meta"):
        own = build(mock_task(3, 2), fusion, **{**METHOD.settings, "pretrained": "none"})
        assert count(unet.build(3, 2).encoder) == encoder
    assert count(own) == wanted[fusion]


def test_convolutions_are_those_of_torch() -> None:
    maps, numbers = drawn(2, 8, 5, 7), drawn(2, 3, WRITTEN, seed=1)
    found = convolved(maps, numbers)
    for b in range(2):
        for k in range(3):
            n = numbers[b, k]
            x = functional.conv2d(maps[b : b + 1], n[:64].reshape(8, 8, 1, 1), n[136:144]).relu()
            x = functional.conv2d(x, n[64:128].reshape(8, 8, 1, 1), n[144:152]).relu()
            x = functional.conv2d(x, n[128:136].reshape(1, 8, 1, 1), n[152:])
            torch.testing.assert_close(found[b, k], x[0, 0], rtol=1e-4, atol=1e-4)


def test_the_head_follows_the_paper() -> None:
    """Text through a linear layer and ReLU, the deepest map pooled, both into the controller, image first."""
    head = Head(16, 32, 6)
    last, deepest, told = drawn(1, 16, 4, 4), drawn(1, 32, 2, 2), drawn(1, 2, 6)
    group, last_layer = head.pooled[0], head.pooled[3]
    assert isinstance(group, nn.GroupNorm)
    assert isinstance(last_layer, nn.Conv2d)
    assert group.num_groups == 16
    normed = deepest.reshape(16, -1)
    normed = (normed - normed.mean(1, keepdim=True)) / (
        normed.var(1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    seen = last_layer.weight[:, :, 0, 0] @ normed.reshape(32, 4).relu().mean(1) + last_layer.bias
    said = functional.linear(told[0], head.text.weight, head.text.bias).relu()
    numbers = torch.stack([head.controller(torch.cat([seen, one])) for one in said])
    torch.testing.assert_close(head(last, deepest, told), convolved(head.narrow(last), numbers[None]))


def test_texts_of_a_task() -> None:
    assert sentences(mock_task(2, 2)) == [
        ["A scan 0 of a organ 0.", "A scan 0 of a organ 1."],
        ["A scan 1 of a organ 0.", "A scan 1 of a organ 1."],
    ]
    assert sentences(mock_task(1, 3), shuffled=True) == [
        ["A scan 0 of a organ 1.", "A scan 0 of a organ 2.", "A scan 0 of a organ 0."]
    ]


def test_a_slice_is_told_of_the_modalities_that_are_there() -> None:
    """The mean of their embeddings, by hand."""
    told = Texts(mock_task(3, 2), "random", "minilm")
    present = torch.tensor([[True, False, True], [False, True, False]])
    wanted = torch.stack([(told.vectors[0] + told.vectors[2]) / 2, told.vectors[1]])
    torch.testing.assert_close(told(present, 2), wanted)
    torch.testing.assert_close(told(None, 2)[1], told.vectors.mean(0))


@pytest.mark.parametrize("fusion", ["early", "hybrid"])
def test_present_changes_the_texts_alone(fusion: str) -> None:
    made, images = network(fusion), drawn(1, 2, 32, 32)
    first = torch.tensor([[True, False]])
    assert made.takes_present
    with torch.no_grad():
        without = made(images, present=first)
        assert not torch.allclose(without, made(images))
        made.texts.vectors[1] = 9.0
        torch.testing.assert_close(made(images, present=first), without)


def test_late_fusion_tells_each_network_of_its_own_modality() -> None:
    made, images = network("late"), drawn(1, 2, 32, 32)
    assert not made.takes_present
    with torch.no_grad():
        before = made(images)
        made.texts.vectors[1] = drawn(2, 384)
        after = made(images)
    assert before.shape == (1, 2, 2, 32, 32)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_controls() -> None:
    images = drawn(1, 2, 32, 32)
    one = network("early", text="fixed")
    with torch.no_grad():
        # The same text for every class: nothing tells them apart.
        torch.testing.assert_close(one(images)[:, 0], one(images)[:, 1])
        assert not torch.allclose(*network("early")(images)[0])
    assert len(torch.unique(one.texts.vectors.flatten(0, 1), dim=0)) == 1
    random = network("early").texts.vectors
    assert len(torch.unique(random.flatten(0, 1), dim=0)) == 4
    torch.testing.assert_close(random.norm(dim=-1), torch.ones(2, 2))
    torch.manual_seed(5)
    assert torch.equal(random, Texts(mock_task(2, 2), "random", "minilm").vectors)
    learned = network("early", text="learned")
    learned(images).sum().backward()
    gradient = learned.texts.vectors.grad
    assert gradient is not None
    assert gradient.abs().sum(-1).min() > 0
    assert "texts.vectors" not in dict(network("early").named_parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_carries_the_head(name: str) -> None:
    made = network("hybrid", network=name, width=4, encoder="resnet18", pretrained="none")
    with torch.no_grad():
        assert made(drawn(1, 2, 32, 64)).shape == (1, 2, 32, 64)


def test_a_network_knows_its_texts() -> None:
    made = network("early")
    state = made.state_dict()
    state["texts.frozen_digest"] = torch.arange(8, dtype=torch.uint8)
    with pytest.raises(UsbenchError, match=r"of other texts or of another text encoder \(0001020304050607, "):
        made.load_state_dict(state)


def test_what_a_result_says() -> None:
    def words(**changes: Any) -> tuple[str, str, int]:
        settings = {**METHOD.settings, **changes}
        return METHOD.weights(settings), METHOD.licence(settings), METHOD.frozen_parameters(settings)

    minilm = "minilm: Apache-2.0 (its package: MIT)"
    assert words(pretrained="none") == ("minilm texts", minilm, 22_713_216)
    assert words()[0] == "imagenet, minilm texts"
    # A network without an encoder of a library starts from nothing, whatever `pretrained` says.
    assert words(network="unet-classic", text="learned") == ("learned vectors", "none", 0)
    assert words(pretrained="none", text="shuffled")[0] == (
        "minilm texts shuffled (each class has that of the next, the last that of the first)"
    )


def test_its_digest_covers_the_networks_and_the_text_encoder(tmp_path: Path) -> None:
    files = {f"{path.parent.name}/{path.name}" for path in source_files(*modules_of(METHOD))}
    assert {"mulmodseg/head.py", "mulmodseg/texts.py", "zeus/instruction_encoder.py"} <= files
    assert {"baselines/unet.py", "baselines/smp.py", "baselines/ladder.py", "baselines/attunet.py"} <= files
    assert source_hash(METHOD) != source_hash(dataclasses.replace(METHOD, made_of=()))
    wrong = dataclasses.replace(METHOD, made_of=("usbench.nowhere",))
    with pytest.raises(UsbenchError, match=r"is made of 'usbench.nowhere', which cannot be imported"):
        source_hash(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "unett"}, "unknown value of method.network 'unett', did you mean 'unet'"),
        ({"text": "none"}, "unknown value of method.text 'none'"),
        ({"text_encoder": "medclip"}, "unknown value of method.text_encoder 'medclip'"),
        ({"text": "shuffled"}, "task 'mock' has one class, whose text cannot be another's"),
    ],
)
def test_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsbenchError, match=message):
        network("early", classes=1, **changes)


def test_real_texts() -> None:
    if not (Path(os.environ.get("USBENCH_WEIGHTS", "/nowhere")) / "minilm").is_dir():
        pytest.skip("USBENCH_WEIGHTS names no folder of `usbench weights fetch minilm`")
    torch.manual_seed(3)
    after = torch.rand(1)
    torch.manual_seed(3)
    told, mixed = (Texts(mock_task(2, 2), text, "minilm") for text in ("text", "shuffled"))
    assert torch.equal(torch.rand(1), after)
    assert told.vectors.shape == (2, 2, 384)
    torch.testing.assert_close(told.vectors.norm(dim=-1), torch.ones(2, 2))
    assert len(torch.unique(told.vectors.flatten(0, 1), dim=0)) == 4
    torch.testing.assert_close(mixed.vectors, told.vectors.flip(1))
    assert not torch.equal(mixed.frozen_digest, told.frozen_digest)
    assert texts._embedded.cache_info().currsize >= 2
    assert not list(told.parameters())
