"""Fusions as objects: settings of their own, labels and colours, of plugins too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import usbench
from usbench.config import make_config
from usbench.errors import UsbenchError
from usbench.fusions.build import build_model
from usbench.fusions.looks import looks_of
from usbench.fusions.networks import Late
from usbench.fusions.registry import get_fusion
from usbench.methods.registry import get_method
from usbench.testing import mock_task

PLUGIN = """
import torch
from torch import nn
import usbench

class Powers(nn.Module):
    def __init__(self, networks, power):
        super().__init__()
        self.networks, self.power = nn.ModuleList(networks), power
    def forward(self, images):
        maps = [net(images[:, i : i + 1]) for i, net in enumerate(self.networks)]
        return torch.stack(maps).mean(0) * self.power

def build(method, task, settings, own):
    assert set(own) == {"power", "how"}
    networks = [method.build_network(1, len(task.classes), **settings) for _ in task.modalities]
    return Powers(networks, own["power"])

FUSION = usbench.Fusion(
    "powers", "nobody", build, settings={"power": 1.0, "how": "mean"}, choices={"how": ("mean", "most")},
    label="powers of the mean", colour="#123456",
)
"""


def test_the_protocols_are_fusions_like_any_other() -> None:
    for name, own in {
        "early": {},
        "hybrid": {"hybrid": "conv1x1"},
        "late": {"merge": "mean-logits", "absent": "skip"},
    }.items():
        found = get_fusion(name)
        assert isinstance(found.fusion, usbench.Fusion)
        assert (found.fusion.name, found.found.origin, found.source_hash) == (name, "built in", "")
        assert found.fusion.settings == own
        assert found.fusion.label == name
        assert found.fusion.colour.startswith("#")


def test_a_configuration_has_the_settings_of_its_fusion_alone() -> None:
    method, _ = get_method("unet-classic")
    for name in ("early", "hybrid", "late"):
        fusion = get_fusion(name).fusion
        config = make_config("smoke", method.settings, method.presets, {}, fusion)
        assert config.as_dict()["fusion"] == fusion.settings
    config = make_config("smoke", method.settings, method.presets, {"fusion.merge": "learned"}, fusion)
    network = build_model(method, mock_task(3, 2), fusion, config).network
    assert isinstance(network, Late)
    assert network.weight.shape == (3, 2)


@pytest.mark.parametrize(
    ("fusion", "setting", "message"),
    [
        (
            "early",
            "fusion.merge=vote",
            "fusion.merge: fusion early has no such setting, late fusion has",
        ),
        (
            "late",
            "fusion.hybrid=concat",
            "fusion late has no such setting, hybrid fusion has.*--fusion hybrid",
        ),
        (
            "late",
            "fusion.merg=vote",
            "setting of fusion late .fusion.merg., did you mean .fusion.merge.",
        ),
        ("late", "fusion.merge=mean", "unknown value of fusion.merge 'mean'"),
        ("powers", "fusion.how=least", "unknown value of fusion.how 'least'"),
        ("powers", "fusion.power=much", "setting fusion.power: 'much' is not a number; its default is 1.0"),
    ],
)
def test_settings_of_other_fusions_are_refused(
    command: Any, tmp_path: Path, fusion: str, setting: str, message: str
) -> None:
    file = tmp_path / "powers.py"
    file.write_text(PLUGIN)
    words = ("run", "--fusion", fusion, "--task", "chaos", "--set", setting, "--plugin", file, "--dry-run")
    done = command(*words)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_settings_of_a_plugins_fusion_reach_it_and_the_result(tmp_path: Path, small_prostate: Path) -> None:
    file = tmp_path / "powers.py"
    file.write_text(PLUGIN)
    words: dict[str, Any] = {
        "task": "msd-prostate", "data_dir": small_prostate, "preset": "smoke", "runs_dir": tmp_path / "runs",
        "plugins": [file], "settings": {"train.epochs": 1, "fusion.power": 2},
    }  # fmt: skip
    (result,) = usbench.run("unext-small", "powers", **words)
    assert result.data["config"]["fusion"] == {"power": 2.0, "how": "mean"}
    stated = result.data["fusion"]
    assert (stated["label"], stated["colour"]) == ("powers of the mean", "#123456")
    other = {**words, "settings": {"train.epochs": 1}}
    (usual,) = usbench.run("unext-small", "powers", **other)
    assert usual.path != result.path
    board = usbench.leaderboard(tmp_path / "runs")
    assert {row.label for table in board.tables for row in table.rows} == {
        "unext-small, power 2.0",
        "unext-small, power 1.0",
    }
    from usbench.leaderboards import render

    page = render(board, "html")
    assert '"label":"powers of the mean","colour":"#123456"' in page


@pytest.mark.slow
def test_a_matrix_gives_a_setting_to_the_fusions_that_have_it(tmp_path: Path) -> None:
    words: dict[str, Any] = {
        "methods": "unext-small", "tasks": "chaos", "preset": "smoke", "runs_dir": tmp_path, "dry_run": True,
    }  # fmt: skip
    table = usbench.matrix(**words, settings={"fusion.merge": "vote"})
    configs = {cell.plan.fusion: cell.plan.config.fusion for cell in table.cells}
    assert configs == {
        "early": {},
        "hybrid": {"hybrid": "conv1x1"},
        "late": {"merge": "vote", "absent": "skip"},
    }
    with pytest.raises(UsbenchError, match="fusion early has no such setting, late fusion has"):
        usbench.matrix(**words, fusions="early", settings={"fusion.merge": "vote"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "my fusion"}, "has no sound name"),
        ({"settings": {"My Key": 1}}, "setting 'My Key' has no sound name"),
        ({"choices": {"how": ("a",)}}, "choices names 'how', which is no setting of it"),
        ({"colour": "red"}, "its colour 'red' is no colour; write it as #rrggbb"),
    ],
)
def test_unsound_fusions_are_named(changes: dict[str, Any], message: str) -> None:
    words: dict[str, Any] = {"name": "mine", "paper": "nobody", "build": print, **changes}
    with pytest.raises(UsbenchError, match=message):
        usbench.Fusion(**words)


def test_every_fusion_of_a_table_looks_different() -> None:
    names = ["late", "zeta", "early", "alpha", "beta"]
    looks = looks_of([{"name": name} for name in names] + [{"name": "own", "colour": "#010203"}])
    assert list(looks) == ["early", "late", "alpha", "beta", "own", "zeta"]
    assert len({look.colour for look in looks.values()}) == len(looks)
    assert looks["own"].colour == "#010203"
    assert looks["alpha"].label == "alpha"
