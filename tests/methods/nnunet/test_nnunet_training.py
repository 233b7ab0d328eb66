"""nnU-Net itself, planned, trained and asked for masks on a small phantom; skipped where not installed."""

from __future__ import annotations

import json
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
from kit.nnunet_folder import TEST, grid, make_folder, told

from usbench.errors import UsbenchError
from usbench.methods.nnunet.nnunet_program.data import few_processes
from usbench.methods.nnunet.pipeline import ARGUMENTS, job_of, train_and_predict
from usbench.methods.nnunet.settings import PRESETS, SETTINGS
from usbench.scores.case import score_case

pytest.importorskip("nnunetv2")
pytestmark = pytest.mark.slow
TINY = {**SETTINGS, **PRESETS["smoke"], "threads": 1, "patch": 16, "epochs": 3}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with two classes, what nnU-Net left, and what it said."""
    folder = make_folder(tmp_path_factory.mktemp("finished"))
    watcher = told()
    return folder, train_and_predict(folder, TINY, "cpu", watcher), watcher


def labels_of(file: Path) -> np.ndarray:
    return np.asarray(nibabel.load(file).dataobj)


def plans_of(folder) -> dict:
    return json.loads((folder.work / "planned.json").read_text())["content"]


def test_masks_lie_on_the_grid_of_the_images(finished) -> None:
    folder, left, _ = finished
    assert set(left.masks) == set(TEST)
    image = nibabel.load(folder.raw / "imagesTs" / "t1_0000.nii.gz")
    mask = nibabel.load(left.masks["t1"])
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, grid(), atol=1e-4)
    assert set(np.unique(labels_of(left.masks["t1"]))) <= {0, 1, 2}


def test_it_says_how_far_it_is(finished) -> None:
    _, left, watcher = finished
    assert watcher.total == 3
    assert [row["epoch"] for row in watcher.epochs] == [1, 2, 3]
    # nnU-Net's schedule: 0.01 (1 - epoch / epochs)^0.9, epochs from 0.
    assert [row["lr"] for row in watcher.epochs] == pytest.approx(
        [0.01 * (1 - k / 3) ** 0.9 for k in range(3)]
    )
    assert left.epochs == 3
    assert left.train_seconds == pytest.approx(sum(row["seconds"] for row in watcher.epochs))
    assert left.predict_seconds > 0
    assert left.versions["nnunetv2"] == "2.7.0"
    assert any("nothing mirrored" in line for line in left.remarks)
    assert any("ZScoreNormalization, CTNormalization" in line for line in left.remarks)


def test_only_what_the_final_epoch_made_is_kept(finished) -> None:
    folder, _, _ = finished
    assert [file.name for file in sorted((folder.work / "results").rglob("*.pth"))] == [
        "checkpoint_final.pth"
    ]


def test_parameters_are_those_of_the_class_that_the_plans_name(finished) -> None:
    from pydoc import locate

    folder, left, _ = finished
    plan = plans_of(folder)["configurations"]["2d"]
    architecture = plan["architecture"]
    words = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        words[key] = words[key] and locate(words[key])
    network = locate(architecture["network_class_name"])(
        input_channels=2, num_classes=3, deep_supervision=True, **words
    )
    assert type(network).__name__ == "PlainConvUNet"
    # Encoder and decoder each by itself, the encoder that the decoder holds left out.
    held = sum(v.numel() for k, v in network.state_dict().items() if not k.startswith("decoder.encoder."))
    # A normalisation stands in a block twice in the state dict: by its name and in the sequence.
    twice = sum(
        v.numel()
        for k, v in network.state_dict().items()
        if not k.startswith("decoder.encoder.") and ".all_modules." in k
    )
    assert left.parameters == left.trainable == held - twice
    assert plan["patch_size"] == [16, 16]
    assert plan["batch_size"] == 2


def test_operations_are_those_of_its_convolutions(finished) -> None:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder, left, _ = finished
    manager = PlansManager(plans_of(folder))
    chosen = manager.get_configuration("2d")
    network = nnUNetTrainer.build_network_architecture(manager, chosen, 2, 3, enable_deep_supervision=False)
    counted = []

    def count(layer, inputs, output) -> None:
        size = layer.weight[0].numel() if isinstance(layer, torch.nn.Conv2d) else layer.weight.numel()
        pixels = output if isinstance(layer, torch.nn.Conv2d) else inputs[0][:, :1]
        counted.append(2 * size * pixels.numel())

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    network(torch.zeros(1, 2, 16, 16))
    assert left.gflops_per_slice == pytest.approx(sum(counted) / 1e9)


def test_the_plans_saw_training_cases_alone(finished, tmp_path: Path) -> None:
    folder, _, _ = finished
    fingerprint = next((folder.work / "preprocessed").rglob("dataset_fingerprint.json"))
    assert len(json.loads(fingerprint.read_text())["spacings"]) == 3


def test_dice_is_that_of_nnunets_own_evaluation(finished, tmp_path: Path) -> None:
    import nnunetv2.evaluation.evaluate_predictions as evaluation
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    folder, left, _ = finished
    truth_file = folder.raw.parent / "truth" / "t1.nii.gz"
    truth = labels_of(truth_file)
    # A network of three epochs may see nothing: a mask with a known fault is compared too.
    masks, references = tmp_path / "masks", tmp_path / "references"
    masks.mkdir()
    references.mkdir()
    shutil.copy(left.masks["t1"], masks / "trained.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.roll(truth, (2, 1, 1), (0, 1, 2)), grid()), masks / "shifted.nii.gz")
    for mask in masks.iterdir():
        shutil.copy(truth_file, references / mask.name)
    with few_processes(evaluation, 1):
        evaluation.compute_metrics_on_folder(
            str(references),
            str(masks),
            str(tmp_path / "summary.json"),
            SimpleITKIO(),
            ".nii.gz",
            [1, 2],
            num_processes=1,
        )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 2
    for case in summary["metric_per_case"]:
        mask = labels_of(case["prediction_file"])
        ours = score_case(mask, truth, ["ring", "core"], (1.2, 1.1, 4.0), 1.0)
        for value, row in zip(("1", "2"), ours, strict=True):
            assert row.scores["dsc"] == pytest.approx(case["metrics"][value]["Dice"], abs=1e-6)
            assert 0 <= row.scores["dsc"] < 1


def start(folder, settings) -> subprocess.Popen:
    """The program by itself, so that a test may kill it."""
    folder.work.mkdir(exist_ok=True)
    job = folder.work / "job.json"
    job.write_text(json.dumps(job_of(folder, settings, "cpu")))
    return subprocess.Popen(
        [sys.executable, *ARGUMENTS, str(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_at(folder, settings, words: str) -> list[str]:
    """Starts the program and kills it, with all that it started, at the first line with `words`."""
    program = start(folder, settings)
    seen = []
    for line in program.stdout:
        seen.append(line)
        if words in line:
            os.killpg(program.pid, signal.SIGKILL)
            break
    program.wait()
    assert words in seen[-1], "".join(seen)
    return seen


def test_killed_and_gone_on_it_leaves_the_same_masks(finished, tmp_path: Path) -> None:
    _, whole, _ = finished
    folder = make_folder(tmp_path)
    seen = kill_at(folder, TINY, '"number": 2, "total": 3')
    # A case that was being written, and a checkpoint that was: neither counts.
    (folder.work / "preprocessed" / "partial" / "case00002").mkdir(parents=True, exist_ok=True)
    seen = kill_at(folder, TINY, '"epoch": 2')
    assert not any("checks the data" in line or '"number": 1, "total": 3' in line for line in seen)
    next((folder.work / "results").rglob("fold_all")).joinpath("checkpoint_final.pth.partial").write_bytes(
        b"x"
    )
    watcher = told()
    time.sleep(1)
    left = train_and_predict(folder, TINY, "cpu", watcher)
    assert [row["epoch"] for row in watcher.epochs] in ([3], [2, 3])
    assert any("goes on after epoch" in line for line in watcher.lines)
    np.testing.assert_array_equal(labels_of(left.masks["t1"]), labels_of(whole.masks["t1"]))
    # Asked again, nothing is trained or predicted anew; a prepared case that changed is prepared again.
    prepared = next((folder.work / "preprocessed").rglob("case00001.b2nd"))
    sound = prepared.read_bytes()
    middle = len(sound) // 2
    prepared.write_bytes(sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :])
    again = told()
    changed = left.masks["t1"].stat().st_mtime_ns
    train_and_predict(folder, TINY, "cpu", again)
    assert again.epochs == []
    assert "what was prepared of case00001 is damaged" in folder.log.read_text()
    assert prepared.read_bytes() == sound
    assert left.masks["t1"].stat().st_mtime_ns == changed


def test_regions_in_3d_with_residual_encoders_and_plans_on_all(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, channels=("T1",), regions=True, mirror=True)
    settings = {**TINY, "epochs": 1, "plan_on": "all", "configuration": "3d_fullres", "planner": "resenc-m"}
    left = train_and_predict(folder, settings, "cpu", told())
    assert set(np.unique(labels_of(left.masks["t1"]))) <= {0, 1, 2}
    log = folder.log.read_text()
    assert "Pseudo dice" in log
    fingerprint = next((folder.work / "preprocessed").rglob("dataset_fingerprint.json"))
    assert len(json.loads(fingerprint.read_text())["spacings"]) == 4
    assert any("also saw the grids of the test images" in line for line in left.remarks)
    assert any(line.startswith("mirrored") for line in left.remarks)
    checkpoint = next((folder.work / "results").rglob("checkpoint_final.pth"))
    import torch

    weights = torch.load(checkpoint, map_location="cpu", weights_only=False)["network_weights"]
    heads = [
        value.shape[0] for key, value in weights.items() if key.startswith("decoder.seg_layers.0.weight")
    ]
    assert heads == [2]


def test_images_of_one_slice_have_no_3d(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, slices=1)
    with pytest.raises(
        UsbenchError, match=r"plans no 3d_fullres .* it has 2d: --set method.configuration=2d$"
    ):
        train_and_predict(folder, {**TINY, "configuration": "3d_fullres"}, "cpu", told())
    assert not list(folder.masks.iterdir())
