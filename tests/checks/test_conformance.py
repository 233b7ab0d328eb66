"""`usbench check` from the command line and from Python: what it says, exit codes, errors, documentation."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from kit.installing import PLUGIN
from kit.places import ROOT

import usbench
from usbench.checks.outcome import Verdict
from usbench.checks.suite import CHECKS, render
from usbench.errors import UsbenchError

TABLE = ROOT / "docs" / "check.md"


def plugin(folder: Path, code: str = PLUGIN) -> Path:
    """A plugin file with a method 'tiny' under all three protocols."""
    file = folder / "mine.py"
    file.write_text(code)
    return file


@pytest.mark.slow
def test_command_passes_a_plugin_file(command: Any, tmp_path: Path) -> None:
    words = ["check", plugin(tmp_path, "print('hello')\n" + PLUGIN), "--only", "shape,saves,mask"]
    done = command(*words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "tiny: early, hybrid, late fusion"
    passed = sum(" pass" in line for line in lines[:-1])
    assert passed >= 3
    assert any(re.fullmatch(r"  shape +pass  64x64, 50x75, M = 1, 2, 3, 4", line) for line in lines)
    assert re.fullmatch(rf"{3 * passed} pass, 0 fail, 0 n/a in \d+ s", lines[-1])
    assert "hello" not in done.stdout
    assert "tiny late: saves" in done.stderr  # the progress bar


@pytest.mark.slow
def test_command_names_the_fault_and_fails(command: Any, tmp_path: Path) -> None:
    code = PLUGIN.replace("return self.head(features[0])", "return self.head(features[0]).sigmoid()")
    done = command("check", plugin(tmp_path, code), "--fusion", "hybrid,early", "--only", "logits", "--json")
    assert done.returncode == 1
    assert "Error: failed: logits; the lines above say what to change" in done.stderr
    (early,) = [v for v in json.loads(done.stdout) if v["check"] == "logits" and v["fusion"] == "early"]
    assert early["state"] == "fail"
    assert "probabilities" in early["reason"]
    assert "sigmoid" in early["remedy"]
    assert set(early) == {"method", "fusion", "check", "state", "reason", "remedy", "seconds"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"method": "unett"}, "did you mean 'unet'"),
        ({"method": "nowhere.py"}, "nowhere.py: no such plugin file"),
        ({"method": "unext", "checks": ["shapes"]}, "unknown check 'shapes', did you mean 'shape'"),
        ({"method": "unext", "settings": {"method.width": 3}}, "unknown setting 'method.width'"),
        ({"method": "unext", "preset": "fast"}, "unknown preset 'fast'"),
        ({"method": "zeus", "fusions": ["early"]}, "does not apply to early fusion"),
    ],
)
def test_wrong_words_are_errors(call: dict[str, Any], message: str) -> None:
    with pytest.raises(UsbenchError, match=re.escape(message)):
        usbench.check(**call)


def test_settings_reach_the_methods_that_have_them(tmp_path: Path) -> None:
    code = PLUGIN.replace("Encoder(in_channels)", "Encoder(in_channels + width - 4)")
    code += 'METHODS = [METHOD, Method("plain", "nobody", build_network=lambda i, k: build(i, k))]\n'
    words: dict[str, Any] = {"fusions": ["early"], "checks": ["builds"]}
    found = usbench.check(plugin(tmp_path, code), settings={"method.width": 5}, **words)
    assert {(v.method, v.check): v.state for v in found} == {
        ("tiny", "fusions"): "pass",
        ("tiny", "builds"): "fail",
        ("plain", "fusions"): "pass",
        ("plain", "builds"): "pass",
    }
    with pytest.raises(UsbenchError, match=r"unknown setting 'method\.depth'"):
        usbench.check(plugin(tmp_path, code), settings={"method.depth": 5}, **words)


def test_absent_weights_are_not_applicable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USBENCH_WEIGHTS", str(tmp_path))
    found = {
        v.check: v for v in usbench.check("zeus", fusions=["late"], settings={"method.weights": "paper"})
    }
    assert found["fusions"].state == "n/a"
    assert "are not in" in found["fusions"].reason
    assert {v.state for v in found.values()} == {"n/a"}


@pytest.mark.slow
def test_zeus_passes_with_its_bundled_weights() -> None:
    if not os.environ.get("USBENCH_WEIGHTS"):
        pytest.skip("USBENCH_WEIGHTS names no weights")
    found = usbench.check("zeus")
    assert [v for v in found if v.state == "fail"] == []
    assert {v.check for v in found if v.state == "pass"} == {c.name for c in CHECKS}


def test_protocols_that_agree_share_a_line() -> None:
    def verdict(fusion: str, state: Any, reason: str, remedy: str = "") -> Verdict:
        return Verdict("m", fusion, "state", state, reason, remedy, 1.0)

    found = [
        verdict("early", "pass", "a"),
        verdict("hybrid", "fail", "b", "c"),
        verdict("late", "fail", "b", "c"),
    ]
    assert render(found).splitlines() == [
        "m: early, hybrid, late fusion",
        "  state  pass  early: a",
        "  state  FAIL  hybrid, late: b; c",
        "1 pass, 2 fail, 0 n/a in 3 s",
    ]


def test_documentation_has_every_check_and_its_remedy() -> None:
    rows = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")] for line in TABLE.read_text().splitlines()
    ]
    table = {row[0].strip("`"): row[-1] for row in rows if len(row) == 4 and row[0].startswith("`")}
    assert list(table) == [check.name for check in CHECKS]
    for check in CHECKS:
        assert table[check.name] == (check.remedy or "none: it informs"), check.name
