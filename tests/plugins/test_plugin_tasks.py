"""Tasks that plugins bring: a reader held to its word, data, folds, other processes, faults that stay put."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from kit.built_in_cell import built_in_cell
from kit.installing import install
from kit.own_task import CASES, MSD_TASK, OWN, SHAPE, SMALL, cell_words, changed, save, volumes, write
from kit.places import TINY
from kit.tampering import CARD

import usbench
from usbench.datasets.check import check
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.resolve import find_data
from usbench.datasets.splits import make_split
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task, search_tasks, task_from_folder
from usbench.errors import UsbenchError
from usbench.leaderboards.board import build
from usbench.methods.registry import all_problems
from usbench.results.schema import typed
from usbench.storage.files import digest_of
from usbench.submissions.card import dump_card
from usbench.submissions.checks import result_problems
from usbench.submissions.pack import submit
from usbench.submissions.verify import verify


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patients in the layout of the example, and the same in that of the Decathlon."""
    root = tmp_path_factory.mktemp("data")
    msd = root / "Task99_Liver"
    listed = []
    for number, case_id in enumerate(CASES):
        arrays, affine = volumes(number)
        for name, array in arrays.items():
            save(root / "liver" / case_id / f"{name}.nii.gz", array, affine)
        save(msd / "imagesTr" / f"{case_id}.nii.gz", np.stack([arrays["t1"], arrays["t2"]], axis=-1), affine)
        save(msd / "labelsTr" / f"{case_id}.nii.gz", arrays["mask"], affine)
        listed.append({"image": f"./imagesTr/{case_id}.nii.gz", "label": f"./labelsTr/{case_id}.nii.gz"})
    described = {
        "modality": {"0": "T1w", "1": "T2"},
        "labels": {"0": "background", "1": "liver", "2": "lesion"},
        "training": listed,
    }
    (msd / "dataset.json").write_text(json.dumps(described))
    return root


def test_an_own_reader_gives_what_the_decathlon_reader_gives(data: Path, tmp_path: Path) -> None:
    """The same patients in two layouts, read by the example's code and by ours: one fingerprint."""
    own = prepare(get_task("two-scans", [OWN]), data, SMALL, workers=1, cache=tmp_path / "a")
    theirs = task_from_folder(data / "Task99_Liver")
    reference = prepare(theirs, data / "Task99_Liver", SMALL, workers=1, cache=tmp_path / "b")
    assert own.fingerprint == reference.fingerprint
    case = own.case("patient-10")
    arrays, affine = volumes(3)
    assert np.array_equal(case.truth(), arrays["mask"])
    assert np.allclose(case.affine, affine)
    brought = get_task("two-msd", [write(tmp_path, MSD_TASK)])
    assert prepare(brought, data, SMALL, workers=1, cache=tmp_path / "c").fingerprint == own.fingerprint


def test_it_runs_and_stands_on_the_leaderboard(data: Path, tmp_path: Path) -> None:
    (result,) = usbench.run("tiny", "early", **cell_words(data, tmp_path))
    assert result.path.parts[-3] == "two-scans-sample"
    assert result.data["task"]["origin"] == f"file {OWN}"
    assert result.data["task"]["classes"] == ["liver", "lesion"]
    (case,) = result.data["split"]["test"]
    predicted = nibabel.load(result.path / "predictions" / f"{case}.nii.gz")
    arrays, affine = volumes(CASES.index(case))
    assert predicted.shape == SHAPE
    assert np.allclose(predicted.affine, affine, atol=1e-5)
    tp = np.logical_and(np.asarray(predicted.dataobj) == 1, arrays["mask"] == 1).sum()
    assert next(row for row in result.rows if row["class"] == "liver")["tp"] == tp
    made = usbench.matrix("tiny", "early", "two-scans", workers=1, **_but("task", cell_words(data, tmp_path)))
    assert (made.computed, made.before) == (0, 1)
    (table,) = build(tmp_path).tables
    assert table.title.startswith("two-scans (sample)")
    from usbench.pages.run_page import html

    assert "two-scans" in html(result)


@pytest.mark.slow
def test_a_submission_on_it_under_a_fusion_of_a_plugin_verifies(data: Path, tmp_path: Path) -> None:
    """By whoever has the task's plugin; the fusion's code is needed by nobody."""
    words = cell_words(data, tmp_path / "runs", OWN, OWN.with_name("gated_late.py"))
    results = usbench.run("unext-small", "gated-late", folds="all", **words)
    (tmp_path / "card.yaml").write_bytes(dump_card(CARD))
    made = submit([tmp_path / "runs"], tmp_path / "card.yaml", tmp_path / "own.zip")
    found = verify(made, data_dir=data, plugins=[OWN])
    assert (found.runs, found.predictions) == (4, 4)
    assert found.fingerprints == {"two-scans (sample)": results[0].data["data"]["fingerprint"]}
    with pytest.raises(UsbenchError, match=r"'two-scans', which is not built in; .* --plugin"):
        verify(made, data_dir=data)
    other = changed(tmp_path, ('"liver lesion"', '"metastasis"'))
    with pytest.raises(UsbenchError, match="its words for prompts are not those of the task"):
        verify(made, data_dir=data, plugins=[other])
    # Whoever makes all digests anew but leaves the hash is found by it.
    for change, message in (
        (lambda result: result["fusion"].update(source_hash="0" * 64), "its hash is not the digest"),
        (lambda result: result["task"].update(nsd_tolerance_mm=50), "its protocol is not the digest"),
        (lambda result: result["fusion"].update(origin="built in"), "unknown fusion 'gated-late'"),
    ):
        result = json.loads(json.dumps(results[0].data))
        change(result)
        assert any(message in problem for problem in result_problems(result)), message
    # What has not even the keys does not come so far.
    result = json.loads(json.dumps(results[0].data))
    del result["task"]["words"]
    with pytest.raises(UsbenchError, match=r"result\.json: lacks 'task\.words'; compute it again"):
        typed(result, "result.json", "compute it again")


def _but(name: str, words: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in words.items() if key != name}


def test_fewer_modalities_and_merged_classes(data: Path, tmp_path: Path) -> None:
    task = get_task("two-scans", [OWN]).with_modalities(["t2"]).merged("all")
    store = prepare(task, data, SMALL, workers=1, cache=tmp_path)
    case = store.case("patient-01")
    arrays, _ = volumes(0)
    assert case.images.shape[1] == 1
    assert np.array_equal(case.truth(), (arrays["mask"] > 0).astype(np.uint8))


def test_without_data_there_is_no_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = get_task("two-scans", [OWN])
    for mode in ("auto", "phantom"):
        with pytest.raises(UsbenchError, match=r"two-scans: .*has no phantom; give the folder .*--data-dir"):
            find_data(task, mode=mode)  # type: ignore[arg-type]
    with pytest.raises(UsbenchError, match=r"no data of task two-scans .*give the folder that holds liver"):
        find_data(task, tmp_path)
    monkeypatch.setenv("USBENCH_DATA", str(tmp_path))
    with pytest.raises(UsbenchError, match="has no phantom"):
        find_data(task)
    monkeypatch.setenv("USBENCH_DATA", str(data))
    assert find_data(task).kind == "sample"
    assert find_data(dataclasses.replace(task, case_ids=CASES)).kind == "real"
    assert find_data(task, data / "liver").root == data / "liver"
    made = usbench.matrix(
        "tiny", "early", "all", plugins=[OWN, TINY], data_dir=data, device="cpu", dry_run=True
    )
    assert {entry.plan.task.name for entry in made.cells} == {"two-scans"}
    assert {one.task for one in made.not_applicable} == {"chaos", "msd-brain", "msd-prostate"}


FAULTS = [
    ("np.stack([scan.get_fdata(dtype=np.float32) for scan in scans])", "raw[None].astype('f4')",
     "images (1, 20, 18, 6) and mask (20, 18, 6), expected [M, X, Y, Z] with M = 2 (t1, t2)"),
    ("dtype=np.float32) for scan in scans", "dtype=np.float64) for scan in scans",
     "the images are float64, not an array of float32"),
    ("dtype=np.uint8)", "dtype=np.int64)", "the mask is int64, not an array of uint8"),
    ("mask, annotation.affine)", "mask, np.zeros((4, 4)))", "the affine does not place the voxels in space"),
    ("mask, annotation.affine)", "mask, np.eye(3))", "the affine does not place the voxels in space"),
    ("mask, annotation.affine)", "mask, 'RAS')", "the affine does not place the voxels in space"),
    ("start=1)", "start=2)", "the mask holds 3, but the task has 2 classes (liver, lesion)"),
    ("return Case(case_id,", "return Case('someone',", "the reader gives case 'someone' for it"),
    ("return Case(case_id,", "return (case_id,", "its reader gives a tuple for case patient-01"),
    ("images = np.stack(", "images = 0 * np.stack(", "constant image, every voxel of t1 is 0"),
    ("images = np.stack(", "images = np.float32('nan') * np.stack(", "2,160 voxels of t1 are NaN or"),
    ("mask = np.zeros(raw", "mask = self.nothing(raw",
     "its reader raised AttributeError in read('patient-01') ('FolderReader' object has no attribute"),
    ('return sorted(folder.name for', 'return [] and sorted(folder.name for', "its reader finds no case in"),
    ('return sorted(folder.name for', 'return ["../up"] or sorted(folder.name for', "names a case '../up'"),
    ('return sorted(folder.name for', 'return ["a", "a"] or sorted(folder.name for', "names case a twice"),
    ('return sorted(folder.name for', 'return [7] or sorted(folder.name for', "names a case 7"),
    ('names = [*self', 'return []\n        names = [*self', "gives [] as the files of case patient-01"),
    ('"mask"]\n', '"mask", "b0"]\n', "b0.nii.gz: the file is absent"),
    ("self.root = root", "self.root = root / task.b0", "its reader raised AttributeError in making it"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), FAULTS)
def test_a_reader_is_held_to_its_word(data: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    """The fault is an error of `prepare`, one line that names the task, and a problem for `data check`."""
    task = get_task("two-scans", [changed(tmp_path, (old, new))])
    with pytest.raises(UsbenchError) as caught:
        prepare(task, data, SMALL, workers=1, cache=tmp_path / "prepared")
    line = str(caught.value)
    assert message in line
    assert "two-scans" in line or "absent" in line
    assert not list((tmp_path / "prepared").rglob("images.slices"))
    found = [str(problem) for problem in check(task, data)]
    assert any(message in problem for problem in found), found


def test_other_code_of_the_reader_prepares_anew(data: Path, tmp_path: Path) -> None:
    """Files on disk are the same, but not what is read of them; tasks without one keep their folder."""
    first = prepare(get_task("two-scans", [OWN]), data, SMALL, workers=1, cache=tmp_path)
    again = prepare(get_task("two-scans", [OWN]), data, SMALL, workers=1, cache=tmp_path)
    assert again.path == first.path
    other = changed(tmp_path, ("images = np.stack(", "images = 2 * np.stack("))
    second = prepare(get_task("two-scans", [other]), data, SMALL, workers=1, cache=tmp_path)
    assert second.path != first.path
    assert second.fingerprint != first.fingerprint
    # The key of a built-in layout, written out.
    task, root = task_from_folder(data / "Task99_Liver"), data / "Task99_Liver"
    key = {
        "version": 2,
        "task": task.name,
        "modalities": ["t1w", "t2"],
        "classes": [
            {"name": "liver", "words": "liver", "labels": [1], "ranges": []},
            {"name": "lesion", "words": "lesion", "labels": [2], "ranges": []},
        ],
        "settings": SMALL.to_json(),
        "root": str(root.resolve()),
    }
    assert (
        prepare(task, root, SMALL, workers=1, cache=tmp_path).path.name
        == f"{task.name}-{digest_of(key)[:12]}"
    )


def test_folds_are_the_tasks_own_or_derived(tmp_path: Path) -> None:
    task = get_task("two-scans", [OWN])
    assert make_split(task, CASES).rule == "derived"
    fixed = (("patient-02", "patient-01"), ("patient-10", "patient-03"))
    split = make_split(dataclasses.replace(task, folds=fixed), CASES)
    assert split.rule == "fixed"
    assert split.folds == (("patient-01", "patient-02"), ("patient-03", "patient-10"))
    # A case that the folds do not know: they are no folds of this data.
    assert make_split(dataclasses.replace(task, folds=fixed), (*CASES, "patient-11")).rule == "derived"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name="two-scans"', 'name="Two Scans"', "task 'Two Scans' (file "),
        ('Modality("t2", ', 'Modality("t1", ', "modality t1 is there twice; give each its own name"),
        ('Modality("t2", ', 'Modality("t 2", ', "modality 't 2' has no safe name"),
        ('"T2-weighted MRI"', '""', "modality t2 has no words"),
        ("nsd_tolerance_mm=2.0", "nsd_tolerance_mm=0", "nsd_tolerance_mm is 0; give millimetres above 0"),
        ('licence="not stated"', 'licence=""', "it states no licence; write it, or 'not stated'"),
        ("reader=FolderReader", "reader='chaoss'", "unknown layout 'chaoss', did you mean 'chaos'?"),
        ("reader=FolderReader", "reader='chaos'", "modality t1 is none of CHAOS; choose from t1-in, t1-out"),
        ("reader=FolderReader", "reader=3", "its reader is no class or function"),
        ("reader=FolderReader,", "folds=(('a',),),", "folds has 1 fold,"),
        ("reader=FolderReader,", "folds=(('a',), ('a', 'b')),", "case a is in two folds"),
        (
            "reader=FolderReader,",
            "folds=(('a',), ('b',)), case_ids=('a',),",
            "folds names case b, which case_ids",
        ),
        ("labels=(2,))", "labels=[2])", "one of its values is a list or a dict; use tuples throughout"),
        ('Modality("t2", "T2-weighted MRI")', '"t2"', "its modality list is no tuple of usbench.Modality"),
        ("labels=(2,))", "labels=(1,))", None),
    ],
)
def test_a_task_that_is_wrong_is_named(tmp_path: Path, old: str, new: str, message: str | None) -> None:
    file = changed(tmp_path, (old, new))
    if message is None:
        # With a reader of its own a task's labels are the reader's business; in the layout of the
        # Decathlon they must be disjoint.
        get_task("two-scans", [file])
        file.write_text(MSD_TASK.replace("labels=(2,)", "labels=(1,)"))
        with pytest.raises(UsbenchError, match="the mask value 1 belongs to two classes; make them disjoint"):
            get_task("two-msd", [file])
        return
    name = "Two Scans" if "Two" in new else "two-scans"
    with pytest.raises(UsbenchError) as caught:
        get_task(name, [file])
    assert message in str(caught.value)
    assert "task '" in str(caught.value)


def test_a_missing_word_of_a_task_names_the_file(tmp_path: Path) -> None:
    file = changed(tmp_path, ('    citation="not stated",\n', ""))
    with pytest.raises(UsbenchError, match=r"plugin.py: plugin raised on import: TypeError: .*'citation'"):
        get_task("two-scans", [file])
    assert get_task("chaos", [file]).name == "chaos"


def test_packages_and_their_faults(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Installed tasks are listed with their data; broken ones and thieves of names break nothing else."""
    from usbench.cli.main import main

    install(tmp_path, "goodtask", OWN.read_text(), "two-scans", "task")
    install(tmp_path, "badtask", "raise OSError('no licence')", "broken", "task")
    install(tmp_path, "thieftask", OWN.read_text(), "chaos", "task")
    install(tmp_path, "secondtask", OWN.read_text(), "two-scans", "task")
    monkeypatch.syspath_prepend(tmp_path)
    task = get_task("two-scans")
    assert task.found is not None
    assert task.found.version == "1.2"
    assert get_task("chaos").found is None
    with pytest.raises(UsbenchError, match=r"task 'broken' \(package badtask 1.2\) cannot be imported"):
        get_task("broken")
    with pytest.raises(UsbenchError, match="unknown task 'two-scan', did you mean 'two-scans'"):
        get_task("two-scan")
    lines = [problem.text for problem in all_problems()]
    assert "package thieftask 1.2: task 'chaos' is there already (built in); rename yours" in lines
    assert sum("task 'two-scans' is there already" in line for line in lines) == 1
    main(["data", "list", "--data-dir", str(data)], standalone_mode=False)
    out, err = capsys.readouterr()
    assert "two-scans: Liver and lesions on T1 and T2" in out
    assert f"4 cases in {data / 'liver'}" in out
    assert "chaos: Abdominal organs" in out
    assert "no licence" in err
    assert "package thieftask 1.2: task 'chaos' is there already" in err
    assert len(search_tasks([OWN]).problems) == 3
    with pytest.raises(UsbenchError, match=r"task 'two-scans' is there already \(package goodtask 1.2\)"):
        get_task("two-scans", [OWN])


def test_a_file_with_a_built_in_name_is_refused(tmp_path: Path) -> None:
    file = changed(tmp_path, ('name="two-scans"', 'name="chaos"'))
    with pytest.raises(UsbenchError, match=r"task 'chaos' is there already \(built in\); rename yours"):
        get_task("chaos", [file])


def test_other_processes_load_the_reader(data: Path, tmp_path: Path) -> None:
    """Workers that prepare, and a process that gets a pickled task from nowhere else."""
    task = get_task("two-scans", [OWN])
    two = prepare(task, data, SMALL, workers=2, cache=tmp_path / "two")
    one = prepare(task, data, SMALL, workers=1, cache=tmp_path / "one")
    assert two.contents == one.contents
    (tmp_path / "task").write_bytes(pickle.dumps(task.with_modalities(["t1"])))
    code = (
        "import pickle, sys; from pathlib import Path; "
        "from usbench.datasets.readers.layouts import open_reader; "
        "task = pickle.loads(Path(sys.argv[1]).read_bytes()); "
        "print(open_reader(task, Path(sys.argv[2])).read('patient-01').images.shape)"
    )
    call = [sys.executable, "-c", code, str(tmp_path / "task"), str(data)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, cwd="/")
    assert done.stdout.strip() == "(1, 20, 18, 6)", done.stderr


def test_tolerance_and_words_of_a_plugin_decide_the_cell() -> None:
    """A built-in task's are fixed; a plugin's may change, and with them NSD and prompts."""
    task = get_task("two-scans", [OWN])

    def key(one: usbench.Task) -> tuple[str, str]:
        cell = built_in_cell("early", task_itself=one, case_ids=CASES)
        return cell.protocol, cell.key

    first = key(task)
    protocol, whole = key(dataclasses.replace(task, nsd_tolerance_mm=3.0))
    assert protocol != first[0]
    renamed = tuple(dataclasses.replace(m, words="an MRI") for m in task.modalities)
    protocol, whole = key(dataclasses.replace(task, modalities=renamed))
    assert protocol == first[0]
    assert whole != first[1]


@pytest.mark.slow
def test_the_commands_of_data_take_a_plugin(data: Path, command: Any, tmp_path: Path) -> None:
    words = ("two-scans", "--plugin", OWN, "--data-dir", data)
    fine = command("data", "check", *words)
    assert (fine.returncode, fine.stdout) == (0, f"{data}: nothing wrong found\n")
    ready = command("data", "prepare", *words, "--preset", "smoke", "--workers", 1)
    assert "4 cases prepared in" in ready.stdout, ready.stderr
    listed = command("data", "list", "--plugin", OWN, "--data-dir", tmp_path)
    assert f"  from        file {OWN}\n" in listed.stdout
    assert "no run is possible, there is no phantom" in listed.stdout
    broken = tmp_path / "liver"
    shutil.copytree(data / "liver", broken)
    (broken / "patient-02" / "t2.nii.gz").unlink()
    arrays, affine = volumes(0)
    save(broken / "patient-03" / "mask.nii.gz", 0 * arrays["mask"], affine)
    bad = command("data", "check", *words[:-1], tmp_path)
    assert bad.returncode == 1
    assert "patient-02/t2.nii.gz: the file is absent" in bad.stdout
    assert "different grids" in bad.stdout or "the mask is empty" in bad.stdout


def test_open_reader_names_what_it_looks_for(tmp_path: Path) -> None:
    with pytest.raises(UsbenchError, match="its folder liver must hold what its own reader reads"):
        open_reader(get_task("two-scans", [OWN]), tmp_path)
