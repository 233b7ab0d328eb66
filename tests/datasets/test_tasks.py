"""The tasks of the benchmark, and those made from a folder in the layout of the Decathlon."""

from __future__ import annotations

import json

import numpy as np
import pytest
from kit.synthetic import (
    Grid,
    oblique,
    save_nifti,
    write_msd,
)

from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.tasks import benchmark_tasks, get_task, task_from_folder, task_names
from usbench.errors import UsbenchError

CHAOS, PROSTATE, BRAIN = (get_task(name) for name in ("chaos", "msd-prostate", "msd-brain"))
T2_ONLY = CHAOS.with_modalities(["t2-spir"])
COARSE = Grid(
    size=(30, 34, 13), spacing=(1.6, 1.8), step=4.0, directions=oblique(8, 5), first=(-26, -30, -22)
)


def test_tasks_state_the_published_facts():
    assert task_names() == ["chaos", "msd-prostate", "msd-brain", "msd-brain-regions"]
    assert benchmark_tasks() == ["chaos", "msd-prostate", "msd-brain"]
    assert [len(t.case_ids) for t in (CHAOS, PROSTATE, BRAIN)] == [20, 32, 484]
    assert len(set(BRAIN.case_ids)) == 484
    assert (BRAIN.case_ids[0], BRAIN.case_ids[-1]) == ("BRATS_001", "BRATS_484")
    assert CHAOS.class_names == ("liver", "right-kidney", "left-kidney", "spleen")
    assert CHAOS.download is not None
    assert CHAOS.download.bytes == 890_771_694
    for task in (CHAOS, PROSTATE, BRAIN):
        assert task.download is not None
        assert len(task.download.md5 or "") == 32
        assert all(text.strip() for text in (task.licence, task.citation, task.homepage, task.title))


def test_unknown_task_proposes_the_nearest():
    with pytest.raises(UsbenchError, match="did you mean 'msd-brain'"):
        get_task("msd-brian")


def test_task_from_folder_in_the_style_of_the_decathlon(tmp_path):
    root = write_msd(
        tmp_path / "Task07_My Set", labels={"0": "background", "2": "Non-enhancing Tumour", "1": "PZ"}
    )
    task = task_from_folder(root)
    assert (task.name, task.folder, task.case_ids) == ("task07-my-set", ".", ())
    assert task.modality_names == ("t2", "adc")
    assert [(c.name, c.words, c.labels) for c in task.classes] == [
        ("pz", "PZ", (1,)),
        ("non-enhancing-tumour", "Non-enhancing Tumour", (2,)),
    ]
    case = open_reader(task, root).read("case_2")
    assert case.images.shape == (2, 8, 9, 7)
    assert np.bincount(case.mask.ravel()).tolist() == [8 * 9 * 7 - 24 - 12, 24, 12]
    merged = open_reader(task.merged("gland"), root).read("case_2")
    assert np.array_equal(merged.mask, case.mask > 0)


def test_task_from_folder_in_the_style_of_nnunet(tmp_path):
    root = write_msd(
        tmp_path / "set",
        labels={"background": 0, "whole": [1, 2]},
        modality={"0": "T2"},
        channel_names={"0": "T2 TSE", "1": "ADC"},
    )
    description = json.loads((root / "dataset.json").read_text())
    del description["modality"]
    for file in (root / "imagesTr").iterdir():
        save_nifti(file, np.random.default_rng(1).normal(size=(8, 9, 7, 2)), np.diag([2.0, 2, 3, 1]))
    (root / "dataset.json").write_text(json.dumps(description))
    task = task_from_folder(root)
    assert task.modality_names == ("t2-tse", "adc")
    assert task.classes[0].labels == (1, 2)
    assert set(np.unique(open_reader(task, root).read("case_2").mask)) == {0, 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": {"0": "T2", "2": "ADC"}}, r'"modality" is numbered 0, 2, expected 0 to 1'),
        ({"modality": {"0": "T2", "1": "t2"}}, r'"modality" has the name "t2" twice'),
        ({"modality": {"0": "T2", "1": 5}}, r"names a modality 5"),
        ({"modality": ["T2"]}, r'key "modality" is missing or empty'),
        ({"labels": {"0": "background", "1.5": "PZ"}}, r"class \"PZ\" the value '1.5'"),
        ({"labels": {"background": 0, "PZ": 1.5}}, r'class "PZ" the value 1.5'),
        ({"labels": {"background": 0, "a": 1, "b": [1, 2]}}, r'the value 1 to both "a" and "b"'),
        ({"labels": {"background": 0, "ignore": 3}}, r'class "ignore"'),
        ({"labels": {"0": "background"}}, r"no class besides the background"),
        ({"training": None}, r'key "training" is missing or empty'),
        ({"training": ["a.nii.gz"]}, r"entry 0 of \"training\" is 'a.nii.gz'"),
        ({"training": [{"image": "a.nii.gz"}]}, r"entry 0 of \"training\" has label None"),
        ({"training": [{"image": "/a.nii.gz", "label": "b.nii.gz"}]}, r"outside the folder"),
        ({"training": [{"image": "../a.nii.gz", "label": "b.nii.gz"}]}, r"outside the folder"),
        ({"training": [{"image": "x/a.nii.gz", "label": "b.nii.gz"}] * 2}, r"lists case a twice"),
    ],
)
def test_malformed_description_is_named(tmp_path, changes, message):
    root = write_msd(tmp_path / "set", modality={"0": "T2", "1": "ADC"})
    description = json.loads((root / "dataset.json").read_text())
    description = {k: v for k, v in {**description, **changes}.items() if v is not None}
    (root / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(UsbenchError, match=rf"dataset\.json: .*{message}.*; "):
        task_from_folder(root)


def test_description_that_is_no_json_or_absent(tmp_path):
    with pytest.raises(UsbenchError, match="not a folder"):
        task_from_folder(tmp_path / "nowhere")
    with pytest.raises(UsbenchError, match=r"dataset\.json: cannot read"):
        task_from_folder(tmp_path)
    for text, what in (("{", "not valid JSON"), ("[1]", "holds a list")):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(UsbenchError, match=what):
            task_from_folder(tmp_path)


def test_folder_named_like_a_task_is_refused(tmp_path):
    with pytest.raises(UsbenchError, match="built-in task 'chaos'"):
        task_from_folder(write_msd(tmp_path / "Chaos"))
