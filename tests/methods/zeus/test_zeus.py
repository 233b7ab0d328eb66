"""Zeus as a method: conformance, published counts, what is frozen, instructions and their store."""

from __future__ import annotations

import shlex
from functools import cache as remembered
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.tiny_models import parts
from torch import Tensor, nn

from usbench.config import make_config
from usbench.errors import UsbenchError
from usbench.features.rows import Form, form_of
from usbench.fusions.registry import get_fusion
from usbench.fusions.segmenter import Merged
from usbench.methods.catalogue import cost
from usbench.methods.zeus.ablation import ablation
from usbench.methods.zeus.frozen import features
from usbench.methods.zeus.model import METHOD, Zeus, build
from usbench.methods.zeus.parts import CHOICES, resolve, weights_words
from usbench.methods.zeus.vision import SamTower
from usbench.testing import MethodTests, mock_task

CPU = torch.device("cpu")
SMALL = {"method.instruction": "text", "method.per": "modality", "method.size": 32}


@remembered
def tower(size: int) -> SamTower:
    return SamTower(parts(size=size), CPU)


def rows(images: Tensor, classes: int, width: int = 384, size: int = 32) -> dict[str, Tensor]:
    """Real image embeddings, and an instruction for every modality and class, always the same."""
    embedding = tower(size)(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    generator = torch.Generator().manual_seed(4)
    instruction = torch.randn(4, 4, width, generator=generator) / width**0.5
    instruction = instruction[: images.shape[1], :classes]
    return {"embedding": embedding, "instruction": instruction.expand(len(images), -1, -1, -1)}


@pytest.mark.slow
class TestZeus(MethodTests):
    method = METHOD
    settings = SMALL
    overfit_steps = 150

    def call(self, network: nn.Module, images: Tensor) -> Tensor:
        wrapped: Any = network
        while not isinstance(wrapped, Zeus):
            wrapped = wrapped._orig_mod if hasattr(wrapped, "_orig_mod") else wrapped.network
        classes = len(wrapped.task.classes)
        logits: Tensor = network(images, **rows(images, classes, size=max(32, self.size_of(images))))
        return logits

    def size_of(self, images: Tensor) -> int:
        return 64 if images.shape[-1] == self.overfit_size and len(images) == 8 else 32


class TestZeusWithoutInstruction(TestZeus):
    settings = {**SMALL, "method.instruction": "none"}  # noqa: RUF012
    modalities = (2,)

    def call(self, network: nn.Module, images: Tensor) -> Tensor:
        logits: Tensor = network(images, embedding=rows(images, 1)["embedding"])
        return logits

    @pytest.mark.skip(reason="the decoder is the same, see TestZeus")
    def test_overfits_eight_slices(self, tmp_path: Path) -> None: ...

    @pytest.mark.skip(reason="the decoder is the same, see TestZeus")
    def test_large_sizes(self) -> None: ...


class TestZeusWithClassesTogether(TestZeus):
    settings = {**SMALL, "method.classes": "together"}  # noqa: RUF012

    @pytest.mark.skip(reason="it costs less than in TestZeus")
    def test_large_sizes(self) -> None: ...


# Counts

DECODER, PROJECTION, ALIGNER = 3_925_728, 3_740_416, 393_984
ALIGNER_OF_MINILM = 384 * 512 + 512 + 512 * 256 + 256
UNUSED = 3 * 139_808
"""The hypernetworks of masks that are not used: they are in SAM's decoder and get no gradient."""


def counted(fusion: str, modalities: int, **changes: Any) -> tuple[int, int]:
    config = make_config(
        "paper", METHOD.settings, METHOD.presets, {f"method.{k}": v for k, v in changes.items()}
    )
    found = cost(METHOD, mock_task(modalities, 4), get_fusion(fusion).fusion, config)
    return found["parameters"], found["trainable"]


def test_hybrid_count_is_the_papers() -> None:
    """8.06 million, of decoder, projection and aligner; in text mode the projection gets no gradient."""
    for modalities in (2, 3, 4):
        total, trained = counted("hybrid", modalities, weights="paper")
        assert total == DECODER + PROJECTION + ALIGNER == 8_060_128
        assert trained == DECODER - UNUSED + ALIGNER == 3_900_288


@pytest.mark.parametrize(("modalities", "total"), [(2, 12_379_840), (3, 16_699_552), (4, 21_019_264)])
def test_late_counts(modalities: int, total: int) -> None:
    """A decoder and an aligner more for every modality; the paper prints 12.44 million."""
    assert counted("late", modalities, weights="paper")[0] == total
    assert total == modalities * (DECODER + ALIGNER) + PROJECTION


def test_embeddings_train_the_projection() -> None:
    total, trained = counted("hybrid", 2, weights="paper", instruction="embedding")
    aligner = 4096 * 512 + 512 + 512 * 256 + 256
    assert total == DECODER + PROJECTION + aligner
    assert trained == total - UNUSED


# What is frozen


def test_frozen_parts_are_not_in_the_network() -> None:
    network = build(mock_task(2, 1), "late", **{**METHOD.settings, "size": 32})
    names = set(network.state_dict())
    assert all(n.startswith(("decoders.", "aligners.", "projection.")) for n in names)
    assert not any(p.requires_grad for n, p in network.named_parameters() if n.startswith("projection."))
    embedding = rows(torch.zeros(1, 2, 32, 32), 1)["embedding"]
    assert not embedding.requires_grad
    assert not embedding.is_inference()


def test_decoders_start_from_the_pretrained_one() -> None:
    network: Any = build(mock_task(2, 1), "late", **METHOD.settings)
    one, two = (decoder.state_dict() for decoder in network.decoders)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_hybrid_sees_the_mean_of_the_embeddings() -> None:
    network = build(mock_task(2, 1), "hybrid", **{**METHOD.settings, "size": 32}).eval()
    images = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    given = rows(images, 1)
    mean = given["embedding"].mean(1, keepdim=True).expand_as(given["embedding"])
    with torch.no_grad():
        one = network(images, **given)
        same = network(images, embedding=mean, instruction=given["instruction"])
    assert torch.allclose(one, same, atol=1e-4)


def test_hybrid_is_the_same_with_the_stored_mean() -> None:
    """One row in place of one for each modality: the logits differ by no more than half precision rounds."""
    network = build(mock_task(2, 1), "hybrid", **{**METHOD.settings, "size": 32}).eval()
    images = torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    given = rows(images, 1)
    every, mean = (Form(mean).rounded(given["embedding"]) for mean in (False, True))
    assert mean.shape == (2, 1, *every.shape[2:])
    with torch.no_grad():
        before = network(images, embedding=every, instruction=given["instruction"])
        after = network(images, embedding=mean, instruction=given["instruction"])
    assert (before - after).norm() / before.norm() < 2e-3


@pytest.mark.parametrize("fusion", ["hybrid", "late"])
def test_absent_modalities_have_no_say(fusion: str) -> None:
    """Whatever the rows of absent modalities hold, and whichever slices share a batch."""
    network = build(mock_task(3, 2), fusion, **{**METHOD.settings, "size": 32}).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    given = rows(images, 2)
    present = torch.tensor([[True, False, True], [True, True, True], [False, True, False]])
    broken = {name: value.clone() for name, value in given.items()}
    for value in broken.values():
        value[~present] = 1e3
    merged = Merged(network, 3, 2, "mean-logits")
    with torch.no_grad():
        found = merged(images, present=present, **given)
        assert torch.equal(merged(images, present=present, **broken), found)
        torch.testing.assert_close(found[1], merged(images, **given)[1], rtol=1e-4, atol=1e-4)
        alone = merged(images[:1], present=present[:1], **{n: v[:1] for n, v in given.items()})
    torch.testing.assert_close(found[:1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fusion", ["hybrid", "late"])
def test_own_prompts_stand_beside_the_instruction(fusion: str) -> None:
    """With and without them all the rest is the same; those of absent modalities have no say."""
    given = {**METHOD.settings, "size": 32}
    network: Any = build(mock_task(2, 3), fusion, **{**given, "own_prompts": 2}).eval()
    plain: Any = build(mock_task(2, 3), fusion, **given).eval()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k != "own"})
    assert network.own.shape == (2, 3, 2, 256)
    images = torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    some = rows(images, 3)
    present = torch.tensor([[True, False], [True, True]])
    asked = network.sparse(2, some["instruction"], None)
    assert [tuple(one.shape) for one in asked] == [(2, 3, 3, 256)] * 2
    for one, other in zip(asked, plain.sparse(2, some["instruction"], None), strict=True):
        assert torch.equal(one[:, :, :1], other)
    with torch.no_grad():
        found = network(images, present=present, **some)
        assert not torch.allclose(found, plain(images, present=present, **some), atol=1e-3)
        network.own[1] = 1e3  # Of the modality that the first slice lacks.
        changed = network(images, present=present, **some)
    first = (0,) if fusion == "hybrid" else (0, 0)
    assert torch.equal(changed[first], found[first])
    assert not torch.equal(changed[1], found[1])


@pytest.mark.parametrize("fusion", ["hybrid", "late"])
def test_prompts_may_start_as_large_as_those_of_sam(fusion: str) -> None:
    """Mean 0 and deviation 1 over the channels, without a parameter; two alike instructions stay apart."""
    given = {**METHOD.settings, "size": 32}
    torch.manual_seed(0)
    plain: Any = build(mock_task(2, 3), fusion, **given)
    network: Any = build(mock_task(2, 3), fusion, **{**given, "prompt_norm": "unit"})
    network.load_state_dict(plain.state_dict())
    instruction = torch.randn(4, 2, 3, 384, generator=torch.Generator().manual_seed(1)) / 384**0.5
    instruction[:, :, 1] = instruction[:, :, 0] + 0.3 * instruction[:, :, 1]
    before = torch.stack(plain.sparse(4, instruction, None))
    found = torch.stack(network.sparse(4, instruction, None))
    # As long as they come from the text encoder, of length 1, the biases of the aligner hide the text.
    assert before.std(-1).max() < 0.05
    assert found.mean(-1).abs().max() < 1e-5
    assert (found.std(-1, correction=0) - 1).abs().max() < 1e-3
    apart = (found[:, :, 0] - found[:, :, 1]).std(-1)
    assert apart.min() > 5 * (before[:, :, 0] - before[:, :, 1]).std(-1).max()
    # Scaling an instruction changes nothing then.
    assert torch.allclose(torch.stack(network.sparse(4, instruction * 7, None)), found, atol=1e-3)
    without: Any = build(mock_task(2, 3), fusion, **{**given, "instruction": "none", "prompt_norm": "unit"})
    assert without.prompts.std().item() == pytest.approx(1, abs=0.1)


def test_what_instructions_of_all_classes_share_is_taken_away() -> None:
    """Two that share nearly all come out as far apart as two that do not; a single class is as before."""
    given = {**METHOD.settings, "size": 32}
    torch.manual_seed(0)
    unit: Any = build(mock_task(2, 3), "hybrid", **{**given, "prompt_norm": "unit"})
    network: Any = build(mock_task(2, 3), "hybrid", **{**given, "prompt_norm": "classes"})
    network.load_state_dict(unit.state_dict())
    generator = torch.Generator().manual_seed(1)
    own = torch.randn(4, 2, 3, 384, generator=generator)
    shared = 30 * torch.randn(4, 2, 1, 384, generator=generator)

    def cosines(of: Any, instruction: Tensor) -> Tensor:
        prompts = torch.stack(of.sparse(4, instruction, None))[..., 0, :]
        return torch.cosine_similarity(prompts[:, :, 0], prompts[:, :, 1], dim=-1)

    assert cosines(unit, own + shared).min() > 0.99
    assert cosines(network, own + shared).max() < 0.5
    # The mean over the classes goes, and with it whatever is added to all of them.
    less = own - own.mean(dim=2, keepdim=True)
    expected = torch.stack(unit.sparse(4, less, None))
    assert torch.allclose(torch.stack(network.sparse(4, own + shared, None)), expected, atol=1e-3)
    one: Any = build(mock_task(2, 1), "hybrid", **{**given, "prompt_norm": "classes"})
    alone: Any = build(mock_task(2, 1), "hybrid", **{**given, "prompt_norm": "unit"})
    one.load_state_dict(alone.state_dict())
    rows = own[:, :, :1]
    assert torch.equal(torch.stack(one.sparse(4, rows, None)), torch.stack(alone.sparse(4, rows, None)))


@pytest.mark.parametrize(
    ("freeze", "frozen"), [("none", UNUSED), ("transformer", UNUSED + 3_291_264), ("all", DECODER)]
)
def test_what_of_the_decoder_trains(freeze: str, frozen: int) -> None:
    """SAM's transformer has 3,291,264 parameters, its decoder without the IoU head 3,925,728."""
    total, trainable = counted("hybrid", 2, freeze=freeze, instruction="fixed")
    assert total == DECODER + ALIGNER_OF_MINILM
    assert total - trainable == frozen


def test_results_from_before_train_all_of_the_decoder() -> None:
    older = {k: v for k, v in METHOD.settings.items() if k not in ("freeze", "own_prompts", "about")}
    assert (resolve(older).freeze, resolve(older).own_prompts, resolve(older).about) == ("none", 0, "own")


def test_which_features_zeus_stores_in_which_form() -> None:
    (embedding,) = features(
        mock_task(2, 1), CPU, **{**METHOD.settings, "size": 32, "instruction": "none", "feature_bits": 8}
    )
    assert form_of(embedding, "late") == Form(False, 8)
    assert form_of(embedding, "hybrid") == Form(True, 8)
    older = {key: value for key, value in METHOD.settings.items() if key != "feature_bits"}
    assert resolve(older).feature_bits == 16


def test_an_encoder_in_bf16_makes_other_features() -> None:
    """They are near those in single precision, say so in their key, and make their own texts."""
    full, low = tower(32), SamTower(parts(size=32, encoder_precision="bf16"), CPU)
    assert low.key == [*full.key, "bf16"]
    # As it was before there was a choice: stored texts and features are found again.
    assert len(full.key) == 3
    images = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, near = full(images), low(images)
    assert near.dtype == torch.float32
    assert torch.equal(near, near.bfloat16().float())
    assert 0 < (near - exact).norm() / exact.norm() < 0.05
    given = {**METHOD.settings, "size": 32, "instruction": "none", "encoder_precision": "bf16"}
    (feature,) = features(mock_task(1, 1), CPU, **given)
    assert feature.what == "image embeddings (litemedsam, bf16)"
    assert feature.key == low.key
    older = {key: value for key, value in METHOD.settings.items() if key != "encoder_precision"}
    assert resolve(older).encoder_precision == "32"


def test_a_class_has_its_own_prompt() -> None:
    """The same instruction for two classes gives the same mask, different ones do not."""
    network = build(mock_task(1, 2), "late", **{**METHOD.settings, "size": 32}).eval()
    given = rows(torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)), 2)
    images = torch.zeros(1, 1, 32, 32)
    with torch.no_grad():
        different = network(images, **given)
        given["instruction"] = given["instruction"][:, :, :1].expand(-1, -1, 2, -1)
        same = network(images, **given)
    assert different.shape == (1, 1, 2, 32, 32)
    assert torch.allclose(same[:, :, 0], same[:, :, 1], atol=1e-5)
    assert not torch.allclose(different[:, :, 0], different[:, :, 1], atol=1e-3)


# Settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "papper"}, "did you mean 'paper'"),
        ({"llm": "smolm2"}, "unknown value of method.llm 'smolm2', did you mean 'smollm2'"),
        ({"instruction": "texts"}, "did you mean 'text'"),
        ({"per": "patient"}, "unknown value of method.per 'patient'"),
        ({"instruction": "embedding", "per": "modality"}, "needs the image"),
        ({"lora": 4}, "no gradient reaches the language model through text"),
        ({"size": 50}, "litemedsam takes a multiple of 4"),
        ({"image_encoder": "sam-vit-b", "size": 56}, "sam-vit-b takes a multiple of 16"),
        ({"feature_bits": 4}, "method.feature_bits=4: choose 8 or 16"),
        ({"freeze": "most"}, "unknown value of method.freeze 'most'"),
        ({"own_prompts": -1}, "method.own_prompts=-1: choose 0 to 64"),
        ({"classes": "both"}, "unknown value of method.classes 'both'"),
        ({"prompt_norm": "two"}, "unknown value of method.prompt_norm 'two'"),
        ({"decoder_rate": 0}, "method.decoder_rate=0: choose a share above 0, 1 at most"),
        ({"decoder_rate": 1.5}, "method.decoder_rate=1.5: choose a share"),
        ({"about": "else"}, "unknown value of method.about 'else'"),
        ({"about": "other", "instruction": "none"}, "instruction=none asks nothing"),
        ({"encoder_precision": "16"}, "unknown value of method.encoder_precision '16'"),
        ({"max_tokens": -1}, "choose 0 to 256 and 1 to 1024"),
        ({"encoder_lora": -1}, "method.encoder_lora=-1: choose 0 to 256"),
        ({"encoder_lora": 4, "encoder_precision": "bf16"}, "what trains is kept in 32 bit"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsbenchError, match=words):
        parts(**changes)


def test_a_result_names_its_weights() -> None:
    assert weights_words(METHOD.settings) == "bundled"
    assert weights_words({**METHOD.settings, "weights": "paper", "image_encoder": "medsam"}) == (
        "paper, image_encoder=medsam"
    )


def test_early_fusion_is_refused(command: Any) -> None:
    done = command("run", "--method", "zeus", "--fusion", "early", "--task", "chaos")
    assert done.returncode == 1
    assert "does not apply to early fusion; choose hybrid or late" in done.stderr


def test_absent_weights_are_named_together(command: Any, tmp_path: Path) -> None:
    done = command(
        "run", "--method", "zeus", "--task", "msd-prostate", "--set", "method.weights=paper",
        "--preset", "smoke", "--runs-dir", tmp_path / "runs", USBENCH_WEIGHTS=str(tmp_path / "none"),
    )  # fmt: skip
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error")]) == 1
    assert "usbench weights fetch sam-vit-b" in done.stderr
    assert "usbench weights fetch bioclinicalbert" in done.stderr
    assert not list((tmp_path / "runs").rglob("result.json"))


# Instructions, with a language model that is not one


# Ablations


@pytest.mark.parametrize(("table", "count"), [(3, 5), (4, 9), (5, 5)])
def test_every_printed_row_can_be_run(table: int, count: int) -> None:
    found = ablation(table)
    assert len(found) == count
    for row in found:
        assert row.lacking("paper") == []
        for weights in ("paper", "bundled"):
            if row.lacking(weights):
                continue
            for text in row.commands(weights, "late", ["--preset", "smoke"]):
                words = shlex.split(text)
                assigned = dict(w.split("=", 1) for w in words if w.startswith("method."))
                settings = {k: int(v) if v.isdigit() else v for k, v in assigned.items()}
                config = make_config("smoke", METHOD.settings, METHOD.presets, settings)
                resolved = resolve(config.method)
                for key in CHOICES:
                    if weights == "paper" and key in row.settings:
                        assert getattr(resolved, key) == row.settings[key]


def test_bundled_set_runs_the_rows_about_projection_and_modalities() -> None:
    assert [not row.lacking("bundled") for row in ablation(3)] == [False, False, True, True, True]
    assert [i for i, row in enumerate(ablation(4)) if not row.lacking("bundled")] == [2, 7]
    assert all(not row.lacking("bundled") for row in ablation(5))


def test_ablation_command_lists_what_lacks(command: Any) -> None:
    done = command("zeus", "ablation", "3", "--weights", "bundled", "--dry-run", "--preset", "smoke")
    assert done.returncode == 0
    assert "they have no blip2" in done.stdout
    assert done.stdout.count("usbench run --method zeus") == 9
    assert "--preset smoke" in done.stdout


def test_unknown_table_is_refused(command: Any) -> None:
    done = command("zeus", "ablation", "6", "--dry-run")
    assert done.returncode == 1
    assert "6" in done.stderr
