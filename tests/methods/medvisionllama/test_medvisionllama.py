"""The network: its parts by hand, its counts beside the printed ones, and the three fusions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kit.tiny_models import llama_folder
from torch import nn

from usbench import UsbenchError
from usbench.checks.subject import mock_task
from usbench.config import Config
from usbench.contracts.settings import VolumeSettings
from usbench.fusions.build import build_model
from usbench.fusions.registry import declared
from usbench.methods.cost import count_parameters
from usbench.methods.medvisionllama.loading import LLAMA, SMOLLM2
from usbench.methods.medvisionllama.mappers import Mapper
from usbench.methods.medvisionllama.model import METHOD, Refined, build_network
from usbench.methods.medvisionllama.options import resolve
from usbench.methods.medvisionllama.vit import Block, Head, Patches

SMALL = {"width": 32, "depth": 2, "heads": 4, "patch": (2, 4, 4), "llm": "random"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("llama") / "tiny"
    llama_folder(made)
    return made


def settings(**changes: Any) -> dict[str, Any]:
    return {**METHOD.settings, **changes}


def network(channels: int = 1, classes: int = 1, shape: Any = (6, 16, 16), **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_network(channels, classes, shape=shape, **settings(**{**SMALL, **changes}))


def counts(shape: Any = (128, 128, 128), **changes: Any) -> tuple[int, int]:
    """Parameters, frozen ones among them, and those that are trained, without memory for any."""
    with torch.device("meta"):
        made = build_network(1, 1, shape=shape, **settings(**changes))
    found = count_parameters(made)
    return found.all + METHOD.frozen_parameters(settings(**changes)), found.trainable


def test_counts_beside_the_published_ones() -> None:
    baseline = counts(llm="none")
    # 1,161,280 of the published code: it has the head twice, the second for pictures alone.
    head = 64 * 512 + 512
    assert baseline == (1_128_000, 1_128_000)
    assert baseline[0] + head == 1_161_280
    # The printed 218.12 million not trained with linear mappers are the block alone.
    linear = counts(llm="llama", mapper_base="trained", rank=0, lora_rank=0)
    assert linear[0] - linear[1] == LLAMA.parameters == 218_116_096
    assert linear[1] == 1_128_000 + 2 * 64 * 4096
    usual = counts(llm="llama")
    assert usual[1] == 1_128_000 + 2 * 8 * (64 + 4096) + 8 * (4096 + 4096) + 8 * (4096 + 1024)
    assert usual[0] == usual[1] + 218_116_096 + 2 * 64 * 4096


@pytest.mark.parametrize("rank", [2, 4, 16])
def test_ranks_change_counts_by_the_formula(rank: int) -> None:
    plain = counts(llm="smollm2", rank=1, lora_rank=0)[1]
    assert counts(llm="smollm2", rank=rank, lora_rank=0)[1] - plain == (rank - 1) * 2 * (64 + 576)
    with_lora = counts(llm="smollm2", rank=1, lora_rank=rank)[1]
    assert with_lora - plain == rank * (2 * 576 + 576 + 192)


@pytest.mark.parametrize("llm", ["smollm2", "llama"])
def test_controls_have_as_many_parameters_and_train_them_all(llm: str) -> None:
    wanted = counts(llm=llm)[0]
    for control in ("vit-depth", "vit-mlp"):
        found, trained = counts(llm=llm, control=control)
        assert found == trained
        assert abs(found / wanted - 1) < 0.01, control
    with torch.device("meta"):
        deep = build_network(1, 1, shape=(128, 128, 128), **settings(llm=llm, control="vit-depth"))
    assert deep.channels[0] > 64
    assert len([m for m in deep.modules() if isinstance(m, Block)]) > 16


def test_a_block_is_the_encoder_layer_of_torch() -> None:
    torch.manual_seed(0)
    mine = Block(32, 4, 0.0).eval()
    theirs = nn.TransformerEncoderLayer(
        32, 4, 128, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    names = {"attention.": "self_attn.", "mlp.0.": "linear1.", "mlp.2.": "linear2."}
    state = mine.state_dict()
    for own, other in names.items():
        state = {key.replace(own, other) if key.startswith(own) else key: v for key, v in state.items()}
    theirs.load_state_dict(state)
    tokens = torch.randn(2, 9, 32)
    torch.testing.assert_close(mine(tokens), theirs(tokens), rtol=1e-5, atol=1e-5)


def test_patches_are_a_convolution_and_heads_put_voxels_back() -> None:
    torch.manual_seed(0)
    patches = Patches(2, 5, (4, 8, 8), (2, 4, 4))
    convolution = nn.Conv3d(2, 5, (2, 4, 4), stride=(2, 4, 4))
    convolution.weight.data = patches.embed.weight.data.reshape(5, 2, 2, 4, 4)
    convolution.bias = patches.embed.bias
    volumes = torch.randn(3, 2, 4, 8, 8)
    wanted = convolution(volumes).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patches(volumes), wanted, rtol=1e-5, atol=1e-5)
    # Embedded without loss and brought back: every voxel where it was, padded ones cut off.
    whole = Patches(1, 32, (3, 7, 8), (2, 4, 4))
    head = Head(32, 1, (3, 7, 8), (2, 4, 4))
    for layer in (whole.embed, head.out):
        layer.weight.data, layer.bias.data = torch.eye(32), torch.zeros(32)
    volume = torch.randn(2, 1, 3, 7, 8)
    assert torch.equal(head(whole(volume)), volume)


def test_mappers_start_as_their_matrix_and_train_what_they_say() -> None:
    tokens = torch.randn(2, 5, 8)
    for base, trained in (("frozen-random", 3 * (8 + 12)), ("trained", 3 * (8 + 12) + 8 * 12)):
        torch.manual_seed(0)
        made = Mapper(8, 12, 3, base)
        weight = next(p for name, p in made.named_parameters() if "lora" not in name)
        assert torch.equal(made(tokens), tokens @ weight.T)
        assert count_parameters(made).trainable == trained
        made(tokens).square().sum().backward()
        assert (weight.grad is not None) == (base == "trained")


def test_residual_and_place(folder: Path) -> None:
    own = {
        "llm": "llama",
        "llm_path": str(folder),
        **{k: SMALL[k] for k in ("width", "depth", "heads", "patch")},
    }
    tokens = torch.randn(2, 5, 32)
    for residual in ("outer", "inner"):
        torch.manual_seed(0)
        made = Refined(resolve(settings(**own, residual=residual))).eval()
        with torch.no_grad():
            wide = made.there(tokens)
            read = made.block(wide)
            wanted = made.back(read + wide) if residual == "inner" else tokens + made.back(read)
            assert torch.equal(made(tokens), wanted)
    after = network(**own)
    before = network(**own, place="after-embedding")
    assert isinstance(after.decoder.refine, Refined)
    assert isinstance(after.encoder.refine, nn.Identity)
    assert isinstance(before.encoder.refine, Refined)
    assert isinstance(before.decoder.refine, nn.Identity)
    assert count_parameters(after) == count_parameters(before)
    # Without what the block adds, either is the plain transformer.
    plain, volumes = network(llm="none").eval(), torch.randn(1, 1, 6, 16, 16)
    for made in (after.eval(), before.eval()):
        made.load_state_dict(plain.state_dict(), strict=False)
        assert not torch.allclose(made(volumes), plain(volumes))
        back = next(m.back for m in made.modules() if isinstance(m, Refined))
        for parameter in back.parameters():
            nn.init.zeros_(parameter)
        torch.testing.assert_close(made(volumes), plain(volumes))


@pytest.mark.parametrize(
    "changes", [{}, {"place": "after-embedding"}, {"llm": "none"}, {"control": "vit-mlp"}]
)
@pytest.mark.parametrize("fusion", ["early", "hybrid", "late"])
def test_every_fusion_trains_and_its_state_makes_a_second_network(
    fusion: str, changes: dict[str, Any]
) -> None:
    config = Config(
        "smoke",
        method=settings(**{**SMALL, "control": "none", **changes}),
        volume=VolumeSettings(mode="whole", shape=(5, 14, 16)),
    )

    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return build_model(METHOD, mock_task(2, 3), declared(fusion), config)

    made, volumes = make(0), torch.randn(2, 2, 5, 14, 16)
    for _ in range(2):
        made.zero_grad()
        made(volumes).square().mean().backward()
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    assert all(p.grad is not None and p.grad.ne(0).any() for p in made.parameters() if p.requires_grad)
    blocks = (
        0 if {"llm", "control"} & set(changes) else {"early": 1, "late": 2}.get(fusion, 1 + bool(changes))
    )
    assert len([m for m in made.modules() if isinstance(m, Refined)]) == blocks
    other = make(1)
    other.load_state_dict(made.state_dict())
    with torch.no_grad():
        logits = made.eval()(volumes)
        assert logits.shape == (2, 3, 5, 14, 16)
        assert torch.equal(other.eval()(volumes), logits)
    within = [name.partition(".block.")[2] for name in made.state_dict() if ".block." in name]
    assert all(name == "frozen_digest" or name.startswith("lora.") for name in within)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"llm": "gpt"}, "unknown value of method.llm 'gpt'"),
        ({"place": "before"}, "unknown value of method.place"),
        ({"width": 30}, "method.width=30 is no multiple of method.heads=4"),
        ({"rank": 0}, "method.rank=0 leaves nothing of the mappers to train"),
        ({"rank": 300}, "method.rank=300: choose from 0 to 256"),
        ({"dropout": 1.0}, "method.dropout=1.0"),
        ({"patch": (4, 8)}, "method.patch=.*: write three numbers"),
        ({"patch": (0, 8, 8)}, "choose sides from 1 to 256"),
        ({"llm": "none", "control": "vit-mlp"}, "name the one that it is compared with"),
        ({"llm": "smollm2", "llm_path": "/x"}, "method.llm_path is not used with method.llm=smollm2"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsbenchError, match=said):
        resolve(settings(**changes))


def test_a_volume_of_another_size_is_refused() -> None:
    with pytest.raises(UsbenchError, match="built for volumes of 6x16x16 voxels and got 6x16x20"):
        network(llm="none")(torch.zeros(1, 1, 6, 16, 20))


def test_words_of_a_result(folder: Path) -> None:
    said = {
        (("llm", "none"),): ("none", "none", 0),
        (("llm", "smollm2"),): ("smollm2", "smollm2: Apache-2.0", SMOLLM2.parameters),
        (("llm", "random"),): ("random block", "none", SMOLLM2.parameters),
        (("llm", "shuffled"),): ("shuffled block", "smollm2: Apache-2.0", SMOLLM2.parameters),
        (("control", "vit-mlp"),): ("none", "none", 0),
        (("llm", "llama"),): (
            "llama (llama-3.1-8b)",
            "llama-3.1-8b: Llama 3.1 Community License",
            LLAMA.parameters,
        ),
        (("llm", "llama"), ("llm_path", str(folder))): (
            "llama (tiny)",
            "that of tiny, as its publisher states",
            sum((64 * 64 * 2, 64 * 32 * 2, 3 * 64 * 96, 3 * 64)),
        ),
    }
    for changes, wanted in said.items():
        own = settings(**dict(changes))
        assert (METHOD.weights(own), METHOD.licence(own), METHOD.frozen_parameters(own)) == wanted
