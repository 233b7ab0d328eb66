"""The frozen block, held against transformers' own layer, and what training may and may not change in it."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.tiny_models import LLM_WIDTH, llama_folder

from usbench import UsbenchError
from usbench.methods.medvisionllama.block import LanguageBlock
from usbench.methods.medvisionllama.loading import SMOLLM2, load_block

TOKENS = torch.randn(2, 7, LLM_WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("llama") / "tiny"
    return folder, llama_folder(folder)


def block(folder: Path, lora_rank: int = 0, precision: str = "32") -> LanguageBlock:
    torch.manual_seed(1)
    return LanguageBlock(*load_block("llama", str(folder), precision), lora_rank, precision).eval()


@torch.no_grad()
def by_transformers(model: Any, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """The model's own last layer and norm, in its plainest attention, turned by no angle."""
    layer = copy.deepcopy(model.model.layers[-1])
    layer.self_attn.config._attn_implementation = "eager"
    one = torch.ones(1, tokens.shape[1], 16)
    out = layer(tokens, attention_mask=mask, position_embeddings=(one, one * 0))
    normed: torch.Tensor = model.model.norm(out[0] if isinstance(out, tuple) else out)
    return normed


def test_it_is_the_last_layer_and_norm_of_transformers_without_turn_and_mask(llama: Any) -> None:
    folder, model = llama
    with torch.no_grad():
        found = block(folder)(TOKENS)
    torch.testing.assert_close(found, by_transformers(model, TOKENS), rtol=1e-5, atol=1e-5)
    causal = torch.full((7, 7), float("-inf")).triu(1)[None, None]
    assert not torch.allclose(found, by_transformers(model, TOKENS, causal), atol=1e-3)


def test_tokens_in_another_order_give_the_same_in_that_order(llama: Any) -> None:
    made, order = block(llama[0]), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    with torch.no_grad():
        torch.testing.assert_close(made(TOKENS[:, order]), made(TOKENS)[:, order], rtol=1e-5, atol=1e-5)


def test_lora_changes_nothing_at_the_start_and_alone_is_trained(llama: Any) -> None:
    plain, made = block(llama[0]), block(llama[0], lora_rank=3).train()
    with torch.no_grad():
        assert torch.equal(plain(TOKENS), made(TOKENS))
    # q_proj is 64 -> 64, v_proj 64 -> 32: two heads of 16.
    assert sum(p.numel() for p in made.parameters()) == 3 * (64 + 64) + 3 * (64 + 32)
    assert all(p.requires_grad for p in made.parameters())
    before = [tensor.clone() for tensor in made.frozen_tensors()]
    assert sum(tensor.numel() for tensor in before) == made.config.parameters
    optimizer = torch.optim.Adam(made.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        made(TOKENS).square().mean().backward()
        optimizer.step()
    assert all(tensor.grad is None for tensor in made.frozen_tensors())
    assert all(torch.equal(a, b) for a, b in zip(before, made.frozen_tensors(), strict=True))
    assert all(p.grad is not None and p.grad.ne(0).any() for p in made.parameters())
    with torch.no_grad():
        assert not torch.allclose(plain(TOKENS), made(TOKENS), atol=1e-3)


def test_gradients_pass_through_to_the_tokens(llama: Any) -> None:
    tokens = TOKENS.clone().requires_grad_()
    block(llama[0])(tokens)[0, 0].sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[0].ne(0).any(dim=1).all()  # All tokens are looked at, later ones too.
    assert not tokens.grad[1].any()


def test_frozen_weights_are_no_part_of_the_state_which_knows_their_digest(llama: Any, tmp_path: Path) -> None:
    made = block(llama[0], lora_rank=2)
    names = set(made.state_dict())
    assert names == {"frozen_digest", *(f"lora.{i}.{m}.weight" for i in (0, 1) for m in "ab")}
    for parameter in made.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    other = block(llama[0], lora_rank=2)
    other.load_state_dict(made.state_dict())
    with torch.no_grad():
        assert torch.equal(made(TOKENS), other(TOKENS))
        for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert torch.equal(copied(TOKENS), made(TOKENS))
            for parameter in copied.parameters():
                torch.nn.init.zeros_(parameter)
            assert not torch.equal(copied(TOKENS), made(TOKENS))  # Its LoRA is that of its own layers.
    elsewhere = LanguageBlock(*load_block("shuffled", str(llama[0])), 2)
    with pytest.raises(UsbenchError, match=r"other weights.*give method\.llm and method\.llm_path"):
        elsewhere.load_state_dict(made.state_dict())


def test_half_precision_is_near(llama: Any) -> None:
    half = block(llama[0], lora_rank=2, precision="bf16")
    assert {tensor.dtype for tensor in half.frozen_tensors()} == {torch.bfloat16}
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    with torch.no_grad():
        found, wanted = half(TOKENS), block(llama[0])(TOKENS)
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_a_random_block_has_the_start_of_its_model_and_is_the_same_in_every_process() -> None:
    config, frozen = load_block("random", "")
    assert config == SMOLLM2
    torch.manual_seed(5)
    again = load_block("random", "")[1]
    assert again.digest == frozen.digest
    code = (
        "from usbench.methods.medvisionllama.loading import load_block; "
        "print(load_block('random', '')[1].digest.hex())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == frozen.digest.hex()
    gate = frozen.layer["mlp.gate_proj.weight"]
    assert gate.shape == (1536, 576)
    assert abs(gate.std().item() * 24 - 1) < 0.01  # initializer_range of SmolLM2-135M is 1/24.
    assert abs(gate.mean().item()) < 1e-3
    assert torch.equal(frozen.norm["weight"], torch.ones(576))


def test_a_shuffled_block_has_the_same_numbers_elsewhere(llama: Any) -> None:
    (_, whole), (_, mixed) = load_block("llama", str(llama[0])), load_block("shuffled", str(llama[0]))
    for name, tensor in whole.layer.items():
        assert torch.equal(tensor.flatten().sort()[0], mixed.layer[name].flatten().sort()[0])
        assert not torch.equal(tensor, mixed.layer[name])
    assert load_block("shuffled", str(llama[0]))[1].digest == mixed.digest != whole.digest


def test_several_blocks_hold_their_frozen_weights_once(llama: Any) -> None:
    first, second = block(llama[0], lora_rank=2), block(llama[0], lora_rank=2)
    shared = zip(first.frozen_tensors(), second.frozen_tensors(), strict=True)
    assert all(one.data_ptr() == two.data_ptr() for one, two in shared)
    assert all(
        a.data_ptr() != b.data_ptr() for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
