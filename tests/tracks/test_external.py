"""The external track: a run's network on other patients; modalities and classes are named, not guessed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.kept_runs import kept_run

import usbench
from usbench.datasets.phantom import make_phantom
from usbench.datasets.resolve import find_data
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task, task_from_folder
from usbench.errors import UsbenchError
from usbench.runs.network import load_network
from usbench.runs.predict import read_mask
from usbench.scores.case import score_case


@pytest.fixture(scope="module")
def kept(small_prostate: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return kept_run(small_prostate, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients whom the network has not seen."""
    folder = tmp_path_factory.mktemp("clinic")
    make_phantom(get_task("msd-prostate"), folder, cases=2, seed=8)
    return folder


@pytest.fixture
def run(kept: Any, tmp_path: Path) -> Path:
    shutil.copytree(kept.path, tmp_path / "run", ignore=shutil.ignore_patterns("tracks"))
    return tmp_path / "run"


def evaluate(run: Path, **words: Any) -> Any:
    return usbench.evaluate(run, "external", device="cpu", **words)[0]


def test_scores_are_those_of_the_networks_own_masks(run: Path, others: Path) -> None:
    track = evaluate(run, data_dir=others, name="clinic")
    assert track.path == run / "tracks" / "external-clinic"
    trained = load_network(run, device="cpu")
    store = prepare(trained.task, find_data(trained.task, others).root, trained.config.data)
    assert track.data["data"]["cases"] == list(store.case_ids)
    assert track.data["data"]["kind"] == "phantom"
    task = get_task("msd-prostate")
    dsc = []
    for one in trained.predict_cases(store, store.case_ids):
        mask = read_mask(track.path / "predictions" / "clean" / f"{one.case.case_id}.nii.gz")
        assert np.array_equal(mask, one.prediction.volume)
        truth = one.case.truth()
        (score,) = score_case(mask, truth, task.class_names, one.case.spacing, task.nsd_tolerance_mm)
        (row,) = (row for row in track.rows if row["case"] == one.case.case_id)
        for name, value in score.scores.items():
            assert row[name] == pytest.approx(value, nan_ok=True), name
        both = 2 * np.count_nonzero((mask > 0) & (truth > 0))
        dsc.append(both / (np.count_nonzero(mask) + np.count_nonzero(truth)))
    assert track.data["scores"]["dsc"] == pytest.approx(np.mean(dsc))
    assert {row["condition"] for row in track.rows} == {"clean"}


def test_a_stopped_one_goes_on_to_the_same_bytes(
    run: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usbench.tracks.folder import TrackFolder

    first = evaluate(run, data_dir=others, name="first")
    keep = TrackFolder.keep

    def stops(self: TrackFolder, case_id: str, part: Any) -> None:
        keep(self, case_id, part)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrackFolder, "keep", stops)
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, data_dir=others, name="second")
    second = evaluate(run, data_dir=others, name="second")
    for name in (name for name in first.data["files"] if not name.endswith(".png")):
        assert (second.path / name).read_bytes() == (first.path / name).read_bytes(), name


def test_one_name_for_two_data_sets_is_refused(run: Path, others: Path, tmp_path: Path) -> None:
    first = evaluate(run, data_dir=others, name="clinic")
    make_phantom(get_task("msd-prostate"), tmp_path / "third", cases=1, seed=21)
    with pytest.raises(UsbenchError, match=r"external-clinic: is the track of other data .*another --name"):
        evaluate(run, data_dir=tmp_path / "third", name="clinic")
    assert evaluate(run, data_dir=others, name="clinic").data == first.data
    third = evaluate(run, data_dir=tmp_path / "third", name="clinic", overwrite=True)
    assert len(third.data["data"]["cases"]) == 1


def test_a_patient_of_the_training_is_refused_under_any_name(
    kept: Any, run: Path, small_prostate: Path, others: Path, tmp_path: Path
) -> None:
    """In another folder, called otherwise, among patients that are new."""
    shutil.copytree(others, tmp_path / "mixed")
    folder = next((tmp_path / "mixed").glob("Task05*"))
    seen = kept.data["split"]["train"][0]
    for kind in ("imagesTr", "labelsTr"):
        shutil.copy(
            next(small_prostate.glob("Task05*")) / kind / f"{seen}.nii.gz",
            folder / kind / "prostate_77.nii.gz",
        )
    listing = json.loads((folder / "dataset.json").read_text())
    listing["training"].append({k: f"./{k}sTr/prostate_77.nii.gz" for k in ("image", "label")})
    (folder / "dataset.json").write_text(json.dumps(listing))
    with pytest.raises(
        UsbenchError, match=f"case prostate_77 is case {seen}, which the network was trained on"
    ):
        evaluate(run, data_dir=tmp_path / "mixed")
    with pytest.raises(UsbenchError, match="this is the data that the run was computed on"):
        evaluate(run, data_dir=small_prostate)
    assert not (run / "tracks").exists(), "nothing was begun"


@pytest.mark.slow
def test_labels_are_mapped_by_a_word_and_stated(others: Path, tmp_path: Path) -> None:
    """A folder whose classes have other names, for a run with two classes of its own folder."""
    own, other = tmp_path / "own", tmp_path / "other"
    make_phantom(get_task("msd-prostate"), tmp_path / "made", cases=3, seed=30)
    shutil.copytree(next((tmp_path / "made").glob("Task05*")), own)
    shutil.copytree(next(others.glob("Task05*")), other)
    listing = json.loads((other / "dataset.json").read_text())
    listing["labels"] = {"0": "background", "1": "rim", "2": "core"}
    (other / "dataset.json").write_text(json.dumps(listing))
    result = kept_run(own, tmp_path / "runs", task=None, task_dir=own, data_dir=None)
    classes = result.data["task"]["classes"]
    with pytest.raises(UsbenchError, match=rf"the run has class {classes[0]} .*rim, core.*--labels"):
        evaluate(result.path, task_dir=other)
    straight = evaluate(
        result.path, task_dir=other, labels=dict(zip(classes, ("rim", "core"), strict=True)), name="a"
    )
    crossed = evaluate(
        result.path, task_dir=other, labels=dict(zip(classes, ("core", "rim"), strict=True)), name="b"
    )
    assert straight.data["data"]["labels"] == {classes[0]: "rim", classes[1]: "core"}
    task = task_from_folder(other)
    truth = prepare(task, other, load_network(result, device="cpu").config.data)
    case_id = straight.data["data"]["cases"][0]
    sizes = [int(np.count_nonzero(truth.case(case_id).truth() == value)) for value in (1, 2)]

    def size(track: Any, name: str) -> int:
        (row,) = (row for row in track.rows if (row["case"], row["class"]) == (case_id, name))
        return int(row["tp"] + row["fn"])

    assert [size(straight, name) for name in classes] == sizes
    assert [size(crossed, name) for name in classes] == sizes[::-1]
