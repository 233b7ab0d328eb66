"""Zeus' frozen image and text towers, its projections and its aligner, against transformers' own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.tiny_models import bert_folder, shaken, tiny_blip2, under
from torch import Tensor, nn

from usbench.errors import UsbenchError
from usbench.methods.zeus.aligner import Aligner
from usbench.methods.zeus.instruction_encoder import TextEncoder, load_text_encoder
from usbench.methods.zeus.parts import PARAMETERS
from usbench.methods.zeus.projection import QFormerProjection, make_projection
from usbench.methods.zeus.vision_language import load_vision_encoder
from usbench.runtime.torchvision_cpu import make_importable

make_importable()

SWIN = {"image_size": 56, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}
TEXTS = [
    "the liver is large .",
    "large",
    "the the liver is is large . the liver is large . the liver is large . the liver",
]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def same_random_state() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


def normalised(images: Tensor) -> Tensor:
    return ((images - 0.5862785803) / 0.2795008897)[:, None].repeat(1, 3, 1, 1)


def saved_state(model: Any, folder: Path) -> dict[str, Tensor]:
    """What transformers writes of a model: for a Swin those are the names of MedCLIP's time."""
    from safetensors.torch import load_file

    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def medclip_vit(path: Path, model: Any) -> None:
    state = saved_state(model, path.parent / "swin")
    assert "encoder.layers.0.blocks.0.attention.self.query.weight" in state
    state["encoder.layers.0.blocks.0.attention.self.relative_position_index"] = torch.zeros(49, 49).long()
    state = under("vision_model.model.", state)
    state["vision_model.projection_head.weight"] = torch.zeros(512, 16)
    state["text_model.projection_head.weight"] = torch.zeros(512, 16)
    state["logit_scale"] = torch.tensor(2.0)
    torch.save(state, path)


def test_medclip_swin(tmp_path: Path) -> None:
    from transformers import SwinConfig, SwinModel

    model = shaken(SwinModel(SwinConfig(**SWIN)))
    path = tmp_path / "pytorch_model.bin"
    medclip_vit(path, model)
    images = noise(2, 56, 56)
    with torch.no_grad():
        expected = model(normalised(images)).pooler_output[:, None]
    with same_random_state():
        encoder = load_vision_encoder("medclip-vit", path, SWIN)
    features = encoder(images.requires_grad_())
    assert features.shape == (2, 1, encoder.width) == (2, 1, 16)
    assert not features.requires_grad
    assert not encoder.module.training
    assert not any(p.requires_grad for p in encoder.module.parameters())
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    # Resizing leaves what is even as it is.
    grey = encoder(torch.full((1, 100, 100), 0.3))
    torch.testing.assert_close(grey, encoder(torch.full((1, 56, 56), 0.3)), rtol=1e-4, atol=1e-4)

    # A configuration beside the weights counts, that of the text tower does not.
    (tmp_path / "config.json").write_text(json.dumps({**SWIN, "model_type": "swin"}))
    assert torch.equal(load_vision_encoder("medclip-vit", tmp_path)(images), features)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(
        UsbenchError, match=r"pytorch_model\.bin: the weight .* has shape \(.*\), the configuration wants"
    ):
        load_vision_encoder("medclip-vit", path)
    with pytest.raises(UsbenchError, match=r"left over, first|has shape \(\d+,\), the configuration wants"):
        load_vision_encoder("medclip-vit", path, {**SWIN, "depths": [1], "num_heads": [1]})


def test_medclip_resnet(tmp_path: Path) -> None:
    from torchvision.models.resnet import Bottleneck, ResNet

    torch.manual_seed(0)
    model = ResNet(Bottleneck, [1, 1, 1, 1]).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path / "pytorch_model.bin"
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("fc.")}
    torch.save(under("vision_model.model.", {**state, "fc.weight": torch.zeros(512, 2048)}), path)
    with same_random_state():
        encoder = load_vision_encoder("medclip-resnet", path, {"layers": [1, 1, 1, 1]})
    images = noise(2, 224, 224)
    model.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), model(normalised(images))[:, None], rtol=1e-4, atol=1e-4)
    assert encoder(images).shape == (2, 1, 2048)
    # The real depth is the default: the file is too small for it.
    with pytest.raises(UsbenchError, match=r"missing, first layer1\.1\.bn1"):
        load_vision_encoder("medclip-resnet", path)


@pytest.mark.parametrize(
    ("name", "parameters", "projection"),
    [("medclip-vit", 27_912_570, 768), ("medclip-resnet", 24_556_608, 2048)],
)
def test_medclip_at_its_real_size(name: str, parameters: int, projection: int, tmp_path: Path) -> None:
    from torchvision.models import resnet50
    from transformers import SwinConfig, SwinModel

    model = SwinModel(SwinConfig()) if name == "medclip-vit" else resnet50()
    # One stored number stands for a whole tensor, so that the file is small.
    state = {k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in model.state_dict().items()}
    path = tmp_path / "pytorch_model.bin"
    torch.save(under("vision_model.model.", state), path)
    encoder = load_vision_encoder(name, path)
    assert (encoder.width, encoder.size) == (projection, 224)
    # The paper's count has MedCLIP's projection to 512 with it.
    assert count(encoder.module) == parameters - projection * 512 == PARAMETERS[name]


@pytest.fixture
def blip2(tmp_path: Path) -> tuple[Any, Path]:
    from transformers import OPTConfig

    words = OPTConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=1, ffn_dim=16, num_attention_heads=2,
        max_position_embeddings=32, word_embed_proj_dim=24,
    )  # fmt: skip
    model = tiny_blip2(words)
    model.save_pretrained(tmp_path / "blip2", max_shard_size="30KB")
    return model, tmp_path / "blip2"


def test_blip2_from_image_to_tokens(blip2: tuple[Any, Path]) -> None:
    model, folder = blip2
    assert len(list(folder.glob("*.safetensors"))) > 1
    images = noise(3, 28, 28)
    mean, std = (
        torch.tensor([0.48145466, 0.4578275, 0.40821073]),
        torch.tensor([0.26862954, 0.26130258, 0.27577711]),
    )
    pixels = (images[:, None] - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    with torch.no_grad():
        vision = model.vision_model(pixels).last_hidden_state
        queries = model.query_tokens.expand(3, -1, -1)
        mixed = model.qformer(query_embeds=queries, encoder_hidden_states=vision).last_hidden_state
        expected = model.language_projection(mixed)
    with same_random_state():
        encoder = load_vision_encoder("blip2", folder)
    features = encoder(images)
    # Four patches and the class token.
    assert features.shape == (3, 5, 20)
    torch.testing.assert_close(features, vision, rtol=1e-4, atol=1e-4)

    sizes = {"queries": 4, "layers": 2, "hidden": 16, "heads": 2}
    projection = make_projection("qformer", 20, 24, seed=0, **sizes).eval()
    assert isinstance(projection, QFormerProjection)
    before = projection(features)
    projection.load_qformer(folder)
    projection.out.load_state_dict(model.language_projection.state_dict())
    tokens = projection(features)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)
    assert (tokens - before).abs().max() > 0.1
    tokens.square().sum().backward()
    assert all(p.grad is not None for p in projection.parameters())
    for change in ({"layers": 1}, {"queries": 5}, {"layers": 3}):
        other = make_projection("qformer", 20, 24, seed=0, **{**sizes, **change})
        assert isinstance(other, QFormerProjection)
        with pytest.raises(UsbenchError, match=r"left over|missing|query_tokens has shape"):
            other.load_qformer(folder)
    with pytest.raises(UsbenchError, match="1 missing, first query_tokens"):
        projection.load_qformer({})


def test_counts() -> None:
    assert count(make_projection("mlp", 768, 4096, seed=0)) == 3_740_416
    assert count(make_projection("linear", 768, 4096, seed=0)) == 3_149_824
    assert count(Aligner(512, 512)) == 393_984
    assert Aligner(512, 512)(noise(2, 3, 512)).shape == (2, 3, 256)


@pytest.mark.parametrize("part", [make_projection("mlp", 6, 10, seed=1), Aligner(6, 6, 10)])
def test_two_layers_by_hand(part: nn.Module) -> None:
    x = noise(2, 3, 6)
    w1, b1, w2, b2 = part.parameters()
    hidden = x @ w1.t() + b1
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(part(x), hidden @ w2.t() + b2)


@pytest.mark.parametrize("kind", ["linear", "mlp", "qformer"])
def test_projection_depends_on_its_seed_alone(kind: str) -> None:
    sizes = {"queries": 3, "layers": 2, "hidden": 8, "heads": 2} if kind == "qformer" else {}
    made = []
    for outer, seed in ((1, 5), (2, 5), (2, 6)):
        torch.manual_seed(outer)
        before = torch.get_rng_state()
        made.append(make_projection(kind, 12, 10, seed, **sizes).eval()(noise(2, 4, 12)))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(made[0], made[1])
    assert (made[0] - made[2]).abs().max() > 1e-3


def bert_ids(text: str) -> Tensor:
    words = ["the", "liver", "is", "large", "."]
    return torch.tensor([[2, *(5 + words.index(word) for word in text.split()), 3]])


def check_batches_and_cuts(encoder: TextEncoder, expected: list[Tensor], cut: list[bool]) -> None:
    embeddings = encoder(TEXTS)
    assert embeddings.shape == (3, encoder.width)
    torch.testing.assert_close(embeddings, torch.cat(expected), rtol=1e-4, atol=1e-4)
    assert encoder.truncated(TEXTS) == cut
    assert encoder([]).shape == (0, encoder.width)
    assert not embeddings.requires_grad
    assert not any(p.requires_grad for p in encoder.module.parameters())


def test_minilm(tmp_path: Path) -> None:
    model = bert_folder(tmp_path / "minilm")
    model.save_pretrained(tmp_path / "minilm")
    (tmp_path / "minilm" / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    with same_random_state():
        encoder = load_text_encoder("minilm", tmp_path / "minilm")
    assert (encoder.width, encoder.max_tokens) == (16, 9)
    expected = []
    for text in TEXTS:
        ids = bert_ids(" ".join(text.split()[:7]))
        with torch.no_grad():
            mean = model(ids).last_hidden_state.mean(1)
        expected.append(mean / mean.square().sum().sqrt())
    check_batches_and_cuts(encoder, expected, [False, False, True])


def test_medclip_text(tmp_path: Path) -> None:
    model = bert_folder(tmp_path / "bert", positions=12)
    weight = noise(512, 16)
    state = under(
        "text_model.model.", {**model.state_dict(), "embeddings.position_ids": torch.arange(12)[None]}
    )
    state["text_model.projection_head.weight"] = weight
    state["vision_model.projection_head.weight"] = torch.zeros(512, 16)
    torch.save(state, tmp_path / "pytorch_model.bin")
    with same_random_state():
        encoder = load_text_encoder("medclip", tmp_path / "pytorch_model.bin", tmp_path / "bert")
    assert (encoder.width, encoder.max_tokens) == (512, 12)
    expected = []
    for text in TEXTS:
        with torch.no_grad():
            hidden = model(bert_ids(" ".join(text.split()[:10])), output_hidden_states=True).hidden_states
        assert len(hidden) == 5
        expected.append(((hidden[1] + hidden[2] + hidden[4]) / 3).mean(1) @ weight.t())
    check_batches_and_cuts(encoder, expected, [False, False, True])

    with pytest.raises(UsbenchError, match="second folder"):
        load_text_encoder("medclip", tmp_path / "pytorch_model.bin")
    state.pop("text_model.model.encoder.layer.2.output.dense.bias")
    torch.save(state, tmp_path / "short.bin")
    with pytest.raises(UsbenchError, match=r"1 missing, first encoder\.layer\.2\.output\.dense\.bias"):
        load_text_encoder("medclip", tmp_path / "short.bin", tmp_path / "bert")


def test_medclip_text_takes_77_tokens_as_it_was_trained(tmp_path: Path) -> None:
    model = bert_folder(tmp_path / "bert", positions=100)
    state = under("text_model.model.", model.state_dict())
    torch.save({**state, "text_model.projection_head.weight": noise(512, 16)}, tmp_path / "pytorch_model.bin")
    encoder = load_text_encoder("medclip", tmp_path, tmp_path / "bert")
    assert encoder.truncated(["the " * 75, "the " * 76]) == [False, True]
    texts = ["the " * 75, "the " * 75 + "liver " * 9]
    assert torch.equal(encoder(texts[:1]), encoder(texts[1:]))


def test_clip_text(tmp_path: Path) -> None:
    from kit.tiny_models import byte_tokenizer
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    marks = {"vocab_size": 258, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(
        text_config={**small, **marks, "max_position_embeddings": 24, "projection_dim": 8},
        vision_config={**small, "image_size": 28, "patch_size": 14},
        projection_dim=8,
    )
    model = shaken(CLIPModel(config))
    model.save_pretrained(tmp_path)
    tokenizer = byte_tokenizer("<|startoftext|>", "<|endoftext|>", closing=True)
    tokenizer.save_pretrained(tmp_path)
    with same_random_state():
        encoder = load_text_encoder("clip", tmp_path)
    assert (encoder.width, encoder.max_tokens) == (8, 24)
    expected = []
    for text in TEXTS:
        ids = tokenizer(text[:22], return_tensors="pt").input_ids
        with torch.no_grad():
            pooled = model.text_model(input_ids=ids).last_hidden_state[:, -1]
            expected.append(model.text_projection(pooled))
    check_batches_and_cuts(encoder, expected, [False, False, True])


def test_names_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsbenchError, match="did you mean 'medclip-vit'"):
        load_vision_encoder("medclip-vti", tmp_path)
    with pytest.raises(UsbenchError, match="did you mean 'minilm'"):
        load_text_encoder("minlm", tmp_path)
    with pytest.raises(UsbenchError, match="did you mean 'qformer'"):
        make_projection("qfomer", 2, 2, seed=0)
    with pytest.raises(UsbenchError, match="there are no weights"):
        load_vision_encoder("medclip-resnet", tmp_path)
    with pytest.raises(UsbenchError, match=r"config\.json: there is no such file"):
        load_text_encoder("minilm", tmp_path)
    with pytest.raises(UsbenchError, match=r"nothing\.bin: cannot load weights"):
        load_vision_encoder("medclip-resnet", tmp_path / "nothing.bin")
    torch.save([1, 2], tmp_path / "list.bin")
    with pytest.raises(UsbenchError, match="no state dict"):
        load_vision_encoder("medclip-resnet", tmp_path / "list.bin")
    index = {"weight_map": {"vision_model.model.a": "../elsewhere.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsbenchError, match="is no file beside the index"):
        load_vision_encoder("medclip-resnet", tmp_path)


@pytest.mark.slow
def test_real_minilm_knows_a_liver_from_a_bicycle() -> None:
    folders = sorted(Path(os.environ.get("USBENCH_WEIGHTS", "/nowhere")).glob("**/sentence_bert_config.json"))
    if not folders:
        pytest.skip("USBENCH_WEIGHTS names no folder with all-MiniLM-L6-v2")
    encoder = load_text_encoder("minilm", folders[0].parent)
    assert (encoder.width, encoder.max_tokens) == (384, 256)
    one, two, other = encoder(
        [
            "The liver lies in the upper right abdomen.",
            "Hepatic tissue is bright on this scan of the abdomen.",
            "My bicycle has a flat tyre and a bell.",
        ]
    )
    assert one.norm().item() == pytest.approx(1, abs=1e-5)
    assert (one @ two).item() > max((one @ other).item(), (two @ other).item()) + 0.2
