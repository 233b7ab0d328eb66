"""What a matrix is asked for: the request of each cell, words of a file, words that are wrong, places."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kit.places import TINY
from kit.requests import parsed

import usbench
from usbench.errors import UsbenchError
from usbench.results.io import load_result


def test_the_request_of_a_cell_asks_for_that_cell_alone(
    words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words, as a worker or a user gives them to `usbench run`, make that very cell, from any folder."""
    from usbench.cli.run import run
    from usbench.matrices.drive import job_of
    from usbench.matrices.request import MatrixRequest
    from usbench.matrices.resources import find_place
    from usbench.runs.plan import make_cells, make_plan

    settings = tmp_path / "settings.yaml"
    settings.write_text("train: {lr: 1.0e-2}\nmethod.encoder: resnet34\n")
    monkeypatch.chdir(TINY.parent)
    asked = {**words, "methods": "tiny,unet", "fusions": "all", "folds": "0,1", "seeds": "4,7"}
    asked = {**asked, "config": settings, "plugins": [TINY.name], "modalities": ["adc"], "limit": 3}
    made = usbench.matrix(**asked, dry_run=True)
    assert len(made.cells) == 2 * 2 * (2 + 3)
    assert all(planned.cell is None and planned.command == "" for planned in made.cells)
    one = {"methods": "tiny", "fusions": "early", "folds": "0", "seeds": 4, "config": None}
    usbench.matrix(**{**asked, **one})  # Prepares the data.
    made = usbench.matrix(**asked, dry_run=True)
    with ExitStack() as stack:
        place = find_place(stack, MatrixRequest.of(device="cpu", workers=1))
    jobs = [(planned, job_of(planned, place)) for planned in made.cells[::3]]
    monkeypatch.chdir(tmp_path)
    for planned, job in jobs:
        request = parsed(run, job.cell.request.command())
        assert request == job.cell.request
        assert str(request).startswith(f"usbench run --method {planned.plan.method.name} --fusion ")
        (cell,) = make_cells(make_plan(request))  # type: ignore[arg-type]
        assert planned.cell is not None
        assert (cell.key, cell.folder) == (planned.cell.key, planned.folder)
        assert (cell.fold, cell.seed) == (planned.fold, planned.seed)


def test_words_of_a_file(command: Any, words: dict[str, Any], tmp_path: Path) -> None:
    """The file's words are those of the command line, which wins; settings of both are merged."""
    file = tmp_path / "table.yaml"
    file.write_text(
        f"methods: [tiny, fragile]\nfusions: early,late\ntasks: msd-prostate\nfolds: [0, 1]\nseeds: 3\n"
        f"preset: smoke\nset:\n  train: {{epochs: 1, batch: 5}}\ndata-dir: {words['data_dir']}\n"
        f"device: cpu\nplugin: {TINY}\nruns-dir: {tmp_path / 'none'}\nworkers: 1\n"
    )
    runs = tmp_path / "runs"
    options = ("--methods", "tiny", "--folds", "1", "--set", "train.batch=6", "--runs-dir", runs)
    done = command("matrix", file, *options)
    assert done.returncode == 0, done.stderr
    assert "2 cells: 2 computed, 0 finished before, 0 failed" in done.stdout
    assert f"usbench leaderboard --runs-dir {runs}" in done.stdout
    found = [load_result(path) for path in runs.glob("*/*/*/result.json")]
    assert {(r.data["cell"]["method"], r.data["cell"]["fold"], r.data["cell"]["seed"]) for r in found} == {
        ("tiny", 1, 3)
    }
    assert {(r.data["config"]["train"]["epochs"], r.data["config"]["train"]["batch"]) for r in found} == {
        (1, 6)
    }
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metods: [unet]", "unknown word of {file} 'metods', did you mean 'methods'?"),
        ("dry-run: true", "unknown word of {file} 'dry-run'"),
        ("- unet", "{file}: holds a list, not words"),
        ("methods: [unet", "{file}: not valid YAML in line"),
        ("preset: [quick, smoke]", "{file}: preset is a list, but takes one value"),
        ("workers: many", "'many' is not a valid integer"),
        ("set: fast", "{file}: set is 'fast', not settings"),
    ],
)
def test_words_of_a_file_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    from click.testing import CliRunner

    from usbench.cli.main import main

    file = tmp_path / "table.yaml"
    file.write_text(text)
    done = CliRunner().invoke(main, ["matrix", str(file)], standalone_mode=False)
    assert done.exception is not None
    said = getattr(done.exception, "message", None) or str(done.exception)
    assert message.format(file=file) in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": "uent"}, "unknown method 'uent', did you mean 'unet'"),
        ({"fusions": "erly"}, "unknown fusion 'erly', did you mean 'early'"),
        ({"tasks": "chaso"}, "unknown task 'chaso', did you mean 'chaos'"),
        ({"seeds": "0,x"}, "--seeds '0,x' is not a list of numbers"),
        ({"seeds": "-1"}, "--seed -1 is out of range"),
        ({"folds": "9"}, "--folds 9: this data has 4 folds"),
        ({"workers": 0}, "--workers 0 is out of range"),
        ({"cpus_per_run": 0}, "--cpus-per-run 0 is out of range"),
        ({"settings": {"method.depht": 3}}, "unknown setting of the methods 'method.depht'"),
        ({"settings": {"train.epoch": 3}}, "unknown setting 'train.epoch', did you mean 'train.epochs'"),
        ({"preset": "quik"}, "unknown preset 'quik', did you mean 'quick'"),
        ({"devices": 2, "device": "cuda"}, "--device cuda: torch sees no GPU here"),
    ],
)
def test_words_that_are_wrong(words: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsbenchError, match="^" + message.replace("(", r"\(").replace(".", r"\.")):
        usbench.matrix(**{**words, **change})
    assert not words["runs_dir"].exists() or not list(words["runs_dir"].rglob("result.json"))


def test_a_setting_of_one_method_is_none_of_the_others(
    words: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = {**words, "methods": "tiny,unet", "settings": {**words["settings"], "method.encoder": "resnet34"}}
    made = usbench.matrix(**words, dry_run=True)
    encoders = {e.plan.method.name: e.plan.config.method for e in made.cells}
    assert encoders["unet"]["encoder"] == "resnet34"
    assert "encoder" not in encoders["tiny"]
    assert "method.encoder is a setting of unet; the other methods have none" in capsys.readouterr().err


def test_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many cells at once, and what each gets, on a machine with 12 cores and, later, 4 GPUs."""
    import torch

    from usbench.datasets import workers as cores
    from usbench.matrices import pool
    from usbench.matrices.request import MatrixRequest
    from usbench.matrices.resources import find_place

    names = ("device", "devices", "address", "workers", "cpus_per_run", "gpus_per_run")

    def place(*given: Any) -> Any:
        with ExitStack() as stack:
            return find_place(stack, MatrixRequest.of(**dict(zip(names, given, strict=True))))

    monkeypatch.setattr(cores, "usable_cores", lambda: 12)
    monkeypatch.setattr(pool, "ray_is_installed", lambda: True)
    found = place("cpu", 1, None, None, None, None)
    assert (found.workers, found.cpus, found.gpus, found.threads, found.parallel) == (12, 1, 0, 1, True)
    found = place("cpu", 1, None, None, 4, None)
    assert (found.workers, found.cpus, found.threads) == (3, 4, 4)
    found = place("cpu", 1, None, 1, None, None)
    assert (found.workers, found.threads, found.parallel) == (1, None, False)
    assert place("cpu", 2, None, None, None, None).workers == 6
    monkeypatch.setattr(pool, "ray_is_installed", lambda: False)
    found = place("cpu", 1, None, None, None, None)
    assert (found.parallel, found.threads) == (False, None)
    with pytest.raises(UsbenchError, match=r"Ray is not installed; pip install 'usbench\[cluster\]'"):
        place("cpu", 1, "auto", None, None, None)
    monkeypatch.setattr(pool, "ray_is_installed", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    found = place("auto", 1, None, None, None, None)
    assert (found.device, found.workers, found.cpus, found.gpus) == ("cuda", 8, 1, 0.5)
    assert place("cuda", 1, None, None, None, 2.0).workers == 2
    assert place("cuda", 2, None, None, None, None).gpus == 2
    for gpus, devices, message in ((1.5, 1, "whole GPUs; choose 2"), (1.0, 2, "use --gpus-per-run 2")):
        with pytest.raises(UsbenchError, match=message):
            place("cuda", devices, None, None, None, gpus)
