"""Digests of cells: what changes them, and what must not."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kit.built_in_cell import built_in_cell
from kit.places import ROOT

from usbench.contracts.settings import DataSettings, TrainSettings
from usbench.fusions.registry import BUILT_IN, get_fusion
from usbench.methods.registry import BUILT_IN as METHODS
from usbench.results import digests
from usbench.results.digests import DEFAULTS, differing, key_of, protocol_of, without_later
from usbench.results.io import PROTOCOL_VERSION, load_result
from usbench.storage.files import digest_of


def kept(*boards: str) -> list[Path]:
    """About a dozen of the results that lie in the repository, those of some boards."""
    files = [f for board in boards for f in (ROOT / "leaderboards" / board).glob("results/*/*/*/result.json")]
    return sorted(files)[:: max(1, len(files) // 12)]


VERSION_2 = kept("glioma-64", "phantoms-64", "zeus-64")


def test_every_setting_has_a_value_that_digests_leave_out() -> None:
    """Else a new setting would make every older result incomparable."""
    usual = DEFAULTS[PROTOCOL_VERSION]
    assert set(usual["data"]) == {field.name for field in dataclasses.fields(DataSettings)}
    assert set(usual["train"]) == {field.name for field in dataclasses.fields(TrainSettings)}
    for name in BUILT_IN:
        assert set(usual[f"fusion.{name}"]) == set(get_fusion(name).fusion.settings)


def test_only_what_differs_counts() -> None:
    settings = dataclasses.asdict(TrainSettings(epochs=7, mirror=True))
    assert differing(settings, "train", 3) == {"epochs": 7, "mirror": True}
    assert differing({}, "train", 3) == {}
    assert differing({"merge": "vote"}, "fusion.late", 3) == {"merge": "vote"}


def made(**changes: Any) -> tuple[str, str, str]:
    """Protocol, key and folder of a cell; changes: settings by "section.key"."""
    cell = built_in_cell("late")
    config = cell.config.as_dict()
    for name, value in changes.items():
        section, key = name.split("__")
        config[section][key] = value
    object.__setattr__(cell.config, "as_dict", lambda: config)
    return cell.protocol, cell.key, cell.folder.name


@pytest.mark.parametrize("section", ["data", "train", "fusion"])
def test_a_new_setting_changes_no_digest(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made()
    part = {"fusion": "fusion.late"}.get(section, section)
    usual = {**DEFAULTS[3], part: {**DEFAULTS[3][part], "novelty": 0.5}}
    monkeypatch.setitem(digests.DEFAULTS, 3, usual)
    assert made(**{f"{section}__novelty": 0.5}) == before
    # Whoever changes it makes another cell, and another table where training or data are another.
    after = made(**{f"{section}__novelty": 0.25})
    assert after[1] != before[1]
    assert (after[0] != before[0]) == (section != "fusion")


def test_settings_that_came_later_are_left_out_where_they_do_nothing() -> None:
    config = {
        "train": {"epochs": 300, "modality_dropout": 0.0},
        "fusion": {"merge": "mean-logits", "absent": "skip"},
    }
    assert without_later(config, "late") == {"train": {"epochs": 300}, "fusion": {"merge": "mean-logits"}}
    changed = {
        "train": {"epochs": 300, "modality_dropout": 0.5},
        "fusion": {"merge": "mean-logits", "absent": "x"},
    }
    assert without_later(changed, "late") == changed


def test_settings_that_differ_change_the_digest() -> None:
    before = made()
    for name, value in {"train__epochs": 99, "data__size": 48, "fusion__merge": "vote"}.items():
        assert made(**{name: value})[1] != before[1], name


def test_a_changed_default_keeps_older_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that states the older value is the cell that it was."""
    before = made(train__clip=0.0)
    monkeypatch.setattr(TrainSettings, "clip", 5.0)
    assert made(train__clip=0.0) == before
    assert made(train__clip=5.0) != before


def test_there_are_older_results() -> None:
    assert len(VERSION_2) >= 12


@pytest.mark.parametrize("file", VERSION_2, ids=lambda file: file.parent.name)
def test_version_2_is_computed_as_it_was(file: Path) -> None:
    """Results that lie in the repository since then have the digests that they had."""
    data = load_result(file).data
    assert "protocol_version" not in data
    task, cost = data["task"], data["cost"]
    shared = (task["name"], task["modalities"], task["classes"], data["config"], data["split"]["digest"])
    protocol = protocol_of(*shared, data["data"]["limit"], cost["precision"], version=2)
    assert protocol == data["protocol"]
    cell = data["cell"]
    facts = (data["method"], cell["fusion"], cell["fold"], cell["seed"], data["config"], cost["devices"])
    assert key_of(protocol, data["data"]["fingerprint"], *facts, {}, version=2) == cell["hash"]
    assert protocol_of(*shared, data["data"]["limit"], cost["precision"]) != protocol


HASHES = """
import json, usbench
from usbench.methods.registry import BUILT_IN, get_method, source_hash
print(json.dumps({name: source_hash(get_method(name)[0]) for name in sorted(BUILT_IN)}))
"""


def hashes(place: Path) -> str:
    """The digests of the code of all built-in methods, by the usbench that lies in `place`."""
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(place)!r})\n{HASHES}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=place, check=True)
    return done.stdout


@pytest.mark.slow
def test_moving_a_file_changes_no_digest(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "usbench", tmp_path / "usbench", ignore=shutil.ignore_patterns("__pycache__"))
    before = hashes(tmp_path)
    assert before.count('"') == 4 * len(METHODS)
    package = tmp_path / "usbench"
    moves = {"contracts/method": "contracts/methods_contract", "storage/state_dict": "storage/weight_files"}
    for old, new in moves.items():
        (package / f"{old}.py").rename(package / f"{new}.py")
    for file in package.rglob("*.py"):
        text = file.read_text()
        for old, new in moves.items():
            text = text.replace(f"usbench.{old.replace('/', '.')}", f"usbench.{new.replace('/', '.')}")
        file.write_text(text)
    assert hashes(tmp_path) == before
    # A change in the method itself does count.
    file = package / "baselines" / "unext.py"
    file.write_text(file.read_text() + "\n# another\n")
    assert hashes(tmp_path) != before


def test_networks_of_slices_do_not_share_the_protocol_of_volumes() -> None:
    cell = built_in_cell("late")
    parts = (cell.task.name, cell.task.modality_names, cell.task.class_names, cell.config.as_dict())
    longer = {**cell.config.as_dict(), "train": {**cell.config.as_dict()["train"], "epochs": 99}}
    split = cell.split.digest
    assert protocol_of(*parts, split, None, "32") == cell.protocol
    assert protocol_of(*parts[:3], longer, split, None, "32") != cell.protocol
    # What volumes share leaves out the training.
    volumes = protocol_of(*parts, split, None, "32", volumes=True)
    assert volumes != cell.protocol
    assert protocol_of(*parts[:3], longer, split, None, "32", volumes=True) == volumes


def test_regions_and_their_thresholds_change_the_digests_of_regions_alone() -> None:
    cell = built_in_cell("late", task="msd-brain-regions")
    parts = (cell.task.name, cell.task.modality_names, cell.task.class_names, cell.config.as_dict())
    split = cell.split.digest
    names = dict.fromkeys(cell.task.class_names, 0.5)
    assert cell.protocol == protocol_of(*parts, split, None, "32", regions=names)
    without = protocol_of(*parts, split, None, "32")
    lower = protocol_of(*parts, split, None, "32", regions={**names, "tumour-core": 0.3})
    assert len({cell.protocol, without, lower}) == 3
    # The digest of a task of classes, written out: what it covers is what it covered before regions came.
    one = built_in_cell("late")
    shared = {
        "version": 3,
        "task": "msd-prostate",
        "modalities": ["t2", "adc"],
        "classes": ["prostate"],
        "data": differing(one.config.as_dict()["data"], "data", 3),
        "train": differing(one.config.as_dict()["train"], "train", 3),
        "split": one.split.digest,
        "limit": None,
        "precision": "32",
    }
    assert one.protocol == digest_of(shared)[:12]


def test_networks_of_slices_have_the_digests_that_they_had_before_volumes() -> None:
    """Computed by the usbench of before `Config.volume`; the code of the method is left out of it."""
    cells = {name: dataclasses.replace(built_in_cell(name), source_hash="s" * 64) for name in BUILT_IN}
    assert {name: (cell.protocol, cell.key[:20]) for name, cell in cells.items()} == PINNED


PINNED = {
    "early": ("309cf31d4d25", "1ea2d3376c3d71bb62ae"),
    "hybrid": ("309cf31d4d25", "c0d7909397338579dd2f"),
    "late": ("309cf31d4d25", "200ba070649d2dfe09c0"),
}


def test_the_values_that_digests_leave_out_never_change() -> None:
    """Whoever changes one makes every result with that setting another cell. New settings may come."""
    written = {
        "data": {"size": 256, "resize": "area", "normalise": "zscore", "plane": "axial"},
        "train": {
            "epochs": 300, "batch": 10, "lr": 1e-3, "weight_decay": 5e-4, "poly_power": 0.9, "patience": 75,
            "empty": 1.0, "min_batches": 1, "augment": "none", "mirror": False, "views": 4, "clip": 0.0,
            "modality_dropout": 0.0, "warmup": 0,
        },
        "volume": {
            "mode": "patch", "shape": [128, 128, 128], "patch": [32, 96, 96], "spacing": 0.0, "overlap": 0.5,
            "foreground": 0.5, "patches": 4,
        },
    }  # fmt: skip
    for section, values in written.items():
        assert {key: DEFAULTS[3][section][key] for key in values} == values
