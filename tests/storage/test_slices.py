"""Arrays compressed slice by slice: what numpy says of the same array, and what a damaged file does."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usbench.errors import UsbenchError
from usbench.storage.slices import MAGIC, SliceArray, write_slices

SHAPE = (7, 2, 12, 9)


@pytest.fixture
def array() -> np.ndarray:
    rng = np.random.default_rng(4)
    return (rng.normal(size=SHAPE) * (rng.random(SHAPE) > 0.4)).astype(np.float16)


@pytest.fixture
def file(tmp_path: Path, array: np.ndarray) -> Path:
    write_slices(tmp_path / "a.slices", array)
    return tmp_path / "a.slices"


@pytest.mark.parametrize(
    "key",
    [
        3,
        -1,
        np.int64(2),
        slice(None),
        slice(2, 5),
        slice(5, 1, -2),
        slice(4, 4),
        [5, 0, 0],
        np.array([6, -3]),
        np.arange(7) % 2 == 0,
        (2, 1),
        (2, 1, 4, 4),
        (slice(None), 0),
        (slice(1, 6, 2), slice(None), 3),
        (..., 0),
        ([1, 4], 0),
        ([1, 4], [0, 1]),
        (np.arange(7) > 4, slice(None), 2),
        None,
        (None, 2),
        (),
        ...,
    ],
    ids=str,
)
def test_an_index_gives_what_numpy_gives(file: Path, array: np.ndarray, key: Any) -> None:
    found = SliceArray(file)[key]
    np.testing.assert_array_equal(found, array[key])
    assert found.dtype == array.dtype
    assert np.shape(found) == np.shape(array[key])


def test_it_is_an_array_to_its_users(file: Path, array: np.ndarray) -> None:
    stored = SliceArray(file)
    assert (stored.shape, stored.dtype, stored.ndim) == (array.shape, array.dtype, array.ndim)
    assert (stored.size, stored.nbytes, len(stored)) == (array.size, array.nbytes, len(array))
    np.testing.assert_array_equal(np.asarray(stored), array)
    np.testing.assert_array_equal(np.asarray(stored, dtype=np.float32), array.astype(np.float32))
    np.testing.assert_array_equal(list(stored), list(array))
    np.testing.assert_array_equal(stored > 0, array > 0)
    np.testing.assert_array_equal(1 - stored * 2, 1 - array * 2)
    np.testing.assert_array_equal(stored.any(axis=(1, 2)), array.any(axis=(1, 2)))
    np.testing.assert_array_equal(np.isfinite(stored), np.isfinite(array))
    np.testing.assert_array_equal(stored.astype(bool), array.astype(bool))
    with pytest.raises(TypeError, match="item assignment"):
        stored[0] = 0  # type: ignore[index]
    for wrong in (7, -8, (0, 2)):
        with pytest.raises(IndexError):
            stored[wrong]
    stored[2][:] = 5  # what is given belongs to who asked
    np.testing.assert_array_equal(stored[2], array[2])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, bool])
@pytest.mark.parametrize("shape", [(3,), (1, 1), (5, 8, 8), (2, 3, 4, 5, 6)])
def test_nothing_is_lost(tmp_path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    array = (np.random.default_rng(1).normal(size=shape) * 50).astype(dtype)
    for view in (array, array[::-1], np.asfortranarray(array)):
        size, _ = write_slices(tmp_path / "x", view)
        assert size == (tmp_path / "x").stat().st_size
        np.testing.assert_array_equal(np.asarray(SliceArray(tmp_path / "x")), view)
        assert SliceArray(tmp_path / "x").dtype == array.dtype


def test_equal_arrays_are_equal_files_and_zeros_take_no_room(tmp_path: Path, array: np.ndarray) -> None:
    import hashlib

    one, two = (write_slices(tmp_path / name, array) for name in "ab")
    assert one == two
    assert hashlib.sha256((tmp_path / "b").read_bytes()).hexdigest() == two[1]
    size, _ = write_slices(tmp_path / "z", np.zeros((4, 256, 256), dtype=np.uint8))
    assert size < 1000


def test_a_slice_is_read_without_the_others(file: Path, array: np.ndarray) -> None:
    content = bytearray(file.read_bytes())
    content[-2] ^= 1  # in the last slice
    file.write_bytes(bytes(content))
    stored = SliceArray(file)
    np.testing.assert_array_equal(stored[:6], array[:6])
    with pytest.raises(UsbenchError, match=r"a.slices: damaged .*slice 6.*--verify"):
        stored[6]


def test_every_changed_byte_is_named_or_harmless(file: Path, array: np.ndarray) -> None:
    """Whatever byte is wrong, there is one line or the right values; never other values."""
    whole = file.read_bytes()
    named = 0
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 0x10
        file.write_bytes(bytes(content))
        said, found = "", array
        try:
            found = np.asarray(SliceArray(file))
        except UsbenchError as error:
            said = str(error)
        assert not said or (said.startswith(f"{file}: ") and "\n" not in said)
        named += bool(said)
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found, array)
    assert named > len(whole) / 7 / 2


@pytest.mark.parametrize("length", [0, 5, 12, 40, -1])
def test_a_truncated_file_is_named(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UsbenchError, match=r"a.slices: no whole file of prepared slices.*--verify"):
        SliceArray(file)


def test_a_file_that_is_cut_off_replaced_or_removed_meanwhile_is_named(file: Path, array: np.ndarray) -> None:
    stored = SliceArray(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsbenchError, match="damaged or replaced meanwhile"):
        stored[6]
    write_slices(file, array + 1)
    with pytest.raises(UsbenchError, match="damaged or replaced meanwhile"):
        stored[0]
    write_slices(file, array)  # the same again, as a second preparation writes it
    np.testing.assert_array_equal(stored[6], array[6])
    file.unlink()
    with pytest.raises(UsbenchError, match=r"cannot read prepared slices \(No such file"):
        stored[0]
    with pytest.raises(UsbenchError, match=r"cannot read prepared slices \(No such file"):
        SliceArray(file)


def test_a_hostile_header_takes_no_memory(file: Path) -> None:
    file.write_bytes(MAGIC + (2**62).to_bytes(8, "little") + bytes(4) + b"{}")
    with pytest.raises(UsbenchError, match="does not begin as such a file does"):
        SliceArray(file)


def test_it_pickles_and_many_threads_read(file: Path, array: np.ndarray) -> None:
    stored: SliceArray = pickle.loads(pickle.dumps(SliceArray(file)))
    numbers = np.random.default_rng(0).integers(0, 7, 300)
    with ThreadPoolExecutor(8) as pool:
        for number, one in zip(numbers, pool.map(stored.__getitem__, numbers.tolist()), strict=True):
            np.testing.assert_array_equal(one, array[number])
