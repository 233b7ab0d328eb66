"""Tables and the numbers in them: what Python reads and no other program does is refused."""

from __future__ import annotations

import math
import random

import pytest

from usbench.storage.tables import counts, for_spreadsheet, number, numbers, parse_table, whole

ODD = ["1_000", "\u0663", "\uff11", "\xbd", "\xb2", "nan", "inf", "-Infinity", "1e400"]
ODD += ["0x10", "1,5", "", " ", "1 2", "--1", "1e"]


@pytest.mark.parametrize("text", ODD)
def test_what_no_other_program_reads_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="no finite number"):
        number(text)
    with pytest.raises(ValueError, match="no whole number"):
        whole(text)
    for column in (numbers, counts):
        if text or column is counts:
            with pytest.raises(ValueError):
                column(["1", text])


def test_columns_hold_what_single_values_do() -> None:
    rng = random.Random(0)
    drawn = [rng.uniform(-1, 1) * 10 ** rng.randint(-300, 300) for _ in range(200)] + [0.0, -0.0, 5e-324]
    texts = [repr(value) for value in drawn]
    assert numbers(texts) == drawn == [number(text) for text in texts]
    assert [math.isnan(value) for value in numbers(["", "0.5"])] == [True, False]
    assert counts(["0", "12", "007"]) == [0, 12, 7]
    assert whole(" -12 ") == -12


@pytest.mark.parametrize("text", ["-1", "9" * 19, "9" * 5000, "1.0", "+"])
def test_counts_are_whole_numbers_from_0_of_bounded_length(text: str) -> None:
    with pytest.raises(ValueError):
        counts([text])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,a\n1,2\n", "the column 'a' stands there twice"),
        ("a,b\n1\n", "row 2 has 1 values for 2 columns"),
        ("a,b\n1,2\n1,2,3\n", "row 3 has 3 values for 2 columns"),
        ('a,b\n"1,2\n', "unexpected end of data"),
        ("a,b\n" + "x" * 200_000 + ",1\n", "field larger than field limit"),
        (",".join(map(str, range(2000))) + "\n", "2,000 columns"),
        (",\n" * 3_000_000, "more than 4,000,000 values"),
    ],
)
def test_what_is_no_table_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_table(text)


def test_a_table_is_read_with_any_end_of_line_and_empty_lines() -> None:
    for end in ("\n", "\r\n", "\r"):
        assert parse_table(end.join(['a,"b"', "", '1,"2,3"', ""])) == (["a", "b"], [["1", "2,3"]])
    assert parse_table("") == ([], [])


def test_what_a_spreadsheet_would_compute_is_marked_as_text() -> None:
    for text in ("=1+1", "+cmd|'/c calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"):
        assert for_spreadsheet(text) == f"'{text}"
    for value in ("-1.5", "+2e-3", "-", "unet", "", 3, -1.5, None):
        assert for_spreadsheet(value) == value
