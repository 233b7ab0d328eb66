"""The list of methods is kept, and made anew as soon as something that it came from has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kit.places import ROOT

from usbench.methods import catalogue as module
from usbench.methods.kept import KeptRows

HELPER = "WIDTH = {width}\n"

PLUGIN = """
import usbench
from helper_of_kept import WIDTH

def build(in_channels, classes):
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(in_channels, WIDTH, 1, bias=False)
            self.two = nn.Conv2d(WIDTH, classes, 1, bias=False)
        def forward(self, images):
            return self.two(self.one(images))
    return Net()

METHOD = usbench.Method("kept-toy", "None.", build_segmenter=lambda task, fusion: build(
    len(task.modalities), len(task.classes)), fusions=("early",))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin whose width is in another file, which lies neither beside it nor in a package."""
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "helper_of_kept.py").write_text(HELPER.format(width=5))
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.delitem(sys.modules, "helper_of_kept", raising=False)
    file = tmp_path / "toy.py"
    file.write_text(PLUGIN)
    return file


def rows(plugin: Path, names: tuple[str, ...] = ("kept-toy",)) -> list[dict[str, Any]]:
    return module.catalogue("msd-prostate", "smoke", [plugin], names)


def never(*_: Any) -> Any:
    raise AssertionError("counted again")


def parameters(found: list[dict[str, Any]]) -> int:
    (row,) = found
    number: int = row["costs"]["early"]["parameters"]
    return number


def test_counted_once(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rows(plugin)
    # Two modalities and one class of the prostate: 2 * 5 + 5 * 1 weights.
    assert parameters(first) == 15
    monkeypatch.setattr(module, "_count", never)
    assert rows(plugin) == first


@pytest.mark.parametrize("what", ["helper", "plugin", "task", "preset", "usbench", "installed"])
def test_counted_anew_when_what_it_came_from_changes(
    plugin: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    rows(plugin)
    task, preset = "msd-prostate", "smoke"
    if what == "helper":
        (plugin.parent / "lib" / "helper_of_kept.py").write_text(HELPER.format(width=7))
    if what == "plugin":
        plugin.write_text(PLUGIN + "\n# Another one.\n")
    if what == "task":
        task = "msd-brain"
    if what == "preset":
        preset = "paper"
    if what == "usbench":
        monkeypatch.setattr("usbench.methods.kept.sha256_file", lambda path: f"of another {path}")
    if what == "installed":
        (plugin.parent / "lib" / "torch-99.0.dist-info").mkdir()
    monkeypatch.setattr(module, "_count", never)
    with pytest.raises(AssertionError, match="counted again"):
        module.catalogue(task, preset, [plugin], ("kept-toy",))


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _other_number(text: str) -> str:
    return text.replace('"parameters": 15', '"parameters": 16')


@pytest.mark.parametrize("damage", [_cut, _other_number, lambda _: "[]", lambda _: "null", lambda _: ""])
def test_damaged_note_is_made_anew(plugin: Path, damage: Any) -> None:
    first = rows(plugin)
    note = KeptRows("msd-prostate", "smoke", [plugin], ("kept-toy",)).path
    whole = note.read_text()
    note.write_text(damage(whole))
    assert note.read_text() != whole
    assert rows(plugin) == first
    assert json.loads(note.read_text())["rows"] == first


def test_failure_is_not_kept(plugin: Path) -> None:
    plugin.write_text(PLUGIN.replace("nn.Conv2d(in_channels", "nn.NoSuchLayer(in_channels"))
    (row,) = rows(plugin)
    assert "NoSuchLayer" in row["error"]
    assert not KeptRows("msd-prostate", "smoke", [plugin], ("kept-toy",)).path.exists()


def test_cache_that_cannot_be_written_is_no_fault(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = plugin.parent / "a-file"
    file.write_text("")
    monkeypatch.setenv("USBENCH_CACHE", str(file))
    assert parameters(rows(plugin)) == 15


def test_how_python_was_started_changes_nothing(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m usbench` looks for modules where one stands, `usbench` does not."""
    (tmp_path / "checkout" / "mine.egg-info").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkout")
    first = rows(plugin)
    monkeypatch.setattr(module, "_count", never)
    for where in ("", str(tmp_path / "checkout")):
        monkeypatch.setattr(sys, "path", [where, *sys.path])
        assert rows(plugin) == first


def test_second_list_does_not_import_torch(plugin: Path) -> None:
    first = json.dumps(rows(plugin))
    code = (
        "import json, sys; from pathlib import Path; from usbench.methods.catalogue import catalogue; "
        f"sys.path.insert(0, {str(plugin.parent / 'lib')!r}); "
        f"found = catalogue('msd-prostate', 'smoke', [Path({str(plugin)!r})], ('kept-toy',)); "
        "assert 'torch' not in sys.modules; print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr == ""
    assert done.stdout.strip() == first
