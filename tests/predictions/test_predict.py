"""New patients by kept networks: held against the runs' own masks, nibabel, SimpleITK, NumPy and pydicom."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from kit.bright_runs import kept_run, plugin
from kit.synthetic import save_nifti

import usbench
from usbench.datasets.patients.given import read_given
from usbench.errors import UsbenchError
from usbench.predictions.ensemble import labels_of
from usbench.runs.network import load_network


def content(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes())


def require_own_masks(run: Any, out: Path, cases: list[str] | None = None) -> None:
    """The masks in `out` are those of the run, byte for byte, and they show something."""
    for case_id in cases or run.data["split"]["test"]:
        assert content(out / f"{case_id}.nii.gz") == content(run.path / "predictions" / f"{case_id}.nii.gz")
        assert np.asarray(nibabel.load(out / f"{case_id}.nii.gz").dataobj).any()


def scans(prostate: SimpleNamespace, case_id: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The two modalities of a case as nibabel reads them, and the affine."""
    image = nibabel.load(prostate.data / "imagesTr" / f"{case_id}.nii.gz")
    array = image.get_fdata(dtype=np.float32)
    return {"t2": array[..., 0], "adc": array[..., 1]}, image.affine


def test_a_data_folder_gives_the_masks_of_the_run(prostate: SimpleNamespace, tmp_path: Path) -> None:
    test = prostate.first.data["split"]["test"]
    said = usbench.predict(prostate.first.path, input=prostate.data, cases=test, out=tmp_path, device="cpu")
    require_own_masks(prostate.first, tmp_path)
    assert list(said["cases"]) == test
    assert said["classes"] == {"prostate": 1}
    listed = json.loads((tmp_path / "predictions.json").read_text())
    assert listed == said
    assert len(said["digest"]) == 64
    mask = nibabel.load(tmp_path / f"{test[0]}.nii.gz")
    ml = np.asarray(mask.dataobj).astype(bool).sum() * np.prod(mask.header.get_zooms()) / 1000
    assert said["cases"][test[0]]["ml"]["prostate"] == pytest.approx(ml, rel=1e-6)
    assert (tmp_path / f"{test[0]}.png").read_bytes().startswith(b"\x89PNG")


def test_channels_of_one_file_give_the_mask_of_the_run(prostate: SimpleNamespace, tmp_path: Path) -> None:
    (case_id, *_) = prostate.first.data["split"]["test"]
    file = prostate.data / "imagesTr" / f"{case_id}.nii.gz"
    usbench.predict(prostate.first.path, images={"adc": f"{file}:1", "t2": f"{file}:0"}, out=tmp_path)
    require_own_masks(prostate.first, tmp_path, [case_id])


def test_images_without_a_mask_are_found_by_dataset_json(prostate: SimpleNamespace, tmp_path: Path) -> None:
    (case_id, *_) = prostate.first.data["split"]["test"]
    data = tmp_path / "Task05_Prostate"
    (data / "imagesTs").mkdir(parents=True)
    shutil.copy(prostate.data / "imagesTr" / f"{case_id}.nii.gz", data / "imagesTs")
    said = json.loads((prostate.data / "dataset.json").read_text())
    said["test"] = [f"./imagesTs/{case_id}.nii.gz"]
    said["training"] = [e for e in said["training"] if case_id not in e["image"]]
    (data / "dataset.json").write_text(json.dumps(said))
    usbench.predict(prostate.first.path, input=data / "imagesTs", out=tmp_path / "out")
    require_own_masks(prostate.first, tmp_path / "out", [case_id])


def test_chaos_folders_without_annotations_give_the_masks_of_the_run(
    chaos: SimpleNamespace, tmp_path: Path
) -> None:
    data = tmp_path / "Train_Sets" / "MR"
    shutil.copytree(chaos.data, data)
    for ground in data.rglob("Ground"):
        shutil.rmtree(ground)
    usbench.predict(
        chaos.run.path, input=data, cases=chaos.run.data["split"]["test"], out=tmp_path / "a", device="cpu"
    )
    require_own_masks(chaos.run, tmp_path / "a")
    (case_id, *_) = chaos.run.data["split"]["test"]
    folder = data / case_id
    series = {
        "t2-spir": folder / "T2SPIR/DICOM_anon",
        "t1-in": folder / "T1DUAL/DICOM_anon/InPhase",
        "t1-out": folder / "T1DUAL/DICOM_anon/OutPhase",
    }
    usbench.predict(chaos.run.path, images=series, case=case_id, out=tmp_path / "b", device="cpu")
    require_own_masks(chaos.run, tmp_path / "b", [case_id])


def test_a_task_file_gives_the_masks_of_the_run_where_masks_are_absent(
    own: SimpleNamespace, tmp_path: Path
) -> None:
    shutil.copytree(own.data, tmp_path / "patients")
    shutil.copy(own.file, tmp_path)
    for mask in (tmp_path / "patients").rglob("*_seg.nii.gz"):
        mask.unlink()
    usbench.predict(own.run.path, input=tmp_path / own.file.name, out=tmp_path / "a", device="cpu")
    require_own_masks(own.run, tmp_path / "a")
    usbench.predict(own.run.path, input=tmp_path / "patients", out=tmp_path / "b", device="cpu")
    require_own_masks(own.run, tmp_path / "b")
    (case_id, *_) = own.run.data["split"]["test"]
    one = tmp_path / "patients" / case_id
    usbench.predict(own.run.path, input=one, out=tmp_path / "c", device="cpu")
    require_own_masks(own.run, tmp_path / "c", [case_id])


def test_a_task_file_of_new_patients_needs_no_masks(own: SimpleNamespace, tmp_path: Path) -> None:
    content_of = yaml.safe_load(own.file.read_text(encoding="utf-8"))
    content_of["folder"] = str(own.data)
    del content_of["mask"]
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump(content_of), encoding="utf-8")
    usbench.predict(own.run.path, input=file, out=tmp_path / "out", plugins=[own.plugin])
    require_own_masks(own.run, tmp_path / "out")
    with pytest.raises(UsbenchError, match="mask has no pattern"):
        usbench.run(task=str(file), runs_dir=tmp_path / "runs")


def test_numbered_files_are_the_channels_in_order(own: SimpleNamespace, tmp_path: Path) -> None:
    (case_id, *_) = own.run.data["split"]["test"]
    for number, name in enumerate(("t1", "t2")):
        (tmp_path / "new").mkdir(exist_ok=True)
        shutil.copy(
            own.data / case_id / f"{case_id}_{name}.nii.gz",
            tmp_path / "new" / f"{case_id}_{1 - number:04d}.nii.gz",
        )
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T2", "1": "T1"}}))
    usbench.predict(own.run.path, input=tmp_path / "new", out=tmp_path / "out", device="cpu")
    require_own_masks(own.run, tmp_path / "out", [case_id])


def test_frozen_features_of_a_new_patient_are_those_of_the_store(
    small_prostate: Path, tmp_path: Path
) -> None:
    file = plugin(tmp_path)
    for fusion in ("early", "hybrid"):
        run = kept_run(
            file,
            tmp_path / "runs",
            method="frozen",
            fusion=fusion,
            task="msd-prostate",
            data_dir=small_prostate,
        )
        data, test = next(small_prostate.glob("Task05*")), run.data["split"]["test"]
        usbench.predict(run.path, input=data, cases=test, out=tmp_path / fusion, device="cpu")
        require_own_masks(run, tmp_path / fusion)


@pytest.mark.parametrize("axes", ["LPS", "PIR", "SAL"])
def test_a_patient_stored_in_another_orientation_gets_the_same_mask(
    prostate: SimpleNamespace, tmp_path: Path, axes: str
) -> None:
    (case_id, *_) = prostate.first.data["split"]["test"]
    arrays, affine = scans(prostate, case_id)
    files = {}
    for name, array in arrays.items():
        image = nibabel.Nifti1Image(array, affine)
        turn = nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes)
        )
        turned = image.as_reoriented(turn)
        files[name] = tmp_path / f"{name}.nii.gz"
        save_nifti(files[name], np.asarray(turned.dataobj), turned.affine)
    usbench.predict(prostate.first.path, images=files, case="turned", out=tmp_path / "out", device="cpu")
    found = nibabel.load(tmp_path / "out" / "turned.nii.gz")
    assert "".join(nibabel.aff2axcodes(found.affine)) == axes
    expected = nibabel.load(prostate.first.path / "predictions" / f"{case_id}.nii.gz")
    here, there = (nibabel.as_closest_canonical(image) for image in (found, expected))
    assert np.allclose(here.affine, there.affine, atol=1e-4)
    assert np.array_equal(np.asarray(here.dataobj), np.asarray(there.dataobj))


def test_simpleitk_sees_the_mask_where_the_scan_is(prostate: SimpleNamespace, tmp_path: Path) -> None:
    import SimpleITK

    (case_id, *_) = prostate.first.data["split"]["test"]
    arrays, affine = scans(prostate, case_id)
    for name, array in arrays.items():
        save_nifti(tmp_path / f"{name}.nii.gz", array, affine)
    usbench.predict(prostate.first.path, input=tmp_path, out=tmp_path / "out", device="cpu")
    (mask,) = (tmp_path / "out").glob("*.nii.gz")
    one, two = SimpleITK.ReadImage(str(mask)), SimpleITK.ReadImage(str(tmp_path / "t2.nii.gz"))
    assert one.GetSize() == two.GetSize()
    for what in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.allclose(getattr(one, what)(), getattr(two, what)(), atol=1e-4)


def test_two_runs_are_averaged_as_by_hand(prostate: SimpleNamespace, tmp_path: Path) -> None:
    (case_id, *_) = prostate.first.data["split"]["test"]
    runs = [prostate.first.path, prostate.second.path]
    arrays, affine = scans(prostate, case_id)
    given = {name: (array, affine) for name, array in arrays.items()}
    alone = [
        load_network(run, device="cpu").predict(given, case_id, probabilities=True).probabilities[0]
        for run in runs
    ]
    usbench.predict(runs, images=given, case=case_id, out=tmp_path, probabilities=True, device="cpu")
    mean = (alone[0] + alone[1]) / 2
    written = nibabel.load(tmp_path / f"{case_id}_probabilities.nii.gz")
    assert written.get_data_dtype() == np.float32
    assert np.allclose(np.asarray(written.dataobj)[..., 0], mean, atol=1e-7)
    mask = np.asarray(nibabel.load(tmp_path / f"{case_id}.nii.gz").dataobj)
    assert np.array_equal(mask, mean > 0.5)
    assert (mask != (alone[0] > 0.5)).sum() > 0


def test_probabilities_become_labels_as_logits_do() -> None:
    p = np.array([[0.6, 0.7, 0.5, 0.2], [0.7, 0.7, 0.4, 0.3]])[:, None, None, :]
    assert labels_of(p, None).tolist() == [[[2, 1, 0, 0]]]
    assert labels_of(p, {"a": 0.55, "b": 0.25}).tolist() == [[[3, 3, 2, 2]]]


def test_dicom_seg_says_what_the_mask_says(chaos: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    import pydicom

    (case_id, *_) = chaos.run.data["split"]["test"]
    usbench.predict(
        chaos.run.path, input=chaos.data, cases=[case_id], out=tmp_path, dicom_seg=True, device="cpu"
    )
    mask = np.asarray(nibabel.load(tmp_path / f"{case_id}.nii.gz").dataobj)
    seg = pydicom.dcmread(tmp_path / f"{case_id}.dcm")
    names = chaos.run.data["task"]["classes"]
    labels = {one.SegmentNumber: one.SegmentLabel for one in seg.SegmentSequence}
    assert set(labels.values()) == {names[value - 1] for value in np.unique(mask) if value}
    folder = chaos.data / case_id / "T1DUAL/DICOM_anon/InPhase"
    headers = [pydicom.dcmread(file) for file in folder.glob("*.dcm")]
    # Slices of the mask lie along the normal, from the lowest up.
    heights = sorted(float(h.ImagePositionPatient[2]) for h in headers)
    seen = np.zeros_like(mask)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        z = heights.index(float(frame.PlanePositionSequence[0].ImagePositionPatient[2]))
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        seen[:, :, z][pixels.T > 0] = names.index(labels[number]) + 1
    assert np.array_equal(seen, mask)
    assert {h.FrameOfReferenceUID for h in headers} == {seg.FrameOfReferenceUID}


def test_a_scan_on_another_grid_is_refused_or_resampled_as_simpleitk_does(
    prostate: SimpleNamespace, tmp_path: Path
) -> None:
    import SimpleITK

    (case_id, *_) = prostate.first.data["split"]["test"]
    arrays, affine = scans(prostate, case_id)
    coarse = affine.copy()
    coarse[:3, :3] *= 2
    small = arrays["adc"][::2, ::2, ::2]
    save_nifti(tmp_path / "t2.nii.gz", arrays["t2"], affine)
    save_nifti(tmp_path / "adc.nii.gz", small, coarse)
    given = {"t2": tmp_path / "t2.nii.gz", "adc": tmp_path / "adc.nii.gz"}
    with pytest.raises(
        UsbenchError, match=r"adc\.nii\.gz: adc is not on the grid of t2, .*t2\.nii\.gz.*--resample"
    ):
        usbench.predict(prostate.first.path, images=given, out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.nii.gz"))
    usbench.predict(prostate.first.path, images=given, out=tmp_path / "a", resample=True, device="cpu")
    base = SimpleITK.ReadImage(str(given["t2"]))
    moved = SimpleITK.Resample(
        SimpleITK.ReadImage(str(given["adc"]), SimpleITK.sitkFloat32), base, SimpleITK.Transform(),
        SimpleITK.sitkLinear, 0.0,
    )  # fmt: skip
    task = load_network(prostate.first.path, device="cpu").task
    ours = read_given(task, given, "t2", onto_first=True).images[1]
    theirs = SimpleITK.GetArrayFromImage(moved).transpose(2, 1, 0)
    # ITK reads the headers itself, and they are rounded: the last planes may lie outside for one of us.
    assert np.isclose(ours, theirs, atol=0.01).mean() > 0.98
    assert np.asarray(nibabel.load(tmp_path / "a" / "t2.nii.gz").dataobj).any()


def test_an_absent_modality_is_zeros_after_normalisation(prostate: SimpleNamespace, tmp_path: Path) -> None:
    import torch

    (case_id, *_) = prostate.first.data["split"]["test"]
    arrays, affine = scans(prostate, case_id)
    trained = load_network(prostate.first.path, device="cpu")
    with pytest.raises(UsbenchError, match=r"no file for adc; .*--allow-missing"):
        trained.predict({"t2": (arrays["t2"], affine)}, case_id)
    seen = []
    trained.network.register_forward_pre_hook(lambda _, words: seen.append(words[0]))
    alone = trained.predict({"t2": (arrays["t2"], affine)}, case_id, allow_missing=True)
    assert all(not bool(x[:, 1].any()) and bool(x[:, 0].any()) for x in seen)
    seen.clear()
    both = trained.predict({name: (array, affine) for name, array in arrays.items()}, case_id)
    assert bool(torch.cat(seen)[:, 1].any())
    assert (alone.mask != both.mask).any()


def test_a_network_that_takes_it_is_told_what_is_present(prostate: SimpleNamespace) -> None:
    (case_id, *_) = prostate.first.data["split"]["test"]
    arrays, affine = scans(prostate, case_id)
    trained = load_network(prostate.first.path, device="cpu")
    told = []
    bare = trained.network.forward

    def forward(images, present):  # type: ignore[no-untyped-def]
        told.append(present)
        return bare(images)

    trained.network.takes_present = True  # type: ignore[assignment]
    trained.network.forward = forward  # type: ignore[method-assign]
    trained.predict({"t2": (arrays["t2"], affine)}, case_id, allow_missing=True)
    assert all(one.shape[1] == 2 and one[:, 0].all() and not one[:, 1].any() for one in told)
    assert told


def test_a_patient_who_was_trained_on_is_named(
    prostate: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from usbench.runtime.console import console

    console.cache_clear()
    train, test = (prostate.first.data["split"][part][0] for part in ("train", "test"))
    file = tmp_path / "renamed.nii.gz"
    shutil.copy(prostate.data / "imagesTr" / f"{train}.nii.gz", file)
    usbench.predict(prostate.first.path, images={"t2": f"{file}:0", "adc": f"{file}:1"}, out=tmp_path / "a")
    said = capsys.readouterr().err
    assert f"was trained on this patient (there called {train}); its mask is no test result" in said
    usbench.predict(prostate.first.path, input=prostate.data, cases=[test], out=tmp_path / "b")
    assert "trained on" not in capsys.readouterr().err


def test_a_stopped_prediction_goes_on(
    prostate: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usbench.predictions import files, start

    usbench.predict(prostate.first.path, input=prostate.data, out=tmp_path / "whole", device="cpu")
    draw, drawn = files._draw, list[str]()

    def killed(path: Path, *words: Any) -> None:
        if len(drawn) == 1:
            raise KeyboardInterrupt  # after the mask of the second patient, before it is listed
        drawn.append(path.name)
        draw(path, *words)

    monkeypatch.setattr(files, "_draw", killed)
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        usbench.predict(prostate.first.path, input=prostate.data, out=out, device="cpu")
    monkeypatch.setattr(files, "_draw", draw)
    again = list[str]()
    together = start.predict_together
    monkeypatch.setattr(
        start, "predict_together", lambda n, p, *more: again.append(p.case_id) or together(n, p, *more)
    )
    said = usbench.predict(prostate.first.path, input=prostate.data, out=out, device="cpu")
    assert len(again) == len(said["cases"]) - 1
    names = sorted(p.name for p in out.iterdir())
    assert names == sorted(p.name for p in (tmp_path / "whole").iterdir())
    for name in names:
        if name.endswith((".nii.gz", ".png")):
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_absent_weights_of_all_runs_are_named_before_any_is_loaded(
    prostate: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {prostate.first.path: ("medsam",), prostate.second.path: ("medsam", "tinyllama")}
    module = "usbench.predictions.ensemble"
    monkeypatch.setenv("USBENCH_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr(f"{module}.weights_of_result", lambda result, plugins: needs[result.path])
    monkeypatch.setattr(f"{module}.load_network", None)
    runs = [prostate.first.path, prostate.second.path]
    with pytest.raises(UsbenchError, match=r"(?s)^2 entries.*\n  medsam: .*\n  tinyllama: "):
        usbench.predict(runs, input=prostate.data, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
