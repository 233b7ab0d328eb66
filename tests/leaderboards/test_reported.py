"""Figures of publications: their files, and how they stand beside what was measured."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from kit.handmade import add_row

from usbench.cli.main import main
from usbench.datasets.tasks import get_task, task_names
from usbench.errors import UsbenchError
from usbench.leaderboards import build, check, render, write_kept
from usbench.leaderboards.reported import SMALL, load_publication, publications
from usbench.leaderboards.reported.publications import FOLDER
from usbench.methods.registry import BUILT_IN

# Names of the Decathlon's tasks that usbench does not bring; a task of a plugin may take one.
OTHERS = {"heart", "liver", "hippocampus", "lung", "pancreas", "hepatic-vessel", "spleen", "colon"}
ZEUS = FOLDER / "zeus.yaml"


def lines_of(name: str) -> dict[tuple[str, ...], dict[str, str]]:
    found = next(one for one in publications() if one.name == name)
    return {(line.task, line.method, line.fusion, line.part): line.scores for line in found.lines}


def printed(text: str) -> float:
    return float(text.partition(" ")[0])


def test_every_file_loads_names_its_source_and_known_names() -> None:
    files = sorted(FOLDER.glob("*.yaml"))
    assert [one.name for one in publications()] == [file.stem for file in files]
    known = {get_task(name).published for name in task_names()} | OTHERS
    # nnU-Net is a pipeline of usbench where its extra is installed.
    methods = {*BUILT_IN, "nnunet", ""}
    for one in publications():
        assert len(one.reference) > 30
        assert all(sentence.endswith(".") for sentence in one.differs)
        assert {name for line in one.lines for name in line.published} <= known
        assert {line.our_method for line in one.lines} <= methods
        for line in one.lines:
            assert set(line.units) == set(line.scores)
            # A mask's IoU is never above its DSC; Zeus' Table 2 has one such pair, which its file names.
            if {"dsc", "miou"} <= set(line.scores) and (line.method, line.fusion) != ("AttUNet", "early"):
                assert printed(line.scores["miou"]) < printed(line.scores["dsc"])
    assert {one.name for one in publications() if one.second_hand} == {
        "brats21",
        "chaos_challenge",
        "sota_medseg",
    }
    assert {one.name for one in publications() if not one.address} == {"zeus"}


def test_figures_are_as_printed() -> None:
    zeus = lines_of("zeus")
    assert len(zeus) == 3 * (7 * 3 + 2)
    assert zeus["CHAOS", "Zeus", "late", ""] == {"dsc": "85.80", "miou": "84.19"}
    assert zeus["MSD-Brain", "U-Net", "early", ""]["miou"] == "73.08"
    assert zeus["MSD-Prostate", "AttUNet", "early", ""] == {"dsc": "62.18", "miou": "64.22"}
    (found,) = [one for one in publications() if one.name == "zeus"]
    counts = {(line.method, line.fusion): line.parameters for line in found.lines}
    assert (counts["MISSFormer", "late"], counts["U-Net", "late"]) == ("610.88", "54.94M")
    nnunet = lines_of("sota_medseg") | lines_of("brats21") | lines_of("chaos_challenge")
    assert [scores["dsc"] for scores in nnunet.values()] == ["76.6", "89.6", ".926", ".95"]


def test_the_means_over_ten_tasks_are_those_that_the_paper_prints() -> None:
    """Table 3 of MedVisionLlama has the means of its Table 2, so a figure copied wrongly would show."""
    found = lines_of("medvisionllama")
    for ours, theirs in (("ViT-Baseline", "ViT Baseline"), ("MedVisionLlama", "MedVisionLlama (Ours)")):
        of_tasks = [scores for (_, method, *_), scores in found.items() if method == ours]
        assert len(of_tasks) == 10
        mean = found["mean over 10 MSD tasks", theirs, "", ""]
        for name in ("dsc", "nsd"):
            values = [printed(scores[name]) for scores in of_tasks]
            assert round(sum(values) / 10, 2) == printed(mean[name])


def test_a_new_publication_is_a_new_file(tmp_path: Path) -> None:
    shutil.copy(ZEUS, tmp_path / "zeus.yaml")
    text = ZEUS.read_text().replace("Dai et al., Zeus", "Another").replace("S. Dai", "T. Other")
    (tmp_path / "another.yaml").write_text(text)
    assert [one.name for one in publications(tmp_path)] == ["another", "zeus"]
    publications.cache_clear()
    shutil.copy(ZEUS, tmp_path / "again.yaml")
    with pytest.raises(
        UsbenchError, match=r"zeus\.yaml: short 'Dai et al., Zeus' is that of again\.yaml too"
    ):
        publications(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("short:", "shrt:", "shrt: extra inputs|short: field required"),
        ("reference:", "short: again\nreference:", "the key 'short' is there twice"),
        ("81.76", "eighty", "Table 2, line 4: 'eighty' is no figure"),
        ("81.76", "8176x", "'8176x' is no figure"),
        ("54.94M,81.76", "many,81.76", "'many' is no number of parameters"),
        ("54.94M,81.76,", "54.94M,", "row 4 has 5 values for 6 columns"),
        ("CHAOS,U-Net,late", "CHAOS,U-Net,early", "Table 2, CHAOS, U-Net, early: is there twice"),
        ("CHAOS,U-Net,late", "KAOS,U-Net,late", "'KAOS' is not in 'tasks'"),
        ("CHAOS,U-Net,late", "CHAOS,Unet,late", "'Unet' is not in 'methods'"),
        ("  Zeus: zeus", "  Zeus: zeus\n  More: more", "methods: 'More' has no figure"),
        ("parameters,dsc,miou", "parameters,dsc,dice", "'dice' is no score; choose among"),
        ('{dsc: "%", miou: "%"}', '{dsc: "%"}', "units are of dsc, columns dsc, miou"),
        ("[chaos]", "chaos", r"tasks\.chaos: input should be a valid list"),
        ("differs:", "differs: [", "not valid YAML in line"),
    ],
)
def test_a_file_that_is_not_in_order_is_named(tmp_path: Path, old: str, new: str, reason: str) -> None:
    text = ZEUS.read_text()
    assert old in text
    file = tmp_path / "wrong.yaml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UsbenchError, match=rf"(?i)wrong\.yaml: .*({reason}).*; compare it"):
        load_publication(file)


def test_lines_of_the_tasks_and_methods_of_the_tables_alone(tmp_path: Path) -> None:
    add_row(tmp_path, "unet", [0.75, 0.85], data__kind="real", cell__task="msd-prostate")
    add_row(tmp_path, "unet", [0.5, 0.6], "early", folds=2, done=[0], cell__task="msd-prostate")
    add_row(tmp_path, "transunet", [0.5, 0.6], "hybrid", cell__task="msd-prostate")
    add_row(tmp_path, "unext-small", [0.5, 0.6], cell__task="msd-prostate")
    board = build(tmp_path)
    found = {(one.title, line.method, line.fusion): line for one in board.reported for line in one.lines}
    assert set(found) == {
        ("Dai et al., Zeus", "U-Net", "early"),
        ("Dai et al., Zeus", "U-Net", "late"),
        ("Dai et al., Zeus", "TransUNet", "hybrid"),
        ("Marthi et al., MedVisionLlama", "TransUNet", ""),
    }
    late = found["Dai et al., Zeus", "U-Net", "late"]
    assert (late.scores, late.parameters) == ({"dsc": "67.30", "miou": "65.88"}, "54.94M")
    (row,) = late.measured
    assert (row.dsc, row.fusion, row.status) == (pytest.approx(0.8), "late", "")
    (row,) = found["Dai et al., Zeus", "U-Net", "early"].measured
    assert (row.status, "(phantom)" in row.table) == ("incomplete: 1 of 2 folds", True)
    everything = Counter(one.title for one in build(tmp_path, reported="all").reported for _ in one.lines)
    assert everything == {
        "Dai et al., Zeus": 23,
        "Marthi et al., MedVisionLlama": 2 + 8,
        "SOTA-MedSeg, Decathlon": 2,
    }
    assert build(tmp_path, reported="none").reported == ()
    with pytest.raises(UsbenchError, match=r"choice of reported figures 'fit'.*did you mean 'fitting'"):
        build(tmp_path, reported="fit")


def test_whole_tumour_stands_at_the_classes_and_the_regions_of_the_brain(tmp_path: Path) -> None:
    for task in ("msd-brain", "msd-brain-regions", "chaos"):
        add_row(tmp_path, "nnunet", [0.75, 0.85], "early", cell__task=task)
    found = [(line.task, line.scores["dsc"]) for one in build(tmp_path).reported for line in one.lines]
    assert sorted(found) == [
        ("msd-brain", ".926"),
        ("msd-brain", "0.81 ± 0.05"),
        ("msd-brain-regions", ".926"),
    ]


def test_a_small_leaderboard_says_in_one_line_that_there_are_figures(tmp_path: Path) -> None:
    methods = ["unet", "attunet", "resunet", "unext", "unetpp", "missformer", "transunet", "zeus"]
    for method in methods:
        add_row(tmp_path, method, [0.75, 0.85])
    # Rows of a task that no publication reports on do not make it larger.
    for number in range(SMALL):
        add_row(tmp_path, f"own-{number}", [0.5, 0.6], cell__task="my-task")
    line = (
        "Reported elsewhere: 8 lines of published tables, not measured here (Dai et al., Zeus); "
        "usbench leaderboard --reported fitting shows them"
    )
    small = build(tmp_path)
    assert small.shortened
    assert len(json.loads(render(small, "json"))["reported"][0]["lines"]) == 8
    for form in ("table", "md", "latex"):
        text = render(small, form)
        assert [one.removeprefix("% ") for one in text.splitlines() if "Reported" in one] == [line]
        assert "81.76" not in text
        assert "81.76" in render(build(tmp_path, reported="fitting"), form)
        assert "eported elsewhere" not in render(build(tmp_path, reported="none"), form)
    for method in methods[:2]:
        add_row(tmp_path, method, [0.7, 0.6], "early")
    large = build(tmp_path)
    assert not large.shortened
    assert "Reported elsewhere: Dai et al., Zeus" in render(large, "md")


def test_nothing_is_subtracted_in_any_format(tmp_path: Path) -> None:
    add_row(tmp_path, "unet", [0.75, 0.85], data__kind="real", preset="paper")
    board = build(tmp_path, reported="fitting")
    assert "difference" not in json.dumps(json.loads(render(board, "json"))["reported"])
    for form in ("table", "md", "latex", "html"):
        # Ours less theirs, and the other way round: 80.00 and 81.76.
        assert "1.76" not in render(board, form).replace("81.76", "")


def test_the_command_takes_the_choice(tmp_path: Path) -> None:
    add_row(tmp_path, "unet", [0.75, 0.85])
    words = ["leaderboard", "--runs-dir", str(tmp_path)]
    assert "MISSFormer" in CliRunner().invoke(main, [*words, "--reported", "all"]).output
    with pytest.raises(UsbenchError, match="--reported does not go with --keep-results or --check"):
        CliRunner().invoke(
            main,
            [*words, "--reported", "all", "--out", "x", "--keep-results"],
            catch_exceptions=False,
        )


def test_kept_tables_of_the_layout_before_are_named(tmp_path: Path) -> None:
    """Until layout 2 each published score stood with a difference."""
    add_row(tmp_path / "runs", "unet", [0.75, 0.85])
    write_kept(build(tmp_path / "runs"), tmp_path / "runs", tmp_path / "board", pictures=False)
    check(tmp_path / "board")
    file = tmp_path / "board" / "leaderboard.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "schema": 2, "reported": [{"difference": -1.76}]}))
    with pytest.raises(UsbenchError, match=r"leaderboard\.json: has layout 2, and this .* layout 4; make it"):
        check(tmp_path / "board")
    write_kept(
        build(tmp_path / "board" / "results"), tmp_path / "board" / "results", tmp_path / "board", False
    )
    check(tmp_path / "board")
