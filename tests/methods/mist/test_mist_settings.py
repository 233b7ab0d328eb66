"""What a user may set of MIST, and what is said where it is not there."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from usbench.errors import UsbenchError
from usbench.methods.mist.pipeline import check
from usbench.methods.mist.settings import PRESETS, SETTINGS, check_settings, label
from usbench.plugins.code_hash import source_files


def fake_python(place: Path, answer: str) -> str:
    """A program that prints `answer` whatever it is asked."""
    file = place / "python"
    file.write_text(f"#!/bin/sh\necho '{answer}'\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "MIST nnunet (1000 epochs)"),
        (PRESETS["quick"], "MIST nnunet-pocket (10 epochs of 8)"),
        (PRESETS["smoke"], "MIST nnunet-pocket (1 epoch of 2)"),
    ],
)
def test_the_row_says_how_long_it_was_trained(changes: dict[str, object], words: str) -> None:
    assert label({**SETTINGS, **changes}) == words


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_sound(preset: str) -> None:
    check_settings({**SETTINGS, **PRESETS[preset]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "unet"}, "method.network=unet.*nnunet-pocket"),
        ({"epochs": 0}, "method.epochs=0"),
        ({"epochs": 2.5}, "method.epochs=2.5"),
        ({"steps": True}, "method.steps=True"),
        ({"epochs": 20}, "method.warmup=20.*fewer than the 20 epochs"),
        ({"patch": 48}, "method.patch=48.*multiple of 32"),
        ({"overlap": 1}, "method.overlap=1"),
        ({"tta": "no"}, "method.tta=no"),
        ({"workers": -1}, "method.workers=-1"),
    ],
)
def test_a_setting_that_cannot_work_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsbenchError, match=words):
        check_settings({**SETTINGS, **changes})


def test_an_interpreter_with_the_right_version_passes(tmp_path: Path) -> None:
    check({**SETTINGS, "python": fake_python(tmp_path, '{"mist-medical": "2.3.0"}')})


def test_another_version_is_named_with_the_command(tmp_path: Path) -> None:
    python = fake_python(tmp_path, '{"mist-medical": "1.0.1"}')
    with pytest.raises(
        UsbenchError,
        match=r"mist-medical 1\.0\.1, and it needs mist-medical 2\.3\.0; install it: .* -m pip install",
    ):
        check({**SETTINGS, "python": python})


def test_where_it_is_not_installed_the_command_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        UsbenchError, match=r"mist-medical is not installed.*pip install mist-medical==2\.3\.0"
    ):
        check({**SETTINGS, "python": fake_python(tmp_path, '{"mist-medical": null}')})


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsbenchError, match=r"method\.python=.*no program that can be run"):
        check({**SETTINGS, "python": str(tmp_path / "nothing")})


def test_a_change_in_the_program_is_a_change_of_the_method() -> None:
    names = {file.name for file in source_files("usbench.methods.mist.pipeline")}
    assert {"main.py", "settings.py", "pipeline.py"} <= names
    assert "usbench" not in Path(
        sys.modules["usbench.methods.mist.mist_program.main"].__file__ or ""
    ).read_text(encoding="utf-8").split("import")
