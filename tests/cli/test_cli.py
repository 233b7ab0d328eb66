"""The command line: help without torch, exit codes, one-line errors, listing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from usbench import __version__
from usbench.cli.main import main

HEAVY = ("torch", "monai", "numpy", "scipy", "pandas", "matplotlib", "nibabel", "rich", "yaml")


def paths(group: click.Group = main, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command there is, as words."""
    found = [prefix]
    for name, sub in group.commands.items():
        found += paths(sub, (*prefix, name)) if isinstance(sub, click.Group) else [(*prefix, name)]
    return found


@pytest.mark.parametrize("words", paths(), ids=lambda words: " ".join(words) or "usbench")
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['usbench', *{list(words)!r}, '--help']\n"
        "from usbench.cli.main import entry\n"
        "try:\n    entry()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_importing_usbench_imports_nothing_heavy() -> None:
    code = f"import sys, usbench; assert not [m for m in {HEAVY!r} if m in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_version(command: Any) -> None:
    assert __version__ in command("--version").stdout


@pytest.mark.slow
def test_methods_counts_unet_under_each_fusion(command: Any) -> None:
    done = command("methods", "unet", "--task", "msd-brain", "--json")
    assert done.returncode == 0, done.stderr
    (unet,) = json.loads(done.stdout)
    # A resnet34 U-Net with one input channel and one class: 24,436,514 less two stem channels of
    # 64 x 7 x 7, less one output channel of 16 x 3 x 3 + 1.
    one = 24_436_514 - 2 * 64 * 49 - 145
    assert unet["costs"]["late"]["parameters"] == 4 * one
    assert unet["costs"]["early"]["parameters"] == one + 3 * 64 * 49
    assert 14 < unet["costs"]["early"]["gflops_per_slice"] < 18
    assert unet["weights"] == "imagenet"
    assert unet["size"] == 256
    table = command("methods", "unet").stdout
    assert "Ronneberger" in table
    assert "hybrid" in table


@pytest.mark.slow
def test_methods_lists_what_cannot_be_used(command: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no licence')")
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[usbench.methods]\nbad = broken:METHOD\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = command("methods", "bad", "unext-small", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "no licence" in done.stdout
    assert "253," in done.stdout


def test_debug_shows_the_traceback(command: Any) -> None:
    done = command("run", "--task", "nowhere", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "unknown task 'nowhere'" in done.stderr


def test_data_list_names_licence_and_address(command: Any, small_prostate: Path) -> None:
    done = command("data", "list", "--data-dir", small_prostate)
    assert done.returncode == 0, done.stderr
    assert "CC BY-NC-SA 4.0" in done.stdout
    assert "https://zenodo.org/records/3431873/files/CHAOS_Train_Sets.zip (890,771,694 bytes)" in done.stdout
    assert f"4 cases in {small_prostate}" in done.stdout


@pytest.mark.slow
def test_data_phantom_check_prepare(command: Any, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert command("data", "phantom", "msd-prostate", folder, "--cases", "2").returncode == 0
    assert "not an empty folder" in command("data", "phantom", "msd-prostate", folder).stderr
    checked = command("data", "check", "msd-prostate", "--data-dir", folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "nothing wrong found" in checked.stdout
    prepared = command(
        "data", "prepare", "msd-prostate", "--data-dir", folder, "--preset", "smoke", "--workers", "2"
    )
    assert prepared.returncode == 0, prepared.stderr
    assert "2 cases prepared" in prepared.stdout


def test_data_check_reports_and_fails(command: Any, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    command("data", "phantom", "msd-prostate", folder, "--cases", "2")
    for name in ("imagesTr/prostate_00", "labelsTr/prostate_01"):
        file = folder / "Task05_Prostate" / f"{name}.nii.gz"
        file.write_bytes(file.read_bytes()[:500])
    done = command("data", "check", "msd-prostate", "--data-dir", folder)
    assert done.returncode == 1
    assert "imagesTr/prostate_00.nii.gz" in done.stdout
    assert "labelsTr/prostate_01.nii.gz" in done.stdout
    assert "Error:" in done.stderr
    assert "Traceback" not in done.stderr
