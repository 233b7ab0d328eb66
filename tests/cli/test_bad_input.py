"""Bad input of every kind: exit code 1, one line that names file, value and remedy, nothing half-written."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kit.damaged_data import on_prostate, sound
from kit.faults import FAULTS, serve

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def usbench_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the console script in this process: (exit code, standard output, standard error)."""
    from usbench.cli.main import entry
    from usbench.runtime.console import console

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["usbench", *map(str, words)])
        console.cache_clear()  # So that it writes to the captured standard error.
        code = 0
        try:
            entry()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def place(tmp_path: Path) -> SimpleNamespace:
    return sound(tmp_path)


def snapshot(folder: Path) -> dict[str, str]:
    """Every file that is not a lock, with its digest."""
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in folder.rglob("*")
        if f.is_file() and f.name != ".lock"
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_line_and_nothing_half_written(
    fault: Callable[[SimpleNamespace], Any], place: SimpleNamespace, usbench_line: Run
) -> None:
    words, named = fault(place)
    before = snapshot(place.root)
    code, _, err = usbench_line(*words)
    lines = [line for line in err.splitlines() if line.startswith("Error:")]
    assert code == 1, err
    assert len(lines) == 1, err
    assert err.rstrip().splitlines()[-1] == lines[0], "the error comes last"
    assert "Traceback" not in err
    assert "unexpected" not in lines[0]
    for text in named:
        assert text in lines[0], f"'{text}' is not in: {lines[0]}"
    after = snapshot(place.root)
    assert {k: v for k, v in after.items() if k in before} == before, "what was there is untouched"
    # The log of a run stays: it has the traceback of the error.
    left = [name for name in after if name not in before]
    assert all(name.endswith("/log.txt") for name in left), "nothing was left behind"
    assert all("Traceback" in (place.root / name).read_text() for name in left)


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, when: Callable[[Path], bool]) -> Iterator[None]:
    """Writing a file for which `when` holds fails as on a full disk."""
    import errno
    import os

    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if when(Path(target)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint.pt", "result.json", "history.csv", "prostate"])
def test_full_disk_while_running(
    name: str, place: SimpleNamespace, usbench_line: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line; what was finished stays, nothing half-written; with room again the run goes on to its end."""

    def within_runs(path: Path) -> bool:
        return place.runs in path.parents and path.name.startswith(name)

    with full_disk(monkeypatch, within_runs):
        code, _, err = usbench_line(*on_prostate(place))
    assert code == 1
    assert "No space left on device" in err.splitlines()[-1]
    assert "free some space" in err.splitlines()[-1]
    assert not list(place.runs.rglob("*.part*"))
    assert not list(place.runs.rglob("result.json"))
    code, _, err = usbench_line(*on_prostate(place))
    assert code == 0, err
    assert len(list(place.runs.rglob("result.json"))) == 1


def test_archive_that_escapes_its_folder(
    tmp_path: Path, usbench_line: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from usbench.contracts.data import Download
    from usbench.datasets import tasks

    archive = tmp_path / "CHAOS_Train_Sets.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("Train_Sets/MR/1/note.txt", "fine")
        packed.writestr("../outside.txt", "not fine")
    task = dataclasses.replace(
        tasks.get_task("chaos"),
        download=Download(
            f"{serve(tmp_path)}/{archive.name}",
            archive.stat().st_size,
            sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        ),
    )
    monkeypatch.setattr("usbench.datasets.tasks.get_task", lambda name, plugins=(): task)
    code, _, err = usbench_line("data", "download", "chaos", "--data-dir", tmp_path / "new")
    assert code == 1
    assert "../outside.txt" in err.splitlines()[-1]
    assert not (tmp_path / "outside.txt").exists()
    assert not list((tmp_path / "new").rglob("note.txt"))
