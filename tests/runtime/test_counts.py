"""Numbers with their words, and how much is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kit.places import ROOT

from usbench.runtime.console import count, detail, listening, say, set_loudness, shows_bars


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((0, "case"), "0 cases"),
        ((1, "case"), "1 case"),
        ((2, "test case"), "2 test cases"),
        ((1234, "slice"), "1,234 slices"),
        ((["a"], "patient"), "1 patient"),
        (({"a": 1, "b": 2}, "study", "studies"), "2 studies"),
        ((1, "voxel is", "voxels are"), "1 voxel is"),
    ],
)
def test_a_number_has_the_right_form_of_its_word(words: tuple[object, ...], said: str) -> None:
    assert count(*words) == said  # type: ignore[arg-type]


def test_loudness(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []
    try:
        with listening(heard.append):
            set_loudness("quiet")
            say("a message")
            detail("a detail")
            assert not shows_bars()
            assert capsys.readouterr().err == ""
            # What is said is still in logs.
            assert heard == ["a message"]
            set_loudness("verbose")
            detail("a detail")
            assert "a detail" in capsys.readouterr().err
            assert heard == ["a message"]
    finally:
        set_loudness("usual")
    detail("a detail")
    assert capsys.readouterr().err == ""


# A number that may be 1 and a fixed plural behind it, in what a run or a list says.
_FIXED = re.compile(
    r"\{len\([^{}]*\)(:,)?\} (test |training )?(cases|patients|folds|runs|cells|masks|slices)\b"
)
_SEVERAL = re.compile(r"of (its )?\{|\{[^{}]*\} (of|on) the \{|at most|> 1")


@pytest.mark.parametrize(
    "file",
    [
        *(ROOT / "usbench" / "cli").glob("*.py"),
        *(ROOT / "usbench" / "runs").rglob("*.py"),
        *(ROOT / "usbench" / "matrices").glob("*.py"),
    ],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_no_fixed_plural_behind_a_count(file: Path) -> None:
    for line in file.read_text().splitlines():
        if _FIXED.search(line) and not _SEVERAL.search(line):
            assert "several" in line or "named" in line, line.strip()
