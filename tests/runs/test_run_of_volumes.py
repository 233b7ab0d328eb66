"""Methods of volumes from end to end: runs, kept networks, tracks, tables, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.killed_runs import undisturbed_and_killed
from kit.places import ROOT
from kit.tampering import CARD

import usbench
from usbench.config import make_config
from usbench.datasets.resolve import find_data
from usbench.datasets.store import prepare
from usbench.errors import UsbenchError
from usbench.results.io import load_result
from usbench.runs.network import load_network
from usbench.submissions.card import dump_card
from usbench.submissions.pack import submit
from usbench.submissions.verify import verify

PLUGIN = ROOT / "tests" / "kit" / "tiny_volumes.py"
WAYS = {
    "early": {"volume.mode": "whole", "volume.shape": [6, 24, 20]},
    "hybrid": {"volume.patch": "8,16,16", "volume.spacing": 3.0, "volume.patches": 1},
    "late": {"volume.patch": [4, 40, 16], "train.modality_dropout": 0.3, "train.augment": "light"},
}


def run(data: Path, runs: Path, fusion: str, settings: dict[str, Any], **options: Any) -> Any:
    words = {"method": "tiny3d", "plugins": [PLUGIN], "task": "msd-prostate", "preset": "smoke"}
    words |= {"device": "cpu", "data_dir": data, "runs_dir": runs, "settings": settings}
    return usbench.run(fusion=fusion, **{**words, **options})[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volumes")


@pytest.fixture(scope="module", params=WAYS)
def result(request: pytest.FixtureRequest, small_prostate: Path, folder: Path) -> Any:
    return run(small_prostate, folder / "runs", request.param, WAYS[request.param])


def test_a_run_says_what_its_network_saw(result: Any) -> None:
    asked = WAYS[result.data["cell"]["fusion"]]
    stated = result.data["config"]["volume"]
    for key, value in asked.items():
        section, _, name = key.partition(".")
        if isinstance(value, str) and "," in value:
            value = [int(part) for part in value.split(",")]
        assert result.data["config"][section][name] == value, key
    assert set(stated) == {"mode", "shape", "patch", "spacing", "overlap", "foreground", "patches"}
    assert result.data["cost"]["gflops_per_slice"] > 0
    assert result.data["cost"]["ms_per_slice"] > 0
    with (result.path / "history.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 2
    assert all(map(np.isfinite, losses))
    assert load_result(result.path).data["cell"]["hash"] == result.data["cell"]["hash"]


def test_a_kept_network_predicts_what_its_run_wrote(
    result: Any, small_prostate: Path, tmp_path: Path
) -> None:
    """As the run does from the store, and `usbench predict` from files: byte for byte."""
    loaded = load_network(result, device="cpu")
    assert loaded.config.as_dict() == result.data["config"]
    test = result.data["split"]["test"]
    store = prepare(loaded.task, find_data(loaded.task, small_prostate).root, loaded.config.data)
    assert [one.case.case_id for one in loaded.predict_cases(store, test, tmp_path / "store")] == test
    usbench.predict(result.path, input=small_prostate, cases=test, out=tmp_path / "files", device="cpu")
    for case in test:
        wanted = (result.path / "predictions" / f"{case}.nii.gz").read_bytes()
        assert (tmp_path / "store" / f"{case}.nii.gz").read_bytes() == wanted
        (found,) = (tmp_path / "files").rglob(f"{case}.nii.gz")
        assert gzip.decompress(found.read_bytes()) == gzip.decompress(wanted)


def test_tracks_take_volumes(result: Any, small_prostate: Path) -> None:
    """The clean masks are those of the run; without a modality they are others."""
    (track,) = usbench.evaluate(result.path, "robustness", data_dir=small_prostate, device="cpu")
    for case in result.data["split"]["test"]:
        of_run, clean, without = (
            gzip.decompress((folder / f"{case}.nii.gz").read_bytes())
            for folder in (
                result.path / "predictions",
                track.path / "predictions" / "clean",
                track.path / "predictions" / "missing-t2",
            )
        )
        assert clean == of_run
        assert without != of_run


def test_the_same_words_are_the_same_cell_and_others_are_not(
    small_prostate: Path, folder: Path, result: Any
) -> None:
    if result.data["cell"]["fusion"] != "early":
        pytest.skip("once is enough")
    again = run(small_prostate, folder / "runs", "early", WAYS["early"])
    assert again.path == result.path
    others = {**WAYS["early"], "volume.shape": [6, 24, 24]}
    other = run(small_prostate, folder / "runs", "early", others)
    assert other.data["cell"]["hash"] != result.data["cell"]["hash"]
    assert other.data["protocol"] == result.data["protocol"]


@pytest.mark.slow
def test_networks_of_slices_and_of_volumes_stand_in_one_table(small_prostate: Path, tmp_path: Path) -> None:
    words = {"method": "tiny", "plugins": [ROOT / "tests" / "kit" / "tiny_methods.py"]}
    flat = run(small_prostate, tmp_path, "early", {}, folds="all", **words)
    whole = run(small_prostate, tmp_path, "early", WAYS["early"], folds="all")
    longer = {**WAYS["late"], "train.modality_dropout": 0.0, "train.epochs": 1}
    run(small_prostate, tmp_path, "early", longer, folds="all")
    run(small_prostate, tmp_path, "early", {"data.size": 48}, folds="all")
    assert flat.data["protocol"] != whole.data["protocol"]
    board = usbench.leaderboard(tmp_path)
    mixed, other = sorted(board.tables, key=lambda table: -len(table.rows))
    assert {row.label.partition(", epochs")[0] for row in mixed.rows} == {
        "tiny",
        "tiny3d, whole volumes 6x24x20, augment none",
        "tiny3d, patches 4x40x16, augment light",
    }
    assert any(row.label.endswith(", epochs 1") for row in mixed.rows)
    assert mixed.protocol == flat.data["protocol"]
    assert "a training of their own" in mixed.facts
    assert mixed.config["train"]["batch"] == 8
    assert [row.label for row in other.rows] == ["tiny3d, patches 8x32x32"]
    assert other.config["train"] == {}


def test_what_fits_no_method_is_refused_in_one_line(small_prostate: Path, tmp_path: Path) -> None:
    slices = {"method": "unet", "plugins": []}
    with pytest.raises(UsbenchError, match=r"setting volume.patch: a network of slices has no such setting"):
        run(small_prostate, tmp_path, "early", {"volume.patch": [8, 8, 8]}, **slices)
    for settings, said in {
        ("volume.patch", "8,8"): "three whole numbers such as 32,64,64",
        ("volume.patch", "8,8,0"): r"\(8, 8, 0\).* out of range",
        ("volume.shape", "8,8,5000"): "choose from 1 to 1024",
        ("volume.mode", "slab"): "unknown value of volume.mode 'slab'",
        ("volume.overlap", 0.95): "choose from 0 to 0.9",
        ("volume.foreground", 1.5): "choose from 0 to 1",
        ("volume.patches", 0): "choose from 1 to",
        ("volume.spacing", -1): "choose from 0.1 to 100",
        ("volume.size", 3): "unknown setting 'volume.size'",
    }.items():
        with pytest.raises(UsbenchError, match=said):
            run(small_prostate, tmp_path, "early", dict([settings]))
    assert not list(tmp_path.iterdir())


def test_a_method_says_its_own_defaults_of_other_sections() -> None:
    presets = {"paper": {"depth": 2, "volume.mode": "whole", "volume.shape": [64, 64, 64], "train.lr": 2e-3}}
    made = make_config("paper", {"depth": 1}, presets, {"train.lr": 1e-4}, dims=3)
    assert made.method == {"depth": 2}
    assert made.volume is not None
    assert (made.volume.mode, made.volume.shape) == ("whole", (64, 64, 64))
    assert made.train.lr == 1e-4
    assert make_config("paper", {"depth": 1}, presets, {}, dims=3).train.lr == 2e-3
    assert make_config("paper", {}, {}, {}, dims=3).train.batch == 2
    with pytest.raises(UsbenchError, match=r"unknown setting 'train\.rate'"):
        make_config("paper", {}, {"paper": {"train.rate": 1}}, {}, dims=3)


def test_features_of_slices_are_refused_for_volumes() -> None:
    from usbench import Method

    with pytest.raises(UsbenchError, match="features are computed slice by slice"):
        Method("deep", "nobody", build_segmenter=lambda task, fusion: None, dims=3, features=lambda *_: [])


def test_dry_run_and_catalogue_name_a_method_of_volumes(
    command: Any, small_prostate: Path, tmp_path: Path
) -> None:
    words = ["run", "--method", "tiny3d", "--plugin", PLUGIN, "--fusion", "late", "--task", "msd-prostate"]
    done = command(
        *words, "--data-dir", small_prostate, "--preset", "smoke", "--dry-run", "--runs-dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "parameters" in done.stdout
    assert "network: " in done.stdout
    assert "volume:\n  mode: patch" in done.stdout
    listed = command("methods", "tiny3d", "--plugin", PLUGIN, "--json")
    (row,) = json.loads(listed.stdout)
    assert all(cost["gflops_per_slice"] > 0 for cost in row["costs"].values())


@pytest.mark.slow
def test_killed_run_of_volumes_ends_with_the_same_numbers(
    small_prostate: Path, cache: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "usbench", "run", "--method", "tiny3d", "--plugin", str(PLUGIN)]
    words += ["--fusion", "early", "--task", "msd-prostate", "--preset", "smoke", "--device", "cpu"]
    words += ["--data-dir", str(small_prostate), "--set", "train.epochs=3", "--set", "train.augment=light"]
    environment = {**os.environ, "USBENCH_CACHE": str(cache), "TINY_SLEEP": "0.2"}
    whole, killed = undisturbed_and_killed(words, environment, tmp_path)
    assert whole.data["scores"] == killed.data["scores"]
    for name in whole.data["files"]:
        if name.startswith("predictions/") or name == "cases.csv":
            assert whole.data["files"][name] == killed.data["files"][name], name


@pytest.mark.slow
def test_two_processes_train_as_one(command: Any, small_prostate: Path, tmp_path: Path) -> None:
    """DDP by gloo: with losses over the whole batch, the same losses but for rounding."""
    found = {}
    for devices in ("1", "2"):
        words = [
            "run",
            "--method",
            "tiny3d",
            "--plugin",
            PLUGIN,
            "--fusion",
            "early",
            "--task",
            "msd-prostate",
        ]
        words += ["--data-dir", small_prostate, "--preset", "smoke", "--device", "cpu"]
        words += ["--devices", devices]
        words += ["--runs-dir", tmp_path / devices, "--set", "train.augment=light"]
        done = command(*words)
        assert done.returncode == 0, done.stderr
        result = load_result(next((tmp_path / devices).glob("*/*/*/result.json")))
        with (result.path / "history.csv").open() as file:
            found[devices] = [float(row["loss"]) for row in csv.DictReader(file)]
    assert found["1"] == pytest.approx(found["2"], abs=1e-4)


@pytest.mark.slow
def test_a_submission_of_volumes_is_verified(small_prostate: Path, tmp_path: Path) -> None:
    run(small_prostate, tmp_path / "runs", "early", WAYS["early"], folds="all")
    (tmp_path / "card.yaml").write_bytes(dump_card(CARD))
    archive = submit([tmp_path / "runs"], tmp_path / "card.yaml", tmp_path / "sent.zip")
    found = verify(archive, data_dir=small_prostate)
    assert found.runs == 4
    assert found.predictions == 4
    assert found.largest_difference < 1e-9


@pytest.mark.parametrize("precision", ["bf16"])
def test_half_precision_of_volumes_is_refused_on_a_cpu(
    small_prostate: Path, tmp_path: Path, precision: str
) -> None:
    with pytest.raises(
        UsbenchError, match=f"--precision {precision}: torch's gradients of 3D.*--precision 32"
    ):
        run(small_prostate, tmp_path, "early", WAYS["early"], precision=precision)
    assert not list(tmp_path.rglob("result.json"))
