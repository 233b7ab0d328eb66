"""The leaderboard, on run folders made by hand."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from kit.handmade import FOLDS, class_score, make_run, rewrite

import usbench
from usbench.errors import UsbenchError
from usbench.leaderboards import render, write
from usbench.leaderboards.board import build
from usbench.results.io import cases_csv, read_cases, write_result


def test_means_ranks_and_order_by_hand(tmp_path):
    # unet late, seed 0: p1 (0.8+0.6)/2 = 0.7, p2 (1.0+0.4)/2 = 0.7, p3 0.9 (spleen not scored), p4 0.5.
    # seed 1: p1 0.9, p2 0.7, p3 0.9, p4 0.7. Over seeds: 0.8, 0.7, 0.9, 0.6. Mean 0.75.
    nan = math.nan
    make_run(tmp_path, fold=0, seed=0, dsc={"p1": (0.8, 0.6), "p2": (1.0, 0.4)})
    make_run(tmp_path, fold=1, seed=0, dsc={"p3": (0.9, nan), "p4": (0.5, 0.5)})
    make_run(tmp_path, fold=0, seed=1, dsc={"p1": (0.9, 0.9), "p2": (0.7, 0.7)})
    make_run(tmp_path, fold=1, seed=1, dsc={"p3": (0.9, 0.9), "p4": (0.9, 0.5)})
    # attunet early: p1, p2 0.9; p3, p4 0.7. Mean 0.8: first.
    make_run(tmp_path, "attunet", "early", fold=0, dsc={"p1": (0.9, 0.9), "p2": (0.9, 0.9)})
    make_run(tmp_path, "attunet", "early", fold=1, dsc={"p3": (0.7, 0.7), "p4": (0.7, 0.7)})
    # unext: one fold of two, and better than all: shown last, without a rank.
    make_run(tmp_path, "unext", "hybrid", fold=0, dsc={"p1": (1.0, 1.0), "p2": (1.0, 1.0)})

    (table,) = build(tmp_path).tables
    assert table.title == "chaos (phantom), preset quick"
    assert [(r.rank, r.label, r.fusion) for r in table.rows] == [
        (1, "attunet", "early"),
        (2, "unet", "late"),
        (None, "unext", "hybrid"),
    ]
    attunet, unet, unext = table.rows
    assert attunet.scores["dsc"] == pytest.approx(0.8)
    assert unet.scores["dsc"] == pytest.approx(0.75)
    assert unet.scores["miou"] == pytest.approx(0.375)
    assert unet.scores["hd95"] == pytest.approx(2.5)
    assert {case: p["dsc"] for case, p in unet.patients.items()} == pytest.approx(
        {"p1": 0.8, "p2": 0.7, "p3": 0.9, "p4": 0.6}
    )
    assert (unet.cases, unet.folds_done, unet.folds, unet.seeds) == (4, 2, 2, (2, 2))
    assert unet.ms_per_slice == 10.5
    assert unext.status == "incomplete: 1 of 2 folds"
    assert unext.cases == 2
    # SD 0.1291, standard error 0.06455; on the logit scale 0.06455 / (0.75 * 0.25) = 0.3443, and Student's
    # quantile of three degrees of freedom is 3.182: log(3) +- 1.0957.
    assert unet.interval == pytest.approx((0.5007, 0.8998), abs=1e-4)
    assert (unet.interval_note, unext.interval, unext.interval_note) == (
        "few patients",
        None,
        "too few patients",
    )


@pytest.mark.parametrize(
    ("change", "titles"),
    [
        ({"data__kind": "real"}, ["chaos, preset quick", "chaos (phantom), preset quick"]),
        ({"data__kind": "sample"}, ["chaos (sample), preset quick", "chaos (phantom), preset quick"]),
        (
            {"protocol": "beef", "config__train": {"epochs": 5}},
            ["chaos (phantom), preset quick, epochs 14", "chaos (phantom), preset quick, epochs 5"],
        ),
        (
            {"data__fingerprint": "c" * 64},
            [
                f"chaos (phantom), preset quick, content {'a' * 10}",
                f"chaos (phantom), preset quick, content {'c' * 10}",
            ],
        ),
        (
            {"task__modalities": ["t1-in"]},
            [
                "chaos (phantom), preset quick, modalities t1-in",
                "chaos (phantom), preset quick, modalities t1-in+t2-spir",
            ],
        ),
        (
            {"task__regions": {"liver": 0.5, "spleen": 0.3}, "protocol": "beef"},
            [
                "chaos (phantom), preset quick, thresholds liver=0.5 spleen=0.3",
                "chaos (phantom), preset quick, thresholds none",
            ],
        ),
        (
            {"data__limit": 2, "protocol": "beef"},
            ["chaos (phantom), preset quick", "chaos (phantom), preset quick, limit 2"],
        ),
    ],
)
def test_unlike_results_are_never_in_one_table(tmp_path, change, titles):
    for fold in (0, 1):
        make_run(tmp_path, fold=fold)
        make_run(tmp_path, fold=fold, **change)
    tables = build(tmp_path).tables
    assert [table.title for table in tables] == titles
    assert [len(table.rows) for table in tables] == [1, 1]
    assert all(row.cases == 4 for table in tables for row in table.rows)


def test_limited_run_is_unranked(tmp_path):
    for fold in (0, 1):
        make_run(tmp_path, fold=fold, data__limit=4)
    (row,) = build(tmp_path).tables[0].rows
    assert (row.rank, row.status) == (None, "incomplete: --limit 4")


def test_settings_make_rows_of_their_own(tmp_path):
    for fold in (0, 1):
        make_run(tmp_path, fold=fold, config__method={"encoder": "resnet18"})
        make_run(
            tmp_path,
            fold=fold,
            config__method={"encoder": "resnet34"},
            dsc=dict.fromkeys(FOLDS[fold], (0.9, 0.9)),
        )
        make_run(tmp_path, fold=fold, method__weights="imagenet")
        make_run(tmp_path, "attunet", fold=fold, method__source_hash="e" * 64)
    rows = build(tmp_path).tables[0].rows
    assert [(r.rank, r.label) for r in rows] == [
        (1, "unet, encoder resnet34"),
        (2, "attunet"),
        (2, "unet [imagenet]"),
        (2, "unet, encoder resnet18"),
    ]


def test_code_that_changed_between_folds_is_not_averaged(tmp_path):
    make_run(tmp_path, fold=0)
    make_run(tmp_path, fold=1, method__source_hash="e" * 64)
    rows = build(tmp_path).tables[0].rows
    assert [(r.rank, r.label, r.folds_done) for r in rows] == [
        (None, f"unet, code {'b' * 10}", 1),
        (None, f"unet, code {'e' * 10}", 1),
    ]


def test_seeds_with_different_folds(tmp_path):
    make_run(tmp_path, fold=0, seed=0)
    make_run(tmp_path, fold=1, seed=0)
    make_run(tmp_path, fold=0, seed=7, dsc={"p1": (1.0, 1.0), "p2": (0.7, 0.7)})
    (row,) = build(tmp_path).tables[0].rows
    assert (row.rank, row.seeds) == (1, (1, 2))
    assert row.scores["dsc"] == pytest.approx((0.85 + 0.7 + 0.7 + 0.7) / 4)
    assert "1 to 2" in render(build(tmp_path), "md")


def test_what_cannot_be_trusted_is_named_and_left_out(tmp_path):
    good = make_run(tmp_path, fold=0)
    edited = make_run(tmp_path, "edited", fold=0)
    (edited / "cases.csv").write_text((edited / "cases.csv").read_text().replace("0.8", "0.9", 1))
    retouched = make_run(tmp_path, "retouched", fold=0)
    text = (retouched / "result.json").read_text()
    (retouched / "result.json").write_text(text.replace('"parameters": 14328354', '"parameters": 8060128'))
    half = make_run(tmp_path, "half", fold=0)
    (half / "result.json").write_text(text[: len(text) // 2])
    bare = make_run(tmp_path, "bare", fold=0)
    (bare / "cases.csv").unlink()
    dropped = make_run(tmp_path, "dropped", fold=0, dsc={"p1": (1.0, 1.0)})
    later = make_run(tmp_path, "later", fold=0)
    (later / "result.json").write_text(
        (later / "result.json").read_text().replace('"schema": 1', '"schema": 9')
    )
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "result.json").write_text("[1, 2]")
    odd = make_run(tmp_path, "odd", fold=0)
    rewrite(odd, lambda data: data["cost"].update(ms_per_slice=None))
    stopped = tmp_path / "chaos-phantom" / "unet-late" / "1-0-stopped"
    stopped.mkdir()
    (stopped / "checkpoint.pt").write_text("")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in good.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())

    board = build(tmp_path)
    (table,) = board.tables
    assert [row.method for row in table.rows] == ["unet"]
    reasons = {problem.path: problem.reason for problem in board.problems}
    assert set(reasons) == {edited, retouched, half, bare, dropped, later, foreign, odd, stopped, copy}
    assert reasons[edited].startswith("cases.csv: was edited")
    assert reasons[retouched].startswith("result.json: was edited")
    assert "not valid JSON" in reasons[half]
    assert reasons[bare].startswith("cases.csv: missing")
    assert "schema version 9" in reasons[later]
    assert "lacks case p2" in reasons[dropped]
    assert "not a result of usbench" in reasons[foreign]
    assert reasons[odd].startswith("result.json: 'cost.ms_per_slice' is null without outside")
    assert "not finished" in reasons[stopped]
    assert str(good) in reasons[copy]
    for form in ("table", "md", "json"):
        text = render(board, form)
        assert all(str(path) in text for path in reasons), form


def test_csv_names_what_is_left_out_on_standard_error(tmp_path, capsys):
    make_run(tmp_path, fold=0)
    edited = make_run(tmp_path, "edited", fold=0)
    (edited / "cases.csv").write_text("")
    rows = list(csv.DictReader(io.StringIO(render(build(tmp_path), "csv"))))
    assert [row["method"] for row in rows] == ["unet"]
    assert rows[0]["table"] == "chaos (phantom), preset quick"
    assert float(rows[0]["dsc"]) == pytest.approx(0.7)
    assert (rows[0]["rank"], rows[0]["status"]) == ("", "incomplete: 1 of 2 folds")
    assert "was edited" in capsys.readouterr().err.replace("\n", " ")


def test_formats_say_the_same(tmp_path):
    for fold in (0, 1):
        dsc = ({"p1": (0.8, 0.8), "p2": (0.7, 0.7)}, {"p3": (0.9, 0.9), "p4": (0.6, 0.6)})[fold]
        make_run(tmp_path, "zeus", fold=fold, method__weights="bundled", dsc=dsc)
    make_run(tmp_path, fold=0, cost__parameters=50_000_000)
    board = build(tmp_path)
    table, markdown = render(board, "table"), render(board, "md")
    for text in (table, markdown):
        assert "chaos (phantom), preset quick" in text
        assert "0.750 [0.501, 0.900]" in text
        assert "zeus [bundled]" in text
        assert "50.00M (14.33M)" in text
        assert "incomplete" in text
        assert "1/2" in text
    assert "- incomplete: 1 of 2 folds: unet, late" in markdown
    data = json.loads(render(board, "json"))
    assert [row["rank"] for row in data["tables"][0]["rows"]] == [1, None]
    assert data["tables"][0]["rows"][0]["dsc"] == pytest.approx(0.75)
    paths = write(board, tmp_path / "out")
    names = [
        "leaderboard.md",
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.tex",
        "leaderboard.html",
        "leaderboard-cost.png",
    ]
    assert [path.name for path in paths] == names
    assert json.loads(paths[2].read_text()) == data
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in paths)
    with pytest.raises(UsbenchError, match="unknown format"):
        render(board, "pdf")


def test_narrow_terminal_drops_columns_and_says_so(tmp_path, monkeypatch):
    make_run(tmp_path, fold=0)
    monkeypatch.setattr("sys.stdout", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    monkeypatch.setenv("COLUMNS", "80")
    text = render(build(tmp_path), "table")
    grid = text.splitlines()[2:5]
    assert max(len(line) for line in grid) <= 80
    assert "DSC [95% CI]" in text
    assert "too narrow for: data, weights" in text


def test_patient_without_any_foreground_is_not_counted(tmp_path):
    nan = math.nan
    make_run(tmp_path, fold=0, dsc={"p1": (nan, nan), "p2": (0.5, 0.5)})
    (row,) = build(tmp_path).tables[0].rows
    assert (row.cases, row.scores["dsc"], row.interval) == (1, 0.5, None)
    make_run(tmp_path, "empty", fold=0, dsc={"p1": (nan, nan), "p2": (nan, nan)})
    board = build(tmp_path)
    assert board.tables[0].rows[-1].status.startswith("not scored")
    assert json.loads(render(board, "json"))["tables"][0]["rows"][-1]["dsc"] is None


def test_task_filter_and_empty_folder(tmp_path):
    with pytest.raises(UsbenchError, match=r"no finished run.*usbench run --method unet"):
        build(tmp_path / "nowhere")
    make_run(tmp_path, fold=0)
    assert len(build(tmp_path, "chaos").tables) == 1
    with pytest.raises(UsbenchError, match="did you mean 'chaos'"):
        build(tmp_path, "chaso")
    (tmp_path / "bad").mkdir()
    for folder in tmp_path.rglob("cases.csv"):
        folder.write_text("")
    with pytest.raises(UsbenchError, match=r"none of 1 can be used.*was edited"):
        build(tmp_path)


def test_function_of_the_public_interface_survives_the_import_of_its_module(tmp_path):
    make_run(tmp_path, fold=0)
    for _ in range(2):
        assert usbench.leaderboard(tmp_path).tables[0].task == "chaos"


def test_cases_are_read_as_written_or_refused(tmp_path):
    file = tmp_path / "cases.csv"
    written = {"p 1, left": [class_score("liver", 0.75), class_score("spleen", math.nan)]}
    file.write_text(cases_csv(written))
    liver, spleen = read_cases(file)
    assert (liver["case"], liver["class"], liver["dsc"], liver["tp"]) == ("p 1, left", "liver", 0.75, 9)
    assert math.isnan(spleen["dsc"])
    assert spleen["edge"] == "both-empty"
    file.write_text(cases_csv({}))
    assert read_cases(file) == []
    file.write_text("")
    assert read_cases(file) == []
    for broken in (cases_csv(written)[:-12], cases_csv(written).replace("0.75", "much")):
        file.write_text(broken)
        with pytest.raises(UsbenchError, match=r"cases\.csv: cannot read the per-case scores"):
            read_cases(file)


def test_results_from_before_remarks_are_read(tmp_path):
    folder = make_run(tmp_path)
    data = json.loads((folder / "result.json").read_text())
    del data["remarks"]
    write_result(folder, data)
    assert "remarks" not in json.loads((folder / "result.json").read_text())
    assert usbench.load_result(folder).path == folder
