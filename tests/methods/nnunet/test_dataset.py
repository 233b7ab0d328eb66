"""The data set that nnU-Net is given."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from kit.nnunet_folder import TRAIN, make_folder

from usbench.methods.nnunet.nnunet_program.data import channel_name, reader_of, verify, write_dataset
from usbench.methods.nnunet.nnunet_program.main import same_job
from usbench.methods.nnunet.nnunet_program.plans import PREPARED, is_prepared, notes_of, pieces
from usbench.methods.nnunet.nnunet_program.shared import Fault, Spent, digests_of, read_sealed, write_sealed
from usbench.methods.nnunet.pipeline import job_of
from usbench.methods.nnunet.settings import SETTINGS
from usbench.plugins.code_hash import source_files


def job(folder, **changes):
    job = job_of(folder, {**SETTINGS, **changes}, "cpu")
    (folder.work / "raw").mkdir(parents=True)
    return job


def written(place: Path, **kind) -> dict:
    folder = make_folder(place, **kind)
    return json.loads((write_dataset(job(folder)) / "dataset.json").read_text())


@pytest.mark.parametrize(
    "name", ["T1", "noNorm", "zscore", "rescale_to_0_1", "rgb_to_0_1", "ct_like", "PET/CT"]
)
def test_every_modality_but_ct_is_normalised_by_image(name: str) -> None:
    mapping = pytest.importorskip("nnunetv2.preprocessing.normalization.map_channel_name_to_normalization")
    assert mapping.get_normalization_scheme(channel_name(name)).__name__ == "ZScoreNormalization"


@pytest.mark.parametrize("name", ["CT", "ct", " CT"])
def test_ct_is_normalised_as_ct(name: str) -> None:
    assert channel_name(name) == "CT"
    mapping = pytest.importorskip("nnunetv2.preprocessing.normalization.map_channel_name_to_normalization")
    assert mapping.get_normalization_scheme(channel_name(name)).__name__ == "CTNormalization"


def test_files_lie_where_they_were_and_ids_are_ours(tmp_path: Path) -> None:
    content = written(tmp_path)
    assert list(content["dataset"]) == ["case00000", "case00001", "case00002"]
    for case, entry in zip(TRAIN, content["dataset"].values(), strict=True):
        assert [Path(file).name for file in entry["images"]] == [f"{case}_0000.nii.gz", f"{case}_0001.nii.gz"]
        assert Path(entry["label"]) == tmp_path / "raw" / "labelsTr" / f"{case}.nii.gz"
    assert content["labels"] == {"background": 0, "ring": 1, "core": 2}
    assert content["numTraining"] == 3


def test_regions_are_handed_on(tmp_path: Path) -> None:
    content = written(tmp_path, regions=True)
    assert content["labels"] == {"background": 0, "whole": [1, 2], "core": [2]}
    assert content["regions_class_order"] == [1, 2]


def test_one_modality_alone(tmp_path: Path) -> None:
    content = written(tmp_path, channels=("FLAIR",))
    assert content["channel_names"] == {"0": "modality FLAIR"}
    assert all(len(entry["images"]) == 1 for entry in content["dataset"].values())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    gone = folder.raw / "imagesTr" / "p01_0001.nii.gz"
    gone.unlink()
    with pytest.raises(Fault, match="p01_0001"):
        write_dataset(job(folder))


def test_a_grid_that_itk_refuses_is_read_by_nibabel(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    files = [str(file) for file in (folder.raw / "imagesTr").iterdir()]
    assert reader_of(files) == "SimpleITKIO"
    sheared = np.diag([1.0, 1.0, 4.0, 1.0])
    sheared[0, 1] = 0.5
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), sheared), tmp_path / "sheared.nii.gz")
    assert reader_of([*files, str(tmp_path / "sheared.nii.gz")]) == "NibabelIO"


@pytest.mark.parametrize(("setting", "allowed", "mirrored"), [
    ("task", True, True), ("task", False, False), ("all", False, True), ("none", True, False),
])  # fmt: skip
def test_mirroring_as_the_task_allows(tmp_path: Path, setting: str, allowed: bool, mirrored: bool) -> None:
    folder = make_folder(tmp_path, mirror=allowed)
    assert job(folder, mirror=setting)["mirror"] is mirrored


def test_work_of_another_job_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    first = job(folder)
    folder.masks.mkdir()
    same_job(first)
    kept = [folder.work / "planned.json", folder.masks / "t1.nii.gz", folder.work / "results"]
    for path in kept[:2]:
        path.write_text("{}")
    kept[2].mkdir()
    same_job({**first, "threads": 2, "device": "cuda"})
    assert all(path.exists() for path in kept)
    same_job({**first, "epochs": 7})
    assert not any(path.exists() for path in kept)


def test_times_that_changed_are_said_to_be_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "spent.json"
    Spent(file).add("train", 5.0, "cpu")
    assert Spent(file).values["train"] == 5.0
    file.write_text(file.read_text().replace("5.0", "7.0"))
    changed = Spent(file)
    assert "spent.json is damaged (its digest does not fit)" in capsys.readouterr().out
    changed.add("predict", 2.0, "cpu")
    again = Spent(file).values
    assert {key: again[key] for key in again if key != "memory_mb"} == {"lost": 1.0, "predict": 2.0}
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"train": 1}', '{"content": {}, "sha256": "0"}', "\\x00"]
)
def test_notes_without_their_digest_are_none(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "decides.json"
    assert read_sealed(file, "it starts anew") is None
    assert not capsys.readouterr().out
    file.write_text(text)
    assert read_sealed(file, "it starts anew") is None
    assert "decides.json is damaged (its digest does not fit): it starts anew" in capsys.readouterr().out


@pytest.mark.parametrize("ending", [*PREPARED, ".json"])
def test_a_prepared_case_that_changed_is_prepared_again(
    tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "plans_2d"
    files = [folder / f"case00000{one}" for one in PREPARED]
    folder.mkdir()
    for file in files:
        file.write_bytes(file.name.encode() * 9)
    assert not is_prepared(folder, "case00000"), "it was not whole"
    notes = notes_of(folder, "case00000")
    notes.parent.mkdir()
    write_sealed(notes, digests_of(files))
    assert is_prepared(folder, "case00000")
    assert not capsys.readouterr().out
    changed = notes if ending == ".json" else folder / f"case00000{ending}"
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 4
    changed.write_bytes(content)
    assert not is_prepared(folder, "case00000")
    assert "is damaged (its digest does not fit): the case is prepared again" in capsys.readouterr().out
    changed.unlink()
    assert not is_prepared(folder, "case00000")


def test_a_change_in_the_program_is_a_change_of_the_method() -> None:
    names = {file.name for file in source_files("usbench.methods.nnunet.pipeline")}
    assert {"training.py", "plans.py", "data.py", "prediction.py", "shared.py", "settings.py"} <= names


def test_integrity_is_that_of_nnunet(tmp_path: Path) -> None:
    pytest.importorskip("nnunetv2")
    folder = make_folder(tmp_path)
    place = write_dataset(job(folder))
    content = json.loads((place / "dataset.json").read_text())
    verify(place, content, 1)
    file = folder.raw / "labelsTr" / "p01.nii.gz"
    mask = nibabel.load(file)
    values = np.asarray(mask.dataobj).copy()
    values[0, 0, 0] = 3
    nibabel.save(nibabel.Nifti1Image(values, mask.affine), file)
    with pytest.raises(
        Fault, match=r"^nnU-Net's integrity check: Some segmentation images contained unexpected"
    ):
        verify(place, content, 1)


def test_no_foreground_in_any_training_case(tmp_path: Path) -> None:
    pytest.importorskip("nnunetv2")
    folder = make_folder(tmp_path)
    place = write_dataset(job(folder))
    for file in (folder.raw / "labelsTr").iterdir():
        mask = nibabel.load(file)
        nibabel.save(nibabel.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine), file)
    with pytest.raises(Fault, match="no training case has a foreground voxel"):
        verify(place, json.loads((place / "dataset.json").read_text()), 1)


def test_pieces_are_what_blosc2_takes() -> None:
    pytest.importorskip("nnunetv2")
    for size in (16, 17, 30, 34, 129, 160):
        chunks, blocks = pieces(np.zeros((2, 6, 34, size), np.float32), [16, 16])
        assert all(
            1 <= block <= chunk <= most
            for block, chunk, most in zip(blocks, chunks, (2, 6, 34, size), strict=True)
        )
