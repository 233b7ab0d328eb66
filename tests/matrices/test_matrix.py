"""`usbench matrix`: which cells there are, what fails, what is waited for, and what is said of it."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kit.places import TINY

import usbench
from usbench.errors import UsbenchError
from usbench.matrices.failures import NAME, Failures
from usbench.matrices.summary import listing, summary
from usbench.results.io import load_result


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
    frame = made.to_frame()
    assert len(frame) == 4
    assert sorted(zip(frame["fusion"], frame["fold"], strict=True)) == [
        ("early", 0), ("early", 1), ("late", 0), ("late", 1),
    ]  # fmt: skip
    assert set(frame["dsc"]) == {result.scores["dsc"] for result in made.results}
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
        files = [f for f in result.path.rglob("*") if f.is_file() and f.name != "network.safetensors"]
        assert known[fusion].bytes == sum(f.stat().st_size for f in files)
    # Another setting is another cell: nothing is known of it.
    other = usbench.matrix(**{**words, "settings": {**words["settings"], "train.batch": 4}}, dry_run=True)
    assert other.measured == {}
    assert "unknown" in listing(other)


def test_a_dry_run_owns_up_to_phantoms_of_the_cache(
    words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = usbench.matrix(**words, dry_run=True)
    said = "dry run: nothing was prepared, trained or written"
    assert listing(made).splitlines()[-1] == said
    monkeypatch.setenv("USBENCH_CACHE", str(words["data_dir"]))
    assert listing(made).splitlines()[-1] == f"{said}; only phantoms that the cache had not yet were made"


@pytest.mark.slow
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
    assert not list(words["runs_dir"].glob("*matrix-failures*")), "neither the table nor its lock"


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
    assert not list(words["runs_dir"].glob("*matrix-failures*"))


def test_a_lock_of_a_killed_matrix_is_swept(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    failures.record("unet-early/0-0-aa", "unet early", "killed")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    failures.clear(["unet-early/0-0-aa"])
    assert not list(tmp_path.iterdir())
    failures.lock.touch()
    failures.clear(["another"])
    assert not list(tmp_path.iterdir())


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
    assert f"1 cell is computed by other processes, the first: {held.folder}" in capsys.readouterr().err
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


@pytest.mark.slow
def test_one_method_that_takes_the_process_with_it(command: Any, words: dict[str, Any]) -> None:
    """Without Ray a cell can end the whole process: it is named afterwards, and comes last then."""
    runs = words["runs_dir"]
    options = ("--methods", "fragile,tiny", "--fusions", "early", "--tasks", "msd-prostate", "--folds", "0")
    options += ("--preset", "smoke", "--set", "train.epochs=1", "--data-dir", words["data_dir"])
    options += ("--device", "cpu", "--plugin", TINY, "--runs-dir", runs, "--workers", "1")
    # Processes that prepare data outlive the one that ends at once, and would keep its output open.
    prepare = ("data", "prepare", "msd-prostate", "--preset", "smoke", "--data-dir", words["data_dir"])
    assert command(*prepare, "--workers", "1").returncode == 0
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
