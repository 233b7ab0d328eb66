"""Cells of outside pipelines: planted programs of a plugin file, that work, look for masks, fail and are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kit.planted_pipelines as planted
import nibabel
import numpy as np
import pytest
from kit.commands import Command

import usbench
from usbench import UsbenchError
from usbench.results.result import Result
from usbench.runs.pipelines.places import file_names
from usbench.runs.pipelines.vote import vote

HAND_OVER = ("--task", "msd-prostate", "--data", "phantom", "--preset", "smoke", "--folds", "0")


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The planted pipelines as a plugin file of a user."""
    return Path(shutil.copy(str(planted.__file__), tmp_path / "planted.py"))


def _run(plugin: Path, data: Path, method: str, fusion: str = "early", **more: Any) -> Result:
    words = {"task": "msd-prostate", "data_dir": data, "preset": "smoke", "folds": "0", **more}
    return usbench.run(method, fusion, plugins=[plugin], runs_dir=plugin.parent / "runs", **words)[0]


def _volume(file: Path) -> np.ndarray:
    return np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]


def test_early_and_late_are_run_scored_and_tidied(plugin: Path, small_prostate: Path) -> None:
    early = _run(plugin, small_prostate, "band")
    assert early.data["outside"]["label"] == "band (band 0.3)"
    assert early.data["outside"]["kind"] == "pipeline"
    assert early.data["cost"]["parameters"] == 1
    assert early.data["config"]["data"] == early.data["config"]["train"] == {}
    assert not (early.path / ".pipeline").exists()
    assert "predicted all of them" in (early.path / "log.txt").read_text()
    assert (early.path / "history.csv").read_text().splitlines()[0] == "epoch,loss,lr,seconds"

    late = _run(plugin, small_prostate, "band", "late")
    parts = [
        _run(plugin, small_prostate, "band", "late", modalities=[name]) for name in ("t2", "adc")
    ]
    alone = _run(plugin, small_prostate, "band", modalities=["t2"])
    assert late.data["cost"]["parameters"] == 2
    assert len((late.path / "history.csv").read_text().splitlines()) == 1 + 4
    for case_id in late.data["split"]["test"]:
        file = f"predictions/{case_id}.nii.gz"
        masks = [_volume(part.path / file) for part in parts]
        assert np.array_equal(_volume(late.path / file), vote(masks, 1, False))
        assert np.array_equal(_volume(alone.path / file), masks[0])  # With one modality late is early.


def test_no_test_mask_is_found(plugin: Path, small_prostate: Path) -> None:
    result = _run(plugin, small_prostate, "searching")
    assert "searched" in (result.path / "log.txt").read_text()


FAULTS = {
    "fails": "ended with exit code 3: loading | no such planner",
    "raises": "its pipeline fails (RuntimeError: the planner is lost)",
    "hangs": "has said nothing for 0.03 minutes",
    "absent": "no-such-program-of-usbench: cannot be started",
    "half": "its pipeline left no mask of 1 of 1 test cases",
    "grid": "is not on the grid of case",
    "moved": "is not on the grid of case",
    "labels": "holds 9, which is no class of the task (values: 0, 1)",
    "nothing": "returned a NoneType; return a usbench.PipelineMasks",
}


@pytest.mark.parametrize("kind", planted.KINDS)
def test_a_faulty_pipeline_is_one_line_and_the_same_command_goes_on(
    kind: str, plugin: Path, small_prostate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = plugin.parent / "mended"
    monkeypatch.setenv("PLANTED_MENDED", str(mended))
    with pytest.raises(UsbenchError) as error:
        _run(plugin, small_prostate, f"broken-{kind}")
    assert FAULTS[kind] in str(error.value)
    (folder,) = (plugin.parent / "runs").glob("*/*/*")
    assert not (folder / "result.json").exists()
    assert not (folder / "predictions").exists()
    mended.touch()
    whole = _run(plugin, small_prostate, f"broken-{kind}")
    assert whole.path == folder
    assert whole.scores == _run(plugin, small_prostate, "band").scores


def test_the_command_says_one_line_and_exits_with_1(plugin: Path, command: Command) -> None:
    for words, said in (
        (("--fusion", "hybrid"), "an outside pipeline has no halves to fuse between"),
        (("--fusion", "early", "--set", "train.epochs=3"), "is an outside pipeline and has no such setting"),
        (("--fusion", "early", "--set", "method.bnd=3"), "did you mean 'method.band'"),
    ):
        done = command("run", "--method", "band", *words, *HAND_OVER, "--plugin", plugin)
        assert done.returncode == 1
        assert said in done.stderr and "Traceback" not in done.stderr


def test_a_network_is_nothing_that_a_pipeline_has(plugin: Path, small_prostate: Path) -> None:
    result = _run(plugin, small_prostate, "band")
    with pytest.raises(UsbenchError, match="has masks of another program and no network"):
        usbench.load_network(result.path)
    with pytest.raises(UsbenchError, match="'band' is an outside pipeline and has no network here; the checks"):
        usbench.check("band", plugins=[plugin])


def test_a_method_gives_one_of_the_three() -> None:
    pipeline = usbench.Pipeline(lambda *_: usbench.PipelineMasks({}), why_not={"late": "it needs all scans"})
    method = usbench.Method("one", "x", pipeline=pipeline)
    assert method.kind == "pipeline"
    assert method.fusions == ("early",)
    assert method.why_not("late") == "it needs all scans"
    for more in ({"build_segmenter": print}, {"fusions": ("hybrid",)}, {"features": print}):
        with pytest.raises(UsbenchError):
            usbench.Method("two", "x", pipeline=pipeline, **more)  # type: ignore[arg-type]
    with pytest.raises(UsbenchError, match="write pipeline=usbench.Pipeline"):
        usbench.Method("three", "x", pipeline=print)  # type: ignore[arg-type]


def test_ids_that_are_no_file_names_get_others() -> None:
    ids = ["BRATS_001", "brats_001", "a b", "case-003", "p_0001", "Ä", "ok-1"]
    names = file_names(ids)
    assert names["ok-1"] == "ok-1"
    assert names["case-003"] == "case-003"
    assert names["a b"] == "case-003x"
    assert names["p_0001"] == "case-005"
    assert len({name.casefold() for name in names.values()}) == len(ids)
    assert all(name.isascii() and " " not in name for name in names.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["writing", "training t2", "training adc", "prediction adc", "scoring"]
)
def test_killed_and_gone_on_with_the_same_scores(
    moment: str, plugin: Path, small_prostate: Path, cache: Path
) -> None:
    whole = _run(plugin, small_prostate, "band", "late")
    runs, place = plugin.parent / "killed", plugin.parent / "reached"
    words = [sys.executable, "-m", "usbench", "run", "--method", "band", "--fusion", "late", "--task"]
    words += ["msd-prostate", "--data-dir", str(small_prostate), "--preset", "smoke", "--folds", "0"]
    words += ["--plugin", str(plugin), "--runs-dir", str(runs)]
    own = {"PLANTED_WAIT": str(place), "PLANTED_MOMENT": moment, "USBENCH_CACHE": str(cache)}
    patterns = {"writing": "*/*/*/.pipeline/*/.raw*", "scoring": "*/*/*/predictions/*.nii.gz"}
    process = subprocess.Popen(words, env={**os.environ, **own}, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 200
    while not (any(runs.glob(patterns[moment])) if moment in patterns else place.exists()):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < limit
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not list(runs.glob("*/*/*/result.json"))
    subprocess.run(words, env={**os.environ, **own}, check=True, capture_output=True, timeout=200)
    (folder,) = (file.parent for file in runs.glob("*/*/*/result.json"))
    assert usbench.load_result(folder).scores == whole.scores
    assert not (folder / ".pipeline").exists()
    assert not list(folder.rglob(".*.part*"))
