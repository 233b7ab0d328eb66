"""What sees a run: watchers of one's own, the log of a run, what a terminal shows, experiment trackers."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from kit.places import TINY

import usbench
from usbench.contracts.watcher import CellFacts
from usbench.errors import UsbenchError, log_note
from usbench.results.io import LOG, LOGS
from usbench.runs.watchers.log_file import failure_logged


class Noting(usbench.Watcher):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def on_start(self, facts: CellFacts, epochs: int) -> None:
        self.told.append(("start", (facts, epochs)))

    def on_training(self, history: Sequence[Mapping[str, float]]) -> None:
        self.told.append(("training", list(history)))

    def on_epoch(self, row: Mapping[str, float]) -> None:
        self.told.append(("epoch", row))

    def on_case(self, case_id: str, scores: Mapping[str, Mapping[str, Any]]) -> None:
        self.told.append(("case", (case_id, scores)))

    def on_result(self, result: Any) -> None:
        self.told.append(("result", result))

    def on_end(self, error: BaseException | None) -> None:
        self.told.append(("end", error))

    def of(self, kind: str) -> list[Any]:
        return [what for name, what in self.told if name == kind]


@pytest.fixture
def words(small_prostate: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "method": "tiny",
        "fusion": "early",
        "task": "msd-prostate",
        "data_dir": small_prostate,
        "plugins": [TINY],
        "preset": "smoke",
        "settings": {"train.epochs": 3},
        "runs_dir": tmp_path / "runs",
    }


def losses(folder: Path, column: str = "loss") -> list[float]:
    """A column of history.csv."""
    with open(folder / "history.csv", newline="") as stream:
        return [float(row[column]) for row in csv.DictReader(stream)]


def test_a_watcher_sees_everything_in_order(words: dict[str, Any]) -> None:
    seen = Noting()
    (result,) = usbench.run(**words, watchers=[seen])
    kinds = [kind for kind, _ in seen.told]
    tests = result.data["split"]["test"]
    assert kinds == ["start", "training", *["epoch"] * 3, *["case"] * len(tests), "result", "end"]
    ((facts, epochs),) = seen.of("start")
    assert (facts.task, facts.method, facts.fusion, facts.fold, epochs) == (
        "msd-prostate",
        "tiny",
        "early",
        0,
        3,
    )
    assert facts.folder == result.path
    assert list(facts.test) == tests
    assert [row["loss"] for row in seen.of("epoch")] == losses(result.path)
    scored = {case: scores["prostate"]["dsc"] for case, scores in seen.of("case")}
    assert scored == {row["case"]: row["dsc"] for row in result.rows}
    assert seen.of("result")[0].data == result.data
    assert seen.of("end") == [None]
    # A finished cell is not computed again, and nothing happens.
    usbench.run(**words, watchers=[seen])
    assert len(seen.told) == len(kinds)


@pytest.mark.parametrize("when", ["on_start", "on_epoch", "on_case", "on_result"])
def test_a_watcher_that_fails_loses_nothing(words: dict[str, Any], when: str, capsys: Any) -> None:
    class Failing(Noting):
        pass

    def fail(self: Any, *rest: Any) -> None:
        raise RuntimeError("its server\nis down")

    setattr(Failing, when, fail)
    bad, good = Failing(), Noting()
    (result,) = usbench.run(**words, watchers=[bad, good])
    assert len(good.of("epoch")) == 3
    assert bad.of("end") == [None]
    said = " ".join(capsys.readouterr().err.split())
    line = "watcher Failing failed (RuntimeError: its server is down); the run goes on without it"
    assert said.count(line) == 1
    assert line in (result.path / LOG).read_text()


def test_what_is_no_watcher_is_refused_first(words: dict[str, Any]) -> None:
    with pytest.raises(UsbenchError, match=r"watchers: 3 is a int, not a usbench\.Watcher"):
        usbench.run(**words, watchers=[3])
    assert not words["runs_dir"].exists()


def test_every_run_keeps_a_log(words: dict[str, Any], capsys: Any) -> None:
    (result,) = usbench.run(**words)
    text = (result.path / LOG).read_text()
    for wanted in (
        "start: msd-prostate tiny early fold 0 seed 0",
        f"usbench {usbench.__version__}",
        "device: CPU",
        'settings of train: {"epochs": 3',
        "epoch 1 of 3, loss ",
        "epoch 3 of 3, loss ",
        f"mean DSC {result.scores['dsc']:.4f}",
        "end, after ",
    ):
        assert wanted in text, wanted
    assert all(line[:4].isdigit() and line[19] == "Z" for line in text.splitlines())
    # It grows after the result is written, so it is no part of what the result vouches for.
    assert LOG not in result.data["files"]
    with open(result.path / LOG, "a") as stream:
        stream.write("later\n")
    usbench.load_result(result.path)
    # Where there is no terminal, epochs are lines.
    assert "fold 0 seed 0: epoch 3 of 3, loss " in capsys.readouterr().err


def test_an_error_stands_in_the_log_with_its_traceback(words: dict[str, Any]) -> None:
    seen = Noting()
    code = "from usbench import Method\nfrom torch import nn\nimport torch\n"
    code += "class Bad(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    code += "        self.head = nn.Conv2d(2, 1, 1)\n"
    code += "    def forward(self, images):\n        return self.head(images) * float('nan')\n"
    code += (
        "METHOD = Method('bad', 'nobody', build_segmenter=lambda task, fusion: Bad(), fusions=('early',))\n"
    )
    file = words["runs_dir"].parent / "bad.py"
    file.write_text(code)
    with pytest.raises(UsbenchError, match="the training loss became nan") as failed:
        usbench.run(**{**words, "method": "bad", "plugins": [file]}, watchers=[seen])
    (log,) = words["runs_dir"].rglob(LOG)
    text = log.read_text()
    assert "stopped by an error" in text
    assert "Traceback (most recent call last)" in text
    assert "the training loss became nan" in text
    assert isinstance(seen.of("end")[0], UsbenchError)
    # Once, and the line of the command line names the file.
    assert text.count("Traceback (most recent call last)") == 1
    assert log_note(failed.value) == f"; the traceback is in {log}"


@pytest.mark.parametrize("kind", [ValueError, UsbenchError, KeyboardInterrupt])
def test_whatever_fails_is_in_the_log(tmp_path: Path, kind: type[BaseException]) -> None:
    with pytest.raises(kind) as failed, failure_logged(tmp_path):
        raise kind("before the run began")
    text = (tmp_path / LOG).read_text()
    assert "Traceback (most recent call last)" in text
    assert f"{kind.__name__}: before the run began" in text
    assert log_note(failed.value) == f"; the traceback is in {tmp_path / LOG}"
    with pytest.raises(kind) as failed, failure_logged(tmp_path / "not there"):
        raise kind("where nothing can be written")
    assert log_note(failed.value) == ""


@pytest.mark.slow
def test_a_log_goes_on_after_a_kill(words: dict[str, Any], tmp_path: Path) -> None:
    """Killed in its training, started again: one log tells of both, and their losses are one history."""
    words["settings"] = {"train.epochs": 40}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in words.items()}
    plain |= {"plugins": [str(TINY)], "loggers": ["csv"]}
    code = f"import usbench; usbench.run(**{plain!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(words["runs_dir"].rglob("checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    seen = Noting()
    (result,) = usbench.run(**words, loggers=["csv"], watchers=[seen])
    (before,) = seen.of("training")
    assert before
    text = (result.path / LOG).read_text()
    assert text.count("start: msd-prostate") == 2
    assert f"going on after epoch {len(before)}" in text
    assert [row["loss"] for row in [*before, *seen.of("epoch")]] == losses(result.path)
    with open(result.path / LOGS / "csv" / "metrics.csv", newline="") as stream:
        logged = [float(row["loss"]) for row in csv.DictReader(stream) if row.get("loss")]
    assert logged == pytest.approx(losses(result.path), rel=1e-6)


def test_tensorboard_files_hold_the_history(words: dict[str, Any]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (result,) = usbench.run(**words, loggers=["tensorboard"])
    events = EventAccumulator(str(result.path / LOGS / "tensorboard"))
    events.Reload()
    for name in ("loss", "dice_loss", "bce_loss", "lr"):
        points = events.Scalars(name)
        assert [point.step for point in points] == [1, 2, 3]
        assert [point.value for point in points] == pytest.approx(losses(result.path, name), rel=1e-6)
    assert events.Scalars("mean/dsc")[-1].value == pytest.approx(result.scores["dsc"], rel=1e-6)
    assert not [name for name in result.data["files"] if name.startswith(LOGS)]


def test_csv_logs_hold_settings_too(words: dict[str, Any]) -> None:
    (result,) = usbench.run(**words, loggers=["csv", "csv"])
    settings = json.loads((result.path / LOGS / "csv" / "hyperparameters.json").read_text())
    assert settings["train.epochs"] == 3
    assert settings["method"] == "tiny"


def fake(name: str, monkeypatch: pytest.MonkeyPatch, **content: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, module)


def test_weights_and_biases_and_mlflow_get_the_same_numbers(
    words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against stand-ins of the two packages, which record the calls that their documentation states."""
    calls: list[tuple[str, Any]] = []

    class Run:
        summary: dict[str, float] = {}  # noqa: RUF012

        def define_metric(self, *names: str, **steps: str) -> None:
            pass

        def log(self, values: Mapping[str, float]) -> None:
            calls.append(("wandb", dict(values)))

        def finish(self, exit_code: int) -> None:
            calls.append(("wandb end", exit_code))

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str) -> str:
            return "7"

        def create_run(self, experiment: str, run_name: str) -> Any:
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r"))

        def log_param(self, run: str, key: str, value: Any) -> None:
            pass

        def log_metric(self, run: str, name: str, value: float, step: int) -> None:
            calls.append(("mlflow", (name, value, step)))

        def set_terminated(self, run: str, status: str) -> None:
            calls.append(("mlflow end", status))

    fake("wandb", monkeypatch, init=lambda **options: Run())
    fake("mlflow", monkeypatch, MlflowClient=Client)
    (result,) = usbench.run(**words, loggers=["wandb", "mlflow"])
    history = losses(result.path)
    assert [v["loss"] for kind, v in calls if kind == "wandb" and "loss" in v] == pytest.approx(history)
    sent = [v for kind, v in calls if kind == "mlflow" and v[0] == "loss"]
    assert [(value, step) for _, value, step in sent] == [
        (pytest.approx(v), i + 1) for i, v in enumerate(history)
    ]
    assert ("wandb end", 0) in calls
    assert ("mlflow end", "FINISHED") in calls


def test_a_logger_that_is_not_installed_is_one_line_before_any_work(
    words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        UsbenchError, match=r"--logger wandb: .*install it with: pip install 'usbench\[wandb\]'"
    ):
        usbench.run(**words, loggers=["wandb"])
    with pytest.raises(UsbenchError, match="did you mean 'tensorboard'"):
        usbench.run(**words, loggers=["tensorbord"])
    assert not words["runs_dir"].exists()
