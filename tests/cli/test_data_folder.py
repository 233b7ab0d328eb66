"""The folder of the data sets: "~" is the home folder for every command, in --data-dir and USBENCH_DATA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from usbench.cli.main import main
from usbench.datasets.resolve import data_folder
from usbench.errors import UsbenchError

SMALL = ("--preset", "smoke")
COMMANDS = {
    "run": ("run", "--task", "msd-prostate", "--fusion", "early", "--device", "cpu", *SMALL, "--dry-run"),
    "matrix": (
        *("matrix", "--methods", "unet", "--fusions", "early", "--tasks", "msd-prostate", "--device", "cpu"),
        *(*SMALL, "--workers", "1", "--dry-run"),
    ),
    "list": ("data", "list"),
    "check": ("data", "check", "msd-prostate"),
    "prepare": ("data", "prepare", "msd-prostate", *SMALL, "--workers", "1"),
}
SAID = {
    "run": "4 cases in {folder}",
    "matrix": "msd-prostate: {folder} holds phantoms",
    "list": "4 cases in {folder}",
    "check": "{folder}: nothing wrong found",
    "prepare": "4 cases prepared",
}


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], standalone_mode=False)


@pytest.fixture
def home(small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that holds the data sets as ~/data; the working folder is another one."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "data").symlink_to(small_prostate, target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("USBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


@pytest.mark.parametrize("way", ["option", "environment"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_finds_the_data_in_the_home_folder(
    name: str, way: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from usbench.runtime.console import console

    words = COMMANDS[name]
    if way == "option":
        words = (*words, "--data-dir", "~/data")
    else:
        monkeypatch.setenv("USBENCH_DATA", "~/data")
    console.cache_clear()  # So that it writes to the captured standard error.
    done = call(*words)
    console.cache_clear()
    assert done.exception is None, done.exception
    assert SAID[name].format(folder=home / "data") in " ".join(done.output.split())
    assert not list(Path().iterdir()), "a folder called ~ was made"


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_download_goes_to_the_home_folder(way: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from usbench.datasets import download

    asked: list[Path] = []

    def note(task: Any, folder: Path, url: str | None) -> Path:
        asked.append(folder)
        return folder

    monkeypatch.setattr(download, "download", note)
    if way == "environment":
        monkeypatch.setenv("USBENCH_DATA", "~/data")
    done = call("data", "download", "chaos", *(("--data-dir", "~/data") if way == "option" else ()))
    assert done.exception is None
    assert asked == [home / "data"]


def test_what_is_given_wins_over_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_folder() is None
    monkeypatch.setenv("USBENCH_DATA", " ")
    assert data_folder() is None
    monkeypatch.setenv("USBENCH_DATA", "~/data")
    assert data_folder() == home / "data"
    assert data_folder("~/other") == home / "other"
    assert data_folder(Path("other")) == Path("other")
    with pytest.raises(UsbenchError, match="~nobody-of-that-name/x: there is no user of that name"):
        data_folder("~nobody-of-that-name/x")
