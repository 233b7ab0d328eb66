"""Bad input of `usbench evaluate`: one line that names what is wrong and the remedy, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from kit.kept_runs import kept_run

from usbench.datasets.phantom import make_phantom
from usbench.datasets.tasks import get_task
from usbench.runs.network import FILE

Fault = Callable[[SimpleNamespace], tuple[list[object], tuple[str, ...]]]


@pytest.fixture(scope="module")
def made(small_prostate: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished run with its network, its data, and patients of another clinic."""
    root = tmp_path_factory.mktemp("tracks")
    run = kept_run(small_prostate, root / "runs").path
    make_phantom(get_task("msd-prostate"), root / "clinic", cases=1, seed=8)
    return SimpleNamespace(run=run, data=small_prostate, clinic=root / "clinic")


@pytest.fixture
def place(made: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    shutil.copytree(made.run, tmp_path / "run")
    shutil.copytree(next(made.clinic.glob("Task05*")), tmp_path / "clinic" / "Task05_Prostate")
    clinic = tmp_path / "clinic"
    return SimpleNamespace(root=tmp_path, run=tmp_path / "run", data=made.data, clinic=clinic)


def robust(place: SimpleNamespace, *more: object) -> list[object]:
    return [place.run, "--track", "robustness", "--data-dir", place.data, *more]


def external(place: SimpleNamespace, *more: object) -> list[object]:
    return [place.run, "--track", "external", "--data-dir", place.clinic, *more]


def listed(place: SimpleNamespace, **changes: Any) -> Path:
    """The clinic's folder with another dataset.json."""
    folder: Path = place.clinic / "Task05_Prostate"
    file = folder / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


def unknown_track(place: SimpleNamespace) -> Any:
    return [place.run, "--track", "robust"], ("track", "'robust'", "robustness")


def absent_folder(place: SimpleNamespace) -> Any:
    return [place.root / "nowhere", "--track", "robustness"], ("nowhere", "no such folder", "check the path")


def folder_without_runs(place: SimpleNamespace) -> Any:
    (place.root / "empty").mkdir()
    return [place.root / "empty", "--track", "robustness"], ("empty", "holds no run", "usbench run")


def unfinished_run(place: SimpleNamespace) -> Any:
    (place.run / "result.json").unlink()
    return robust(place), (str(place.run), "not finished", "usbench run")


def network_is_gone(place: SimpleNamespace) -> Any:
    (place.run / FILE).unlink()
    return robust(place), (FILE, "--overwrite")


def network_of_another_run(place: SimpleNamespace) -> Any:
    file = place.run / FILE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    return robust(place), (FILE, "digest does not fit", "--overwrite")


def edited_result(place: SimpleNamespace) -> Any:
    file = place.run / "result.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1', 1))
    return robust(place), ("result.json", "edited")


def data_of_other_patients(place: SimpleNamespace) -> Any:
    words = [place.run, "--track", "robustness", "--data-dir", place.clinic]
    return words, ("clinic", "is not the data", "fingerprint", "--data-dir")


def data_that_is_not_there(place: SimpleNamespace) -> Any:
    (place.root / "empty").mkdir()
    words = [place.run, "--track", "robustness", "--data-dir", place.root / "empty"]
    return words, ("empty", "no data of task msd-prostate")


def labels_of_the_robustness_track(place: SimpleNamespace) -> Any:
    return robust(place, "--labels", "prostate=gland"), ("--labels", "external")


def name_of_the_robustness_track(place: SimpleNamespace) -> Any:
    return robust(place, "--name", "mine"), ("--name", "external")


def labels_without_a_pair(place: SimpleNamespace) -> Any:
    return external(place, "--labels", "prostate"), ("--labels 'prostate'", "no pair")


def labels_twice(place: SimpleNamespace) -> Any:
    return external(place, "--labels", "prostate=a,prostate=b"), ("--labels", "prostate twice")


def labels_of_a_class_the_run_lacks(place: SimpleNamespace) -> Any:
    return external(place, "--labels", "liver=prostate"), ("liver=prostate", "no class liver", "prostate")


def labels_of_a_class_the_data_lacks(place: SimpleNamespace) -> Any:
    words = external(place, "--labels", "prostate=gland")
    return words, ("class prostate", "msd-prostate has prostate", "--labels")


def classes_with_other_names(place: SimpleNamespace) -> Any:
    folder = listed(place, labels={"0": "background", "1": "rim", "2": "core"})
    words = [place.run, "--track", "external", "--task-dir", folder]
    return words, ("class prostate", "rim, core", "--labels prostate=")


def modality_is_missing(place: SimpleNamespace) -> Any:
    folder = listed(place, modality={"0": "T2", "1": "T1"})
    words = [place.run, "--track", "external", "--task-dir", folder]
    return words, ("no modality adc", "t1", "t2, adc")


def no_other_data_named(place: SimpleNamespace) -> Any:
    return [place.run, "--track", "external"], ("--task-dir", "--scanner 2")


def its_own_data(place: SimpleNamespace) -> Any:
    words = [place.run, "--track", "external", "--data-dir", place.data]
    return words, ("the data that the run was computed on", "name other data")


FAULTS: list[Fault] = [
    unknown_track,
    absent_folder,
    folder_without_runs,
    unfinished_run,
    network_is_gone,
    network_of_another_run,
    edited_result,
    data_of_other_patients,
    data_that_is_not_there,
    labels_of_the_robustness_track,
    name_of_the_robustness_track,
    labels_without_a_pair,
    labels_twice,
    labels_of_a_class_the_run_lacks,
    labels_of_a_class_the_data_lacks,
    classes_with_other_names,
    modality_is_missing,
    no_other_data_named,
    its_own_data,
]


def line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    """Call `usbench evaluate` in this process: (exit code, standard output, standard error)."""
    from usbench.cli.main import entry
    from usbench.runtime.console import console

    monkeypatch.setattr(sys, "argv", ["usbench", "evaluate", *map(str, words), "--device", "cpu"])
    console.cache_clear()  # So that it writes to the captured standard error.
    code = 0
    try:
        entry()
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def snapshot(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_line_and_nothing_lost(
    fault: Fault,
    place: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, named = fault(place)
    before = snapshot(place.root)
    code, _, err = line(monkeypatch, capsys, *words)
    errors = [text for text in err.splitlines() if text.startswith("Error:")]
    assert code == 1, err
    assert len(errors) == 1, err
    assert err.rstrip().splitlines()[-1] == errors[0], "the error comes last"
    assert "unexpected" not in err
    assert "Traceback" not in err
    for text in named:
        assert text in errors[0], f"'{text}' is not in: {errors[0]}"
    assert snapshot(place.root) == before


def test_a_track_that_another_process_computes(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place.run / "tracks" / "robustness"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        code, _, err = line(monkeypatch, capsys, *robust(place))
    assert code == 1
    assert "another process is computing this track" in err.splitlines()[-1]


def test_an_edited_track_is_not_given_back(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = line(monkeypatch, capsys, *robust(place, "--no-masks"))
    assert code == 0, err
    file = place.run / "tracks" / "robustness" / "track.json"
    file.write_text(file.read_text().replace('"clean"', '"Clean"', 1))
    code, _, err = line(monkeypatch, capsys, *robust(place, "--no-masks"))
    assert code == 1
    assert "track.json: was edited" in err.splitlines()[-1]
    assert "--overwrite" in err.splitlines()[-1]
    code, _, err = line(monkeypatch, capsys, *robust(place, "--no-masks", "--overwrite"))
    assert code == 0, err


def test_of_many_runs_those_that_can_be_are_evaluated(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place.run, place.root / "a")
    (place.root / "a" / FILE).unlink()
    shutil.copytree(place.run, place.root / "b")
    (place.root / "b" / "result.json").unlink()
    words = ("--track", "robustness", "--data-dir", place.data, "--no-masks")
    code, out, _ = line(monkeypatch, capsys, place.root, *words, "--dry-run")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "1 case under 30 conditions" in out
    assert not list(place.root.rglob("track.json"))
    code, out, err = line(monkeypatch, capsys, place.root, *words)
    assert code == 1
    assert (place.run / "tracks" / "robustness" / "track.json").is_file()
    assert "unext-small, early, fold 0" in out
    assert str(place.root / "b") in err
    assert str(place.root / "a") in err
    assert err.splitlines()[-1].startswith("Error:")
