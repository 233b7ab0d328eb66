"""`usbench matrix`: which cells there are, what fails, what is waited for, what the user sees and says."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kit.places import TINY
from kit.requests import parsed

import usbench
from usbench.errors import UsbenchError
from usbench.matrices import live
from usbench.matrices.failures import NAME, Failures
from usbench.matrices.summary import listing, summary
from usbench.matrices.worker import JobReport
from usbench.results.io import load_result

PLUGIN = TINY
SMALL = {"train.epochs": 1, "data.size": 32}


@pytest.fixture(autouse=True)
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRAGILE", raising=False)


@pytest.fixture
def words(small_prostate: Path, tmp_path: Path) -> dict[str, Any]:
    """Four cells of a method that takes no time."""
    return {
        "methods": "tiny",
        "fusions": "early,late",
        "tasks": "msd-prostate",
        "folds": "0,1",
        "preset": "smoke",
        "settings": SMALL,
        "data_dir": small_prostate,
        "device": "cpu",
        "plugins": [PLUGIN],
        "runs_dir": tmp_path / "runs",
        "workers": 1,
    }


def cell(name: str) -> tuple[str, ...]:
    """A cell's name as its words."""
    return tuple(name.replace(",", "").split())


def test_a_cell_is_that_of_run(words: dict[str, Any]) -> None:
    """What `run` finished is not computed again, and what the matrix finishes is finished for `run`."""
    same = ("preset", "settings", "data_dir", "device", "plugins", "runs_dir")
    shared = {name: words[name] for name in same}
    first = usbench.run("tiny", "early", "msd-prostate", folds="1", **shared)[0]
    before = (first.path / "result.json").stat().st_mtime_ns
    made = usbench.matrix(**words)
    assert (made.computed, made.before, made.failed) == (3, 1, {})
    assert (first.path / "result.json").stat().st_mtime_ns == before
    assert {(r.data["cell"]["fusion"], r.data["cell"]["fold"]) for r in made.results} == {
        ("early", 0),
        ("early", 1),
        ("late", 0),
        ("late", 1),
    }
    late = usbench.run("tiny", "late", "msd-prostate", folds="0,1", **shared)
    again = {result.data["digest"] for result in late}
    assert again < {result.data["digest"] for result in made.results}
    second = usbench.matrix(**words)
    assert (second.computed, second.before) == (0, 4)
    assert len(usbench.leaderboard(words["runs_dir"]).tables[0].rows) == 2


def test_seeds_and_methods_multiply(words: dict[str, Any]) -> None:
    made = usbench.matrix(**{**words, "methods": ["tiny", "fragile"], "seeds": "2,5"}, dry_run=True)
    assert len({entry.name for entry in made.cells}) == 2 * 2 * 2 * 2
    assert len({entry.folder for entry in made.cells if entry.folder}) in (0, 16)
    assert {entry.seed for entry in made.cells} == {2, 5}


def test_what_does_not_apply_is_named_with_its_reason(words: dict[str, Any]) -> None:
    made = usbench.matrix(**{**words, "methods": "zeus,tiny", "fusions": "all"}, dry_run=True)
    reasons = {(a.method, a.fusion): a.reason for a in made.not_applicable}
    assert set(reasons) == {("zeus", "early"), ("tiny", "hybrid")}
    assert reasons["zeus", "early"] == "method 'zeus' does not apply to early fusion; choose hybrid or late"
    assert {(e.plan.method.name, e.plan.fusion) for e in made.cells} == {
        ("zeus", "hybrid"),
        ("zeus", "late"),
        ("tiny", "early"),
        ("tiny", "late"),
    }
    # One cell of the method with frozen parts comes first, its others last.
    order = [e.plan.method.name for e in made.cells]
    assert order == ["zeus", *["tiny"] * 4, *["zeus"] * 3]


def test_all_takes_what_is_there(words: dict[str, Any], small_prostate: Path) -> None:
    """Absent data of a task that was not named is no error; of one that was named, it is."""
    made = usbench.matrix(**{**words, "tasks": "all"}, dry_run=True)
    assert {a.task for a in made.not_applicable} == {"chaos", "msd-brain"}
    assert all(str(small_prostate) in a.reason for a in made.not_applicable)
    assert {e.plan.task.name for e in made.cells} == {"msd-prostate"}
    with pytest.raises(UsbenchError, match="no data of task chaos"):
        usbench.matrix(**{**words, "tasks": "chaos,msd-prostate"})


def test_dry_run_says_what_is_done_and_what_is_known(words: dict[str, Any], tmp_path: Path) -> None:
    first = usbench.matrix(**words, dry_run=True)
    assert not words["runs_dir"].exists()
    assert "time and disk are unknown" in listing(first)
    usbench.matrix(**{**words, "folds": "0"})
    made = usbench.matrix(**words, seeds=(0, 1), dry_run=True)
    lines = listing(made).splitlines()
    rows = [line.split() for line in lines if line.startswith("msd-prostate")]
    assert [row for row in rows if row[-1] == "done"] == [
        ["msd-prostate", "tiny", fusion, "0", "0", "done"] for fusion in ("early", "late")
    ]
    todo = [row for row in rows if row[-1] == "do"]
    assert len(todo) == 6
    assert not [row for row in todo if "unknown" in row]
    known = {e.plan.fusion: m for e, m in made.measured.items()}
    for result in made.results:
        fusion = result.data["cell"]["fusion"]
        assert known[fusion].seconds == pytest.approx(result.data["cost"]["seconds"])
        size = sum(f.stat().st_size for f in result.path.rglob("*") if f.is_file())
        assert known[fusion].bytes == size
    # Another setting is another cell: nothing is known of it.
    other = usbench.matrix(**{**words, "settings": {**SMALL, "train.batch": 4}}, dry_run=True)
    assert other.measured == {}
    assert "unknown" in listing(other)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "RuntimeError: the kernel is not there"),
        ("memory", "out of memory (cannot allocate 9 GB)"),
    ],
)
def test_a_failure_stops_nothing_and_is_named(
    words: dict[str, Any], monkeypatch: pytest.MonkeyPatch, how: str, reason: str
) -> None:
    words = {**words, "methods": "fragile,tiny", "folds": "0"}
    monkeypatch.setenv("FRAGILE", how)
    made = usbench.matrix(**words)
    assert made.computed == 2
    assert set(map(cell, made.failed)) == {
        ("msd-prostate", "fragile", fusion, "fold", "0", "seed", "0") for fusion in ("early", "late")
    }
    assert all(found.startswith(reason) for found in made.failed.values())
    text = summary(made)
    assert reason in text
    assert "4 cells: 2 computed, 0 finished before, 2 failed" in text
    assert NAME in text
    stored = json.loads((words["runs_dir"] / NAME).read_text())
    rows = stored["failures"]
    assert sorted(Path(key).parent.name for key in rows) == ["fragile-early", "fragile-late"]
    assert all(row["reason"].startswith(reason) for row in rows.values())
    assert all("build_fragile" in row["traceback"] for row in rows.values())
    assert all(row["command"].startswith("usbench run --method fragile --fusion ") for row in rows.values())
    assert "failed before: " + reason[:20] in " ".join(listing(usbench.matrix(**words, dry_run=True)).split())
    # Repaired: only what failed is computed, and nothing is held against it any more.
    monkeypatch.delenv("FRAGILE")
    again = usbench.matrix(**words)
    assert (again.computed, again.before, again.failed) == (2, 2, {})
    assert not (words["runs_dir"] / NAME).exists()


def test_an_edited_result_fails_alone(words: dict[str, Any]) -> None:
    made = usbench.matrix(**words)
    file = made.results[0].path / "result.json"
    file.write_text(file.read_text().replace('"dsc": 0.', '"dsc": 1.', 1))
    again = usbench.matrix(**words)
    assert (again.computed, again.before) == (0, 3)
    ((name, reason),) = again.failed.items()
    assert "was edited after the run" in reason
    assert name in summary(again)


def test_broken_data_of_one_task_stops_no_other(words: dict[str, Any], tmp_path: Path) -> None:
    from kit.synthetic import cut, write_msd

    for name in ("sound", "spoilt"):
        write_msd(tmp_path / name, cases=("case_1", "case_2", "case_3"), shape=(16, 17, 6))
    cut(tmp_path / "spoilt" / "imagesTr" / "case_2.nii.gz", 0.5)
    words = {**words, "tasks": None, "data_dir": None, "folds": "0", "fusions": "early"}
    made = usbench.matrix(**words, task_dirs=[tmp_path / "sound", tmp_path / "spoilt"])
    assert made.computed == 1
    assert set(made.failed) == {"spoilt"}
    assert "case_2.nii.gz" in made.failed["spoilt"]
    assert set(Failures(words["runs_dir"].absolute()).read()) == {"spoilt"}
    write_msd(tmp_path / "spoilt", cases=("case_1", "case_2", "case_3"), shape=(16, 17, 6))
    again = usbench.matrix(**words, task_dirs=[tmp_path / "sound", tmp_path / "spoilt"])
    assert (again.computed, again.before, again.failed) == (1, 1, {})
    assert not (words["runs_dir"] / NAME).exists()


@pytest.fixture
def held(words: dict[str, Any]) -> Iterator[SimpleNamespace]:
    """A cell that another process computes: its lock is held until `release` is called."""
    words["fusions"] = "early"
    usbench.matrix(**{**words, "folds": "1"})  # Prepares the data.
    found = usbench.matrix(**{**words, "folds": "0"}, dry_run=True)
    folder = found.cells[0].folder
    assert folder is not None
    folder.mkdir(parents=True)
    stream = open(folder / ".lock", "w")  # noqa: SIM115
    fcntl.flock(stream, fcntl.LOCK_EX)
    yield SimpleNamespace(folder=folder, release=stream.close)
    stream.close()


def test_a_cell_given_up_by_another_process_is_computed(
    words: dict[str, Any], held: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    threading.Timer(3, held.release).start()
    start = time.monotonic()
    made = usbench.matrix(**words)
    assert time.monotonic() - start > 2.5
    assert (made.computed, made.before, made.failed) == (1, 1, {})
    assert load_result(held.folder).data["cell"]["fold"] == 0
    assert f"1 cells are computed by other processes, the first: {held.folder}" in capsys.readouterr().err
    assert not list(held.folder.glob(".*"))


def test_a_cell_finished_by_another_process_is_taken(
    words: dict[str, Any], held: SimpleNamespace, tmp_path: Path
) -> None:
    there = usbench.matrix(**{**words, "folds": "0", "runs_dir": tmp_path / "there"})
    source = there.results[0].path

    def finish() -> None:
        for file in sorted(source.rglob("*"), key=lambda f: f.name == "result.json"):
            if file.is_file():
                target = held.folder / file.relative_to(source)
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(file.read_bytes())
        held.release()

    threading.Timer(3, finish).start()
    made = usbench.matrix(**words)
    assert (made.computed, made.before, made.failed) == (0, 1, {})
    assert len(made.results) == 2
    assert "1 computed by another process" in summary(made)


def test_a_lock_that_nobody_holds_is_no_obstacle(words: dict[str, Any]) -> None:
    usbench.matrix(**{**words, "folds": "1"})
    found = usbench.matrix(**words, dry_run=True)
    for entry in found.cells:
        assert entry.folder is not None
        entry.folder.mkdir(parents=True, exist_ok=True)
        (entry.folder / ".lock").touch()
        if entry.result is None:
            (entry.folder / ".checkpoint.pt.abc.part.pt").write_bytes(b"half")
    made = usbench.matrix(**words)
    assert (made.computed, made.before, made.failed) == (2, 2, {})
    assert not list(words["runs_dir"].rglob("*.part*"))


def test_a_cell_pickles_without_its_method(words: dict[str, Any]) -> None:
    usbench.matrix(**{**words, "folds": "0", "fusions": "early"})
    made = usbench.matrix(**{**words, "methods": "tiny,zeus,unet", "fusions": "all"}, dry_run=True)
    assert len(made.cells) == 2 * (2 + 2 + 3)
    for entry in made.cells:
        assert entry.cell is not None
        packed = pickle.dumps(entry.cell)
        assert b"build_segmenter" not in packed
        copy = pickle.loads(packed)
        assert (copy.key, copy.folder) == (entry.cell.key, entry.folder)
        assert copy.method == entry.cell.method


def test_the_request_of_a_cell_asks_for_that_cell_alone(
    words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words, as a worker or a user gives them to `usbench run`, make that very cell, from any folder."""
    from usbench.cli.run import run
    from usbench.matrices.drive import _job
    from usbench.matrices.request import MatrixRequest
    from usbench.matrices.resources import find_place
    from usbench.runs.plan import make_cells, make_plan

    settings = tmp_path / "settings.yaml"
    settings.write_text("train: {lr: 1.0e-2}\nmethod.encoder: resnet34\n")
    monkeypatch.chdir(PLUGIN.parent)
    asked = {**words, "methods": "tiny,unet", "fusions": "all", "folds": "0,1", "seeds": "4,7"}
    asked = {**asked, "config": settings, "plugins": [PLUGIN.name], "modalities": ["adc"], "limit": 3}
    made = usbench.matrix(**asked, dry_run=True)
    assert len(made.cells) == 2 * 2 * (2 + 3)
    assert all(planned.cell is None and planned.command == "" for planned in made.cells)
    one = {"methods": "tiny", "fusions": "early", "folds": "0", "seeds": 4, "config": None}
    usbench.matrix(**{**asked, **one})  # Prepares the data.
    made = usbench.matrix(**asked, dry_run=True)
    with ExitStack() as stack:
        place = find_place(stack, MatrixRequest.of(device="cpu", workers=1))
    jobs = [(planned, _job(planned, place)) for planned in made.cells[::3]]
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
        f"device: cpu\nplugin: {PLUGIN}\nruns-dir: {tmp_path / 'none'}\nworkers: 1\n"
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
    words = {**words, "methods": "tiny,unet", "settings": {**SMALL, "method.encoder": "resnet34"}}
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


def entries(folder: Path, count: int) -> list[Any]:
    config = SimpleNamespace(train=SimpleNamespace(epochs=14))
    made = []
    for number in range(count):
        (folder / str(number)).mkdir()
        plan = SimpleNamespace(config=config)
        made.append(
            SimpleNamespace(name=f"cell {number}", folder=folder / str(number), result=None, plan=plan)
        )
    return made


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    out = io.StringIO()
    monkeypatch.setattr(live, "_console", lambda: Console(file=out, width=200))
    cells = entries(tmp_path, 3)
    with live.View(cells, before=2, workers=2) as view:
        view.ended(cells[0], JobReport("computed", 120.0))
        view.ended(cells[1], JobReport("failed", 3.0, "no memory"))
        assert view.time_left() == 120
    assert out.getvalue().splitlines() == [
        "matrix: 2 of 5 cells are done, 3 to compute",
        "[3/5] cell 0: computed in 2 min; about 2 min left",
        "[4/5] cell 1: failed: no memory; about 2 min left",
    ]


def test_live_view_reads_what_runs_from_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=90, force_terminal=True, color_system=None)
    monkeypatch.setattr(live, "_console", lambda: console)
    cells = entries(tmp_path, 3)
    (tmp_path / "1" / ".lock").touch()
    (tmp_path / "1" / "history.csv").write_text("epoch,loss\n1,0.9\n2,0.8\n3,0.7\n")
    with live.View(cells, before=4, workers=1) as view:
        view.ended(cells[0], JobReport("computed", 60.0))
        console.print(view._render())
        shown = out.getvalue()
        assert view._live is not None
    assert "5 of 7 cells done, 1 running; about 2 min left" in shown
    assert "cell 1: epoch 3 of 14" in shown
    assert "cell 2" not in shown


def test_durations() -> None:
    assert [live.duration(s) for s in (0.4, 34, 89, 90, 840, 5399, 8280)] == [
        "0 s", "34 s", "89 s", "2 min", "14 min", "90 min", "2.3 h",
    ]  # fmt: skip


@pytest.mark.slow
def test_one_method_that_takes_the_process_with_it(command: Any, words: dict[str, Any]) -> None:
    """Without Ray a cell can end the whole process: it is named afterwards, and comes last then."""
    runs = words["runs_dir"]
    options = ("--methods", "fragile,tiny", "--fusions", "early", "--tasks", "msd-prostate", "--folds", "0")
    options += ("--preset", "smoke", "--set", "train.epochs=1", "--data-dir", words["data_dir"])
    options += ("--device", "cpu", "--plugin", PLUGIN, "--runs-dir", runs, "--workers", "1")
    first = command("matrix", *options, FRAGILE="exit")
    assert first.returncode == 3
    (row,) = json.loads((runs / NAME).read_text())["failures"].values()
    assert row["name"] == "msd-prostate fragile early, fold 0, seed 0"
    assert "ended without a word" in row["reason"]
    assert not list(runs.rglob("result.json"))
    second = command("matrix", *options, FRAGILE="exit")
    assert second.returncode == 3
    assert [p.parent.parent.name for p in runs.rglob("result.json")] == ["tiny-early"]
    third = command("matrix", *options)
    assert third.returncode == 0, third.stderr
    assert "2 cells: 1 computed, 1 finished before, 0 failed" in third.stdout
    assert not (runs / NAME).exists()
    assert os.listdir(runs / "msd-prostate-phantom" / "fragile-early")
