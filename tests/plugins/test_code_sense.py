"""A digest of what code does: what may change without another digest, and what may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from usbench.plugins.code_sense import sense_hash

CODE = '''
"""A module."""

LIMIT = 0

class Reader:
    """Reads."""

    def read(self, file: str, *, strict: bool = False) -> float:
        """One value."""
        return float(file) + 1.0
'''


def digest(folder: Path, code: str | bytes) -> str:
    file = folder / "code.py"
    file.write_bytes(code if isinstance(code, bytes) else code.encode())
    return sense_hash([file])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Reads."""', '"""Reads a file\n\n    of numbers."""'),
        ('        """One value."""\n', ""),
        ("LIMIT = 0", "LIMIT = 0  # none\n'''Its reason.'''"),
        ("float(file) + 1.0", "(\n            float( file )\n            + 1.0\n        )"),
        ("\n", "\r\n"),
        ("1.0", "1.00"),
    ],
)
def test_words_and_looks_do_not_count(tmp_path: Path, old: str, new: str) -> None:
    assert old in CODE
    assert digest(tmp_path, CODE.replace(old, new)) == digest(tmp_path, CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("+ 1.0", "- 1.0"),
        ("+ 1.0", "+ 1"),
        ("LIMIT = 0", "LIMIT = None"),
        ("LIMIT = 0", "LIMIT = False"),
        ("LIMIT = 0", "LIMIT = ''"),
        ("LIMIT = 0", "LIMIT = 1"),
        ("strict: bool = False", "strict: bool = True"),
        ("*, strict", "strict"),
        ("float(file)", "float(self)"),
        ("def read", "async def read"),
    ],
)
def test_what_is_done_counts(tmp_path: Path, old: str, new: str) -> None:
    assert old in CODE
    assert digest(tmp_path, CODE.replace(old, new)) != digest(tmp_path, CODE)


def test_what_is_no_python_counts_by_its_bytes(tmp_path: Path) -> None:
    assert digest(tmp_path, "def (") != digest(tmp_path, "def  (")
    assert digest(tmp_path, b"\xff\x00") == digest(tmp_path, b"\xff\x00")


def test_the_order_of_files_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "a.py", tmp_path / "b.py"
    one.write_text("a = 1")
    two.write_text("b = 1")
    assert sense_hash([one, two]) != sense_hash([two, one])
