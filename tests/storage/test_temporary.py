"""Half-written files: named by chance, with the rights of the process, and gone once their writer is dead."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from usbench.storage import files, temporary
from usbench.storage.files import atomic_folder, atomic_path, flush_folder, require_writable, write_json
from usbench.storage.temporary import is_temporary, sweep

WRITE = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from usbench.storage.files import atomic_folder, atomic_path\n"
    "one, two = Path(sys.argv[1]) / 'result.json', Path(sys.argv[1]) / 'case'\n"
    "with atomic_path(one) as file, atomic_folder(two) as folder:\n"
    "    file.write_text('half'); (folder / 'a.npy').write_text('half')\n"
    "    print('writing', flush=True); time.sleep(60)\n"
)


def hidden(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


def test_files_of_a_living_writer_stay_and_those_of_a_killed_one_go(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    assert len(hidden(tmp_path)) == 3  # the file, the folder, and what holds the folder
    assert sweep(tmp_path) == []
    assert len(hidden(tmp_path)) == 3
    writer.kill()
    writer.wait()
    with atomic_path(tmp_path / "another.txt") as file:  # Whoever writes there next clears up.
        file.write_text("whole")
        assert hidden(tmp_path) == [file.name]
    assert [entry.name for entry in tmp_path.iterdir()] == ["another.txt"]


def test_what_is_not_of_usbench_stays(tmp_path: Path) -> None:
    names = [".film.mkv.part", ".result.json.abc123.part.json", "x.usb0123456789abcdef.part", ".lock"]
    for name in names:
        (tmp_path / name).write_text("mine")
    assert sweep(tmp_path) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(names)


def test_a_folder_without_its_holder_goes_after_a_day(tmp_path: Path) -> None:
    folder = tmp_path / ".case.usb0123456789abcdef.part"
    folder.mkdir()
    assert is_temporary(folder.name)
    assert sweep(tmp_path) == []
    old = time.time() - 2 * 86_400
    os.utime(folder, (old, old))
    assert sweep(tmp_path) == [folder]


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "fcntl", None)
    file = tmp_path / ".result.json.usb0123456789abcdef.part.json"
    file.write_text("half")
    assert sweep(tmp_path) == []
    old = time.time() - 2 * 86_400
    os.utime(file, (old, old))
    assert sweep(tmp_path) == [file]
    with atomic_path(tmp_path / "a.txt") as half:
        half.write_text("whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_rights_are_those_that_the_process_gives(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "a.txt") as file:
            file.write_text("a")
        with atomic_folder(tmp_path / "b") as folder:
            (folder / "c").write_text("c")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o777 & ~mask


def test_nothing_is_left_of_a_failure_and_names_are_never_the_same(tmp_path: Path) -> None:
    seen = set()

    def fail(writing: AbstractContextManager[Path]) -> None:
        with writing as half:
            seen.add(half.name)
            raise ValueError("half")

    for _ in range(20):
        with pytest.raises(ValueError, match="half"):
            fail(atomic_path(tmp_path / "a.nii.gz"))
        with pytest.raises(ValueError, match="half"):
            fail(atomic_folder(tmp_path / "b"))
    assert len(seen) == 40
    assert all(name.endswith((".part.nii.gz", ".part")) for name in seen)
    require_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_long_names_can_be_written(tmp_path: Path) -> None:
    with atomic_path(tmp_path / ("\u00e9" * 110 + ".nii.gz")) as file:
        file.write_text("a")
    assert len(list(tmp_path.iterdir())) == 1


def test_durable_files_are_flushed_before_they_get_their_name_and_folders_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    replace, flush = os.replace, files._flush
    monkeypatch.setattr(files, "_flush", lambda path: (said.append(f"flush {path.name}"), flush(path)))
    monkeypatch.setattr(os, "replace", lambda a, b: (said.append(f"to {Path(b).name}"), replace(a, b)))
    write_json(tmp_path / "new" / "result.json", {"a": 1})
    half, *rest = said
    assert half.startswith("flush .result.json.usb")
    assert rest == ["to result.json", "flush new", f"flush {tmp_path.name}"]
    said.clear()
    write_json(tmp_path / "new" / "history.json", {"a": 1}, durable=False)
    assert said == ["to history.json"]
    said.clear()
    flush_folder(tmp_path / "new", above=1)
    assert sorted(said) == sorted(
        ["flush result.json", "flush history.json", "flush new", f"flush {tmp_path.name}"]
    )
