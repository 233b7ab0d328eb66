"""The example of a plugin: installed with pip it is a method like others, and so is its one file by path."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from kit.commands import Command
from kit.installing import pip_install, with_path
from kit.places import ROOT

import usbench
from usbench.methods.registry import get_method
from usbench.testing import MethodTests

EXAMPLE = ROOT / "examples" / "plugin"
FILE = EXAMPLE / "src" / "usbench_linklet" / "network.py"


class TestLinklet(MethodTests):
    method = get_method("linklet", [FILE])[0]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip_install(EXAMPLE, target, tmp_path_factory.mktemp("work"))
    return target


@pytest.mark.slow
def test_the_installed_package_runs_under_every_fusion_and_enters_the_leaderboard(
    installed: Path, small_prostate: Path, tmp_path: Path, command: Command
) -> None:
    words = ("--fusions", "all", "--tasks", "msd-prostate", "--data-dir", small_prostate, "--preset", "smoke")
    made = command(
        *("matrix", "--methods", "linklet", *words, "--workers", 1, "--device", "cpu"),
        *("--runs-dir", tmp_path / "runs"),
        **with_path(installed),
    )
    assert made.returncode == 0, made.stderr
    # The board needs no plugin to be there.
    (table,) = usbench.leaderboard(tmp_path / "runs").tables
    assert {(row.method, row.fusion) for row in table.rows} == {
        ("linklet", "early"),
        ("linklet", "hybrid"),
        ("linklet", "late"),
    }
    for file in (tmp_path / "runs").rglob("result.json"):
        method = json.loads(file.read_text())["method"]
        assert (method["origin"], method["version"]) == ("package usbench-linklet 1.0.0", "1.0.0")
        assert len(method["source_hash"]) == 64


@pytest.mark.slow
def test_the_single_file_gives_the_same_scores(
    installed: Path, small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By path and from the package it is the same code: same digest, same numbers, other origin."""
    words = {"method": "linklet", "fusion": "hybrid", "task": "msd-prostate", "data_dir": small_prostate}
    more = {"preset": "smoke", "device": "cpu", "runs_dir": tmp_path / "runs"}
    (by_path,) = usbench.run(**words, **more, plugins=[FILE])
    monkeypatch.syspath_prepend(installed)
    try:
        (by_package,) = usbench.run(**words, **more)
    finally:
        for name in [name for name in sys.modules if name.startswith("usbench_linklet")]:
            del sys.modules[name]
    one, two = by_path.data["method"], by_package.data["method"]
    assert one["origin"] == f"file {FILE}"
    assert two["origin"] == "package usbench-linklet 1.0.0"
    assert by_path.scores == by_package.scores
    assert by_path.path != by_package.path


def test_a_file_of_an_installed_name_is_refused(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    with pytest.raises(
        usbench.UsbenchError, match=r"'linklet' is there already \(package usbench-linklet 1.0.0\)"
    ):
        get_method("linklet", [FILE])


@pytest.mark.slow
def test_usbench_methods_lists_the_package(installed: Path, command: Command) -> None:
    listed = command(
        "methods",
        "linklet",
        "unext-small",
        "--task",
        "msd-prostate",
        "--preset",
        "smoke",
        "--json",
        **with_path(installed),
    )
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    row = rows["linklet"]
    assert row["error"] is None
    assert row["origin"] == "package usbench-linklet 1.0.0"
    counts = {name: cost["parameters"] for name, cost in row["costs"].items()}
    network = get_method("linklet", [FILE])[0].build_network(1, 1, width=8)
    assert counts["late"] == 2 * sum(p.numel() for p in network.parameters())
    assert rows["unext-small"]["error"] is None
