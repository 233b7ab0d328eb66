"""Loading the last block alone: from shards, one file, a hub that is faked, and what goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from kit.tiny_models import llama_folder

from usbench import UsbenchError
from usbench.methods.medvisionllama import hub
from usbench.methods.medvisionllama.loading import LLAMA, SMOLLM2, folder_of, load_block, read_config
from usbench.weights.table import WEIGHTS

REPOSITORY = "meta-llama/Llama-3.1-8B"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("llama") / "tiny"
    return folder, llama_folder(folder)


@pytest.fixture
def own(llama: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama[0], tmp_path / "own"))


def shards_of_layer(folder: Path) -> set[str]:
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    return {file for name, file in index.items() if name.startswith(("model.layers.1.", "model.norm."))}


def test_only_the_last_layer_is_read_out_of_the_shards_that_have_it(
    llama: tuple[Path, Any], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed, all_of_them = shards_of_layer(own), {file.name for file in own.glob("*.safetensors")}
    assert 1 < len(needed) < len(all_of_them)
    for name in all_of_them - needed:
        (own / name).unlink()
    opened, real = [], safetensors.safe_open

    def watched(path: Any, **words: Any) -> Any:
        opened.append(Path(path).name)
        return real(path, **words)

    monkeypatch.setattr(safetensors, "safe_open", watched)
    config, frozen = load_block("llama", str(own))
    assert set(opened) == needed
    model = llama[1].model
    assert config == read_config(own)
    assert (config.width, config.heads, config.kv_heads, config.mlp, config.std) == (64, 4, 2, 96, 0.3)
    for name, tensor in model.layers[1].state_dict().items():
        assert torch.equal(frozen.layer[name], tensor)
    assert torch.equal(frozen.norm["weight"], model.norm.weight)
    assert set(frozen.layer) == set(model.layers[1].state_dict())


@pytest.mark.parametrize("headless", [False, True])
def test_one_file_and_a_model_without_its_head_load_alike(
    llama: tuple[Path, Any], tmp_path: Path, headless: bool
) -> None:
    model = llama[1].model if headless else llama[1]
    model.save_pretrained(tmp_path / "one")
    assert (tmp_path / "one/model.safetensors").is_file()
    digest = load_block("llama", str(llama[0]))[1].digest
    assert load_block("llama", str(tmp_path / "one"))[1].digest == digest


def test_a_folder_that_changed_is_read_anew(own: Path) -> None:
    before = load_block("llama", str(own))[1].digest
    llama_folder(own)
    assert load_block("llama", str(own))[1].digest == before
    from kit.tiny_models import shaken, tiny_llama

    shaken(tiny_llama()).save_pretrained(own, max_shard_size="40KB")
    assert load_block("llama", str(own))[1].digest != before


def test_sizes_as_published() -> None:
    assert LLAMA.parameters == 218_116_096
    assert SMOLLM2.parameters == 3_540_672


def test_parameters_are_those_of_transformers(llama: tuple[Path, Any]) -> None:
    model = llama[1].model
    real = sum(p.numel() for part in (model.layers[1], model.norm) for p in part.parameters())
    assert read_config(llama[0]).parameters == real


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "config.json").unlink(), r"config\.json: there is no such file; give the model's"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "model_type is 'bert'"),
        (lambda f: (f / "config.json").write_text('{"model_type": "llama"}'), "says no sound sizes"),
        (lambda f: [s.unlink() for s in f.glob("model*")], r"has neither model\.safetensors nor"),
        (lambda f: (f / max(shards_of_layer(f))).unlink(), r"cannot load weights .*get the files again"),
        (lambda f: (f / max(shards_of_layer(f))).write_bytes(b"nothing"), "cannot load weights"),
        (
            lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {}}'),
            "no tensors of layer 1 or of the norm",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(own: Path, damage: Any, said: str) -> None:
    damage(own)
    with pytest.raises(UsbenchError, match=said) as caught:
        load_block("llama", str(own))
    assert "\n" not in str(caught.value)


def test_a_block_of_another_size_than_its_configuration_says(own: Path) -> None:
    from usbench.methods.medvisionllama.block import LanguageBlock

    told = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**told, "intermediate_size": 80}))
    with pytest.raises(UsbenchError, match="cannot load the block of a language model"):
        LanguageBlock(*load_block("llama", str(own)), 0)


def test_absent_llama_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(UsbenchError, match=r"accept its licence.*hf download meta-llama.*llama-3\.1-8b$"):
        folder_of("")
    with pytest.raises(UsbenchError, match="there is no folder /no/where"):
        folder_of("/no/where")
    with pytest.raises(UsbenchError, match=r"unknown weights 'lama-3\.1-8b'"):
        folder_of("lama-3.1-8b")
    entry = next(weight for weight in WEIGHTS if weight.name == "llama-3.1-8b")
    assert "Llama 3.1" in entry.licence


def test_of_a_hub_only_the_files_of_the_layer_are_fetched(
    llama: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked = []

    def download(repository: str, name: str) -> str:
        assert repository == REPOSITORY
        asked.append(name)
        return str(shutil.copy(llama[0] / name, tmp_path / name))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    found = load_block("llama", REPOSITORY)[1]
    assert asked == [hub.CONFIG, hub.INDEX, *sorted(shards_of_layer(llama[0]))]
    assert found.digest == load_block("llama", str(llama[0]))[1].digest


def test_what_a_hub_refuses_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    import huggingface_hub
    from huggingface_hub import errors

    answer = httpx.Response(403, request=httpx.Request("GET", "https://hub"))
    for error, said in (
        (
            errors.GatedRepoError("gated", response=answer),
            "accept its licence at https://huggingface.co/meta",
        ),
        (errors.RepositoryNotFoundError("none", response=answer), "check the name"),
        (errors.LocalEntryNotFoundError("offline"), "connect and start again"),
        (ConnectionError("no route"), "connect and start again"),
    ):

        def refuse(*_: Any, error: Exception = error) -> str:
            raise error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
        with pytest.raises(UsbenchError, match=said):
            folder_of(REPOSITORY)
