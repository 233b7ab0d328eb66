"""A trained network is kept and given back: it predicts the very masks that its run wrote."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import usbench
from usbench.datasets.resolve import find_data
from usbench.datasets.store import Store, prepare
from usbench.errors import UsbenchError
from usbench.runs.network import FILE, load_network, write_network
from usbench.storage.files import digest_of, sha256_file
from usbench.storage.state_dict import read_state

SMALL = {"train.epochs": 1, "data.size": 32}

PLUGIN = """
import torch
from torch import nn
from usbench import Feature, Method


class Net(nn.Module):
    def __init__(self, modalities, classes):
        super().__init__()
        self.head = nn.Conv2d(modalities, classes, 1)

    def forward(self, images, level):
        return self.head(images) + level.mean(1)[:, None, None, None]


def build(task, fusion):
    return Net(len(task.modalities), len(task.classes))


def features(task, device):
    return [Feature('level', 'level', 1, lambda images: (images.mean((2, 3)), None))]


METHOD = Method('frozen', 'no paper', build_segmenter=build, fusions=('hybrid',), features=features)
"""


def run(folder: Path, runs: Path, **options: Any) -> Any:
    words = {"method": "unext-small", "fusion": "early", "task": "msd-prostate", "preset": "smoke"}
    words |= {"device": "cpu", "data_dir": folder, "runs_dir": runs, "settings": SMALL}
    return usbench.run(**{**words, **options})[0]


def require_same_masks(result: Any, data: Path, folder: Path, **options: Any) -> None:
    loaded = load_network(result.path, device="cpu", **options)
    assert not loaded.network.training
    store = prepare(loaded.task, find_data(loaded.task, data).root, loaded.config.data)
    test = result.data["split"]["test"]
    assert [one.case.case_id for one in loaded.predict_cases(store, test, folder)] == test
    for case_id in test:
        name = f"{case_id}.nii.gz"
        ours = gzip.decompress((folder / name).read_bytes())
        assert ours == gzip.decompress((result.path / "predictions" / name).read_bytes())


@pytest.fixture(scope="module")
def kept(small_prostate: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(small_prostate, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(
    ("method", "fusion", "settings"),
    [
        ("unext-small", "early", {}),
        ("unext-small", "hybrid", {}),
        ("unext-small", "late", {"fusion.merge": "learned"}),
        ("resunet", "hybrid", {"fusion.hybrid": "conv1x1"}),
    ],
)
def test_loaded_network_predicts_the_masks_of_its_run(
    method: str, fusion: str, settings: dict[str, Any], small_prostate: Path, tmp_path: Path
) -> None:
    result = run(
        small_prostate, tmp_path / "runs", method=method, fusion=fusion, settings={**SMALL, **settings}
    )
    assert FILE in result.data["files"]
    require_same_masks(result, small_prostate, tmp_path / "masks")


def test_modalities_and_merged_labels_are_those_of_the_run(small_prostate: Path, tmp_path: Path) -> None:
    result = run(small_prostate, tmp_path / "runs", modalities=["adc"], merge_labels="organ")
    loaded = load_network(result, device="cpu")
    assert loaded.task.modality_names == ("adc",)
    assert loaded.task.class_names == ("organ",)
    assert loaded.task.words == result.data["task"]["words"]
    assert loaded.network(torch.zeros(2, 1, 40, 56)).shape == (2, 1, 40, 56)
    require_same_masks(result, small_prostate, tmp_path / "masks")


def test_network_of_a_plugin_file_with_frozen_features(small_prostate: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "frozen.py"
    plugin.write_text(PLUGIN)
    result = run(small_prostate, tmp_path / "runs", method="frozen", fusion="hybrid", plugins=[plugin])
    require_same_masks(result, small_prostate, tmp_path / "masks")
    moved = tmp_path / "elsewhere" / "frozen.py"
    moved.parent.mkdir()
    plugin.rename(moved)
    with pytest.raises(UsbenchError, match=r"frozen\.py: .*is not there; name it in plugins"):
        load_network(result)
    require_same_masks(result, small_prostate, tmp_path / "again", plugins=[moved])
    moved.write_text(PLUGIN.replace("level.mean(1)", "2 * level.mean(1)"))
    with pytest.raises(UsbenchError, match="code of method 'frozen' has changed"):
        load_network(result, plugins=[moved])
    assert load_network(result, plugins=[moved], allow_other_code=True).method.name == "frozen"


def test_network_of_a_folder_of_ones_own(small_prostate: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own-data"
    shutil.copytree(next(small_prostate.glob("Task05*")), folder)
    result = run(folder, tmp_path / "runs", task=None, task_dir=folder, data_dir=None)
    loaded = load_network(result, device="cpu")
    assert loaded.task.class_names == tuple(result.data["task"]["classes"])
    assert loaded.task.words == result.data["task"]["words"]


def test_network_trained_on_a_real_sample(real_data: Path, tmp_path: Path) -> None:
    result = run(real_data / "msd", tmp_path / "runs", data="real")
    require_same_masks(result, real_data / "msd", tmp_path / "masks")


def test_loading_leaves_the_random_numbers_alone(kept: Any) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    load_network(kept, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_a_test_case_is_opened_once(
    small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Counter[str] = Counter()
    case = Store.case

    def counting(self: Store, case_id: str) -> Any:
        opened[case_id] += 1
        return case(self, case_id)

    monkeypatch.setattr(Store, "case", counting)
    result = run(small_prostate, tmp_path)
    assert dict(opened) == dict.fromkeys((*result.data["split"]["train"], *result.data["split"]["test"]), 1)


def test_every_digit_is_kept_and_shared_parameters_stay_shared(tmp_path: Path) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4)
            self.two = nn.Linear(4, 4)
            self.two.weight = self.one.weight
            self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).t())
            self.register_buffer("steps", torch.tensor(3))

    network = Shared()
    with torch.no_grad():
        network.one.weight[0, 0] = 1 / 3
        network.one.bias[0] = float(np.nextafter(np.float32(1), np.float32(2)))
    write_network(network, tmp_path / FILE)
    other = Shared()
    other.load_state_dict(read_state(tmp_path / FILE, ""))
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert other.one.weight is other.two.weight


def test_weights_of_older_versions_load(kept: Any, small_prostate: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(kept.path, folder)
    torch.save(read_state(folder / FILE, ""), folder / "weights.pt")
    (folder / FILE).unlink()

    def older(data: dict[str, Any]) -> None:
        del data["files"][FILE]
        data["files"]["weights.pt"] = sha256_file(folder / "weights.pt")

    rewrite(folder, older)
    require_same_masks(usbench.load_result(folder), small_prostate, tmp_path / "masks")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a result.json, and give it the digest that it then has."""
    data = json.loads((folder / "result.json").read_text())
    change(data)
    del data["digest"]
    data["digest"] = digest_of(data)
    (folder / "result.json").write_text(json.dumps(data))


def without_network(folder: Path) -> None:
    (folder / FILE).unlink()
    rewrite(folder, lambda data: data["files"].pop(FILE))


def other_code(folder: Path) -> None:
    rewrite(folder, lambda data: data["method"].update(source_hash="0" * 64))


def other_network(folder: Path) -> None:
    write_network(nn.Linear(2, 2), folder / FILE)
    rewrite(folder, lambda data: data["files"].update({FILE: sha256_file(folder / FILE)}))


def no_weights(folder: Path) -> None:
    (folder / FILE).write_bytes(b"no weights")
    rewrite(folder, lambda data: data["files"].update({FILE: sha256_file(folder / FILE)}))


def edited(folder: Path) -> None:
    content = bytearray((folder / FILE).read_bytes())
    content[-1] ^= 1
    (folder / FILE).write_bytes(content)


def other_settings(folder: Path) -> None:
    rewrite(folder, lambda data: data["config"]["train"].update(momentum=0.9))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without_network, r"kept no trained network; run it again with --overwrite, which keeps it"),
        (lambda folder: (folder / FILE).unlink(), r"network\.safetensors: was removed since the run"),
        (edited, r"network\.safetensors: is not what the run wrote"),
        (no_weights, r"network\.safetensors: cannot be read as weights"),
        (other_network, r"network\.safetensors: does not fit the network that method 'unext-small' builds"),
        (other_code, r"code of method 'unext-small' has changed since this run"),
        (other_settings, r"its settings are not those of this usbench .*momentum"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(
    kept: Any, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(kept.path, folder)
    damage(folder)
    with pytest.raises(UsbenchError, match=words) as caught:
        load_network(folder / "result.json", device="cpu")
    assert "\n" not in str(caught.value)
