"""Zeus' words: prompts, and the frozen language model against transformers' own and against chains."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.tiny_models import LLM_WIDTH as WIDTH
from kit.tiny_models import byte_tokenizer, tiny_llama
from torch import Tensor

from usbench.errors import UsbenchError
from usbench.methods.zeus.language_model import LanguageModel, Prompt, load_language_model
from usbench.methods.zeus.prompts import clean_answer, clean_name, prompt_parts, question
from usbench.runtime.torchvision_cpu import make_importable
from usbench.tools import converted

make_importable()

QUESTION = (
    "Please analyze the given liver MRI-T2 image and give as much important information in such a "
    "MRI-T2 for segmenting liver as you can."
)


def chained(model: Any, tokenizer: Any, *chains: str) -> Any:
    """The model made to follow chains: after each character its next one, after "$" the end.

    The layers add nothing, so the last token alone decides, and the head looks for its successor.
    """
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        table, head = model.model.embed_tokens.weight, model.lm_head.weight
        table.normal_(generator=torch.Generator().manual_seed(1))
        head.zero_()
        for chain in chains:
            ids = [1 if c == "$" else tokenizer.convert_tokens_to_ids(c) for c in chain]
            for this, following in pairwise(ids):
                head[following] += table[this]
    return model


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer("<s>", "</s>")


Make = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Any) -> Make:
    def make(model: Any, name: str = "llm", **options: Any) -> Path:
        model.save_pretrained(tmp_path / name, **options)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def tiny(folder: Make) -> LanguageModel:
    return load_language_model(folder(tiny_llama()), "tiny")


def image(length: int, seed: int = 3) -> Tensor:
    return torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(seed))


def mixed_prompts() -> list[Prompt]:
    return [
        ("###Doctor:", image(3), " What is this? ###Assistant:"),
        ("A", None, "b"),
        ("", image(9, 4), ""),
        ("###Doctor:", image(1, 5), " A much longer question than the others are, so they are padded."),
    ]


def theirs(model: Any, tokenizer: Any, text: str, count: int) -> str:
    ids = tokenizer(text, return_tensors="pt").input_ids
    made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count)
    return str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))


def test_question_and_frame_are_the_papers() -> None:
    assert question("liver", "MRI-T2") == QUESTION
    assert prompt_parts("liver", "MRI-T2") == ("###Doctor:", f" {QUESTION} ###Assistant:")


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("liver ###Assistant: done", "liver Assistant done"),
        ("peripheral_zone", "peripheral zone"),
        ("a\nb\r\n\tc\x00\x1b[0m", "a b c 0m"),
        ("</s><|im_end|>\uff03\uff03", "/s im end"),
        ("  MRI-T1 (in-phase) ", "MRI-T1 (in-phase)"),
        ("Prostatadrüse né", "Prostatadrüse né"),
        ("", "none"),
        ("### \n", "none"),
        ("--", "none"),
    ],
)
def test_names_are_cleaned(name: str, clean: str) -> None:
    assert clean_name(name, "none") == clean
    before, after = prompt_parts(name, name)
    # The frame's own two markers are the only ones.
    assert (before + after).count("#") == 6
    assert "\n" not in after


def test_empty_names_have_words_of_their_own() -> None:
    assert "given target medical image" in question("", "#")


@pytest.mark.parametrize(
    ("answer", "text", "fallback"),
    [
        ("  The liver\n is  large. ### Doctor: and?", "The liver is large.", False),
        ("", "Q", True),
        (" \n\x00 ...", "Q", True),
        ("###Assistant: late", "Q", True),
        ("half a \ufffd sign\x07", "half a sign", False),
    ],
)
def test_answers_are_cleaned(answer: str, text: str, fallback: bool) -> None:
    assert clean_answer(answer, "Q") == (text, fallback)


def test_greedy_text_is_that_of_transformers(folder: Make, tokenizer: Any) -> None:
    model = tiny_llama()
    ours = load_language_model(folder(model), "tiny")
    texts = ["The liver", "A", "###Doctor: a question ###Assistant:", "prostate, MRI-T2"]
    expected = [theirs(model, tokenizer, text, 24) for text in texts]
    assert all(expected)
    assert len(set(expected)) == 4
    assert ours.generate([(t[:1], None, t[1:]) for t in texts], 24) == expected
    assert ours.width == WIDTH


def test_padding_and_batches_change_no_text_and_keep_the_order(tiny: LanguageModel) -> None:
    prompts = mixed_prompts()
    alone = [tiny.generate([prompt], 16)[0] for prompt in prompts]
    assert len(set(alone)) == 4
    assert tiny.generate(prompts, 16) == alone
    assert tiny.generate(prompts[::-1], 16, batch=3) == alone[::-1]
    assert tiny.generate([], 16) == []
    with torch.no_grad():
        one_by_one = torch.cat([tiny.embed([prompt]) for prompt in prompts])
        torch.testing.assert_close(tiny.embed(prompts, batch=4), one_by_one, rtol=1e-4, atol=1e-4)
    assert tiny.embed([]).shape == (0, WIDTH)


def sizes_read(model: LanguageModel) -> list[tuple[int, int]]:
    """Grows by rows and tokens of each pass that the model makes."""
    seen: list[tuple[int, int]] = []
    hook = lambda _, __, options: seen.append(tuple(options["inputs_embeds"].shape[:2]))  # noqa: E731
    model.model.register_forward_pre_hook(hook, with_kwargs=True)
    return seen


def test_what_prompts_begin_with_is_read_once(tiny: LanguageModel) -> None:
    # Eleven tokens: the beginning of text and "###Doctor:".
    prompts: list[Prompt] = [("###Doctor:", image(2, i), " why?" + "?" * i) for i in range(5)]
    alone = [tiny.generate([prompt], 6, batch=1)[0] for prompt in prompts]
    seen = sizes_read(tiny)
    assert tiny.generate(prompts, 6, batch=3) == alone
    assert [size for size in seen if size[1] > 1] == [(1, 11), (3, 9), (2, 11)]
    # One that is the whole of another leaves a token to be read.
    within: list[Prompt] = [("###Doctor:", None, "?"), ("###Doctor:", None, "")]
    assert tiny.generate(within, 6) == [tiny.generate([one], 6, batch=1)[0] for one in within]
    seen.clear()
    tiny.generate(prompts[:2], 6, batch=1)
    assert [size for size in seen if size[1] > 1] == [(1, 18), (1, 19)]


def test_a_text_that_has_ended_is_no_longer_read(folder: Make, tokenizer: Any) -> None:
    ours = load_language_model(folder(chained(tiny_llama(), tokenizer, "!hi$", "xyx", "?a###")), "chain")
    seen = sizes_read(ours)
    assert ours.generate([("say", None, "!"), ("w", None, "x"), ("", None, "?")], 7) == ["hi", "yxyxyxy", "a"]
    assert [rows for rows, _ in seen] == [3, 3, 3, 2, 1, 1, 1]


def test_a_close_choice_is_made_alone(folder: Make, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what stands beside a text could decide it."""
    model = chained(tiny_llama(), tokenizer, "!hi$", "xyx")
    with torch.no_grad():  # "z" follows "x" as well as "y" does.
        model.lm_head.weight[tokenizer.convert_tokens_to_ids("z")] = model.lm_head.weight[
            tokenizer.convert_tokens_to_ids("y")
        ]
    ours = load_language_model(folder(model), "tied")
    seen = sizes_read(ours)
    assert ours.generate([("say", None, "!"), ("w", None, "x")], 3) == ["hi", "yxy"]
    assert ours.made_alone == 1
    assert [rows for rows, _ in seen] == [2, 1, 1, 1, 1, 1]
    monkeypatch.setattr("usbench.methods.zeus.language_model.CLOSE", 1e9)
    assert ours.generate([("say", None, "!"), ("w", None, "x")], 3) == ["hi", "yxy"]
    assert ours.made_alone == 3


def test_image_tokens_stand_between_the_texts(tiny: LanguageModel, tokenizer: Any) -> None:
    # Embeddings of words given as an image are those words.
    table = tiny.model.get_input_embeddings().weight.detach()
    word = table[tokenizer("liver", add_special_tokens=False).input_ids]
    assert tiny.generate([("The ", word, " is")], 16) == tiny.generate([("The liver is", None, "")], 16)
    assert tiny.generate([("The ", word.flip(0), " is")], 16) != tiny.generate([("The ", word, " is")], 16)


def test_embedding_is_the_last_hidden_state_of_transformers(tiny: LanguageModel, tokenizer: Any) -> None:
    ids = tokenizer("The liver is large.", return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = tiny.model(ids, output_hidden_states=True).hidden_states[-1][:, -1]
        torch.testing.assert_close(tiny.embed([("The liver", None, " is large.")]), hidden)


def test_gradients_reach_the_image_and_no_weight(tiny: LanguageModel) -> None:
    tokens = [prompt[1] for prompt in mixed_prompts() if prompt[1] is not None]
    for token in tokens:
        token.requires_grad_()
    prompts: list[Prompt] = [("a" * (i + 1), token, " end") for i, token in enumerate(tokens)]
    tiny.embed(prompts).square().sum().backward()
    for token in tokens:
        assert token.grad is not None
        assert torch.isfinite(token.grad).all()
        assert (token.grad.abs().sum(1) > 0).all()
    assert not tiny.model.training
    for name, parameter in tiny.model.named_parameters():
        assert not parameter.requires_grad, name
        assert parameter.grad is None, name


def test_lora_is_the_only_thing_that_learns(folder: Make) -> None:
    path = folder(tiny_llama())
    state = torch.get_rng_state()
    plain, adapted = load_language_model(path, "plain"), load_language_model(path, "adapted")
    lora = adapted.add_lora(2)
    assert torch.equal(torch.get_rng_state(), state)
    # Two layers with q (64 -> 64) and v (64 -> 32), each with a and b of rank 2.
    assert sum(p.numel() for p in lora.parameters()) == 2 * 2 * (64 + 64 + 64 + 32)
    prompts = mixed_prompts()
    with torch.no_grad():
        assert torch.equal(adapted.embed(prompts), plain.embed(prompts))
    assert adapted.generate(prompts, 8) == plain.generate(prompts, 8)

    generator = torch.Generator().manual_seed(9)
    filled = {k: 0.3 * torch.randn(v.shape, generator=generator) for k, v in lora.state_dict().items()}
    lora.load_state_dict(filled)
    adapted.embed(prompts).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in lora.parameters())
    ours = {id(p) for p in lora.parameters()}
    for name, parameter in adapted.model.named_parameters():
        assert (id(parameter) in ours) == parameter.requires_grad, name
        assert (parameter.grad is None) == (id(parameter) not in ours), name

    # The definition: W + 2 B A.
    with torch.no_grad():
        before = plain.embed(prompts)
        pairs = iter([(filled[f"{i}.a.weight"], filled[f"{i}.b.weight"]) for i in range(4)])
        for layer in plain.model.model.layers:
            for part in (layer.self_attn.q_proj, layer.self_attn.v_proj):
                a, b = next(pairs)
                part.weight += 2 * b @ a
        torch.testing.assert_close(adapted.embed(prompts), plain.embed(prompts), rtol=1e-4, atol=1e-4)
        assert (plain.embed(prompts) - before).abs().max() > 0.1
    with pytest.raises(UsbenchError, match="has LoRA already"):
        adapted.add_lora(2)
    with pytest.raises(UsbenchError, match="rank 0"):
        plain.add_lora(0)


def test_where_a_text_ends(folder: Make, tokenizer: Any) -> None:
    model = chained(tiny_llama(48), tokenizer, ":Ok##", "!hi$", "xyx")
    ours = load_language_model(folder(model), "chain")
    prompts: list[Prompt] = [
        ("###Doctor:", image(2), " q ###Assistant:"),
        ("say", None, "!"),
        ("w", image(1), "x"),
    ]
    # Cut before "###"; the end of text; never an end, so 7 tokens.
    assert ours.generate(prompts, 7) == ["Ok", "hi", "yxyxyxy"]
    # 48 positions: the beginning and 43 letters leave room for 4; beside a short prompt too.
    long: Prompt = ("w" * 42, None, "x")
    assert ours.generate([long], 20) == ["yxyx"]
    assert ours.generate([long, ("say", None, "!"), ("w", None, "x")], 20) == ["yxyx", "hi", "yx" * 10]
    assert ours.generate([("w" * 46, None, "x")], 20) == [""]
    with_signs = load_language_model(folder(chained(tiny_llama(), tokenizer, "?#A#")), "signs")
    assert with_signs.generate([("why", None, "?")], 6) == ["#A#A#A"]
    with pytest.raises(UsbenchError, match="49 tokens is longer than the 48 positions"):
        ours.generate([("w" * 47, None, "x")], 20)
    with pytest.raises(UsbenchError, match="60 tokens is longer than the 48 positions"):
        ours.embed([("", image(59), "")])


def test_prompts_that_cannot_be(tiny: LanguageModel) -> None:
    with pytest.raises(UsbenchError, match=r"\(2, 5\).*\[T, 64\]"):
        tiny.generate([("a", torch.zeros(2, 5), "b")], 4)
    with pytest.raises(UsbenchError, match="max_tokens 0"):
        tiny.generate([("a", None, "b")], 0)
    tiny.free()
    with pytest.raises(UsbenchError, match="was freed"):
        tiny.generate([("a", None, "b")], 4)


def test_bf16_is_near_32(folder: Make) -> None:
    path = folder(tiny_llama())
    low = load_language_model(path, "low", precision="bf16")
    assert {p.dtype for p in low.model.parameters()} == {torch.bfloat16}
    tokens = image(3).requires_grad_()
    read = low.embed([("a", tokens, "b")])
    assert read.dtype == torch.float32
    read.sum().backward()
    assert tokens.grad is not None
    with torch.no_grad():
        full = load_language_model(path, "full").embed([("a", tokens, "b")])
    assert torch.cosine_similarity(read, full).item() > 0.99


def test_bin_and_shards_load_as_safetensors_do(folder: Make) -> None:
    model = tiny_llama()
    prompts = mixed_prompts()
    expected = load_language_model(folder(model), "whole").embed(prompts)
    sharded = folder(model, "sharded", max_shard_size="60KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert torch.equal(load_language_model(sharded, "sharded").embed(prompts), expected)
    old = folder(model, "old")
    (old / "model.safetensors").unlink()
    torch.save(model.state_dict(), old / "pytorch_model.bin")
    assert torch.equal(load_language_model(old, "old").embed(prompts), expected)


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_what_cannot_be_loaded(folder: Make, tmp_path: Path) -> None:
    path = folder(tiny_llama())
    with pytest.raises(UsbenchError, match=r"config\.json: there is no such file"):
        load_language_model(tmp_path / "nowhere", "llm")
    with pytest.raises(UsbenchError, match=r"none\.gguf: there is no such file"):
        load_language_model(tmp_path / "none.gguf", "llm")
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(UsbenchError, match=r"text\.gguf: cannot load"):
        load_language_model(tmp_path / "text.gguf", "llm")
    with pytest.raises(UsbenchError, match="did you mean 'bf16'"):
        load_language_model(path, "llm", precision="fb16")
    if not torch.cuda.is_available():
        with pytest.raises(UsbenchError, match="needs CUDA and the package bitsandbytes"):
            load_language_model(path, "llm", precision="4bit")

    from safetensors.torch import load_file, save_file

    weights = path / "model.safetensors"
    state = load_file(weights)
    state["model.norm.weight"] = torch.ones(WIDTH + 1)
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(
        UsbenchError, match=r"norm\.weight has shape \(65,\), the configuration wants \(64,\)"
    ):
        load_language_model(path, "llm")
    state.pop("model.norm.weight")
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(UsbenchError, match=r"1 missing, first model\.norm\.weight"):
        load_language_model(path, "llm")
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UsbenchError, match="cannot load language model llm"):
        load_language_model(path, "llm")
    weights.unlink()
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(UsbenchError, match="cannot load language model llm"):
        load_language_model(path, "llm")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def smollm2() -> Path:
    """The real file, where USBENCH_WEIGHTS names a folder that has it."""
    folder, name = Path(os.environ.get("USBENCH_WEIGHTS", "/nowhere")), "SmolLM2-135M-Instruct.Q4_1.gguf"
    path = next(folder.glob(f"**/{name}"), None)
    if path is None:
        pytest.skip(f"USBENCH_WEIGHTS names no folder with {name}")
    return path


@pytest.mark.slow
def test_texts_of_a_real_model_are_those_of_transformers_one_by_one(smollm2: Path) -> None:
    ours = load_language_model(smollm2, "smollm2")
    names = ["liver", "left kidney", "peripheral zone of the prostate", "spleen"]
    prompts: list[Prompt] = []
    for i, organ in enumerate(names):
        before, after = prompt_parts(organ, ("MRI T2-SPIR", "CT")[i % 2])
        tokens = torch.randn(1 + 3 * i, 576, generator=torch.Generator().manual_seed(i)) / 10
        prompts.append((before, tokens, after))
    expected = []
    for prompt in prompts:
        row = ours._row(prompt)[None]
        with torch.inference_mode():
            made = ours.model.generate(
                inputs_embeds=row,
                attention_mask=torch.ones(row.shape[:2]),
                do_sample=False,
                max_new_tokens=16,
            )
        expected.append(ours._decode(made[0]).split("###")[0])
    assert len(set(expected)) > 1
    assert ours.generate(prompts, 16) == expected


@pytest.mark.slow
def test_a_real_gguf_is_converted_once(smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    first = load_language_model(smollm2, "smollm2")
    made = converted(smollm2, "32") / "model.safetensors"
    stamp = made.stat().st_mtime_ns
    start = time.monotonic()
    again = load_language_model(smollm2, "smollm2")
    assert time.monotonic() - start < 15
    assert made.stat().st_mtime_ns == stamp
    assert (first.width, first.positions) == (576, 8192)
    direct = AutoModelForCausalLM.from_pretrained(smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32)
    words = AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name)
    before, after = prompt_parts("liver", "MRI-T2")
    expected = theirs(direct.eval(), words, before + after, 12)
    assert again.generate([(before, None, after)], 12) == [expected]
    assert "liver" in expected.lower()
