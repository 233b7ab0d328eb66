"""`usbench cache`: what is listed, what clearing removes, and what it never touches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from usbench.caches.clearing import clear, find
from usbench.caches.contents import ANEW, KINDS, contents
from usbench.errors import UsbenchError
from usbench.storage.in_use import mark_of, use


def write(path: Path, size: int, days: float = 0) -> None:
    """A file of so many bytes, last written so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    then = time.time() - 86400 * days
    os.utime(path, (then, then))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with an entry of each kind."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("USBENCH_CACHE", str(folder))
    monkeypatch.delenv("USBENCH_WEIGHTS", raising=False)
    store = folder / "prepared" / "chaos-0123456789ab"
    write(store / "index.json", 0)
    (store / "index.json").write_text('{"task": "chaos"}')
    write(store / "cases" / "1" / "images.b2", 1000)
    write(folder / "prepared" / "msd-prostate-0123456789ab" / "cases" / "1" / "images.b2", 500, days=40)
    write(folder / "phantoms" / "chaos-scanner2-abcdef01" / "x.nii", 300)
    write(folder / "features" / "image-0123456789abcdef" / "1-aa" / "rows.npy", 4000, days=10)
    write(folder / "views" / "0123" / "1-aa" / "images.npy", 50)
    write(folder / "converted" / "llm-1-2-16" / "model.safetensors", 70)
    write(folder / "instructions.sqlite", 20)
    write(folder / "weights" / "medsam.pth", 5000)
    write(folder / "mine.txt", 3)
    return folder


def names(entries: Any) -> dict[str, int]:
    return {entry.path.name: entry.bytes for entry in entries}


def test_everything_is_listed_once_with_its_size(root: Path) -> None:
    found = contents()
    assert {entry.kind for entry in found} == set(KINDS)
    files = [file for file in root.rglob("*") if file.is_file()]
    assert sum(entry.bytes for entry in found) == sum(file.stat().st_size for file in files)
    assert {entry.path.name: entry.task for entry in found if entry.task} == {
        "chaos-0123456789ab": "chaos",
        "msd-prostate-0123456789ab": "msd-prostate",
        "chaos-scanner2-abcdef01": "chaos",
    }


def test_what_is_made_again_is_cleared_and_nothing_else(root: Path) -> None:
    before = {entry.path for entry in contents() if entry.kind not in ANEW}
    found = find()
    assert {entry.kind for entry in found.found} == set(ANEW)
    clear(found)
    assert found.left == found.failed == []
    assert {entry.path for entry in contents()} == before
    # Nothing hidden stays but the marks of what is there.
    assert [file.name for file in root.rglob(".*") if file.name.endswith((".used", ".cleared"))] == []


def test_parts_tasks_and_age_are_chosen(root: Path) -> None:
    assert names(find(["features", "views"]).found) == {"image-0123456789abcdef": 4000, "0123": 50}
    assert set(names(find(task=("chaos",)).found)) == {"chaos-0123456789ab", "chaos-scanner2-abcdef01"}
    assert set(names(find(older_than=5).found)) == {"msd-prostate-0123456789ab", "image-0123456789abcdef"}
    assert set(names(find(older_than=20).found)) == {"msd-prostate-0123456789ab"}
    with pytest.raises(UsbenchError, match="unknown task in the cache 'choas', did you mean 'chaos'"):
        find(task=("choas",))
    with pytest.raises(UsbenchError, match="unknown part of the cache 'feature'"):
        find(["feature"])


def test_use_counts_as_last_use(root: Path) -> None:
    old = root / "prepared" / "msd-prostate-0123456789ab"
    mark_of(old).touch()
    assert set(names(find(older_than=20).found)) == set()


@contextmanager
def process(code: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs `code`, prints a line when it is ready, and waits."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\ninput()", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
        try:
            yield one
        finally:
            one.kill()


USES = "import sys, pathlib\nfrom usbench.storage.in_use import use\nuse(pathlib.Path(sys.argv[1]))"
WRITES = "import sys\nfrom filelock import FileLock\nlock = FileLock(sys.argv[1])\nlock.acquire()"


def test_what_a_process_uses_stays_until_it_ends(root: Path) -> None:
    place = root / "prepared" / "chaos-0123456789ab"
    with process(USES, place) as one:
        done = clear(find(["prepared"]))
        assert done.left == [f"{place}: a process uses it; left alone"]
        assert place.is_dir()
        assert set(names(done.removed)) == {"msd-prostate-0123456789ab"}
        one.send_signal(signal.SIGKILL)
        one.wait(10)
    clear(find(["prepared"]))
    assert not place.exists()


@pytest.mark.parametrize("kind", ["prepared", "features", "weights"])
def test_what_a_process_writes_stays(root: Path, kind: str) -> None:
    (entry, *_) = contents((kind,))
    lock = {
        "prepared": entry.path / ".lock",
        "features": entry.path.with_name(f".{entry.path.name}.lock"),
        "weights": entry.path.with_name(".medsam.lock"),
    }[kind]
    with process(WRITES, lock):
        done = clear(find([kind]))
        assert f"{entry.path}: a process is writing to it; left alone" in done.left
        assert entry.path.exists()


def test_nothing_outside_the_cache_goes(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "data"
    write(outside / "images" / "1.nii", 10)
    (root / "prepared" / "linked-0123456789ab").symlink_to(outside, target_is_directory=True)
    (root / "prepared" / "chaos-0123456789ab" / "cases" / "2").symlink_to(outside / "images")
    done = clear(find())
    assert len(done.left) == 1
    assert "is a link" in done.left[0]
    assert (outside / "images" / "1.nii").read_bytes() == b"x" * 10
    assert not (root / "prepared" / "chaos-0123456789ab").exists()


def test_a_killed_clearing_is_finished_by_the_next(root: Path) -> None:
    place = root / "prepared" / "chaos-0123456789ab"
    place.rename(place.with_name(f".{place.name}.cleared"))
    assert place not in {entry.path for entry in contents()}
    clear(find(["views"]))
    assert not place.with_name(f".{place.name}.cleared").exists()


def test_a_second_use_takes_no_second_file(root: Path) -> None:
    place = root / "views" / "0123"
    use(place)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    use(place)
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert before == after
    assert clear(find(["views"])).left == [f"{place}: a process uses it; left alone"]


def test_the_command_line(command: Any, root: Path) -> None:
    words = {"USBENCH_CACHE": str(root)}
    listed = command("cache", "list", "--json", **words)
    assert listed.returncode == 0, listed.stderr
    said = json.loads(listed.stdout)
    assert set(said) == {"cache", "weights", "bytes", "entries"}
    assert all(set(row) == {"kind", "task", "path", "bytes", "last_used"} for row in said["entries"])
    assert said["bytes"] == sum(row["bytes"] for row in said["entries"])
    dry = command("cache", "clear", "--dry-run", **words)
    assert "dry run: nothing was removed" in dry.stdout
    nobody = command("cache", "clear", **words)
    assert nobody.returncode == 1
    assert "add --yes" in nobody.stderr
    assert len(contents()) == len(said["entries"])
    done = command("cache", "clear", "prepared", "--yes", "--json", **words)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["removed"]) == 2
    assert contents(("prepared",)) == []


def test_prepared_data_is_in_use_while_a_process_has_it(small_prostate: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from usbench.contracts.settings import DataSettings\n"
        "from usbench.datasets.store import prepare\n"
        "from usbench.datasets.tasks import get_task\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "store = prepare(get_task('msd-prostate'), root, DataSettings(size=16), workers=1)\n"
    )
    before = os.environ["USBENCH_CACHE"]
    os.environ["USBENCH_CACHE"] = str(tmp_path / "own")
    try:
        with process(code, small_prostate):
            (entry,) = contents(("prepared",))
            assert entry.task == "msd-prostate"
            assert clear(find()).left == [f"{entry.path}: a process uses it; left alone"]
        assert len(clear(find()).removed) == 1
    finally:
        os.environ["USBENCH_CACHE"] = before
