"""A phantom in the cache is held against what was written, and made again where it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from usbench.datasets.kept_phantom import remember, unchanged
from usbench.storage import files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "task-0123abcd"
    (place / "Task" / "imagesTr").mkdir(parents=True)
    (place / "Task" / "imagesTr" / "a.nii.gz").write_bytes(b"image")
    (place / "Task" / "dataset.json").write_text("{}")
    return place


@pytest.mark.parametrize("damage", ["flip", "cut", "more", "less", "notes"])
def test_what_changed_is_named(root: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    remember(root)
    assert unchanged(root)
    image = root / "Task" / "imagesTr" / "a.nii.gz"
    notes = root.with_name(f".{root.name}.files.json")
    if damage in ("flip", "cut"):
        image.write_bytes(b"imagf" if damage == "flip" else b"")
    elif damage == "more":
        (root / "Task" / "b").write_text("b")
    elif damage == "less":
        image.unlink()
    else:
        notes.write_text(notes.read_text().replace("sha256", "sha255"))
    assert not unchanged(root)
    assert capsys.readouterr().err == ""
    assert not unchanged(root, told=True)
    assert "the phantom is made again" in " ".join(capsys.readouterr().err.split())


def test_one_of_an_older_version_is_taken_and_known_from_then_on(root: Path) -> None:
    assert unchanged(root)
    (root / "Task" / "dataset.json").write_text("[]")
    assert not unchanged(root)


def test_files_without_a_sign_of_a_change_are_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usbench.datasets.kept_phantom.settled", lambda sign: True)
    remember(root)
    monkeypatch.setattr("usbench.datasets.kept_phantom.sha256_file", None)
    assert files.sha256_file is not None
    assert unchanged(root)
