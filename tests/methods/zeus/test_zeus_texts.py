"""The instructions of Zeus: which texts are asked for, kept, cut and replaced."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.tiny_models import parts
from torch import Tensor

from usbench.errors import UsbenchError
from usbench.methods.zeus import instructions as instructions_module
from usbench.methods.zeus.frozen import features
from usbench.methods.zeus.instructions import Instructions, TextStore, fitted, remarks
from usbench.methods.zeus.model import METHOD
from usbench.methods.zeus.prompts import question, targets
from usbench.testing import mock_task

CPU = torch.device("cpu")


class Stub:
    """Answers from a table and counts; as wide as SmolLM2."""

    width = 576

    def __init__(self, answer: str = "Look at its edge.") -> None:
        self.answer = answer
        self.asked: list[tuple[str, Tensor | None, str]] = []
        self.freed = False

    def generate(self, prompts: Sequence[Any], max_tokens: int, batch: int = 8) -> list[str]:
        self.asked += prompts
        return [self.answer for _ in prompts]

    def free(self) -> None:
        self.freed = True


class StubEncoder:
    width = 384

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([torch.full((384,), float(len(text))) for text in texts])

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        return [len(text) > 200 for text in texts]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stub:
    model = Stub()
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path))
    for name in ("weight_path", "weight_digest"):
        monkeypatch.setattr(instructions_module, name, lambda name: f"{name} of a test")
    monkeypatch.setattr(instructions_module, "load_language_model", lambda *_: model)
    monkeypatch.setattr(instructions_module, "load_text_encoder", lambda *_: StubEncoder())
    return model


def maker(per: str, classes: int = 2, **changes: Any) -> Instructions:
    return Instructions(mock_task(2, classes), parts(per=per, size=32, **changes), CPU)


IMAGES = torch.randn(3, 2, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("per", "asked"), [("modality", 4), ("case", 4), ("slice", 12)])
def test_one_question_for_every_unit_modality_and_class(per: str, asked: int, stub: Stub) -> None:
    tensor, table = maker(per).compute(IMAGES)
    assert tensor.shape == (3, 2, 2, 384)
    assert len(stub.asked) == len(table) == asked
    before, tokens, after = stub.asked[0]
    assert before.startswith("###Doctor:")
    assert question("organ 0", "scan 0") in after
    assert after.endswith("###Assistant:")
    assert (tokens is None) == (per == "modality")
    assert tokens is None or tokens.shape == (1, 576)
    assert {(row["modality"], row["class"]) for row in table} == {
        (m, c) for m in ("m0", "m1") for c in ("c0", "c1")
    }
    assert {row["slice"] for row in table} == ({0, 1, 2} if per == "slice" else {None})


@pytest.mark.parametrize("instruction", ["text", "fixed"])
def test_a_class_may_be_asked_about_as_another(instruction: str, stub: Stub) -> None:
    """What a class is told then is, to the letter, what the other is told by itself."""

    stub.generate = lambda prompts, *_: [after for *_, after in prompts]  # type: ignore[method-assign]

    def said(about: str) -> dict[tuple[str, str], str]:
        _, table = maker("modality", classes=3, instruction=instruction, about=about).compute(IMAGES)
        return {(row["modality"], row["class"]): row["text"] for row in table}

    own, shuffled, other = said("own"), said("shuffled"), said("other")
    for modality in ("m0", "m1"):
        for k in range(3):
            assert shuffled[modality, f"c{k}"] == own[modality, f"c{(k + 1) % 3}"]
        assert len({other[modality, f"c{k}"] for k in range(3)}) == 3
    assert not set(other.values()) & set(own.values())
    assert not any("organ" in text for text in other.values())


def test_other_organs_are_none_of_the_task() -> None:
    chaos = ["liver", "right kidney", "left kidney", "spleen"]
    assert targets(chaos) == chaos
    assert targets(chaos, "shuffled") == ["right kidney", "left kidney", "spleen", "liver"]
    assert targets(["Pancreas tumour", "left lung"], "other") == ["urinary bladder", "thyroid gland"]
    assert "pancreas" not in targets(["pancreas"] * 11, "other")
    assert "right lung" not in targets(["left lung"] * 11, "other")
    for named, organ in (
        ("Lungs", "right lung"),
        ("gall bladder", "gallbladder"),
        ("Pancreas/duodenum", "pancreas"),
    ):
        assert organ not in targets([named] * 10, "other")
    with pytest.raises(UsbenchError, match="one class, whose instruction cannot be another's"):
        targets(["tumour"], "shuffled")
    with pytest.raises(UsbenchError, match="11 organs that the task does not name, and it has 12"):
        targets(["aorta"] * 12, "other")
    with pytest.raises(UsbenchError, match=r"unknown value of method\.about 'mine'"):
        targets(chaos, "mine")


def test_an_image_is_looked_at_once_for_all_classes(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    making = maker("slice", classes=3)
    looked: list[int] = []

    def look(images: Tensor) -> Tensor:
        looked.append(len(images))
        return torch.full((1, 1, 256), float(images.mean()))

    monkeypatch.setattr(making, "vision", look)
    look.key = ["a test"]  # type: ignore[attr-defined]
    making.texts(IMAGES)
    assert looked == [1] * (3 * 2)
    shown = [tokens for _, tokens, _ in stub.asked if tokens is not None]
    assert len(shown) == 3 * 2 * 3
    assert torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[0], shown[3])


def test_a_text_is_made_once(stub: Stub) -> None:
    first, _ = maker("slice").compute(IMAGES)
    count = len(stub.asked)
    again, _ = maker("slice").compute(IMAGES)
    assert len(stub.asked) == count
    assert torch.equal(first, again)
    maker("slice").compute(IMAGES.flip(-1))
    assert len(stub.asked) == 2 * count


@pytest.mark.parametrize("changes", [{"max_tokens": 8}, {"projection": "none"}, {"size": 64}])
def test_what_changes_a_text_makes_another(changes: dict[str, Any], stub: Stub) -> None:
    maker("case").compute(IMAGES)
    count = len(stub.asked)
    Instructions(mock_task(2, 2), parts(**{"per": "case", "size": 32, **changes}), CPU).compute(IMAGES)
    assert len(stub.asked) == 2 * count


def test_without_a_language_model_the_question_stands(stub: Stub) -> None:
    _, table = maker("slice", instruction="fixed").compute(IMAGES)
    assert stub.asked == []
    assert table[0]["text"] == question("organ 0", "scan 0")


@pytest.mark.parametrize("answer", ["", "   \n", "###Doctor: what?"])
def test_an_empty_answer_falls_back_and_says_so(answer: str, stub: Stub) -> None:
    stub.answer = answer
    _, table = maker("modality").compute(IMAGES)
    assert all(row["fallback"] for row in table)
    words = "answers were empty; the question stands in their place"
    assert remarks([table, table]) == [f"{2 * len(table)} of {2 * len(table)} {words}"]
    assert table[0]["text"] == question("organ 0", "scan 0")


def test_a_long_answer_is_cut_and_said_so(stub: Stub) -> None:
    stub.answer = "liver " * 100
    _, table = maker("modality").compute(IMAGES)
    assert all(row["truncated"] for row in table)
    cut = sum(row["truncated"] for row in table)
    assert remarks([table]) == [
        f"{cut} of {len(table)} texts are longer than the text encoder takes and were cut"
    ]


def test_the_language_model_is_let_go(stub: Stub) -> None:
    making = maker("modality")
    making.compute(IMAGES)
    making.free()
    assert stub.freed
    assert making._llm is None


def test_weights_of_another_width_are_refused(stub: Stub) -> None:
    stub.width = 100
    with pytest.raises(UsbenchError, match="'smollm2': the weights found give width 100, not 576"):
        maker("modality").compute(IMAGES)


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    file = tmp_path / "instructions.sqlite"
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(UsbenchError, match=r"instructions\.sqlite: cannot use the store"):
        TextStore(file).get(["a"])


def test_store_keeps_texts(tmp_path: Path) -> None:
    TextStore(tmp_path / "t.sqlite").put({"a": "Lebergewebe, größer", "b": ""})
    assert TextStore(tmp_path / "t.sqlite").get(["a", "b", "c"]) == {"a": "Lebergewebe, größer", "b": ""}
    with sqlite3.connect(tmp_path / "t.sqlite") as file:
        assert file.execute("SELECT COUNT(*) FROM texts").fetchone() == (2,)


def test_features_are_made_by_frozen_parts(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**METHOD.settings, "per": "modality", "size": 32}
    monkeypatch.setattr("usbench.methods.zeus.frozen.weight_path", lambda name: Path(name))
    monkeypatch.setattr("usbench.methods.zeus.frozen.weight_digest", lambda name: name)
    made = {f.name: f for f in features(mock_task(2, 1), CPU, **settings)}
    assert set(made) == {"embedding", "instruction"}
    assert made["embedding"].per_slice
    assert not made["instruction"].per_slice
    embedding, _ = made["embedding"].compute(IMAGES)
    assert embedding.shape == (3, 2, 256, 8, 8)
    keys = [json.dumps(f.key) for f in made.values()]
    other = features(mock_task(2, 1), CPU, **{**settings, "text_encoder": "clip"})
    assert [json.dumps(f.key) == key for f, key in zip(other, keys, strict=True)] == [True, False]


def test_fitted_cuts_or_fills() -> None:
    row = torch.arange(6.0).reshape(1, 6)
    assert torch.equal(fitted(row, 4), row[:, :4])
    assert torch.equal(fitted(row, 8), torch.cat([row, torch.zeros(1, 2)], dim=1))
