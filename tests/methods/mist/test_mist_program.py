"""From a folder to masks by MIST: with a program in its place, and with MIST itself where it is installed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

from usbench.contracts.pipeline import PipelineFolder, PipelineWatcher
from usbench.errors import UsbenchError
from usbench.methods.mist.mist_program import main as program
from usbench.methods.mist.mist_program.main import (
    PEEK,
    Notes,
    add_peek,
    configure,
    drop_damaged,
    seal,
    write_data_set,
)
from usbench.methods.mist.pipeline import check, job_of, train_and_predict
from usbench.methods.mist.settings import PRESETS, SETTINGS

AFFINE = np.array([[-0.98, 0.2, 0, 5], [0.2, 0.98, 0, -9], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])
SHAPE = (36, 40, 34)
OUTCOME = {
    "parameters": 5, "trainable": 5, "epochs": 2, "train_seconds": 3.0, "predict_seconds": 1.0,
    "prepare_seconds": 1.0, "peak_memory_mb": 9.0, "resumed": False, "patch": [32, 32, 32],
    "spacing": [1.0, 1.0, 2.5], "mirrored": False, "tta": False, "versions": {"mist-medical": "2.3.0"},
}  # fmt: skip


class Told(PipelineWatcher):
    """Keeps what a pipeline said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.epochs: list[dict[str, float]] = []

    def on_epoch(self, row) -> None:
        self.epochs.append(dict(row))

    def say(self, text: str) -> None:
        self.lines.append(text)


def made(place: Path, train: tuple[str, ...] = ("007", "NA"), mirror: bool = False) -> PipelineFolder:
    """A fold with a bright ball; ids are such that a table of them is easily misread."""
    raw = place / "raw"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / name).mkdir(parents=True)
    where = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    for number, case in enumerate((*train, "t1")):
        mask = (np.linalg.norm(where - np.array(SHAPE) / 2 - number, axis=-1) < 9).astype(np.uint8)
        noise = np.random.default_rng(number).normal(100, 5, (2, *SHAPE))
        kind = "Ts" if case == "t1" else "Tr"
        for channel in range(2):
            image = nibabel.Nifti1Image((noise[channel] + 60 * mask).astype(np.float32), AFFINE)
            nibabel.save(image, raw / f"images{kind}" / f"{case}_{channel:04d}.nii.gz")
        if kind == "Tr":
            nibabel.save(nibabel.Nifti1Image(mask, AFFINE), raw / "labelsTr" / f"{case}.nii.gz")
    (raw / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "ball": 1}}))
    return PipelineFolder(
        raw, place / "work", place / "masks", place / "log.txt", ("T1", "T2"), {"ball": 1}, train, ("t1",),
        mirror, 3,
    )  # fmt: skip


def stand_in(place: Path, body: str) -> str:
    """An interpreter that runs `body`, with the job at hand, whatever program it is given."""
    script = place / "stand_in.py"
    script.write_text(
        f"import json, pathlib, sys\njob = json.loads(pathlib.Path(sys.argv[2]).read_text())\n{body}"
    )
    file = place / "python"
    file.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_what_the_program_says_reaches_bar_and_result(tmp_path: Path) -> None:
    folder = made(tmp_path)
    body = (
        "def tell(**facts): print(json.dumps(facts), flush=True)\n"
        "print('a bar of MIST')\n"
        "tell(usbench='train', epochs=2, done=1)\n"
        "tell(usbench='epoch', epoch=2, loss=0.5, lr=0.1, seconds=3)\n"
        "pathlib.Path(job['masks'], 't1.nii.gz').write_bytes(b'x')\n"
        f"pathlib.Path(sys.argv[2]).parent.joinpath('outcome.json').write_text('''{json.dumps(OUTCOME)}''')\n"
    )
    told = Told()
    found = train_and_predict(folder, {**SETTINGS, "python": stand_in(tmp_path, body)}, "cpu", told)
    assert found.masks == {"t1": folder.masks / "t1.nii.gz"}
    assert (found.parameters, found.epochs, found.peak_memory_mb) == (5, 2, 9.0)
    assert told.epochs == [{"epoch": 2, "loss": 0.5, "lr": 0.1, "seconds": 3}]
    assert told.lines == ["MIST goes on after epoch 1 of 2"]
    assert "a bar of MIST" in folder.log.read_text()


def test_a_fault_is_one_line_that_names_the_log(tmp_path: Path) -> None:
    body = "print(json.dumps({'usbench': 'fault', 'text': 'no mask of t1 was made'}))\nsys.exit('x')\n"
    python = stand_in(tmp_path, body)
    with pytest.raises(UsbenchError, match=r"^MIST: no mask of t1 was made.*log\.txt$"):
        train_and_predict(made(tmp_path), {**SETTINGS, "python": python}, "cpu", Told())


@pytest.mark.parametrize(("names", "kind"), [(("CT",), "ct"), (("T1", "ct"), "mr"), (("T1ct",), "mr")])
def test_only_ct_alone_is_normalised_as_ct(tmp_path: Path, names: tuple[str, ...], kind: str) -> None:
    folder = made(tmp_path)
    job = job_of(PipelineFolder(**{**vars(folder), "modalities": names}), SETTINGS, "cpu")
    assert job["modality"] == kind


def test_regions_give_every_value_a_label(tmp_path: Path) -> None:
    folder = made(tmp_path)
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": 3}
    (folder.raw / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert job_of(folder, SETTINGS, "cpu")["labels"] == [0, 1, 2, 3]


def test_ids_are_numbers_of_ours_and_a_single_case_stands_twice(tmp_path: Path) -> None:
    folder = made(tmp_path)
    place = tmp_path / "mist"
    place.mkdir()
    write_data_set(job_of(folder, SETTINGS, "cpu"), place)
    assert sorted(p.name for p in (place / "cases").iterdir()) == ["case_0000", "case_0001"]
    mask = (place / "cases" / "case_0001" / "usbench_reference.nii.gz").resolve()
    assert mask == (folder.raw / "labelsTr" / "NA.nii.gz").resolve()
    alone = tmp_path / "alone"
    alone.mkdir()
    write_data_set({**job_of(folder, SETTINGS, "cpu"), "train": ["007"]}, alone)
    assert sorted(p.name for p in (alone / "cases").iterdir()) == ["case_0000", PEEK]


def test_the_case_that_mist_validates_on_is_a_piece_and_costs_no_training_case(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    results, arrays = tmp_path / "results", tmp_path / "arrays"
    for folder in (results, arrays / "images", arrays / "labels"):
        folder.mkdir(parents=True)
    (results / "config.json").write_text(json.dumps({"spatial_config": {"patch_size": [4, 4, 4]}}))
    image = np.arange(10 * 8 * 3 * 2).reshape(10, 8, 3, 2)
    np.save(arrays / "images" / "case_0000.npy", image)
    np.save(arrays / "labels" / "case_0000.npy", image[..., :1])
    table = pandas.DataFrame({"id": ["case_0000", "case_0001"], "fold": [0, 1], "mask": ["a", "b"]})
    table.to_csv(results / "train_paths.csv", index=False)
    add_peek(results, arrays)
    assert np.array_equal(np.load(arrays / "images" / f"{PEEK}.npy"), image[3:7, 2:6, 0:3])
    found = pandas.read_csv(results / "train_paths.csv").set_index("id")["fold"].to_dict()
    assert found == {PEEK: 0, "case_0000": 1, "case_0001": 1}


@pytest.mark.parametrize("mirror", [True, False])
def test_nothing_is_mirrored_where_the_task_does_not_allow_it(tmp_path: Path, mirror: bool) -> None:
    path = tmp_path / "config.json"
    config = {
        "training": {"hardware": {}, "augmentation": {"transforms": {"flips": True}}},
        "inference": {"tta": {"enabled": True}, "inferer": {"params": {}}},
        "model": {}, "spatial_config": {"patch_size": [64, 64, 32]},
    }  # fmt: skip
    path.write_text(json.dumps(config))
    configure(job_of(made(tmp_path, mirror=mirror), SETTINGS, "cpu"), path)
    found = json.loads(path.read_text())
    assert found["training"]["augmentation"]["transforms"]["flips"] is mirror
    assert found["inference"]["tta"]["enabled"] is mirror
    assert found["spatial_config"]["patch_size"] == [64, 64, 32]


@pytest.mark.parametrize("line", ["whole", "none", "flipped"])
def test_a_checkpoint_without_its_digest_is_not_gone_on_with(
    tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fold_0_checkpoint.pt"
    file.write_bytes(bytes(range(256)) * 3)
    if line != "none":
        seal(file)
    if line == "flipped":
        content = bytearray(file.read_bytes())
        content[300] ^= 1
        file.write_bytes(content)
    drop_damaged(file)
    assert file.exists() is (line == "whole")
    assert ("is damaged (its digest does not fit): training starts anew" in capsys.readouterr().out) is (
        line != "whole"
    )
    drop_damaged(tmp_path / "none.pt")


def test_times_that_changed_are_said_to_be_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "notes.json"
    Notes(file).add("train_seconds", 5.0)
    assert Notes(file).values["train_seconds"] == 5.0
    file.write_text(file.read_text().replace("5.0", "7.0"))
    changed = Notes(file)
    assert "notes.json is damaged (its digest does not fit)" in capsys.readouterr().out
    changed.add("predict_seconds", 2.0)
    again = Notes(file).values
    assert {key: again[key] for key in again if key != "peak_memory_mb"} == {
        "lost": 1.0,
        "predict_seconds": 2.0,
    }


@pytest.mark.parametrize("changed", ["", "arrays/images/case_0000.npy", "done.json", "another"])
def test_what_was_prepared_is_prepared_again_where_it_changed(
    tmp_path: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MIST's own steps are played; what lies there before and after is this program's."""
    made_of: list[str] = []
    place = tmp_path / "mist"

    def played(words: list[str]) -> None:
        made_of.append(words[0])
        for kind in ("images", "labels"):
            file = place / "arrays" / kind / "case_0000.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, np.arange(99))

    for name, step in (("analyze", "analyze_entry"), ("preprocess", "preprocess_entry")):
        module = ModuleType(f"mist.cli.{name}_entrypoint")
        setattr(module, step, played)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("write_data_set", "configure", "add_peek"):
        monkeypatch.setattr(program, name, lambda *_: None)
    (tmp_path / "masks").mkdir()
    mask = tmp_path / "masks" / "t1.nii.gz"
    job, notes = {"train": ["007"], "masks": str(tmp_path / "masks")}, Notes(tmp_path / "notes.json")
    program.prepare(job, place, notes)
    assert len(made_of) == 2
    mask.touch()
    if changed == "another":
        (place / "arrays" / "images" / "case_0001.npy").touch()
    elif changed:
        content = bytearray((place / changed).read_bytes())
        content[len(content) // 2] ^= 1
        (place / changed).write_bytes(content)
    program.prepare(job, place, notes)
    assert len(made_of) == (4 if changed else 2)
    assert mask.exists() is not bool(changed), "a mask of a network that is trained anew"
    program.prepare(job, place, notes)
    assert len(made_of) == (4 if changed else 2)


def real_mist() -> str:
    """An interpreter with MIST: `USBENCH_MIST_PYTHON`, or the one that runs the tests."""
    python = os.environ.get("USBENCH_MIST_PYTHON", sys.executable)
    try:
        check({**SETTINGS, "python": python})
    except UsbenchError as error:
        pytest.skip(f"{error} (or name an interpreter that has it in USBENCH_MIST_PYTHON)")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("train", [("007", "NA"), ("007",)])
def test_mist_itself_trains_and_leaves_masks_on_the_grid(tmp_path: Path, train: tuple[str, ...]) -> None:
    settings = {**SETTINGS, **PRESETS["smoke"], "python": real_mist()}
    folder, told = made(tmp_path, train), Told()
    found = train_and_predict(folder, settings, "cpu", told)
    mask = nibabel.load(found.masks["t1"])
    assert mask.shape == SHAPE
    assert np.allclose(mask.affine, AFFINE, atol=1e-4)
    assert set(np.unique(mask.dataobj)) <= {0, 1}
    assert [row["epoch"] for row in told.epochs] == [1]
    assert None not in (found.parameters, found.train_seconds, found.predict_seconds)


@pytest.mark.slow
def test_mist_killed_between_two_epochs_goes_on_after_the_first(tmp_path: Path) -> None:
    settings = {**SETTINGS, **PRESETS["smoke"], "epochs": 2, "python": real_mist()}
    folder = made(tmp_path)
    folder.work.mkdir()
    folder.masks.mkdir()
    job = folder.work / "job.json"
    job.write_text(json.dumps(job_of(folder, settings, "cpu")))
    from usbench.methods.mist.mist_program import main

    program = subprocess.Popen(
        [settings["python"], str(main.__file__), str(job)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert any(line.startswith('{"usbench": "epoch"') for line in program.stdout)
    program.kill()
    program.wait()
    told = Told()
    found = train_and_predict(folder, settings, "cpu", told)
    assert "MIST goes on after epoch 1 of 2" in told.lines
    assert [row["epoch"] for row in told.epochs] == [2]
    assert any("gone on after a kill" in remark for remark in found.remarks)
    assert found.masks["t1"].exists()
