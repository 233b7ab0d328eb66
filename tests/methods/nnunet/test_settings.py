"""What a user may set of nnU-Net, and what is said where it is not there."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from usbench.errors import UsbenchError
from usbench.methods.nnunet.pipeline import check
from usbench.methods.nnunet.settings import PRESETS, SETTINGS, check_settings, label
from usbench.methods.registry import get_method


def set_to(**changes: object) -> dict[str, object]:
    return {**SETTINGS, **changes}


def fake_python(place: Path, answer: str) -> str:
    """A program that prints `answer` whatever it is asked."""
    file = place / "python"
    file.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "nnU-Net 2d (1000 epochs)"),
        ({"epochs": 20}, "nnU-Net 2d (20 epochs)"),
        (PRESETS["quick"], "nnU-Net 2d (20 epochs of 10)"),
        (PRESETS["smoke"], "nnU-Net 2d (1 epoch of 2)"),
        ({"planner": "resenc-l", "configuration": "3d_fullres"}, "nnU-Net ResEnc L 3d_fullres (1000 epochs)"),
    ],
)
def test_the_row_says_how_long_it_was_trained(changes, words) -> None:
    assert label(set_to(**changes)) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"configuration": "3d_lowres"},
            "method.configuration=3d_lowres: not known; choose from 2d, 3d_fullres",
        ),
        ({"planner": "resenc-xl"}, "method.planner=resenc-xl: not known"),
        ({"mirror": True}, "method.mirror=True: not known; choose from task, all, none"),
        ({"plan_on": "test"}, "method.plan_on=test: not known"),
        ({"epochs": 0}, "method.epochs=0: not a whole number of 1 or more"),
        ({"iterations": 2.5}, "method.iterations=2.5: not a whole number"),
        ({"batch": -1}, "method.batch=-1: not a whole number of 0 or more"),
        ({"patch": 8}, "method.patch=8: too small"),
        ({"silent_minutes": 0}, "method.silent_minutes=0"),
    ],
)
def test_a_setting_that_cannot_work_is_named(changes, words) -> None:
    with pytest.raises(UsbenchError, match=r"^method") as problem:
        check(set_to(**changes))
    assert words in str(problem.value)


def test_presets_and_defaults_can_be_run() -> None:
    for preset in ({}, *PRESETS.values()):
        check_settings(set_to(**preset))


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsbenchError, match=r"method.python=/no/python: no program that can be run"):
        check(set_to(python="/no/python"))
    # A file that is there and is no program.
    (tmp_path / "python").write_text("")
    with pytest.raises(UsbenchError, match="no program that can be run"):
        check(set_to(python=str(tmp_path / "python")))


@pytest.mark.parametrize("answer", ["", "hello", "[1]", '{"nnunetv2": "2.7.0"}'])
def test_a_program_that_is_no_python(tmp_path: Path, answer: str) -> None:
    with pytest.raises(UsbenchError, match="does not answer as a Python interpreter"):
        check(set_to(python=fake_python(tmp_path, answer)))


def test_nnunet_not_installed(tmp_path: Path) -> None:
    python = fake_python(tmp_path, '{"nnunetv2": null, "dynamic-network-architectures": null}')
    with pytest.raises(UsbenchError) as problem:
        check(set_to(python=python))
    text = str(problem.value)
    assert "\n" not in text
    assert "nnunetv2 is not installed" in text
    command = f"{python} -m pip install nnunetv2==2.7.0 dynamic-network-architectures==0.4.2"
    assert text.endswith(f"install them: {command}")


def test_another_version_of_nnunet(tmp_path: Path) -> None:
    python = fake_python(tmp_path, '{"nnunetv2": "2.8.1", "dynamic-network-architectures": "0.4.2"}')
    with pytest.raises(UsbenchError, match=r"nnunetv2 2\.8\.1, and it needs nnunetv2 2\.7\.0"):
        check(set_to(python=python))


def test_the_interpreter_of_usbench_gets_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usbench.methods.nnunet.pipeline.VERSIONS", {"no-such-package": "1.0"})
    with pytest.raises(UsbenchError, match=r"-m pip install 'usbench\[nnunet\]'$"):
        check(SETTINGS)


def test_the_right_versions_pass(tmp_path: Path) -> None:
    answer = '{"nnunetv2": "2.7.0", "dynamic-network-architectures": "0.4.2"}'
    check(set_to(python=fake_python(tmp_path, answer)))


def test_the_method_is_found_by_its_name() -> None:
    method, _ = get_method("nnunet")
    assert method.fusions == ("early", "late")
    assert method.pipeline is not None
    assert method.pipeline.label(method.settings) == "nnU-Net 2d (1000 epochs)"
