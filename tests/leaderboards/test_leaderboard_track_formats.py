"""Tables of tracks as words, files, JSON and a picture."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from kit.handmade import make_run
from kit.intervals import of_scores
from kit.made_tracks import make_track
from kit.pictures import has_colour
from kit.schemas import same_keys

from usbench.cli.main import main
from usbench.errors import UsbenchError
from usbench.fusions.looks import looks_of
from usbench.leaderboards import check, render, write, write_kept
from usbench.leaderboards.board import Leaderboard, build
from usbench.leaderboards.track_figure import robustness_figure
from usbench.leaderboards.track_plain import TRACK_SCHEMA
from usbench.leaderboards.track_text import track_texts

SECTIONS = ("Effect of fusion: chaos", "Robustness: chaos", "External, b")
LOSS = {"early": 0.4, "late": 0.1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """U-Net early and late on two folds, with both tracks; UNeXt on one fold of them."""
    folder = tmp_path_factory.mktemp("runs")
    for method, fusion, folds in (("unet", "early", 2), ("unet", "late", 2), ("unext", "late", 1)):
        for fold in range(folds):
            clean = {f"p{2 * fold + 1}": 0.8, f"p{2 * fold + 2}": 0.6}
            run = make_run(folder, method, fusion, fold, 0, {name: (v, v) for name, v in clean.items()})

            def score(condition: str, case: str, label: str, clean=clean, fusion=fusion) -> float:
                return clean[case] - LOSS[fusion] * (condition != "clean")

            make_track(run, score, told=fusion == "late")
            make_track(run, lambda *_: 0.5, "external", "external-b", cases=["x1", "x2"])
    return folder


@pytest.fixture(scope="module")
def board(runs: Path) -> Leaderboard:
    return build(runs)


def test_words_of_every_section(board):
    robust, lost, effect, external, _ = track_texts(board.tracks)
    assert [row["method"] for row in robust.rows] == ["unet", "unet", "unext"]
    assert robust.rows[0] | {"rank": "1", "EMM avg [95% CI]": "0.600 [0.411, 0.763]"} == robust.rows[0]
    assert robust.rows[2]["rank"] == "incomplete"
    assert robust.unranked == ["incomplete: 1 of 2 folds: unext, late"]
    # Four patients separate nothing, so that nothing is marked as the best.
    assert robust.marks == {}
    assert {row["standing"] for row in robust.rows[:2]} == {"not testable"}
    # What is lost, and by how much fusions differ, is the same for every patient: no spread, no interval.
    assert lost.rows[1]["without t1-in [95% CI]"] == "0.400"
    assert effect.rows[0]["EMM avg [95% CI]"] == "-0.300"
    assert external.rows[0] | {"DSC [95% CI]": "0.500", "loss": "0.200"} == external.rows[0]
    low, high = of_scores([0.8, 0.6, 0.8, 0.6])
    assert external.rows[0]["clean DSC"] == f"0.700 [{low:.3f}, {high:.3f}]"
    assert "told" not in external.columns


def test_best_and_second_of_a_column_are_marked_where_rows_can_be_separated(tmp_path):
    names = [f"p{i}" for i in range(6)]
    for fusion in ("early", "late"):
        clean = {name: 0.6 + 0.04 * i for i, name in enumerate(names)}
        split = {"split__test": names, "split__folds": 1, "data__cases": 6}
        run = make_run(tmp_path, "unet", fusion, 0, 0, {name: (v, v) for name, v in clean.items()}, **split)

        def score(condition, case, label, clean=clean, fusion=fusion):
            return clean[case] - LOSS[fusion] * (condition != "clean")

        make_track(run, score)
    board = build(tmp_path)
    (robust, *_) = track_texts(board.tracks)
    assert (robust.marks[0, "EMM avg [95% CI]"], robust.marks[1, "EMM avg [95% CI]"]) == ("best", "second")
    # Both fusions have the same clean DSC: both are the best of that column.
    assert (robust.marks[0, "clean"], robust.marks[1, "clean"]) == ("best", "best")
    # Clean DSC 0.6 to 0.8 with a mean of 0.7, of which late fusion loses 0.1.
    low, high = of_scores([0.5 + 0.04 * i for i in range(6)])
    assert rf"\textbf{{0.600 [{low:.3f}, {high:.3f}]}}" in render(board, "latex")


def test_every_column_can_be_dropped_or_fits(board):
    for text in track_texts(board.tracks):
        kept = [name for name in text.columns if name not in text.dispensable]
        assert len(kept) < 9
        assert set(text.printed) <= set(text.columns) | {"p", "standing"}


def test_text_formats_show_tracks_after_the_clean_tables(board):
    for form in ("table", "md", "latex"):
        text = render(board, form)
        places = [
            text.index(words) for words in ("Effect of fusion: chaos", "Robustness: chaos", "External, b")
        ]
        assert places == sorted(places)
        assert "What is lost without" in text
    assert "| 0.600 [0.411, 0.763] |" in render(board, "md")


def test_json_has_what_its_schema_explains(board, runs):
    data = json.loads(render(board, "json"))
    robust, external = data["tracks"]
    for table in (robust, external):
        assert set(table) == set(TRACK_SCHEMA)
        for row in table["rows"]:
            assert set(row) == set(TRACK_SCHEMA["rows"][0])
            for mean in row["means"].values():
                same_keys(mean, TRACK_SCHEMA["rows"][0]["means"]["NAME"])
    assert robust["rows"][0]["means"]["lost-t1-in"] == pytest.approx(
        {"value": 0.1, "low": None, "high": None, "cases": 4}
    )
    assert robust["rows"][0]["patients"] == pytest.approx({"p1": 0.7, "p2": 0.5, "p3": 0.7, "p4": 0.5})
    # A leaderboard without tracks is what it was.
    assert "tracks" not in json.loads(render(build(runs, track="clean"), "json"))


def test_files_of_out(board, tmp_path):
    names = {path.name for path in write(board, tmp_path, pictures=False)}
    assert {"leaderboard-robustness.csv", "leaderboard-external.csv", "robustness.png"} <= names
    robust = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard-robustness.csv").read_text())))
    assert [row["label"] for row in robust] == ["unet", "unet", "unext"]
    assert float(robust[0]["emm_avg"]) == pytest.approx(0.6)
    assert float(robust[0]["emm_avg_low"]) == pytest.approx(of_scores([0.7, 0.5, 0.7, 0.5])[0])
    assert float(robust[1]["lost-t2-spir"]) == pytest.approx(0.4)
    assert float(robust[1]["iou_clean"]) == pytest.approx(0.35)
    external = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard-external.csv").read_text())))
    assert float(external[0]["hd95"]) == pytest.approx(5.0)
    assert "emm_avg" not in external[0]
    clean = (tmp_path / "leaderboard.csv").read_text()
    assert "Robustness" not in clean
    looks = looks_of([{"name": "early"}, {"name": "late"}])
    assert all(has_colour(tmp_path / "robustness.png", look.colour) for look in looks.values())


def test_long_names_above_plots_of_robustness_neither_meet_nor_leave_it(board, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **_: drawn.append(self))
    (table,) = [t for t in board.tracks if t.track == "robustness"]
    label = "zeus [bundled], warm-up 1, code d358da2e52, about own, encoder_lora 0, instruction text, per {}"
    rows = [replace(table.rows[0], standing=replace(table.rows[0].standing, label=label.format(word * 9)))
            for word in ("case ", "slice ", "modality ")]  # fmt: skip
    robustness_figure([replace(table, rows=rows)], tmp_path / "robustness.png")
    (figure,) = drawn
    figure.draw_without_rendering()
    places = [axes.title if axes.title.get_text() else axes._left_title for axes in figure.axes[:3]]
    boxes = [title.get_window_extent() for title in places]
    assert all(title.get_text().split()[0] == "zeus" for title in places)
    assert boxes[0].x1 < boxes[1].x0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert max(box.y1 for box in boxes) <= figure.bbox.y1
    # The third panel stands below the first, whose axis says what is missing.
    assert boxes[2].y1 < figure.axes[0].xaxis.label.get_window_extent().y0


def test_one_track_alone(runs, tmp_path):
    args = ["leaderboard", "--runs-dir", str(runs)]
    words = CliRunner().invoke(main, [*args, "--track", "robustness"])
    assert words.exit_code == 0, words.output
    assert "Robustness: chaos" in words.output
    assert "External" not in words.output
    assert "Reported" not in words.output
    lines = CliRunner().invoke(main, [*args, "--track", "external", "--format", "csv"]).stdout.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith('"External, b: chaos')
    clean = CliRunner().invoke(main, [*args, "--track", "clean"])
    assert "Robustness" not in clean.output
    for path in write(build(runs, track="robustness"), tmp_path, pictures=False):
        assert path.name != "leaderboard.csv"


def test_csv_of_all_says_where_tracks_are(runs):
    shown = CliRunner().invoke(main, ["leaderboard", "--runs-dir", str(runs), "--format", "csv"])
    assert re.search(r"--track robustness", shown.stderr)
    assert "Robustness" not in shown.stdout


BAD = {
    "another track": (["--track", "noise"], "track 'noise'"),
    "a track and kept results": (
        ["--track", "external", "--out", "x", "--keep-results"],
        "--track does not go",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(runs, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args, words = BAD[name]
    shown = CliRunner().invoke(main, ["leaderboard", "--runs-dir", str(runs), *args])
    assert shown.exit_code == 1
    assert words in str(shown.exception)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def kept(board: Leaderboard, runs: Path, tmp_path: Path) -> Path:
    """A board with its results, and those of its tracks."""
    write_kept(board, runs, tmp_path / "board", pictures=False)
    return tmp_path / "board"


def test_kept_tracks_give_the_tables_again(kept, runs):
    check(kept)
    assert len(list(kept.rglob("tracks/*/track.json"))) == len(list(runs.rglob("tracks/*/track.json"))) == 10
    assert not list(kept.rglob("*.nii.gz"))
    data = json.loads((kept / "leaderboard.json").read_text())
    assert data["tracks"][0]["rows"][0]["runs"][0]["path"].startswith("results/")


FAULTS = {
    "a number in the table": (
        lambda board: edited(board / "leaderboard-robustness.csv", "0.6", "0.7"),
        "leaderboard-robustness.csv: is not what the results beside it give",
    ),
    "a track's scores": (
        lambda board: edited(next(board.rglob("tracks/robustness/cases.csv")), "0.7", "0.8"),
        "cases.csv: was edited",
    ),
    "a track's mean": (
        lambda board: edited(
            next(board.rglob("tracks/robustness/track.json")), '"clean": 0.7', '"clean": 0.8'
        ),
        "was edited",
    ),
    "a track that is gone": (
        lambda board: shutil.rmtree(next(board.rglob("tracks/external-b"))),
        "leaderboard.md: is not what the results beside it give",
    ),
    "a table that is gone": (lambda board: (board / "leaderboard-external.csv").unlink(), "external.csv"),
}


def edited(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_found(kept, name):
    change, words = FAULTS[name]
    change(kept)
    with pytest.raises(UsbenchError, match=re.escape(words)):
        check(kept)


def test_results_of_other_tracks_are_not_mixed_in(kept, board, runs):
    stray = next(kept.rglob("tracks/robustness"))
    shutil.copytree(stray, stray.with_name("robustness-2"))
    with pytest.raises(UsbenchError, match="a track that is not in"):
        write_kept(board, runs, kept, pictures=False)
