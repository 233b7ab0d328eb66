"""`usbench data prepare` and `data list` as a user calls them: what is mended, and what is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.commands import Command
from kit.tiny_set import write_set


@pytest.mark.slow
def test_verify_mends_and_stores_of_other_versions_are_named(command: Command, tmp_path: Path) -> None:
    data, cache = write_set(tmp_path / "tiny"), str(tmp_path / "cache")
    words = ("data", "prepare", "--task-dir", data, "--preset", "smoke", "--workers", "1")
    first = command(*words, USBENCH_CACHE=cache)
    assert first.returncode == 0, first.stderr
    assert "3 cases prepared in" in first.stdout
    assert "another version" not in first.stderr
    (file,) = Path(cache).rglob("a2/mask.slices")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    old = Path(cache) / "prepared" / "tiny-0123456789ab"
    old.mkdir()
    (old / "index.json").write_text('{"version": 1}')
    done = command(*words, "--verify", USBENCH_CACHE=cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout == first.stdout
    assert file.read_bytes() == whole
    assert "a2/mask.slices: not what was written; case a2 is prepared again" in done.stderr.replace("\n", " ")
    listed = command("data", "list", USBENCH_CACHE=cache)
    for said in (done.stderr, listed.stderr):
        assert f"this one does not use it; to delete: rm -r {old}" in said
    assert old.is_dir()
