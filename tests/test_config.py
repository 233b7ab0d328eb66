"""Settings: presets, files, assignments, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.places import ROOT

from usbench.config import PRESETS, make_config, parse_assignments, read_config_file
from usbench.errors import UsbenchError
from usbench.fusions.late import FUSION
from usbench.runs.plan import parse_folds

DEFAULTS = {"encoder": "resnet34", "depth": 5}


def config(preset: str = "paper", **overrides: Any) -> Any:
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return make_config(preset, DEFAULTS, {"quick": {"encoder": "resnet18"}}, dotted, FUSION)


def test_paper_preset_is_the_papers_recipe() -> None:
    # Dai et al., "Implementation Details".
    made = config()
    train = made.train
    assert (train.epochs, train.patience, train.batch) == (300, 75, 10)
    assert (train.lr, train.weight_decay, train.poly_power) == (1e-3, 5e-4, 0.9)
    assert (train.empty, train.augment, train.clip) == (1.0, "none", 0.0)
    assert (made.data.size, made.data.resize) == (256, "nearest")


def test_method_presets_and_overrides() -> None:
    assert config("paper").method["encoder"] == "resnet34"
    assert config("quick").method["encoder"] == "resnet18"
    assert config("quick", method__encoder="resnet50").method == {"encoder": "resnet50", "depth": 5}


def test_assignments_are_typed() -> None:
    assert parse_assignments(["train.lr=1e-4", "train.epochs=5", "method.encoder=resnet18"]) == {
        "train.lr": "1e-4",  # YAML's own reading; make_config makes it a number
        "train.epochs": 5,
        "method.encoder": "resnet18",
    }
    assert config(train__lr="1e-4").train.lr == pytest.approx(1e-4)


def test_yaml_file_nested_or_flat(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("train:\n  epochs: 7\nfusion.merge: vote\n")
    assert read_config_file(file) == {"train.epochs": 7, "fusion.merge": "vote"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train__epoch": 3}, "unknown setting 'train.epoch', did you mean 'train.epochs'"),
        ({"method__encodr": "x"}, "did you mean 'method.encoder'"),
        ({"train__epochs": "many"}, "'many' is not a whole number"),
        ({"train__epochs": 2.5}, "'2.5' is not a whole number"),
        ({"train__epochs": True}, "'True' is not a whole number"),
        ({"train__epochs": 0}, "train.epochs: 0 is out of range"),
        ({"train__lr": "fast"}, "'fast' is not a number"),
        ({"train__lr": -1.0}, "out of range"),
        ({"train__empty": 1.5}, "out of range"),
        ({"data__size": 8}, "data.size: 8 is out of range"),
        ({"data__resize": "nearby"}, "value of data.resize"),
        ({"fusion__merge": "mean"}, "value of fusion.merge 'mean'"),
    ],
)
def test_bad_settings(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UsbenchError) as caught:
        config(**overrides)
    assert message in str(caught.value)


def test_unknown_preset() -> None:
    with pytest.raises(UsbenchError, match="did you mean 'quick'"):
        config("quik")


def test_every_preset_makes_a_configuration() -> None:
    for preset in PRESETS:
        assert config(preset).as_dict()["train"]["epochs"] > 0


def test_protocol_page_tells_the_presets_as_they_are() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"
    ]
    told = {
        row[0].strip("`"): row[1:] for row in rows if len(row) == 1 + len(PRESETS) and row[0].startswith("`")
    }
    assert len(told) == 15
    for number, preset in enumerate(PRESETS):
        made = config(preset).as_dict()
        for key, words in told.items():
            section, _, name = key.partition(".")
            value = made[section][name]
            assert words[number] == str(value) or float(words[number]) == value, (preset, key)


def test_folds() -> None:
    assert parse_folds("all", 4) == [0, 1, 2, 3]
    assert parse_folds("2,0,2", 4) == [0, 2]
    assert parse_folds([3], 4) == [3]
    for bad, message in {"4": "choose from 0 to 3", "x": "'x' is not a fold", "-1": "choose from"}.items():
        with pytest.raises(UsbenchError, match=message):
            parse_folds(bad, 4)
