"""The whole of Zeus with the paper's parts, on tiny models of the same classes in the real file formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.tiny_models import (
    LLM_WIDTH,
    bert_folder,
    byte_tokenizer,
    shaken,
    tiny_blip2_flan_t5,
    tiny_llama,
    tiny_sam,
    under,
)

import usbench
from usbench.methods.zeus import model as zeus_model
from usbench.methods.zeus import parts as zeus_parts
from usbench.runtime.torchvision_cpu import make_importable

make_importable()
pytestmark = pytest.mark.slow
SWIN = {"embed_dim": 96, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "model_type": "swin"}


@pytest.fixture(scope="module")
def paper_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder: MedSAM, MedCLIP with its text tower and vocabulary, and a language model."""
    from transformers import SwinConfig, SwinModel

    folder = tmp_path_factory.mktemp("weights")
    torch.save(tiny_sam().state_dict(), folder / "medsam_vit_b.pth")
    text = bert_folder(folder / "bioclinicalbert", positions=128)
    state = under("vision_model.model.", SwinModel(SwinConfig(**SWIN)).state_dict())
    state |= under("text_model.model.", text.state_dict())
    for tower, width in (("vision", 768), ("text", 16)):
        state[f"{tower}_model.projection_head.weight"] = torch.randn(512, width) / width**0.5
    torch.save(state, folder / "medclip_vit.bin")
    (folder / "config.json").write_text(json.dumps(SWIN))
    # The question has about 180 letters, and this tokenizer takes them one by one.
    shaken(tiny_llama(positions=512)).save_pretrained(folder / "vicuna-rad")
    byte_tokenizer("<s>", "</s>").save_pretrained(folder / "vicuna-rad")
    return folder


@pytest.fixture
def run(paper_weights: Path, small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("USBENCH_WEIGHTS", str(paper_weights))
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(zeus_parts.WIDTHS, "vicuna-rad", LLM_WIDTH)

    def call(fusion: str, **settings: Any) -> Any:
        chosen = {"weights": "paper", "image_encoder": "medsam", "size": 64, "max_tokens": 6, **settings}
        return usbench.run(
            "zeus", fusion, "msd-prostate", data_dir=small_prostate, preset="smoke", device="cpu",
            runs_dir=tmp_path / "runs", limit=3,
            settings={f"method.{k}": v for k, v in chosen.items()} | {"train.epochs": 1},
        )[0]  # fmt: skip

    return call


@pytest.mark.parametrize("fusion", ["hybrid", "late"])
def test_text_from_the_papers_parts(fusion: str, run: Any) -> None:
    result = run(fusion, per="case")
    assert result.data["method"]["weights"] == "paper, image_encoder=medsam"
    assert "medsam: Apache-2.0" in result.data["method"]["licence"]
    assert result.data["method"]["pretraining_overlap"] == "unknown"
    notes = json.loads((result.path / "notes.json").read_text())
    assert len(notes) == 3
    for note in notes.values():
        texts = note["instruction"]
        assert {row["modality"] for row in texts} == {"t2", "adc"}
        assert all(row["text"] and row["class"] == "prostate" for row in texts)
    assert "notes.json" in result.data["files"]


def test_embedding_trains_projection_and_lora(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    real = zeus_model.Zeus

    class Watched(real):  # type: ignore[valid-type, misc]
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            built.append((self, {n: p.detach().clone() for n, p in self.named_parameters()}))

    monkeypatch.setattr(zeus_model, "Zeus", Watched)
    result = run("late", instruction="embedding", per="case", lora=2)
    network, before = built[0]
    llm = network._llm[0].model
    changed = {n for n, p in network.named_parameters() if not torch.equal(p.detach(), before[n])}
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert changed == set(before) - frozen
    assert any(n.startswith("projection.") for n in changed)
    assert any(n.startswith("lora.") for n in changed)
    # The language model itself is in no state and gets no gradient.
    assert not any("layers" in n and "lora" not in n for n in network.state_dict() if "llm" in n)
    inside = {id(p) for p in network.parameters()}
    assert all(p.grad is None for p in llm.parameters() if id(p) not in inside)
    assert result.data["cost"]["trainable"] == sum(p.numel() for n, p in before.items() if n not in frozen)
    assert result.data["cost"]["frozen_elsewhere"] > 0


def test_qformer_between_vision_and_language(run: Any) -> None:
    result = run("hybrid", instruction="embedding", per="case", projection="qformer")
    assert result.data["cost"]["trainable"] > 50_000_000  # A Q-Former of twelve layers.
    assert 0 <= result.scores["dsc"] <= 1


@pytest.fixture
def xraygpt(paper_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XrayGPT's eye and its trained layer beside the other weights."""
    tiny_blip2_flan_t5().save_pretrained(paper_weights / "blip2-flan-t5")
    layer = {"llama_proj.weight": torch.randn(LLM_WIDTH, 16), "llama_proj.bias": torch.randn(LLM_WIDTH)}
    torch.save({"model": layer, "epoch": 4}, paper_weights / "xraygpt_pretrained1.pth")
    monkeypatch.setitem(zeus_parts.WIDTHS, "xraygpt", 16)


def test_text_by_xraygpts_own_path(run: Any, xraygpt: None) -> None:
    chosen = {"projection": "linear", "template": "xraygpt", "per": "case"}
    texts = []
    for fusion in ("hybrid", "late"):
        result = run(fusion, **chosen)
        assert result.data["method"]["weights"] == "paper, image_encoder=medsam, vision_encoder=xraygpt"
        notes = json.loads((result.path / "notes.json").read_text())
        texts.append({case: note["instruction"] for case, note in notes.items()})
    assert texts[0] == texts[1]
    greedy = run("hybrid", projection="linear", per="case")
    assert json.loads((greedy.path / "notes.json").read_text()).keys() == texts[0].keys()


def test_embedding_trains_xraygpts_layer_alone(run: Any, xraygpt: None) -> None:
    trained = {}
    for projection in ("linear", "none"):
        result = run(
            "hybrid", instruction="embedding", per="case", projection=projection, vision_encoder="xraygpt"
        )
        trained[projection] = result.data["cost"]["trainable"]
    assert trained["linear"] - trained["none"] == 16 * LLM_WIDTH + LLM_WIDTH


def test_slices_have_texts_of_their_own(run: Any) -> None:
    result = run("hybrid", per="slice")
    notes = json.loads((result.path / "notes.json").read_text())
    texts = next(iter(notes.values()))["instruction"]
    assert {row["slice"] for row in texts} == set(range(len(texts) // 2))


def test_other_weights_make_other_features(run: Any, paper_weights: Path, tmp_path: Path) -> None:
    run("hybrid", instruction="fixed")
    folders = set((tmp_path / "cache" / "features").glob("embedding-*"))
    assert len(folders) == 1
    file = paper_weights / "medsam_vit_b.pth"
    content = file.read_bytes()
    try:
        torch.save(tiny_sam(seed=1).state_dict(), file)
        run("late", instruction="fixed")
    finally:
        file.write_bytes(content)
    assert len(set((tmp_path / "cache" / "features").glob("embedding-*"))) == 2
