"""Masks from elsewhere: scored against values worked by hand and MONAI's, marked, and never half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from kit import own_folders, own_task
from kit.tampering import CARD
from kit.tiny_set import OBLIQUE, SHAPE, write_set
from monai.metrics import compute_dice

import usbench
from usbench.cli.main import main
from usbench.errors import UsbenchError
from usbench.leaderboards.board import build
from usbench.leaderboards.cost_plot import cost_figure
from usbench.leaderboards.formats import text_of
from usbench.pages.run_page import html
from usbench.submissions.card import dump_card
from usbench.submissions.elsewhere import _some
from usbench.submissions.pack import submit
from usbench.submissions.verify import verify, write_record

CASES = ("a1", "a2", "a10")


def save(path: Path, mask: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask, affine), path)
    return path


def guess() -> np.ndarray:
    """Of 6 x 6 voxels with 2 x 2 of class 2: two of the six rows of class 1 are lost, class 2 is right."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:14, 9:15, 1] = 1
    mask[10:12, 11:13, 1] = 2
    return mask


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set and what is prepared of it, once for all tests."""
    folder = tmp_path_factory.mktemp("shared")
    write_set(folder / "Tiny")
    return folder


@pytest.fixture
def data(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("USBENCH_CACHE", str(shared / "cache"))
    return shared / "Tiny"


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    for case in CASES:
        save(tmp_path / "masks" / f"{case}.nii.gz", guess())
    return tmp_path / "masks"


def score(data: Path, masks: Path, **more: Any) -> Any:
    options = {"name": "theirs", "task_dir": data, "runs_dir": masks.parent / "runs", **more}
    return usbench.score(masks, **options)


def test_scores_are_those_worked_by_hand_and_monais(data: Path, masks: Path) -> None:
    """Class 1 has 32 voxels, found are 20 of them: DSC 2 x 20 / 52; class 2 is found whole."""
    results = score(data, masks)
    assert sum(len(one.data["split"]["test"]) for one in results) == 3
    truth = np.asarray(nib.load(data / "labelsTr" / "a1.nii.gz").dataobj)
    for one in results:
        for row in one.rows:
            value = {"rim": 1, "core": 2}[row["class"]]
            pair = [torch.tensor(m == value)[None, None].float() for m in (guess(), truth)]
            assert row["dsc"] == pytest.approx({1: 40 / 52, 2: 1.0}[value], abs=1e-12)
            assert row["dsc"] == pytest.approx(compute_dice(*pair).item(), abs=1e-6)
        outside, cost = one.data["outside"], one.data["cost"]
        assert (outside["kind"], outside["missing"]) == ("masks", [])
        assert "was trained on" in outside["claims"][0]
        names = ("parameters", "trainable", "ms_per_slice", "peak_memory_mb", "train_seconds")
        assert {cost[name] for name in names} == {None}
        assert one.data["config"] == {"data": {}, "train": {}, "fusion": {}, "method": {}}


def test_a_missing_case_is_the_worst_and_named(data: Path, masks: Path) -> None:
    (masks / "a2.nii.gz").unlink()
    (masks / "a10.nii.gz").unlink()
    for one in score(data, masks):
        lost = [case for case in one.data["split"]["test"] if case != "a1"]
        assert one.data["outside"]["missing"] == lost
        assert {row["dsc"] for row in one.rows if row["case"] in lost} <= {0.0}


def test_nnunets_own_folders_work_and_their_folds_are_claims(data: Path, masks: Path) -> None:
    flat = score(data, masks)
    theirs = masks.parent / "nnUNetTrainer__nnUNetPlans__2d"
    for number, case in enumerate(CASES):
        save(theirs / f"fold_{number}" / "validation" / f"{case}.nii.gz", guess())
        (theirs / f"fold_{number}" / "validation" / "summary.json").write_text("{}")
    labels = {"background": 0, "rim": 1, "core": 2}
    (theirs / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    found = score(data, theirs, name="folders")
    for one, other in zip(flat, found, strict=True):
        assert (one.path / "cases.csv").read_bytes() == (other.path / "cases.csv").read_bytes()
        for case in other.data["split"]["test"]:
            claim = f"{case} was left out of training in fold_{CASES.index(case)} of nnU-Net"
            assert any(claim in line for line in other.data["outside"]["claims"])


def test_values_go_by_dataset_json_and_by_labels(data: Path, masks: Path) -> None:
    plain = score(data, masks)
    swapped = masks.parent / "swapped"
    for case in CASES:
        save(swapped / f"{case}_pred.nii", np.array([0, 7, 4], np.float32)[guess()])
    with pytest.raises(UsbenchError, match="holds 4, which is no class of the task"):
        score(data, swapped, name="swapped")
    by_word = score(data, swapped, name="swapped", labels={"rim": "7", "core": "4"})
    (swapped / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "core": 4, "rim": 7}}))
    by_file = score(data, swapped, name="by-file")
    for one, other, third in zip(plain, by_word, by_file, strict=True):
        assert one.rows == other.rows == third.rows or str(one.rows) == str(other.rows) == str(third.rows)


def test_a_dataset_json_in_another_encoding_is_read_as_before(data: Path, masks: Path) -> None:
    labels = {"background": 0, "rim": 1, "core": 2}
    text = json.dumps({"licence": "Universität", "labels": labels}, ensure_ascii=False)
    (masks / "dataset.json").write_bytes(text.encode("latin-1"))
    assert all(row["dsc"] > 0.7 for one in score(data, masks) for row in one.rows)


def test_masks_of_no_case_are_named_up_to_five(data: Path, masks: Path, capsys: Any) -> None:
    for number in range(6):
        save(masks / f"x{number}.nii.gz", guess())
    score(data, masks)
    assert "left alone: x0.nii.gz, x1.nii.gz, x2.nii.gz, x3.nii.gz, x4.nii.gz (6 in all)" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_claim_names_five_cases_and_counts_the_others() -> None:
    assert _some(["a"]) == "a"
    assert _some(list("abcde")) == "each of a, b, c, d, e"
    assert _some(list("abcdefg")) == "each of a, b, c, d, e and 2 more"


BAD = {
    "another grid": (lambda d: save(d / "a1.nii.gz", guess(), np.eye(4)), "a1.*not on the grid"),
    "another shape": (lambda d: save(d / "a1.nii.gz", guess()[1:]), "a1.*shape 19 x 24 x 3 is not"),
    "unknown value": (lambda d: save(d / "a1.nii.gz", guess() * 3), "holds 3, which is no class"),
    "fractions": (lambda d: save(d / "a1.nii.gz", guess() * np.float32(0.5)), "holds 0.5, and a mask"),
    "four axes": (lambda d: save(d / "a1.nii.gz", np.stack([guess()] * 2, 3)), "has 4 axes"),
    "no NIfTI": (lambda d: (d / "a1.nii.gz").write_bytes(b"no"), "a1.nii.gz: truncated or invalid"),
    "twice": (lambda d: save(d / "a1.nii", guess()), "case a1 has a second mask"),
    "twice in folders": (
        lambda d: save(d / "fold_0" / "validation" / "a1.nii.gz", guess()), "case a1 has a second mask",
    ),
    "of two cases": (lambda d: (d / "a2.nii.gz").rename(d / "b.nii.gz"), "is of no case of the task, and"),
    "empty folder": (lambda d: [f.unlink() for f in d.iterdir()], "holds no mask"),
    "broken json": (lambda d: (d / "dataset.json").write_text("{"), "dataset.json: .* is not valid JSON"),
    "deep json": (lambda d: (d / "dataset.json").write_text("[" * 99999), "dataset.json: .* not valid JSON"),
    "other names": (
        lambda d: (d / "dataset.json").write_text('{"labels": {"x": 1, "y": 2}}'), "names no class rim",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_masks_are_one_line_and_nothing_is_written(what: str, data: Path, masks: Path) -> None:
    spoil, words = BAD[what]
    spoil(masks)
    with pytest.raises(UsbenchError, match=words) as caught:
        score(data, masks)
    assert "\n" not in str(caught.value)
    assert not list(masks.parent.rglob("result.json"))
    assert not list(masks.parent.glob("runs/**/*.nii.gz"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "unet"}, "is a method of usbench"),
        ({"name": "a b"}, "no sound name"),
        ({"fusion": "mixed"}, "mixed"),
        ({"labels": {"liver": "1"}}, "liver"),
        ({"labels": {"rim": "x", "core": "2"}}, "rim=x"),
        ({"labels": {"rim": "1"}}, "names no value of class core"),
        ({"labels": {"rim": "1", "core": "1"}}, "value 1 is of class core and of another"),
        ({"folds": "9"}, "--folds 9"),
    ],
)
def test_words_that_cannot_be_are_one_line(more: Any, words: str, data: Path, masks: Path) -> None:
    with pytest.raises(UsbenchError, match=words):
        score(data, masks, **more)


def test_started_again_it_ends_the_same_and_other_masks_need_a_word(data: Path, masks: Path) -> None:
    first = score(data, masks)
    kept = [(one.path / "cases.csv").read_bytes() for one in first]
    for one in first:  # As a process leaves it that is killed before result.json.
        (one.path / "result.json").unlink()
        (one.path / "predictions" / ".half.part1").write_bytes(b"x")
    again = score(data, masks)
    assert [(one.path / "cases.csv").read_bytes() for one in again] == kept
    assert not list(masks.parent.rglob("*.part1"))
    save(masks / "a1.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(UsbenchError, match="another mask of case a1"):
        score(data, masks)
    assert {row["dsc"] for one in score(data, masks, overwrite=True) for row in one.rows} >= {0.0, 1.0}


def test_it_stands_in_a_table_of_its_own_with_unknown_costs(data: Path, masks: Path, tmp_path: Path) -> None:
    results = score(data, masks)
    board = build(masks.parent / "runs")
    (table,) = board.tables
    (row,) = table.rows
    assert row.label == "theirs (masks from elsewhere)"
    assert (row.parameters, row.trainable, row.ms_per_slice, row.memory_mb) == (None,) * 4
    assert "masks of other programs" in table.title
    assert "author's claim" in table.facts
    for suffix in ("md", "csv", "json", "tex", "html"):
        assert "masks from elsewhere" in text_of(board, suffix)
    assert json.loads(text_of(board, "json"))["tables"][0]["rows"][0]["parameters"] is None
    assert cost_figure(board.tables, tmp_path / "cost.png")
    page = html(results[0])
    assert "Masks from elsewhere" in page
    assert "not known" in page


def test_with_a_limit_it_is_never_ranked(data: Path, masks: Path, tmp_path: Path) -> None:
    whole = score(data, masks)
    few = score(data, masks, limit=2, name="few")
    scored = {case for one in few for case in one.data["split"]["test"]}
    assert len(scored) == 2
    kept = {(row["case"], row["class"]): row["dsc"] for one in whole for row in one.rows}
    assert all(row["dsc"] == kept[row["case"], row["class"]] for one in few for row in one.rows)
    tables = build(tmp_path / "runs").tables
    ranks = {row.method: row.rank for table in tables for row in table.rows}
    assert ranks["theirs"] == 1
    assert ranks.get("few") is None


def test_regions_are_scored_from_sums_of_bits_or_from_the_labels_of_dataset_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Region whole is labels 1 and 2. Without label 2, whole has 2 n1 / (2 n1 + n2) and lesion 0."""
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path / "cache"))
    own_folders.patients(tmp_path / "patients")
    pair = ("classes: {liver: 1, lesion: 2}", "regions: {whole: [1, 2], lesion: 2}")
    task = own_folders.task_file(tmp_path, own_folders.TASK, pair)
    right: dict[str, float] = {}
    for number, case in enumerate(own_folders.CASES):
        arrays, affine = own_task.volumes(number)
        found = np.where(arrays["mask"] == 1, 1, 0).astype(np.uint8)
        n1, n2 = (int((arrays["mask"] == value).sum()) for value in (1, 2))
        right[case] = 2 * n1 / (2 * n1 + n2)
        save(tmp_path / "bits" / f"{case}.nii.gz", found, affine)
        save(tmp_path / "labels" / f"{case}.nii.gz", found, affine)
    said = {"labels": {"background": 0, "whole": [1, 2], "lesion": [2]}, "regions_class_order": [1, 2]}
    (tmp_path / "labels" / "dataset.json").write_text(json.dumps(said))
    for name in ("bits", "labels"):
        for one in score(tmp_path, tmp_path / name, task_dir=None, task=str(task), name=name):
            for row in one.rows:
                assert row["dsc"] == pytest.approx(right[row["case"]] if row["class"] == "whole" else 0.0)


def test_submitted_masks_are_a_verified_row_with_that_word(data: Path, masks: Path, tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_bytes(dump_card({**CARD, "weights": "none"}))
    score(data, masks, name="mine", card=tmp_path / "card.yaml")
    archive = submit([tmp_path / "runs"], tmp_path / "card.yaml", tmp_path / "sent" / "mine.zip")
    found = verify(archive, task_dirs=[data])
    assert found.predictions == 3
    write_record(found)
    board = build(tmp_path / "runs", submissions=tmp_path / "sent")
    (table,) = board.tables
    # The same masks as one's own are the same row; without one's own they are the submission's.
    (row,) = table.rows
    assert (row.entry, row.scores["dsc"]) == (None, pytest.approx((40 / 52 + 1) / 2))
    assert [one.dsc for one in row.also] == [row.scores["dsc"]]
    board = build(tmp_path / "none", submissions=tmp_path / "sent")
    ((row,),) = (table.rows for table in board.tables)
    assert row.entry is not None
    assert row.scores["dsc"] == pytest.approx((40 / 52 + 1) / 2)
    text = text_of(board, "md")
    assert "masks from elsewhere" in text
    assert "verified" in text


def test_all_that_a_card_lacks_is_listed_at_once(data: Path, masks: Path) -> None:
    card = masks.parent / "card.yaml"
    card.write_text("schema: 1\nentry: mine\n")
    words: list[Any] = ["score", "--predictions", masks, "--name", "mine", "--task-dir", data]
    words += ["--card", card, "--runs-dir", masks.parent / "runs"]
    outcome = CliRunner().invoke(main, [str(word) for word in words])
    assert outcome.exit_code == 1
    for key in ("authors", "contact", "code", "hardware"):
        assert f"'{key}' is missing" in outcome.output
    assert "not scored" in str(outcome.exception)
    assert not (masks.parent / "runs").exists()


def test_the_command_takes_the_same_words(data: Path, masks: Path) -> None:
    words = ["score", "--predictions", masks, "--task-dir", data, "--name", "theirs"]
    words += ["--runs-dir", masks.parent / "runs", "--labels", "rim=1,core=2"]
    found = CliRunner().invoke(main, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    assert "0.885" in found.output  # (40 / 52 + 1) / 2
    shutil.rmtree(masks)
    assert CliRunner().invoke(main, [str(word) for word in words]).exit_code == 1
