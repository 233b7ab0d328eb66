"""Runs of a task of regions: decision, result, trained network, submission; a phantom and real gliomas."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from kit.places import TINY
from kit.tampering import CARD, change_result, folder_of_fold, put_together, taken_apart

import usbench
from usbench import Modality, Structure, Task, UsbenchError
from usbench.contracts.classes import class_maps
from usbench.contracts.settings import DataSettings
from usbench.datasets.phantom import make_phantom
from usbench.datasets.store import PreparedCase, prepare
from usbench.datasets.tasks import get_task
from usbench.results.digests import protocol_of
from usbench.results.io import load_result
from usbench.runs.labels import to_labels
from usbench.runs.network import load_network
from usbench.runs.of_result import task_of
from usbench.runs.predict import predict
from usbench.submissions.card import dump_card
from usbench.submissions.pack import submit
from usbench.submissions.verify import verify

NAMES = ("whole-tumour", "tumour-core", "enhancing-tumour")
HALF = dict.fromkeys(NAMES, 0.5)


def logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def test_every_region_has_its_own_threshold_by_hand() -> None:
    # Two regions at five pixels, as probabilities.
    first, second = [0.9, 0.6, 0.45, 0.2, 0.31], [0.1, 0.7, 0.81, 0.79, 0.95]
    logits = torch.tensor([[[[logit(p) for p in first]], [[logit(p) for p in second]]]])
    mask = to_labels(logits, {"a": 0.3, "b": 0.8})
    assert mask.dtype == torch.uint8
    assert mask.tolist() == [[[0b01, 0b01, 0b11, 0b00, 0b11]]]
    assert to_labels(logits, {"a": 0.5, "b": 0.5}).tolist() == [[[0b01, 0b11, 0b10, 0b10, 0b10]]]
    # Classes that exclude each other: the more probable one above 0.5.
    assert to_labels(logits).tolist() == [[[1, 2, 2, 2, 2]]]


def test_a_threshold_itself_is_not_above_it_and_all_eight_bits_are_used() -> None:
    eight = {str(i): 0.5 for i in range(8)}
    logits = torch.zeros(1, 8, 1, 2)
    logits[:, :, :, 1] = 1e-3
    assert to_labels(logits, eight).tolist() == [[[0, 255]]]
    # Certain to float32's last digit, where a sigmoid rounds to 1.
    certain = torch.full((1, 1, 1, 1), 40.0)
    assert to_labels(certain, {"a": 0.9999}).item() == 1
    assert to_labels(-certain, {"a": 1e-4}).item() == 0
    assert to_labels(torch.full((1, 1, 1, 1), float("nan")), {"a": 0.5}).item() == 0


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two brain phantoms."""
    folder = tmp_path_factory.mktemp("brain")
    make_phantom(get_task("msd-brain-regions"), folder, cases=2, seed=3)
    return folder


def words(brain: Path, runs: Path) -> dict[str, Any]:
    return {
        "task": "msd-brain-regions",
        "data_dir": brain,
        "plugins": [TINY],
        "preset": "smoke",
        "device": "cpu",
        "runs_dir": runs,
    }


@pytest.fixture(scope="module")
def runs(brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All folds of a tiny method on the regions of the phantom, with weights."""
    folder = tmp_path_factory.mktemp("runs")
    usbench.run("tiny", "early", folds="all", keep_weights=True, **words(brain, folder))
    return folder


def a_result(runs: Path, fold: int = 0) -> Any:
    (file,) = (f for f in runs.rglob("result.json") if f.parent.name.startswith(f"{fold}-"))
    return load_result(file)


def prediction(result: Any, case_id: str) -> np.ndarray:
    file = result.path / "predictions" / f"{case_id}.nii.gz"
    return np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]


def test_network_output_becomes_bits_by_the_thresholds(brain: Path, tmp_path: Path) -> None:
    task = get_task("msd-brain-regions")
    store = prepare(task, brain, DataSettings(size=32), 1, tmp_path)
    case: PreparedCase = store.case(store.case_ids[0])
    torch.manual_seed(0)
    network = torch.nn.Conv2d(4, 3, 1)
    thresholds = {"whole-tumour": 0.4, "tumour-core": 0.5, "enhancing-tumour": 0.6}
    found = predict(network, case, 3, torch.device("cpu"), thresholds=thresholds)
    with torch.no_grad():
        probability = torch.sigmoid(network(torch.from_numpy(np.asarray(case.images, dtype=np.float32))))
    for index, threshold in enumerate(thresholds.values()):
        np.testing.assert_array_equal(found.slices & (1 << index) != 0, probability[:, index] > threshold)
    assert found.volume.shape == case.truth().shape


def test_a_run_says_that_its_classes_are_regions(runs: Path, brain: Path) -> None:
    result = a_result(runs)
    task = result.data["task"]
    assert task["regions"] == HALF
    assert tuple(task["classes"]) == NAMES
    assert result.typed.task.regions == HALF
    assert result.path.parent.parent.name == "msd-brain-regions-phantom"
    assert result.data["protocol"] == protocol_of(
        task["name"],
        task["modalities"],
        task["classes"],
        result.data["config"],
        result.data["split"]["digest"],
        None,
        "32",
        regions=HALF,
    )
    (case_id,) = result.data["split"]["test"]
    mask = prediction(result, case_id)
    file = brain / "Task01_BrainTumour" / "labelsTr" / f"{case_id}.nii.gz"
    raw = np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]
    assert [row["class"] for row in result.rows] == list(NAMES)
    for index, values in enumerate(((1, 2, 3), (2, 3), (3,))):
        one, other = mask & (1 << index) != 0, np.isin(raw, values)
        row = result.rows[index]
        assert (row["tp"], row["fp"], row["fn"]) == (
            (one & other).sum(),
            (one & ~other).sum(),
            (other & ~one).sum(),
        )
    assert (result.path / "figures" / "cases.png").is_file()


def test_the_network_of_a_run_predicts_the_same_regions(runs: Path, brain: Path, tmp_path: Path) -> None:
    result = a_result(runs)
    loaded = load_network(result.path, device="cpu", plugins=[TINY])
    assert loaded.task.thresholds == HALF
    store = prepare(loaded.task, brain, loaded.config.data)
    test = result.data["split"]["test"]
    for one in loaded.predict_cases(store, test, tmp_path):
        np.testing.assert_array_equal(one.prediction.volume, prediction(result, one.case.case_id))
        # With another threshold the same network draws another outline.
        task = replace(loaded.task, classes=tuple(replace(c, threshold=0.01) for c in loaded.task.classes))
        (more,) = replace(loaded, task=task).predict_cases(store, [one.case.case_id])
        ours, theirs = (class_maps(p.prediction.volume, 3, True) for p in (one, more))
        assert (ours <= theirs).all()
        assert theirs.sum() > ours.sum()


@pytest.mark.parametrize("name", ["msd-brain-regions", "a-folder-of-ones-own"])
def test_a_loaded_task_has_the_regions_and_thresholds_of_the_run(runs: Path, name: str) -> None:
    data = json.loads(json.dumps(a_result(runs).data))
    data["task"]["name"] = name
    data["task"]["regions"] = {**HALF, "tumour-core": 0.3}
    task = task_of(data, [])
    assert task.regions
    assert task.thresholds == {**HALF, "tumour-core": 0.3}
    assert task.class_names == NAMES


def test_merged_regions_run_as_one_class(brain: Path, tmp_path: Path) -> None:
    (result,) = usbench.run("tiny", "early", merge_labels="tumour", **words(brain, tmp_path))
    assert "regions" not in result.data["task"]
    assert result.data["task"]["classes"] == ["tumour"]
    assert prediction(result, result.data["split"]["test"][0]).max() <= 1


@pytest.fixture
def packed(runs: Path, tmp_path: Path) -> Path:
    card = tmp_path / "card.yaml"
    card.write_bytes(dump_card(CARD))
    made: Path = submit([runs], card, tmp_path / "regions.zip")
    return made


def test_a_submission_of_regions_is_scored_anew(packed: Path, brain: Path) -> None:
    found = verify(packed, data_dir=brain)
    assert (found.runs, found.predictions) == (2, 2)
    assert found.largest_difference <= 1e-9
    assert found.notes == ()
    with zipfile.ZipFile(packed) as archive:
        masks = [name for name in archive.namelist() if name.endswith(".nii.gz")]
    assert len(masks) == 2


def of_all_folds(members: dict[str, bytes], change: Any) -> None:
    for fold in range(2):
        change_result(members, change, fold)


def test_claims_on_regions_that_the_task_has_not_are_refused(
    packed: Path, brain: Path, tmp_path: Path
) -> None:
    def lower(data: dict[str, Any]) -> None:
        data["task"]["regions"]["tumour-core"] = 0.2

    def classes(data: dict[str, Any]) -> None:
        del data["task"]["regions"]

    for number, change in enumerate((lower, classes)):
        members = taken_apart(packed)
        of_all_folds(members, change)
        with pytest.raises(
            UsbenchError, match="whether its classes are regions, or their thresholds, is not"
        ):
            verify(put_together(tmp_path / f"changed-{number}.zip", members), data_dir=brain)


def test_an_edited_threshold_is_not_what_the_protocol_covers(
    packed: Path, brain: Path, tmp_path: Path
) -> None:
    members = taken_apart(packed)

    def lower(data: dict[str, Any]) -> None:
        data["task"]["regions"]["tumour-core"] = 0.2

    change_result(members, lower, 0, rehash=False)
    with pytest.raises(UsbenchError, match="its protocol is not the digest of its settings"):
        verify(put_together(tmp_path / "edited.zip", members), data_dir=brain)


def test_a_mask_with_a_bit_too_many_is_refused(packed: Path, brain: Path, tmp_path: Path) -> None:
    import gzip

    members = taken_apart(packed)
    folder = folder_of_fold(members)
    name = next(n for n in members if n.startswith(f"{folder}/predictions/"))
    raw = bytearray(gzip.decompress(members[name]))
    raw[-1] = 8
    members[name] = gzip.compress(bytes(raw), mtime=0)
    change_result(members, lambda data: None, 0)
    with pytest.raises(UsbenchError, match=r"holds label 8, the task has 0\.\.7"):
        verify(put_together(tmp_path / "bit.zip", members), data_dir=brain)


def test_names_of_regions_are_those_of_the_classes(runs: Path, tmp_path: Path) -> None:
    from usbench.results.schema import typed

    data = json.loads(json.dumps(a_result(runs).data))
    data["task"]["regions"] = {"whole-tumour": 0.5}
    with pytest.raises(UsbenchError, match=r"task\.regions has other names than task\.classes"):
        typed(data, "result.json", "mend it")
    data["task"]["regions"] = {**HALF, "tumour-core": 1.5}
    with pytest.raises(UsbenchError, match=r"task\.regions\.tumour-core' is 1\.5"):
        typed(data, "result.json", "mend it")


GLIOMA = Task(
    name="glioma",
    title="Regions of glioma",
    folder="Task91_GliomaFlairT1gd",
    modalities=(Modality("flair", "FLAIR", ("FLAIR",)), Modality("t1gd", "T1 with contrast", ("t1gd",))),
    # 1 necrosis, 2 oedema, 3 non-enhancing tumour, 4 enhancing tumour.
    classes=(
        Structure("whole-tumour", "whole tumour", labels=(1, 2, 3, 4), threshold=0.4),
        Structure("tumour-core", "tumour core", labels=(1, 3, 4)),
        Structure("enhancing-tumour", "enhancing tumour", labels=(4,), threshold=0.3),
    ),
    regions=True,
    nsd_tolerance_mm=1.0,
    licence="CC BY-NC-SA 3.0",
    citation="BraTS 2013",
)


@pytest.mark.slow
def test_regions_of_real_gliomas_score_as_monai_scores_them(real_data: Path, tmp_path: Path) -> None:
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDiceMetric

    plugin = tmp_path / "glioma.py"
    plugin.write_text(
        "from usbench import Modality, Structure, Task\n"
        "TASK = " + repr(GLIOMA).replace("found=None, ", "").replace(", found=None", "") + "\n"
    )
    (result,) = usbench.run(
        "unext-small", "early", task="glioma", plugins=[plugin], data_dir=real_data / "msd", preset="smoke",
        folds="0", device="cpu", runs_dir=tmp_path / "runs", settings={"train.epochs": 6, "data.size": 64},
    )  # fmt: skip
    assert result.data["task"]["regions"] == GLIOMA.thresholds
    folder = real_data / "msd" / GLIOMA.folder
    compared = 0
    for case_id in result.data["split"]["test"]:
        file = next(folder.glob(f"labelsTr/{case_id}.nii*"))
        image = nibabel.load(file)  # type: ignore[attr-defined]
        raw, spacing = np.asarray(image.dataobj), [float(v) for v in image.header.get_zooms()[:3]]
        mask = prediction(result, case_id)
        for index, structure in enumerate(GLIOMA.classes):
            (row,) = (r for r in result.rows if (r["case"], r["class"]) == (case_id, structure.name))
            one, other = mask & (1 << index) != 0, np.isin(raw, structure.labels)
            if not one.any():
                assert row["edge"] == "prediction-empty"
                continue
            # Background beyond the masks changes no score, and costs MONAI minutes.
            places = np.argwhere(one | other)
            box = tuple(map(slice, np.maximum(places.min(0) - 2, 0), places.max(0) + 3))
            pair = [torch.from_numpy(m[box][None, None].astype(np.float32)) for m in (one, other)]
            theirs = [
                DiceMetric()(*pair),
                MeanIoU()(*pair),
                HausdorffDistanceMetric(percentile=95, include_background=True)(*pair, spacing=spacing),
                SurfaceDiceMetric([1.0], include_background=True)(*pair, spacing=spacing),
            ]
            ours = [row[name] for name in ("dsc", "iou", "hd95", "nsd")]
            np.testing.assert_allclose(ours, [float(v) for v in theirs], rtol=1e-6, atol=1e-5)
            compared += 1
    assert compared >= 3
