"""Tasks as files: read strictly, and told apart by all that decides their scores."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from kit.own_folders import TASK, patients, task_file
from kit.own_task import CASES, SMALL

import usbench
from usbench.datasets.resolve import find_data
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task
from usbench.errors import UsbenchError


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    patients(folder / "patients")
    return folder


def changed(own: Path, *pairs: tuple[str, str]) -> usbench.Task:
    return get_task(str(task_file(own, TASK, *pairs, name="changed.yaml")))


def test_a_task_file_says_what_a_task_says(own):
    task = changed(
        own,
        ("classes: {liver: 1, lesion: 2}", "regions: {whole: [1, 2], lesion: {labels: [2], threshold: 0.4}}"),
        (
            "name: own\n",
            "name: own\ntitle: Mine\nlicence: CC0\nmirrors: true\nnsd-tolerance-mm: 1.5\nreference: t2\n",
        ),
        ('t1: "{case}/{case}_t1.nii.gz"', 't1: {pattern: "{case}/{case}_t1.nii.gz", words: first scan}'),
    )
    assert (task.title, task.licence, task.mirrors, task.nsd_tolerance_mm) == ("Mine", "CC0", True, 1.5)
    assert task.modality_names == ("t1", "t2")
    assert task.words == {"modalities": ["first scan", "t2"], "classes": ["whole", "lesion"]}
    assert task.thresholds == {"whole": 0.5, "lesion": 0.4}
    assert [one.labels for one in task.classes] == [(1, 2), (2,)]
    assert task.files.folder == (own / "patients").resolve()
    assert task.files.reference == "t2"
    assert task.found.origin == "file changed.yaml"


def test_its_data_is_in_the_folder_that_it_names_wherever_other_data_is(own, tmp_path, monkeypatch):
    monkeypatch.setenv("USBENCH_DATA", str(tmp_path))
    data = find_data(changed(own))
    assert (data.kind, data.root) == ("sample", (own / "patients").resolve())
    with pytest.raises(UsbenchError, match="described by a file and has no phantom"):
        find_data(changed(own), mode="phantom")


def test_other_processes_get_it_whole_even_where_the_file_is_gone(own):
    path = task_file(own, name="gone.yaml")
    task = get_task(str(path))
    packed = pickle.dumps(task)
    path.unlink()
    again = pickle.loads(packed)
    assert again == task
    assert again.reader == "files"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("modalities:", "modality:", "unknown key 'modality', did you mean 'modalities'"),
        ("name: own", "nsd_tolerance_mm: 1\nname: own", "did you mean 'nsd-tolerance-mm'"),
        ("name: own", "name: own\nname: two", "there twice"),
        ("name: own", "name: 7", "'name' is '7', not text; put it in quotes"),
        ("name: own", "name: chaos", "that of a built-in task"),
        ("name: own", "name: My Task", "lower-case letters"),
        ("name: own", "title: x", "'name' is missing"),
        ("folder: patients", "folder: nowhere", "there is no folder .*nowhere"),
        ("lesion: 2", "lesion: 1", "belongs to two classes"),
        ("lesion: 2", "lesion: 1.5", "not a whole number"),
        ("lesion: 2", "lesion: true", "not a"),
        ("lesion: 2", "lesion: 0", "from 1"),
        ("lesion: 2", "lesion: [2, 2]", "names a value twice"),
        ("lesion: 2", "no: 2", "the name False, which YAML reads as no text"),
        ("lesion: 2", "lesion: {labels: 2, treshold: 0.4}", "unknown key in 'classes.lesion' 'treshold'"),
        ("lesion: 2", "lesion: {labels: 2, threshold: 1.4}", "below 1"),
        ("lesion: 2", "lesion: {labels: 2, threshold: 0.4}", "only regions have"),
        ("classes: {", "regions: {", ""),
        ("classes:", "regions: {a: 1}\nclasses:", "both 'classes' and 'regions'"),
        ('"{case}/{case}_t1.nii.gz"', '"../{case}_t1.nii.gz"', "leads out of the folder"),
        ('"{case}/{case}_t1.nii.gz"', '"t1.nii.gz"', r"has no \{case\}"),
        ('"{case}/{case}_t1.nii.gz"', '"{case}/{id}_t1.nii.gz"', "braces"),
        ('"{case}/{case}_t1.nii.gz"', '"{case}*_t1.nii.gz"', "where the name ends"),
        ('"{case}/{case}_t1.nii.gz"', '"{case}/{case}_t1.nrrd"', "no NIfTI file"),
        ('"{case}/{case}_t1.nii.gz"', '"{case}/{case}_t2.nii.gz"', "is there twice"),
        ("name: own", "name: own\nreference: t3", "unknown reference modality 't3'"),
        ("name: own", "name: own\nother-grids: ignore", "'resample' or 'refuse'"),
        ("name: own", "name: own\nexclude: [1]", "not text; put it in quotes"),
        ("name: own", "name: own\nexclude: [a/b]", "has the character /"),
        ("name: own", "name: own\nnsd-tolerance-mm: .nan", "not a finite number"),
        ("name: own", "name: own\nsplit: [[patient-01], [patient-01]]", "in two folds"),
    ],
)
def test_what_is_wrong_in_it_is_one_line_with_a_remedy(own, old, new, words):
    if not words:
        assert changed(own, (old, new)).regions
        return
    with pytest.raises(UsbenchError, match=words) as raised:
        changed(own, (old, new))
    assert "changed.yaml" in str(raised.value)


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "a: [1\n", "\ttab: 1"])
def test_what_is_no_task_at_all_is_one_line(own, content):
    path = own / "odd.yaml"
    path.write_text(content)
    with pytest.raises(UsbenchError, match=r"odd\.yaml"):
        get_task(str(path))
    with pytest.raises(UsbenchError, match=r"absent\.yaml.*usbench data import"):
        get_task(str(own / "absent.yaml"))


def test_folds_come_from_the_file_or_from_another_one(own):
    folds = [["patient-01", "patient-10"], ["patient-02", "patient-03"]]
    written = changed(own, ("name: own", f"name: own\nsplit: {json.dumps(folds)}"))
    assert written.folds == tuple(map(tuple, folds))
    (own / "folds.json").write_text(json.dumps(folds))
    (own / "nnunet.json").write_text(json.dumps([{"train": folds[1], "val": folds[0]}, {"val": folds[1]}]))
    for file in ("folds.json", "nnunet.json"):
        assert changed(own, ("name: own", f"name: own\nsplit: {file}")).folds == written.folds
    (own / "folds.json").write_text("[[1, 2], [3]]")
    with pytest.raises(UsbenchError, match=r"folds\.json.*quotes"):
        changed(own, ("name: own", "name: own\nsplit: folds.json"))


def test_groups_come_from_a_table_or_stand_in_the_file(own):
    (own / "groups.csv").write_text("case;site;sex\npatient-01;Bern;F\npatient-02;;M\n", encoding="utf-8")
    task = changed(own, ("name: own", "name: own\ngroups: groups.csv"))
    assert dict(task.files.group("site")) == {"patient-01": "Bern"}
    assert dict(task.files.group("sex")) == {"patient-01": "F", "patient-02": "M"}
    some = changed(own, ("name: own", "name: own\ngroups: {file: groups.csv, columns: [sex]}"))
    assert [group.name for group in some.files.groups] == ["sex"]
    inline = changed(own, ("name: own", "name: own\ngroups: {site: {patient-01: Bern}}"))
    assert dict(inline.files.group("site")) == {"patient-01": "Bern"}
    with pytest.raises(UsbenchError, match="unknown column 'age'"):
        changed(own, ("name: own", "name: own\ngroups: {file: groups.csv, columns: [age]}"))
    (own / "groups.csv").write_text("case,site\npatient-01,A\npatient-01,B\n")
    with pytest.raises(UsbenchError, match="patient-01 is in two rows"):
        changed(own, ("name: own", "name: own\ngroups: groups.csv"))


def test_all_that_decides_a_score_makes_another_digest(own):
    usual = changed(own)
    meaning = [
        ("lesion: 2", "lesion: 3"),
        ("classes: {", "regions: {"),
        ("classes: {liver: 1, lesion: 2}", "regions: {liver: {labels: 1, threshold: 0.3}, lesion: 2}"),
        ("name: own", "name: own\nreference: t2"),
        ("name: own", "name: own\nother-grids: refuse"),
    ]
    digests = {changed(own, pair).definition for pair in meaning}
    assert len({*digests, usual.definition}) == len(meaning) + 1
    places = [
        ('"{case}/{case}_t1.nii.gz"', '"{case}/*_t1.nii.gz"'),
        ('mask: "{case}/{case}_seg.nii.gz"', 'mask: "{case}/*_seg.nii.gz"'),
        ('"{case}/{case}_t1.nii.gz"', '{pattern: "{case}/{case}_t1.nii.gz", channel: 0}'),
        ("name: own", "name: own\nexclude: [patient-10]"),
    ]
    for pair in places:
        other = changed(own, pair)
        assert other.patterns != usual.patterns
        assert other.definition == usual.definition


def test_a_changed_pattern_prepares_the_cases_anew(own):
    one = changed(own)
    swapped = changed(
        own,
        ('"{case}/{case}_t1.nii.gz"', '"{case}/{case}_x.nii.gz"'),
        ('"{case}/{case}_t2.nii.gz"', '"{case}/{case}_t1.nii.gz"'),
    )
    for case in CASES:
        source = own / "patients" / case / f"{case}_t2.nii.gz"
        (own / "patients" / case / f"{case}_x.nii.gz").write_bytes(source.read_bytes())
    first = prepare(one, one.files.folder, SMALL, workers=1)
    second = prepare(swapped, swapped.files.folder, SMALL, workers=1)
    a, b = first.case("patient-01").images, second.case("patient-01").images
    assert (a[:, 0] == b[:, 1]).all()
    assert (a[:, 1] == b[:, 0]).all()
    assert (a != b).any()


@pytest.mark.slow
def test_a_run_and_a_matrix_take_the_file_and_results_name_it(own, tmp_path):
    from kit.places import TINY

    path = task_file(own, name="own.yaml")
    shared = {"plugins": [TINY], "preset": "smoke", "device": "cpu", "runs_dir": tmp_path}
    [result] = usbench.run("tiny", "early", str(path), settings={"data.size": 32}, **shared)
    task = get_task(str(path))
    said = result.data["task"]
    assert (said["origin"], said["definition"]) == ("file own.yaml", task.definition)
    assert said["patterns"] == task.patterns
    assert result.data["data"]["kind"] == "sample"
    found = usbench.matrix(
        methods=["tiny"],
        fusions=["early"],
        tasks=[str(path)],
        settings={"data.size": 32},
        folds="0",
        **shared,
    )
    assert [cell.result.path for cell in found.cells] == [result.path]
    other = task_file(own, TASK, ("lesion: 2", "lesion: [2, 3]"), name="other.yaml")
    [second] = usbench.run("tiny", "early", str(other), settings={"data.size": 32}, **shared)
    assert second.data["protocol"] != result.data["protocol"]
    assert second.data["cell"]["hash"] != result.data["cell"]["hash"]
