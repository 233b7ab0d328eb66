"""Stored arrays and sealed notes: any bit that changes is named, and what older versions wrote is read."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest

from usbench.errors import UsbenchError
from usbench.storage.arrays import load_arrays, save_arrays
from usbench.storage.sealed import read_sealed, write_sealed

ROWS = np.random.default_rng(0).random((5, 2, 4)).astype(np.float16)
META = {"feature": "f", "key": 1, "note": {"text": "bright"}}


def test_every_flipped_bit_of_rows_and_notes_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draws = random.Random(0)
    for name in ("rows.npy", "meta.json"):
        for number in range(40):
            place = tmp_path / f"{name}-{number}"
            save_arrays(place, {"rows": ROWS}, META)
            content = bytearray((place / name).read_bytes())
            bit = draws.randrange(8 * len(content))
            content[bit // 8] ^= 1 << bit % 8
            (place / name).write_bytes(content)
            found = load_arrays(place, ("rows",))
            said = " ".join(capsys.readouterr().err.split())
            if found is None:
                assert "not what was written" in said
            else:  # White space of the notes.
                assert name == "meta.json"
                assert found[1]["note"] == META["note"]
                assert np.array_equal(found[0]["rows"], ROWS)


def test_what_older_versions_wrote_is_read(tmp_path: Path) -> None:
    place = tmp_path / "case"
    place.mkdir()
    np.save(place / "rows.npy", ROWS)
    digests = {"rows": hashlib.sha256(ROWS.tobytes()).hexdigest()}
    (place / "meta.json").write_text(json.dumps({**META, "sha256": digests}))
    found = load_arrays(place, ("rows",))
    assert found is not None
    assert np.array_equal(found[0]["rows"], ROWS)


def test_what_is_absent_is_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_arrays(tmp_path / "none", ("rows",)) is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "change", [("bright", "brighf"), ('"seal"', '"sead"'), ("{", "["), ('"a": 1', '"a": 2')]
)
def test_sealed_notes_are_refused_where_they_changed(tmp_path: Path, change: tuple[str, str]) -> None:
    file = tmp_path / "notes.json"
    write_sealed(file, {"a": 1, "note": "bright"})
    assert read_sealed(file, "notes", "make them again") == {"a": 1, "note": "bright"}
    file.write_text(file.read_text().replace(*change, 1))
    with pytest.raises(UsbenchError, match=r"notes\.json: notes .*make them again"):
        read_sealed(file, "notes", "make them again")
