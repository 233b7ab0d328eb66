"""Tables with the results they were made of: `leaderboard --keep-results` and `--check`."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from kit.handmade import write_run
from kit.places import ROOT
from PIL import Image

from usbench.cli.leaderboard import leaderboard
from usbench.errors import UsbenchError
from usbench.leaderboards import check, write_kept
from usbench.leaderboards.board import build

COMMITTED = ROOT / "leaderboards"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/ and, made of them, board/."""
    folder = tmp_path_factory.mktemp("made")
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    for fold, scores in enumerate(((0.5, 0.625), (0.75, 0.3))):
        for fusion in ("early", "late"):
            dsc = {f"{fold}-{i}": {"liver": v + 0.1 * (fusion == "late")} for i, v in enumerate(scores)}
            files = {"figures/cases.png": picture.getvalue(), "predictions/a.nii.gz": b"mask"}
            write_run(
                folder / "runs" / fusion / str(fold), dsc, fusion=fusion, fold=fold, folds=2, files=files
            )
    (folder / "runs" / "stopped").mkdir()
    (folder / "runs" / "stopped" / "checkpoint.pt").write_bytes(b"")
    write_kept(build(folder / "runs"), folder / "runs", folder / "board")
    return folder


@pytest.fixture
def board(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "board", tmp_path / "moved"))


def test_what_is_kept_gives_the_tables_again_wherever_it_lies(made, board, monkeypatch):
    check(board)
    monkeypatch.chdir(board.parent)
    check("moved")
    kept = {file.relative_to(board / "results").as_posix() for file in board.glob("results/**/*.*")}
    assert kept == {
        f"{f}/{i}/{n}" for f in ("early", "late") for i in (0, 1) for n in ("result.json", "cases.csv")
    }
    for name in kept:
        assert (board / "results" / name).read_bytes() == (made / "runs" / name).read_bytes()
    data = json.loads((board / "leaderboard.json").read_text())
    paths = [run["path"] for row in data["tables"][0]["rows"] for run in row["runs"]]
    assert sorted(paths) == ["results/early/0", "results/early/1", "results/late/0", "results/late/1"]
    assert data["problems"] == []


def test_keeping_again_gives_the_same_bytes(made, board):
    write_kept(build(board / "results"), board / "results", board, pictures=False)
    for suffix in ("md", "csv", "json", "tex"):
        name = f"leaderboard.{suffix}"
        assert (board / name).read_bytes() == (made / "board" / name).read_bytes()
    check(board)


def test_the_page_has_pictures_unless_told_otherwise(made, tmp_path):
    runs = made / "runs"
    write_kept(build(runs), runs, tmp_path, pictures=False)
    assert "data:image/jpeg" in (made / "board" / "leaderboard.html").read_text()
    assert "data:image/jpeg" not in (tmp_path / "leaderboard.html").read_text()
    check(tmp_path)


@pytest.mark.parametrize("suffix", ["md", "csv", "json", "tex", "html"])
def test_a_changed_number_is_found(board, suffix):
    path = board / f"leaderboard.{suffix}"
    text = path.read_text()
    # The mean of (0.5, 0.625, 0.75, 0.3) and of the same plus 0.1.
    changed, count = re.subn(r"0\.54375\b|54\.4|0\.544|0\.64375\d*|64\.4|0\.644", "0.9", text)
    assert count
    path.write_text(changed)
    with pytest.raises(
        UsbenchError, match=rf"leaderboard.{suffix}: is not what the results beside it give; make"
    ):
        check(board)


def test_rounding_of_another_machine_is_no_difference(board):
    path = board / "leaderboard.json"
    text = path.read_text()
    assert "0.54375" in text
    path.write_text(text.replace("0.54375,", "0.5437500000000001,"))
    check(board)
    path.write_text(text.replace("0.54375,", "0.543751,"))
    with pytest.raises(UsbenchError, match=r"leaderboard\.json"):
        check(board)


def test_edited_lost_and_added_results_are_named(board, made):
    cases = board / "results" / "late" / "1" / "cases.csv"
    text = cases.read_text()
    cases.write_text(text.replace("0.85", "0.95"))
    with pytest.raises(UsbenchError, match=r"late/1: cases\.csv.*(digest|changed|not)"):
        check(board)
    shutil.rmtree(cases.parent)
    with pytest.raises(UsbenchError, match=r"leaderboard\.md: is not what the results beside it give"):
        check(board)
    write_run(board / "results" / "more" / "0", {"a": {"liver": 0.5}})
    with pytest.raises(
        UsbenchError, match=r"results/more/0: a result that is not in .*runs; remove .*results"
    ):
        write_kept(build(made / "runs"), made / "runs", board)


def test_what_is_absent_or_no_table_is_named(board):
    with pytest.raises(
        UsbenchError, match=r"nowhere/results: no such folder; .*--out .*nowhere --keep-results"
    ):
        check(board / "nowhere")
    page = board / "leaderboard.html"
    page.write_text("<html></html>")
    with pytest.raises(
        UsbenchError, match=r"leaderboard\.html: cannot be read \(it holds no data\); make it anew"
    ):
        check(board)
    page.unlink()
    with pytest.raises(UsbenchError, match=r"leaderboard\.html: cannot read"):
        check(board)


def test_one_bad_board_of_several_stops_no_other(board, tmp_path):
    bad = Path(shutil.copytree(board, tmp_path / "bad"))
    (bad / "leaderboard.json").write_text("[1]")
    nowhere = tmp_path / "nowhere"
    words = [word for folder in (nowhere, board, bad) for word in ("--check", str(folder))]
    done = CliRunner().invoke(leaderboard, words)
    assert isinstance(done.exception, UsbenchError)
    assert f"2 of 3 do not pass; the first: {nowhere}/results: no such folder" in str(done.exception)
    assert f"{board}: every number follows from its results" in done.stdout
    assert f"{bad}/leaderboard.json: " in done.stderr
    done = CliRunner().invoke(leaderboard, words[2:])
    assert str(done.exception).startswith(f"{bad}/leaderboard.json: ")


@pytest.mark.slow
def test_the_command_keeps_and_checks(made, tmp_path, command):
    out = tmp_path / "out"
    done = command(
        "leaderboard", "--runs-dir", made / "runs", "--out", out, "--keep-results", "--no-pictures"
    )
    assert done.returncode == 0, done.stderr
    assert f"written: {out}/results" in done.stderr
    done = command("leaderboard", "--check", out, "--check", made / "board")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("every number follows from its results") == 2
    (out / "leaderboard.md").write_text("")
    done = command("leaderboard", "--check", out)
    assert done.returncode == 1
    assert re.fullmatch(
        r"Error: .*leaderboard\.md: is not what the results beside it give; .*\n", done.stderr
    )
    done = command("leaderboard", "--runs-dir", made / "runs", "--keep-results")
    assert done.returncode == 1
    assert "add --out FOLDER" in done.stderr


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in COMMITTED.glob("*/results")))
def test_every_number_in_the_repository_follows_from_its_results(folder):
    check(COMMITTED / folder)
