"""`data import`: what is recognised in folders as people have them, and what it becomes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from kit.own_folders import bids, nnunet, patients, table
from kit.own_task import CASES, save, volumes
from kit.synthetic import write_msd

from usbench.datasets.imports.make import Asked, Imported, make_task_file, parse_labels, parse_pairs
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.readers.recognise import advice, recognise
from usbench.datasets.tasks import get_task, task_from_folder
from usbench.errors import UsbenchError


def imported(place: Path, out: Path, **asked) -> Imported:
    """The import of `place`, which changes nothing in it and gives the made-up patients back."""
    before = listing(place if place.is_dir() else place.parent)
    found = make_task_file(place, out, Asked(**asked))
    assert listing(place if place.is_dir() else place.parent) == before
    return found


def listing(folder: Path) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def assert_same_patients(found: Imported, cases=CASES) -> None:
    """Each case has the voxels of the patient that was written, T1 and T2 in this order."""
    task = found.task
    reader = open_reader(task, task.files.folder)
    assert len(reader.case_ids()) == len(cases)
    for case_id, name in zip(reader.case_ids(), cases, strict=True):
        arrays, affine = volumes(CASES.index(name))
        case = reader.read(case_id)
        assert np.array_equal(case.images, np.stack([arrays["t1"], arrays["t2"]]))
        assert np.array_equal(case.mask, arrays["mask"])
        assert np.allclose(case.affine, affine)


@pytest.mark.parametrize(
    ("form", "patterns"),
    [
        ("{case}/{case}_{part}", "{case}/{case}_{}.nii.gz"),  # BraTS 2021
        ("{case}/{case}-{part}", "{case}/{case}-{}.nii.gz"),  # BraTS 2023
        ("{case}/{part}", "{case}/{}.nii.gz"),
        ("{case}/anat/{part}", "{case}/anat/{}.nii.gz"),
        ("HGG/{case}/{case}_{part}", "HGG/{case}/{case}_{}.nii.gz"),  # BraTS 2018
        ("{case}_{part}", "{case}_{}.nii.gz"),
    ],
)
def test_folders_of_patients_show_their_patterns(tmp_path, form, patterns):
    patients(tmp_path / "mine", form=form)
    assert recognise(tmp_path / "mine") == "folders"
    found = imported(tmp_path / "mine", tmp_path / "task.yaml")
    of = {scan.name: scan.pattern for scan in found.proposal.scans}
    assert of == {name: patterns.replace("{}", name) for name in ("t1", "t2")}
    assert found.proposal.mask == patterns.replace("{}", "seg")
    assert found.task.name == "mine"
    assert [structure.labels for structure in found.task.classes] == [(1,), (2,)]
    assert found.values == {1: len(CASES), 2: len(CASES)}
    assert_same_patients(found)


def test_a_folder_a_modality_is_recognised(tmp_path):
    patients(tmp_path / "mine", form="{part}/{case}")
    (tmp_path / "mine/seg").rename(tmp_path / "mine/labels")
    found = imported(tmp_path / "mine", tmp_path / "task.yaml")
    assert [row[1] for row in found.table()] == [
        "t1/{case}.nii.gz",
        "t2/{case}.nii.gz",
        "labels/{case}.nii.gz",
    ]
    assert_same_patients(found)


def test_patients_of_two_groups_are_one_data_set(tmp_path):
    for group, cases in (("HGG", CASES[:2]), ("LGG", CASES[2:])):
        for case in cases:
            arrays, affine = volumes(CASES.index(case))
            for name, array in arrays.items():
                save(tmp_path / f"mine/{group}/{case}/{name}.nii.gz", array, affine)
    found = imported(tmp_path / "mine", tmp_path / "task.yaml")
    assert found.proposal.scans[0].pattern == "*/{case}/t1.nii.gz"
    assert_same_patients(found)


def test_names_with_a_date_are_matched_by_their_last_word(tmp_path):
    for number, case in enumerate(CASES):
        arrays, affine = volumes(number)
        for name, array in arrays.items():
            save(tmp_path / f"mine/{case}/2021110{number}_{name}.nii.gz", array, affine)
    found = imported(tmp_path / "mine", tmp_path / "task.yaml")
    assert found.proposal.scans[0].pattern == "{case}/*_t1.nii.gz"
    assert_same_patients(found)


def test_a_stray_file_elsewhere_hides_nothing(tmp_path):
    patients(tmp_path / "mine")
    arrays, affine = volumes(0)
    save(tmp_path / "mine/patient-01/old/deep/t1.nii.gz", arrays["t1"], affine)
    save(tmp_path / "mine/atlas.nii.gz", arrays["t1"], affine)
    found = imported(tmp_path / "mine", tmp_path / "task.yaml")
    assert found.proposal.notes == ["2 files lie in other folders than most, and are not looked at"]
    assert_same_patients(found)


def test_a_mixture_of_endings_is_shown_and_not_read_by_half(tmp_path):
    patients(tmp_path / "mine")
    for case in CASES[2:]:
        for file in (tmp_path / "mine" / case).iterdir():
            save(file.with_suffix(""), *(lambda i: (np.asarray(i.dataobj), i.affine))(nibabel.load(file)))
            file.unlink()
    with pytest.raises(UsbenchError, match="several patterns look like masks"):
        imported(tmp_path / "mine", tmp_path / "task.yaml")
    found = imported(tmp_path / "mine", tmp_path / "task.yaml", mask="{case}/{case}_seg.nii")
    assert found.proposal.unused == {f"{{case}}/{{case}}_{part}.nii.gz": 2 for part in ("t1", "t2", "seg")}
    assert_same_patients(found, CASES[2:])


def test_channels_numbered_as_nnunet_does_are_found_without_its_description(tmp_path):
    nnunet(tmp_path / "mine")
    (tmp_path / "mine/dataset.json").unlink()
    found = imported(tmp_path / "mine", tmp_path / "task.yaml")
    assert [row[1] for row in found.table()][:2] == [
        "imagesTr/{case}_0000.nii.gz",
        "imagesTr/{case}_0001.nii.gz",
    ]
    assert_same_patients(found)


def test_the_modality_that_the_mask_lies_on_becomes_the_reference(tmp_path):
    for number, case in enumerate(CASES):
        arrays, affine = volumes(number)
        coarse = affine @ np.diag([2, 2, 1, 1])
        save(tmp_path / f"mine/{case}/t1.nii.gz", arrays["t1"][::2, ::2], coarse)
        save(tmp_path / f"mine/{case}/t2.nii.gz", arrays["t2"], affine)
        save(tmp_path / f"mine/{case}/seg.nii.gz", arrays["mask"], affine)
    found = imported(tmp_path / "mine", tmp_path / "task.yaml")
    assert found.task.files.reference == "t2"
    case = open_reader(found.task, found.task.files.folder).read("patient-01")
    assert np.array_equal(case.images[1], volumes(0)[0]["t2"])
    assert np.array_equal(case.images[0, ::2, ::2], volumes(0)[0]["t1"][::2, ::2])


def test_runs_of_one_suffix_are_scans_of_their_own(tmp_path):
    bids(tmp_path / "study")
    for file in list((tmp_path / "study").glob("sub-*/anat/*_T2w.nii.gz")):
        file.rename(file.with_name(file.name.replace("_T2w", "_run-2_T1w")))
    for file in list((tmp_path / "study").glob("sub-*/anat/*[0-9]_T1w.nii.gz")):
        if "run-2" not in file.name:
            file.rename(file.with_name(file.name.replace("_T1w", "_run-1_T1w")))
    found = imported(tmp_path / "study", tmp_path / "task.yaml")
    assert found.task.modality_names == ("t1w", "run-2-t1w")
    assert_same_patients(found)


def test_a_case_that_lacks_something_is_shown_and_left_out(tmp_path):
    patients(tmp_path / "mine")
    (tmp_path / "mine/patient-02/patient-02_t2.nii.gz").unlink()
    (tmp_path / "mine/patient-03/patient-03_seg.nii.gz").unlink()
    arrays, affine = volumes(0)
    save(tmp_path / "mine/patient-01/patient-01_adc.nii.gz", arrays["t1"], affine)
    found = imported(tmp_path / "mine", tmp_path / "task.yaml")
    assert found.exclude == {"patient-02": "lacks t2", "patient-03": "lacks mask"}
    assert [row[2] for row in found.table()] == [
        "4 of 4 cases",
        "3 of 4 cases, not patient-02",
        "3 of 4 cases, not patient-03",
    ]
    assert found.proposal.unused == {"{case}/{case}_adc.nii.gz": 1}
    assert found.task.files.exclude == ("patient-02", "patient-03")
    assert_same_patients(found, ("patient-01", "patient-10"))


def test_what_a_user_says_wins(tmp_path):
    patients(tmp_path / "mine", form="{case}/{case}_{part}")
    found = imported(
        tmp_path / "mine",
        tmp_path / "task.yaml",
        name="other",
        modalities={"first": "*_t2.nii.gz"},
        mask="{case}/{case}_seg.nii.gz",
        classes={"whole": (1, 2), "lesion": (2,)},
    )
    task = found.task
    assert (task.name, task.modality_names, task.class_names) == ("other", ("first",), ("whole", "lesion"))
    assert task.regions
    assert found.proposal.scans[0].pattern == "{case}/*_t2.nii.gz"
    assert not found.values


@pytest.mark.parametrize(
    ("labels", "expected", "regions"),
    [
        ({"background": 0, "liver": 1, "lesion": 2}, {"liver": (1,), "lesion": (2,)}, False),
        ({"0": "background", "1": "Liver", "2": "lesion"}, {"liver": (1,), "lesion": (2,)}, False),
        ({"background": "0", "liver": "1", "lesion": "2"}, {"liver": (1,), "lesion": (2,)}, False),
        ({"background": 0, "whole": [1, 2], "lesion": 2}, {"whole": (1, 2), "lesion": (2,)}, True),
    ],
)
def test_nnunet_raw_of_version_2(tmp_path, labels, expected, regions):
    said = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": labels,
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    nnunet(tmp_path / "Dataset123_Liver", **said, **({"regions_class_order": [1, 2]} if regions else {}))
    found = imported(tmp_path / "Dataset123_Liver", tmp_path / "task.yaml")
    assert found.proposal.kind == "nnunet"
    assert {one.name: one.labels for one in found.task.classes} == expected
    assert found.task.regions == regions
    assert found.proposal.notes == []
    if not regions:
        assert_same_patients(found)


def test_nnunet_raw_of_version_1(tmp_path):
    folder = nnunet(
        tmp_path / "Task123_Liver",
        name="LIVER",
        description="Made up",
        reference="nobody",
        licence="CC0",
        modality={"0": "T1", "1": "T2"},
        labels={"0": "background", "1": "liver", "2": "lesion"},
        numTraining=3,
        training=[{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in CASES[:3]],
    )
    found = imported(folder, tmp_path / "task.yaml")
    assert (found.task.title, found.task.licence, found.task.citation) == ("Made up", "CC0", "nobody")
    assert found.proposal.notes == ["not listed in dataset.json and left out: patient-10.nii.gz"]
    assert_same_patients(found, CASES[:3])


def test_nnunet_with_its_files_named_case_by_case(tmp_path):
    entries = {}
    for number, case in enumerate(CASES):
        arrays, affine = volumes(number)
        entries[case] = {"images": [], "label": f"elsewhere/mask{number}.nii.gz"}
        for name in ("t1", "t2"):
            entries[case]["images"].append(f"elsewhere/{name}{number}.nii.gz")
            save(tmp_path / f"mine/elsewhere/{name}{number}.nii.gz", arrays[name], affine)
        save(tmp_path / f"mine/elsewhere/mask{number}.nii.gz", arrays["mask"], affine)
    said = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "liver": 1, "lesion": 2},
        "numTraining": 4,
        "file_ending": ".nii.gz",
        "dataset": entries,
    }
    (tmp_path / "mine/dataset.json").write_text(json.dumps(said))
    assert_same_patients(imported(tmp_path / "mine", tmp_path / "task.yaml"))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("labels", {"background": 0, "ignore": 3, "liver": 1}, '"ignore"'),
        ("labels", {"background": 0, "1": "liver"}, "mixes names and numbers"),
        ("labels", {"background": 0, "liver": 1.5}, "1.5"),
        ("labels", {"background": 0}, "no class besides the background"),
        ("channel_names", {"0": "T1", "2": "T2"}, "number the channels from 0"),
        ("channel_names", {"0": "T1", "1": "t1"}, "two channels called t1"),
        ("file_ending", ".nrrd", r"end in \.nrrd"),
    ],
)
def test_what_usbench_cannot_follow_in_nnunet_is_one_line(tmp_path, key, value, words):
    said = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "liver": 1, "lesion": 2},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    nnunet(tmp_path / "mine", **{**said, key: value})
    with pytest.raises(UsbenchError, match=words):
        imported(tmp_path / "mine", tmp_path / "task.yaml")
    assert not (tmp_path / "task.yaml").exists()


@pytest.mark.parametrize("session", ["", "ses-01"])
def test_bids_with_masks_among_the_derivatives(tmp_path, session):
    bids(tmp_path / "study", session)
    found = imported(tmp_path / "study", tmp_path / "task.yaml")
    assert (found.proposal.kind, found.task.title, found.task.licence) == ("bids", "Made up", "CC0")
    assert found.task.modality_names == ("t1w", "t2w")
    assert dict(found.task.files.group("site")) == {
        "sub-01": "B",
        "sub-02": "A",
        "sub-03": "B",
        "sub-10": "A",
    }
    assert [group.name for group in found.task.files.groups] == ["site"]
    assert_same_patients(found)


def test_bids_with_several_sessions_asks_for_one(tmp_path):
    for session in ("ses-01", "ses-02"):
        bids(tmp_path / "study", session)
    with pytest.raises(UsbenchError, match=r"4 subjects have several sessions \(sub-01: ses-01, ses-02\)"):
        imported(tmp_path / "study", tmp_path / "task.yaml")
    found = imported(tmp_path / "study", tmp_path / "task.yaml", session="02")
    assert "ses-02" in found.proposal.mask
    assert_same_patients(found)


def test_a_table_names_its_files_case_by_case(tmp_path):
    found = imported(table(tmp_path / "mine"), tmp_path / "task.yaml")
    assert found.task.name == "cases"
    assert dict(found.task.files.group("site")) == {case: "AB"[n % 2] for n, case in enumerate(CASES)}
    assert_same_patients(found)
    chosen = imported(tmp_path / "mine/cases.csv", tmp_path / "t2.yaml", modalities={"only": "t2"})
    assert chosen.task.modality_names == ("only",)
    with pytest.raises(UsbenchError, match="unknown column 't3'"):
        imported(tmp_path / "mine/cases.csv", tmp_path / "t3.yaml", modalities={"only": "t3"})


def test_the_layout_of_the_decathlon_becomes_channels(tmp_path):
    root = write_msd(tmp_path / "Task99_Mine")
    found = imported(root, tmp_path / "task.yaml")
    own = task_from_folder(root)
    reader, same = open_reader(found.task, root), open_reader(own, root)
    assert reader.case_ids() == same.case_ids()
    for case_id in same.case_ids():
        assert np.array_equal(reader.read(case_id).images, same.read(case_id).images)
        assert np.array_equal(reader.read(case_id).mask, same.read(case_id).mask)
    assert found.task.class_names == own.class_names


def test_nothing_is_written_over_without_being_asked(tmp_path):
    patients(tmp_path / "mine")
    out = tmp_path / "task.yaml"
    out.write_text("mine")
    with pytest.raises(UsbenchError, match=r"is there already.*--overwrite"):
        make_task_file(tmp_path / "mine", out, Asked())
    assert out.read_text() == "mine"
    make_task_file(tmp_path / "mine", out, Asked(), overwrite=True)
    assert get_task(str(out)).name == "mine"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"kind": "nifti"}, "unknown kind of data 'nifti'"),
        ({"kind": "bids"}, "no folder sub-"),
        ({"kind": "nnunet"}, "dataset.json"),
        ({"kind": "csv"}, "--as csv"),
        ({"mask": "{case}/{case}_gt.nii.gz"}, "no case has a file for each"),
        ({"mask": "../{case}.nii.gz"}, "leads out of the folder"),
        ({"name": "My Task"}, "lower-case"),
        ({"mask": "{case}/{case}_t2.nii.gz", "modalities": {"t1": "*_t1.nii.gz"}}, "holds .*whole numbers"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_leaves_nothing(tmp_path, asked, words):
    patients(tmp_path / "mine")
    with pytest.raises(UsbenchError, match=words):
        make_task_file(tmp_path / "mine", tmp_path / "out/task.yaml", Asked(**asked))
    assert not list((tmp_path / "out").rglob("*"))


def test_folders_without_a_recognised_mask_ask_for_it(tmp_path):
    patients(tmp_path / "mine", form="{case}/{part}x")
    with pytest.raises(UsbenchError, match=r"which files are the masks is not clear; give --mask"):
        imported(tmp_path / "mine", tmp_path / "task.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsbenchError, match="convert other formats"):
        imported(tmp_path / "empty", tmp_path / "task.yaml")


def test_options_are_pairs():
    assert parse_pairs("--modality", ["flair=*_flair.nii.gz"]) == {"flair": "*_flair.nii.gz"}
    assert parse_labels(["tumour=1,2", "core=2"]) == {"tumour": (1, 2), "core": (2,)}
    for given, words in ((["flair"], "NAME=VALUE"), (["a=1", "a=2"], "given twice")):
        with pytest.raises(UsbenchError, match=words):
            parse_pairs("--modality", given)
    with pytest.raises(UsbenchError, match="whole numbers"):
        parse_labels(["tumour=one"])


def test_folders_of_other_layouts_are_told_of_the_import(tmp_path):
    places = {
        "folders of NIfTI files": patients(tmp_path / "brats"),
        "nnU-Net raw data": nnunet(tmp_path / "Dataset123_Liver"),
        "a BIDS data set": bids(tmp_path / "study"),
    }
    for words, place in places.items():
        with pytest.raises(
            UsbenchError, match=rf"looks like {words}, of which 'usbench data import .*{place.name}'"
        ):
            task_from_folder(place)
    assert advice(write_msd(tmp_path / "Task99_Mine")) == ""
    (tmp_path / "empty").mkdir()
    assert advice(tmp_path / "empty") == ""
