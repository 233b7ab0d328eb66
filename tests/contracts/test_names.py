"""Names of cases: what is a sound one, and the order in which people expect them."""

from __future__ import annotations

import unicodedata

import pytest

from usbench.contracts.names import case_id_fault, natural_key, twins


def test_natural_order() -> None:
    names = ["case10", "case2", "case1b", "case1a", "3", "12", "x"]
    assert sorted(names, key=natural_key) == ["3", "12", "case1a", "case1b", "case2", "case10", "x"]


@pytest.mark.parametrize("digit", ["²", "①", "٣", "Ⅷ", "\uff13"])
def test_characters_that_look_like_numbers_are_sorted_somewhere(digit: str) -> None:
    names = [f"p{digit}", "p2", "p10", f"{digit}", "5"]
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


@pytest.mark.parametrize(
    "case_id",
    ["BRATS_001", "patient 0", "患者_0", "3²", "sub-01_ses-2", "a.b", "Ünal+1=2", "~x", "-1", "CONrad"],
)
def test_sound_names(case_id: str) -> None:
    assert case_id_fault(case_id) == ""


@pytest.mark.parametrize(
    ("case_id", "fault"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        (None, "is empty"),
        (".", "dot"),
        ("..", "dot"),
        (".hidden", "dot"),
        ("end.", "dot"),
        (" a", "space"),
        ("a/b", "character /"),
        ("a\\b", "character \\"),
        ("a:b", "character :"),
        ("a\nb", "cannot be shown"),
        ("a\x00b", "cannot be shown"),
        ("a\udc80", "cannot be shown"),
        ("a\u202eb", "cannot be shown"),
        ("x" * 81, "81 bytes"),
        ("患" * 27, "81 bytes"),
        ("con", "device"),
        ("NUL.x", "device"),
    ],
)
def test_names_that_are_no_file_names(case_id: object, fault: str) -> None:
    assert fault in case_id_fault(case_id)


def test_twins() -> None:
    composed, apart = "M\u00fcller", unicodedata.normalize("NFD", "M\u00fcller")
    assert twins(["a", "b", "A"]) == ("a", "A")
    assert twins([composed, apart]) == (composed, apart)
    assert twins(["Straße", "STRASSE"]) == ("Straße", "STRASSE")
    assert twins(["a1", "a2", "b"]) is None
