"""Submissions on the leaderboard: verified ones are rows with a mark, all others are listed apart."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from kit.browsing import NEEDS_BROWSER
from kit.schemas import same_keys
from kit.tampering import (
    EXAMPLE,
    Members,
    accept,
    change_cases,
    change_result,
    lay_out,
    put_together,
    taken_apart,
)

from usbench.errors import UsbenchError
from usbench.leaderboards import render, submitted, write
from usbench.leaderboards.board import build
from usbench.leaderboards.plain import SUBMISSIONS_SCHEMA, as_dict, board_schema
from usbench.submissions.verify import record_path

MARK = "verified 2026-11-25"
FORMATS = ("table", "md", "csv", "json", "latex", "html")


def entry(folder: Path, name: str, change: Any = None) -> Path:
    """The example under another name, changed."""
    members: Members = taken_apart()
    members["card.yaml"] = members["card.yaml"].replace(b"unext-small, worked example", name.encode())
    if change is not None:
        change(members)
    folder.mkdir(exist_ok=True)
    return put_together(folder / f"{name}.zip", members)


def fused(members: Members) -> None:
    change_result(members, lambda data: data["cell"].update(fusion="late"), fold=None)


def boast(members: Members) -> None:
    change_cases(members, lambda rows: [row.update(dsc=0.999) for row in rows] and None)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of one's own, and submissions: one verified, one without record, one changed since, one broken."""
    folder = tmp_path_factory.mktemp("board")
    own = taken_apart()
    # Trained anew: the very same scores would be the same row.
    change_cases(own, lambda rows: [row.update(dsc=row["dsc"] - 0.01) for row in rows] and None)
    runs = lay_out(own, folder)
    submissions = folder / "submissions"
    accept(entry(submissions, "good"))
    entry(submissions, "new", fused)
    changed = entry(submissions, "changed")
    accept(changed)
    entry(submissions, "changed", boast)
    (submissions / "broken.zip").write_bytes(EXAMPLE.read_bytes()[:1000])
    return runs, submissions


def test_a_verified_entry_is_a_row_of_its_own_in_the_table_of_its_results(places: tuple[Path, Path]) -> None:
    runs, submissions = places
    board = build(runs, submissions=submissions)
    (table,) = board.tables
    alone = build(runs).tables[0].rows[0]
    assert [row.label for row in table.rows] == ["good: unext-small", "unext-small"]
    ours = table.rows[1]
    assert ours.entry is None
    assert len(ours.runs) == len(table.rows[0].runs) == 5
    assert ours.scores == alone.scores
    # Two of the ten patients have 0.01 less.
    assert ours.scores["dsc"] == pytest.approx(table.rows[0].scores["dsc"] - 0.002)
    assert [row.rank for row in table.rows] == [1, 2]
    assert [row.also for row in table.rows] == [(), ()]
    assert all("good.zip/runs/" in run["path"] for run in table.rows[0].runs)
    # The same method and settings under one fusion: nothing to compare between fusions.
    assert table.fusion_effects == ()
    # A method with a published line would have one here if the entry counted.
    assert board.reported == ()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_mark_and_the_section(places: tuple[Path, Path], form: str) -> None:
    runs, submissions = places
    text = render(build(runs, submissions=submissions), form)
    if form in ("table", "md", "latex"):
        assert len(re.findall(MARK, text)) == 1
        after = text.partition("Reported, not verified")[2]
        assert "no record of a verification" in after
        assert "its record is of another archive" in after
        assert "not readable: is cut off" in after
        assert "good" not in after
    elif form == "csv":
        lines = text.splitlines()
        assert lines[0].endswith(",entry,verified")
        assert sum(line.endswith(",good,2026-11-25") for line in lines) == 1
        assert "changed" not in text
    else:
        found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
        data = json.loads(found[1] if found else text)
        assert [row["verified"] for row in data["tables"][0]["rows"]] == ["2026-11-25", None]
        assert sorted(one["entry"] for one in data["claims"]) == ["broken.zip", "changed", "new"]


def test_what_is_not_verified_is_never_ranked(places: tuple[Path, Path]) -> None:
    runs, submissions = places
    data = as_dict(build(runs, submissions=submissions))
    claims = {one["entry"]: one for one in data["claims"]}
    assert claims["changed"]["claimed_dsc"] > data["tables"][0]["rows"][0]["dsc"]
    assert (claims["new"]["fusion"], claims["new"]["claimed_cases"]) == ("late", 10)
    assert claims["broken.zip"]["claimed_dsc"] is None
    assert {row["entry"] for row in data["tables"][0]["rows"]} == {"good", None}
    same_keys({"claims": data["claims"]}, {"claims": SUBMISSIONS_SCHEMA["claims"]})
    known = set(board_schema()["tables"][0]["rows"][0]) | set(SUBMISSIONS_SCHEMA["rows"])
    assert all(set(row) == known for row in data["tables"][0]["rows"])
    assert set(data) == set(board_schema()) | {"claims"}


def test_without_submissions_a_leaderboard_says_nothing_of_them(places: tuple[Path, Path]) -> None:
    data = as_dict(build(places[0]))
    assert "claims" not in data
    assert "entry" not in data["tables"][0]["rows"][0]
    assert "verified" not in render(build(places[0]), "csv")


def test_submissions_alone_make_a_leaderboard(places: tuple[Path, Path], tmp_path: Path) -> None:
    _, submissions = places
    board = build(tmp_path / "none", submissions=submissions)
    assert [row.label for row in board.tables[0].rows] == ["good: unext-small"]
    assert {path.suffix for path in write(board, tmp_path / "out")} == {
        ".md", ".csv", ".json", ".tex", ".html", ".png",
    }  # fmt: skip
    only = tmp_path / "only"
    entry(only, "new")
    claimed = build(tmp_path / "none", submissions=only)
    assert claimed.tables == ()
    for form in FORMATS:
        assert "new" in render(claimed, form) or form == "csv"
    with pytest.raises(UsbenchError, match="no finished run"):
        build(tmp_path / "none")


def test_two_entries_of_one_name_are_two_rows_and_copies_count_once(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    for name, file in (("good", "a"), ("good", "b")):
        made = entry(tmp_path / "in", name, (lambda members: None) if file == "a" else fused)
        made = made.rename(made.with_name(f"{file}.zip"))
        accept(made)
    shutil.copy(tmp_path / "in" / "a.zip", tmp_path / "in" / "0.zip")
    board = build(tmp_path / "none", submissions=tmp_path / "in")
    labels = sorted(row.label for row in board.tables[0].rows)
    assert labels == ["good (a.zip): unext-small", "good (b.zip): unext-small"]
    (copy,) = board.claims or ()
    assert (copy.entry, copy.reason) == ("0.zip", f"the same archive as {tmp_path / 'in' / 'a.zip'}")
    # One entry's late fusion is not compared with another's hybrid.
    assert board.tables[0].fusion_effects == ()


def test_a_record_that_is_broken_does_not_verify(tmp_path: Path) -> None:
    made = entry(tmp_path / "in", "good")
    for text, words in (
        ("{", "is not valid JSON"),
        ("{}", "is no record of a verification"),
        ("x" * (2 << 20), "is too large for a record"),
    ):
        record_path(made).write_text(text)
        (claim,) = build(tmp_path / "none", submissions=tmp_path / "in").claims or ()
        assert words in claim.reason
    accept(made, date="<script>")
    (claim,) = build(tmp_path / "none", submissions=tmp_path / "in").claims or ()
    assert "its record has no date" in claim.reason


@pytest.mark.parametrize("part", ["checked", "_claims", "_check_same"])
def test_what_fails_after_reading_is_named_and_stops_no_other(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = entry(tmp_path / "in", "good"), entry(tmp_path / "in", "bad", fused)
    accept(good)
    if part == "_check_same":
        accept(bad)
    true = getattr(submitted, part)

    def failing(*words: Any) -> Any:
        # A fault that no check has foreseen, in what belongs to one archive alone.
        if "bad" in "".join(str(getattr(word, "path", word)) for word in words):
            raise RuntimeError("not foreseen")
        return true(*words)

    monkeypatch.setattr(submitted, part, failing)
    board = build(tmp_path / "none", submissions=tmp_path / "in")
    assert [row.label for row in board.tables[0].rows] == ["good: unext-small"]
    assert {claim.file for claim in board.claims or ()} == {str(bad)}
    assert any("RuntimeError: not foreseen" in claim.reason for claim in board.claims or ())


def test_the_command_merges_them_and_refuses_what_does_not_go_together(
    places: tuple[Path, Path], command: Any, tmp_path: Path
) -> None:
    runs, submissions = places
    words = ("leaderboard", "--runs-dir", runs, "--submissions", submissions)
    done = command(*words, "--format", "md")
    assert done.returncode == 0, done.stderr
    assert f"good: unext-small ({MARK})" in done.stdout
    done = command(*words, "--out", tmp_path / "board", "--keep-results")
    assert done.returncode == 1
    assert "--submissions does not go with --keep-results or --check" in done.stderr
    assert not (tmp_path / "board").exists()
    done = command("leaderboard", "--runs-dir", runs, "--submissions", tmp_path / "nowhere")
    assert done.returncode == 1
    assert "no such folder of submissions; check --submissions" in done.stderr


@NEEDS_BROWSER
def test_the_page_shows_the_mark_and_the_section(
    places: tuple[Path, Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    shown = request.getfixturevalue("reader")
    runs, submissions = places
    page = tmp_path / "board.html"
    page.write_text(render(build(runs, submissions=submissions), "html"), encoding="utf-8")
    shown.open(page.as_uri())
    marks = [one.text for one in shown.all("#table-1 .board .status") if one.text.startswith("verified")]
    assert marks == [MARK]
    first = shown.all("#table-1 .board tbody tr")[0]
    assert "good: unext-small" in first.text
    assert "submitters' own account" in shown.text("#table-1 .notes")
    assert "Reported, not verified" in shown.text("#claims")
    assert "no record of a verification" in shown.text("#claims")
    assert "changed since it was verified" in shown.text("#claims")
    assert len(shown.all("#table-1 .board tbody tr")) == 2
    shown.check_quiet()
    only = tmp_path / "only"
    entry(only, "new")
    page.write_text(render(build(tmp_path / "none", submissions=only), "html"), encoding="utf-8")
    shown.open(page.as_uri())
    assert "no record of a verification" in shown.text("#claims")
    assert shown.all("#table-1") == []
    shown.check_quiet()
