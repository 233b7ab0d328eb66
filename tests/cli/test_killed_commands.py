"""`usbench evaluate`, `predict` and `score`, killed (SIGKILL) in the middle and started again: same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from kit.kept_runs import kept_run

from usbench.datasets.phantom import make_phantom
from usbench.datasets.tasks import get_task
from usbench.results.io import load_result
from usbench.results.tracks import load_track

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patients, two of them in the test fold."""
    folder = tmp_path_factory.mktemp("ten")
    make_phantom(get_task("msd-prostate"), folder, cases=10, seed=3)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    found: Path = kept_run(data, tmp_path_factory.mktemp("runs")).path
    return found


def start(*words: object) -> subprocess.Popen[str]:
    """`usbench ...` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "usbench", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(*words: object) -> str:
    process = start(*words)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return errors


def kill_once(folder: Path, pattern: str, *words: object) -> None:
    """Start a command, and kill it as soon as a file of that pattern is there; others are still to come."""
    process = start(*words)
    deadline = time.monotonic() + 300
    while not any(folder.rglob(pattern)):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def content(folder: Path, *patterns: str) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for pattern in patterns
        for file in sorted(folder.rglob(pattern))
    }


@pytest.mark.parametrize("track", ["robustness", "external"])
@pytest.mark.parametrize("moment", ["case-*.json", "*.nii.gz"])
def test_a_killed_track_ends_as_one_that_was_not(
    track: str, moment: str, run: Path, data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    make_phantom(get_task("msd-prostate"), other, cases=3, seed=4)
    where = data if track == "robustness" else other
    words = ("--track", track, "--data-dir", where, "--device", "cpu")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        shutil.copytree(run, folder)
        shutil.rmtree(folder / "tracks", ignore_errors=True)
    finish("evaluate", whole, *words)
    kill_once(killed / "tracks", moment, "evaluate", killed, *words)
    assert not list(killed.glob("tracks/*/track.json")), "it was killed in the middle"
    finish("evaluate", killed, *words)
    (one,), (two,) = (list((folder / "tracks").iterdir()) for folder in (whole, killed))
    assert one.name == two.name
    patterns = ("cases.csv", "*.nii.gz")
    assert content(one, *patterns) == content(two, *patterns)
    digest = load_result(run).data["digest"]
    assert load_track(one, digest).data["scores"] == load_track(two, digest).data["scores"]
    assert not [file for file in two.rglob("*") if ".part" in file.name], "nothing half-written is left"


def test_a_killed_prediction_goes_on_and_ends_the_same(run: Path, data: Path, tmp_path: Path) -> None:
    words = ("predict", run, "--input", data / "Task05_Prostate", "--device", "cpu", "--out")
    finish(*words, tmp_path / "whole")
    kill_once(tmp_path / "killed", "*.nii.gz", *words, tmp_path / "killed")
    before = {file.name for file in (tmp_path / "killed").glob("*.nii.gz")}
    assert 0 < len(before) < 10, "it was killed in the middle"
    finish(*words, tmp_path / "killed")
    whole, killed = (content(tmp_path / name, "*.nii.gz", "*.png") for name in ("whole", "killed"))
    assert whole == killed
    assert len([name for name in whole if name.endswith(".nii.gz")]) == 10


@pytest.mark.parametrize("moment", ["*.nii.gz", "result.json"])
def test_killed_scores_of_masks_from_elsewhere_end_the_same(moment: str, data: Path, tmp_path: Path) -> None:
    for file in (data / "Task05_Prostate" / "labelsTr").glob("*.nii.gz"):
        image = nibabel.load(file)
        whole_gland = (np.asarray(image.dataobj) > 0).astype(np.uint8)
        (tmp_path / "masks").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(whole_gland, image.affine), tmp_path / "masks" / file.name)
    words: tuple[object, ...] = ("score", "--predictions", tmp_path / "masks", "--name", "theirs")
    words += ("--task", "msd-prostate", "--data-dir", data, "--merge-labels", "prostate", "--runs-dir")
    finish(*words, tmp_path / "whole")
    kill_once(tmp_path / "killed", moment, *words, tmp_path / "killed")
    assert len(list((tmp_path / "killed").rglob("result.json"))) < 5, "it was killed in the middle"
    finish(*words, tmp_path / "killed")
    whole, killed = (content(tmp_path / name, "*.nii.gz", "cases.csv") for name in ("whole", "killed"))
    assert whole == killed
    assert len(whole) == 10 + 5
    assert not [file for file in (tmp_path / "killed").rglob("*") if ".part" in file.name]
