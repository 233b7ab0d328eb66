"""`usbench run` end to end on phantoms: files, finished cells, killed processes, the Python API."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.killed_runs import undisturbed_and_killed
from kit.places import ROOT

import usbench
from usbench.results.schema import Block, result_model

SMALL = {"train.epochs": 1, "data.size": 32}


def run(data: Path, runs: Path, **options: Any) -> list[usbench.results.io.Result]:  # type: ignore[name-defined]
    words = {"method": "unet", "fusion": "early", "task": "msd-prostate", "preset": "smoke", "device": "cpu"}
    return usbench.run(**{**words, "data_dir": data, "runs_dir": runs, "settings": SMALL, **options})


@pytest.fixture(scope="module")
def finished(small_prostate: Path, tmp_path_factory: pytest.TempPathFactory) -> usbench.results.io.Result:  # type: ignore[name-defined]
    return run(small_prostate, tmp_path_factory.mktemp("runs"))[0]


def test_run_directory_is_complete(finished: Any) -> None:
    nibabel = pytest.importorskip("nibabel")
    folder = finished.path
    assert folder.parts[-3:-1] == ("msd-prostate-phantom", "unet-early")
    assert re.fullmatch(r"0-0-[0-9a-f]{10}", folder.name)
    case = finished.data["split"]["test"][0]
    truth_file = next(folder.parents[2].parent.glob(f"prostate*/Task05_Prostate/labelsTr/{case}.nii.gz"))
    mask, truth = nibabel.load(folder / "predictions" / f"{case}.nii.gz"), nibabel.load(truth_file)
    assert mask.shape == truth.shape
    assert np.allclose(mask.affine, truth.affine, atol=1e-5)
    assert set(np.unique(mask.dataobj)) <= {0, 1}
    for name in ("result.json", "cases.csv", "history.csv", "figures/cases.png", "figures/history.png"):
        assert (folder / name).stat().st_size > 0, name
    assert not (folder / "checkpoint.pt").exists()
    assert not list(folder.glob(".*"))


def test_scores_are_those_of_the_written_masks(finished: Any) -> None:
    """The Dice in cases.csv is MONAI's for the NIfTI files on disk and the raw annotation."""
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    nibabel = pytest.importorskip("nibabel")
    for row in finished.rows:
        case = row["case"]
        raw = next(finished.path.parents[2].parent.glob(f"prostate*/Task05_Prostate/labelsTr/{case}.nii.gz"))
        truth = np.asarray(nibabel.load(raw).dataobj) > 0
        mask = np.asarray(nibabel.load(finished.path / "predictions" / f"{case}.nii.gz").dataobj) > 0
        theirs = metrics.compute_dice(
            torch.tensor(mask)[None, None].float(), torch.tensor(truth)[None, None].float()
        )
        assert row["dsc"] == pytest.approx(theirs.item(), abs=1e-6)
        assert row["tp"] == int((mask & truth).sum())


OF_SOME_TASKS = {"volume", "regions", "definition", "patterns", "share", "train_cases", "of", "outside"}
"""Keys that only tasks of regions or of a file have, cells that are trained on few patients, or masks that
another program made."""


def check_keys(block: dict[str, Any], model: type[Block]) -> None:
    """A result that is written now has every key of the model, those that older results lack too."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    fields = {name: field for name, field in fields.items() if name not in OF_SOME_TASKS}
    assert set(block) == set(fields), model
    for name, field in fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Block):
            check_keys(block[name], field.annotation)


def test_result_has_exactly_the_keys_of_the_schema(finished: Any) -> None:
    written = json.loads((finished.path / "result.json").read_text())
    check_keys(written, result_model())
    assert written["data"]["kind"] == "phantom"
    assert written["cost"]["parameters"] == written["cost"]["trainable"] > 14_000_000
    assert written["cost"]["gflops_per_slice"] > 0.1
    assert set(written["split"]["train"]).isdisjoint(written["split"]["test"])


def test_history_has_a_row_an_epoch(finished: Any) -> None:
    rows = list(csv.DictReader((finished.path / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1"]
    assert float(rows[0]["loss"]) > 0


def test_finished_cell_is_not_computed_again(
    finished: Any, small_prostate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished.path / "result.json").stat().st_mtime_ns
    again = run(small_prostate, finished.path.parents[2])[0]
    assert again.path == finished.path
    assert (finished.path / "result.json").stat().st_mtime_ns == before
    assert "finished before" in capsys.readouterr().err


def test_finished_run_starts_no_device(
    finished: Any, small_prostate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes seconds to import is not, where nothing is to be computed."""

    def never(*_: Any) -> None:
        raise AssertionError("Fabric was asked for")

    monkeypatch.setattr("usbench.runs.start.make_fabric", never)
    assert run(small_prostate, finished.path.parents[2])[0].path == finished.path
    with pytest.raises(AssertionError, match="Fabric"):
        run(small_prostate, finished.path.parents[2], seed=7)


def test_what_a_killed_process_left_beside_its_result_is_removed(finished: Any, small_prostate: Path) -> None:
    for left in ("checkpoint.pt", ".pipeline/raw", ".progress.json"):
        file = finished.path / left
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"left")
        assert run(small_prostate, finished.path.parents[2])[0].path == finished.path
        assert not file.exists()


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"settings": {**SMALL, "train.lr": 2e-3}}, {"modalities": ["t2"]}, {"fusion": "hybrid"}],
)
def test_what_changes_the_outcome_makes_another_cell(
    finished: Any, small_prostate: Path, change: dict[str, Any], tmp_path: Path
) -> None:
    from usbench.runs.plan import make_cells, make_plan

    options = {"settings": SMALL, "fusion": "early", **change}
    words = {"task": "msd-prostate", "data_dir": small_prostate, "preset": "smoke", "device": "cpu"}
    (cell,) = make_cells(
        make_plan(usbench.Request(**{**words, **options, "folds": "0", "runs_dir": tmp_path}))
    )
    assert cell.key != finished.data["cell"]["hash"]


def test_dry_run_writes_nothing(command: Any, small_prostate: Path, tmp_path: Path) -> None:
    words = ["run", "--task", "msd-prostate", "--data-dir", small_prostate, "--runs-dir", tmp_path / "runs"]
    done = command(*words, "--preset", "smoke", "--folds", "all", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "fold 3: train 3 cases" in done.stdout
    assert (
        f"command: usbench run --method unet --fusion late --task msd-prostate --data-dir {small_prostate}"
        in (done.stdout)
    )
    assert "parameters" in done.stdout
    fewer = command(*words, "--preset", "smoke", "--folds", "all", "--limit", 3, "--dry-run")
    assert "3 cases in" in fewer.stdout
    assert "fold 2: train 2 cases" in fewer.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_killed_run_ends_with_the_same_numbers(small_prostate: Path, cache: Path, tmp_path: Path) -> None:
    """SIGKILL, the same words again: masks, scores and losses are those of an undisturbed run."""
    words = [
        sys.executable,
        "-m",
        "usbench",
        "run",
        "--fusion",
        "early",
        "--task",
        "msd-prostate",
        "--preset",
        "smoke",
    ]
    words += ["--data-dir", str(small_prostate), "--device", "cpu", "--set", "train.epochs=3"]
    environment = {**os.environ, "USBENCH_CACHE": str(cache)}
    whole, killed = undisturbed_and_killed(words, environment, tmp_path)
    assert whole.data["scores"] == killed.data["scores"]
    assert whole.data["paper_style"] == killed.data["paper_style"]
    predictions = [n for n in whole.data["files"] if n.startswith("predictions/")]
    assert predictions
    for name in ("cases.csv", *predictions):
        assert whole.data["files"][name] == killed.data["files"][name], name
    losses = [
        [row["loss"] for row in csv.DictReader((r.path / "history.csv").open())] for r in (whole, killed)
    ]
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]


def test_second_process_does_not_compute_the_same_cell(
    finished: Any, small_prostate: Path, tmp_path: Path
) -> None:
    from filelock import FileLock

    folder = tmp_path / "msd-prostate-phantom" / "unet-early" / finished.path.name
    folder.mkdir(parents=True)
    with (
        FileLock(folder / ".lock"),
        pytest.raises(usbench.UsbenchError, match="another process is computing this cell"),
    ):
        run(small_prostate, tmp_path)


def test_precomputed_features_reach_the_network(small_prostate: Path, cache: Path, tmp_path: Path) -> None:
    """A segmenter with frozen features: made once per case, handed back row by row, stored."""
    plugin = tmp_path / "frozen.py"
    plugin.write_text(
        "import torch\n"
        "from torch import nn\n"
        "from usbench import Feature, Method\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, k):\n"
        "        super().__init__()\n"
        "        self.head = nn.Conv2d(2, k, 1)\n"
        "    def forward(self, images, means):\n"
        "        assert torch.allclose(means, images.mean((2, 3)), atol=2e-2)\n"
        "        return self.head(images) + means.mean(1)[:, None, None, None]\n"
        "def build(task, fusion):\n"
        "    return Net(len(task.classes))\n"
        "def features(task, device):\n"
        "    return [Feature('means', 'means', 1, lambda images: (images.mean((2, 3)), None))]\n"
        "METHOD = Method('frozen', 'no paper', build_segmenter=build, fusions=('hybrid',),\n"
        "                features=features)\n"
    )
    results = run(small_prostate, tmp_path / "runs", method="frozen", fusion="hybrid", plugins=[plugin])
    assert results[0].data["method"]["origin"] == f"file {plugin}"
    assert len(list((cache / "features").glob("means-*/*/rows.npy"))) == 4


def test_readme_example_runs(small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python example of the README, word for word, at the smallest preset."""
    readme = (ROOT / "README.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.S) if "usbench.run" in block)
    monkeypatch.chdir(tmp_path)
    real_run = usbench.run

    def small_run(**words: Any) -> Any:
        words = {
            **words,
            "task": "msd-prostate",
            "data_dir": small_prostate,
            "preset": "smoke",
            "settings": SMALL,
        }
        return real_run(**words)

    monkeypatch.setattr(usbench, "run", small_run, raising=False)
    exec(compile(code, "README.md", "exec"), {})
    assert list(tmp_path.glob("runs/*/*/*/result.json"))
