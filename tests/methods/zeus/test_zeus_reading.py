"""Zeus' embeddings of prompts that share an image, against transformers' own reading of each alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kit.tiny_models import LLM_WIDTH as WIDTH
from kit.tiny_models import byte_tokenizer, tiny_llama, tiny_mistral
from torch import Tensor

from usbench.methods.zeus.language_model import LanguageModel, Prompt, load_language_model
from usbench.runtime.torchvision_cpu import make_importable

make_importable()

ORGANS = ("liver", "right kidney", "left kidney", "spleen")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("reading") / "tiny"
    tiny_llama().save_pretrained(path)
    byte_tokenizer("<s>", "</s>").save_pretrained(path)
    return path


@pytest.fixture
def tiny(folder: Path) -> LanguageModel:
    return load_language_model(folder, "tiny")


def images(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(n, WIDTH, generator=generator).requires_grad_() for n in lengths]


def asked(tokens: list[Tensor], organs: tuple[str, ...] = ORGANS) -> list[Prompt]:
    return [("###Doctor:", one, f" the {organ} image ###Assistant:") for one in tokens for organ in organs]


def alone(model: LanguageModel, prompt: Prompt) -> Tensor:
    """The state of a prompt's last token, by a plain call of the model on this prompt."""
    before, tokens, after = prompt
    assert tokens is not None
    table, tokenizer = model.model.get_input_embeddings(), byte_tokenizer("<s>", "</s>")
    ids = [
        tokenizer(text, add_special_tokens=start).input_ids
        for text, start in ((before, True), (after, False))
    ]
    words = [table(torch.tensor(one)) for one in ids]
    row = torch.cat((words[0], tokens.to(words[0].dtype), words[1]))
    state: Tensor = model.model.model(inputs_embeds=row[None]).last_hidden_state[0, -1].float()
    return state


def weighed(embeddings: Tensor) -> Tensor:
    """A number in which every channel of every embedding counts otherwise."""
    generator = torch.Generator().manual_seed(6)
    return (embeddings * torch.randn(embeddings.shape, generator=generator)).sum()


def compared(model: LanguageModel, tokens: list[Tensor], prompts: list[Prompt], batch: int = 32) -> None:
    ours = model.embed(prompts, batch)
    expected = torch.stack([alone(model, prompt) for prompt in prompts])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    for one, found, wanted in zip(
        tokens,
        torch.autograd.grad(weighed(ours), tokens),
        torch.autograd.grad(weighed(expected), tokens),
        strict=True,
    ):
        assert wanted.abs().sum() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4, msg=f"{len(one)} tokens")


@pytest.mark.parametrize(
    ("lengths", "batch"), [((3, 3, 3), 32), ((1,), 32), ((1, 7, 2), 32), ((3, 3, 3), 6), ((2, 2), 3)]
)
def test_states_and_gradients_are_those_of_each_prompt_alone(
    tiny: LanguageModel, lengths: tuple[int, ...], batch: int
) -> None:
    tokens = images(*lengths)
    compared(tiny, tokens, asked(tokens), batch)


def test_one_class_is_read_as_it_was_and_groups_may_differ_in_size(tiny: LanguageModel) -> None:
    tokens = images(2, 2, 4)
    compared(tiny, tokens, asked(tokens, ("liver",)))
    mixed = asked(tokens[:1]) + asked(tokens[1:2], ("spleen",)) + asked(tokens[2:], ORGANS[:2])
    compared(tiny, tokens, mixed)
    compared(tiny, tokens, mixed[::-1])


def test_equal_images_keep_gradients_of_their_own(tiny: LanguageModel) -> None:
    first, second = images(3, 3)
    with torch.no_grad():
        second.copy_(first)
    compared(tiny, [first, second], asked([first, second]))


def test_what_classes_share_is_read_once(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    forward = tiny.model.model.forward

    def spied(*args: Any, **words: Any) -> Any:
        seen.append(tuple(words["inputs_embeds"].shape[:2]))
        return forward(*args, **words)

    monkeypatch.setattr(tiny.model.model, "forward", spied)
    tokens = images(20, 20)
    tiny.embed(asked(tokens))
    # By bytes: "<s>###Doctor:", 20 of the image and " the "; behind it "right kidney image ###Assistant:".
    assert seen == [(2, 1 + 10 + 20 + 5), (8, len("right kidney image ###Assistant:"))]


def test_lora_learns_as_if_each_prompt_were_read_alone(folder: Path) -> None:
    model = load_language_model(folder, "adapted")
    lora = model.add_lora(2)
    generator = torch.Generator().manual_seed(9)
    lora.load_state_dict(
        {k: 0.3 * torch.randn(v.shape, generator=generator) for k, v in lora.state_dict().items()}
    )
    prompts = asked(images(3, 5))
    weights = list(lora.parameters())
    ours = torch.autograd.grad(weighed(model.embed(prompts)), weights)
    wanted = torch.autograd.grad(weighed(torch.stack([alone(model, one) for one in prompts])), weights)
    for found, expected in zip(ours, wanted, strict=True):
        assert expected.abs().sum() > 0
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_16_bit_are_as_near_as_each_prompt_alone_in_16_bit(folder: Path) -> None:
    low, full = (load_language_model(folder, "tiny", precision) for precision in ("bf16", "32"))
    tokens = images(3, 3)
    prompts = asked(tokens)
    states = [low.embed(prompts), torch.stack([alone(low, one) for one in prompts]), full.embed(prompts)]
    assert [one.dtype for one in states] == [torch.float32] * 3
    gradients = [torch.stack(torch.autograd.grad(weighed(one), tokens)) for one in states]
    for ours, theirs, exact in (states, gradients):
        assert 0 < (ours - exact).norm() < 1.5 * (theirs - exact).norm()


@pytest.mark.parametrize("window", [24, 60, 400])
def test_models_that_look_back_a_window_alone(tmp_path: Path, window: int) -> None:
    tiny_mistral(window).save_pretrained(tmp_path)
    byte_tokenizer("<s>", "</s>").save_pretrained(tmp_path)
    model = load_language_model(tmp_path, "mistral")
    tokens = images(3, 3)
    prompts = asked(tokens)
    compared(model, tokens, prompts)
    # All prompts fit into 60 tokens, with their answers they do not.
    assert model.generate(prompts, 24) == [model.generate([one], 24, batch=1)[0] for one in prompts]
