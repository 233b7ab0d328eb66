"""What stored features take together: counted once, added to, and counted again for other processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usbench.features import total as module
from usbench.features.total import StoredTotal, features_dir, stored_bytes


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path / "cache"))
    return features_dir()


def put(folder: Path, numbers: int) -> int:
    folder.mkdir(parents=True)
    np.save(folder / "rows.npy", np.zeros(numbers, np.int8))
    (folder / "meta.json").write_text("{}")
    return (folder / "rows.npy").stat().st_size


def test_all_arrays_count_and_nothing_else(cache: Path) -> None:
    assert stored_bytes() == 0
    size = put(cache / "a-1" / "case1", 1000) + put(cache / "b-2" / "case1", 500)
    np.save(cache / "a-1" / "case1" / "scale.npy", np.zeros(7, np.float32))
    size += (cache / "a-1" / "case1" / "scale.npy").stat().st_size
    put(cache / "a-1" / ".case2.x.part", 1000)  # half-written
    (cache / ".a-1.lock").touch()
    assert stored_bytes() == size


def test_files_are_counted_once_and_again_after_a_while(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, counts = [0.0], []

    def counted() -> int:
        counts.append(now[0])
        return stored_bytes()

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "stored_bytes", counted)
    total = StoredTotal()
    total.add(5)  # Nothing was counted yet: what is stored will be.
    assert total.bytes() == 0
    for number in range(100):
        total.add(put(cache / "own" / str(number), 100))
    assert total.bytes() == stored_bytes()
    assert counts == [0.0]
    put(cache / "others" / "case", 10_000)  # by another process
    now[0] = module.LOOK_AGAIN - 1
    assert total.bytes() < stored_bytes()
    now[0] = module.LOOK_AGAIN
    assert total.bytes() == stored_bytes()
    assert counts == [0.0, module.LOOK_AGAIN]
