"""Arrays of a NumPy archive are held against their headers before room is made for them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from usbench.baselines.npz import MOST_BYTES, NpzFile
from usbench.errors import UsbenchError


def member(shape: tuple[int, ...], content: bytes, descr: str = "<f4") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue() + content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (member((10**12,), b"1234"), r"'a' has 4,000,000,000,000 bytes, at most 268,435,456 are read"),
        (member((2**40, 2**40), b""), r"at most 268,435,456 are read"),
        (member((3,), b"1234"), r"'a' has 4 bytes, and 12 by its header"),
        (member((1,), bytes(MOST_BYTES // 4)), r"'a' has 67,108,864 bytes, and 4 by its header"),
        (member((-1,), b""), r"'a' has 0 bytes, and -4 by its header"),
        (member((1,), b"12345678", "|O"), r"'a' holds object, not floating-point numbers"),
        (b"no array", r"'a' cannot be read \("),
    ],
)
def test_what_a_header_promises_is_checked_first(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content)
    assert path.stat().st_size < 1 << 20
    with NpzFile(path, "get it anew") as file, pytest.raises(UsbenchError, match=words) as caught:
        file.take("a")
    assert str(caught.value).endswith("; get it anew")


def test_arrays_of_any_layout_are_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.savez_compressed(tmp_path / "w.npz", a=values, **{"b/c": np.asfortranarray(values.astype(np.float16))})
    with NpzFile(tmp_path / "w.npz", "get it anew") as file:
        assert torch.equal(file.take("a"), torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
        assert torch.equal(file.take("b/c"), torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
