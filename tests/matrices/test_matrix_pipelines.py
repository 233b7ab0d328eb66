"""A matrix with outside pipelines whose program is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kit import planted_pipelines
from kit.places import TINY

import usbench
from usbench.errors import UsbenchError
from usbench.matrices.plan import plan_matrix
from usbench.matrices.request import MatrixRequest

ABSENT = """
from usbench import Method, Pipeline, PipelineMasks, UsbenchError


def absent(settings):
    raise UsbenchError("method absent: its program is not there; install it")


def never(folder, settings, device, watcher):
    raise AssertionError


METHOD = Method("absent", paper="None.", pipeline=Pipeline(never, check=absent))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "absent.py"
    file.write_text(ABSENT)
    return file


def test_it_is_refused_before_any_data_is_made(plugin: Path, tmp_path: Path) -> None:
    words = {"plugins": [plugin], "runs_dir": tmp_path / "runs"}
    for start in (
        lambda: usbench.run(method="absent", fusion="early", task="msd-prostate", **words),
        lambda: usbench.matrix(methods="absent", fusions="early", tasks="msd-prostate", **words),
    ):
        with pytest.raises(UsbenchError, match="its program is not there; install it"):
            start()
    assert not (tmp_path / "cache" / "phantoms").exists()
    assert list((tmp_path / "runs").glob("*")) == []


def test_all_methods_are_those_whose_program_is_there(plugin: Path, small_prostate: Path) -> None:
    words = {"tasks": "msd-prostate", "fusions": "early", "preset": "smoke", "folds": "0"}
    asked = MatrixRequest.of(plugins=[plugin], data_dir=small_prostate, **words)
    matrix = plan_matrix(asked, "cpu", prepare=False)
    assert {cell.plan.method.name for cell in matrix.cells} >= {"unet", "unext"}
    left_out = {one.method: one.reason for one in matrix.not_applicable}
    assert left_out["absent"] == "method absent: its program is not there; install it"
    assert "absent" not in {cell.plan.method.name for cell in matrix.cells}


@pytest.mark.slow
def test_a_track_passes_over_a_pipeline_and_tests_the_networks(
    small_prostate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = Path(shutil.copy(Path(planted_pipelines.__file__), tmp_path / "planted.py"))
    outcome = usbench.matrix(
        methods="band,tiny", fusions="early", tasks="msd-prostate", data_dir=small_prostate,
        plugins=[planted, TINY], preset="smoke", folds="0", settings={"data.size": 32},
        tracks=("robustness",), runs_dir=tmp_path / "runs", device="cpu", yes=True, workers=1,
    )  # fmt: skip
    assert (outcome.computed, len(outcome.failed)) == (2, 0)
    assert "band early, fold 0, seed 0: an outside pipeline has no network" in capsys.readouterr().err
    tracks = {file.parents[2].parent.name for file in (tmp_path / "runs").rglob("track.json")}
    assert tracks == {"tiny-early"}
