"""Submissions changed at random: whatever they say, the answer is one line, or one that can be used."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.tampering import EXAMPLE, accept, folder_of_fold, put_together, seal, taken_apart

from usbench.errors import UsbenchError
from usbench.leaderboards import render
from usbench.leaderboards.board import build
from usbench.submissions.archive import opened
from usbench.submissions.content import read_submission
from usbench.submissions.score import read_mask

JUNK = (None, True, -1, 1e308, 10**18, "", "x", "../x", [], ["x", 1], {}, {"x": {"y": 1}})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON-like value, from the outside."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def put(value: Any, path: tuple[Any, ...], junk: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = junk


@pytest.mark.parametrize("fold", range(3))
def test_any_value_in_a_result_gives_a_line_or_a_leaderboard(tmp_path: Path, fold: int) -> None:
    """All digests fit; a third of the places for each fold, each with junk drawn for it."""
    members = taken_apart()
    folder = folder_of_fold(members, fold)
    data = json.loads(members[f"{folder}/result.json"])
    rng = np.random.default_rng(fold)
    refused = used = 0
    for number, place in enumerate(places(data)):
        if number % 3 != fold or place[0] in ("files", "digest"):
            continue
        for junk in (JUNK[i] for i in rng.permutation(len(JUNK))[:4]):
            changed, copied = copy.deepcopy(data), dict(members)
            put(changed, place, copy.deepcopy(junk))
            try:
                seal(copied, folder, changed, rehash=rng.random() < 0.5)
            except (KeyError, TypeError, AttributeError, ValueError):
                copied = dict(members)  # What has no hash cannot be given one.
                seal(copied, folder, changed, rehash=False)
            path = put_together(tmp_path / "junk.zip", copied)
            try:
                with opened(path) as archive:
                    read_submission(archive)
                used += 1
                accept(path)
            except UsbenchError:
                refused += 1
            board = build(tmp_path / "none", submissions=tmp_path)
            for form in ("table", "json") if number % 5 == 0 else ("csv",):
                render(board, form)
    assert refused > 50
    assert used > 10


def test_any_byte_of_an_archive_may_change(tmp_path: Path) -> None:
    raw = EXAMPLE.read_bytes()
    with opened(EXAMPLE) as archive:
        content = {name: archive.read(name) for name in archive.names}
    rng = np.random.default_rng(0)
    path = tmp_path / "bytes.zip"
    # Half of the changes in the directory at the end, where most of what can be said wrong is said.
    ends = len(raw) - rng.integers(1, 4000, 150)
    for place in [*rng.integers(0, len(raw), 150), *ends]:
        changed = bytearray(raw)
        changed[place] = int(rng.integers(0, 256))
        path.write_bytes(changed)
        with contextlib.suppress(UsbenchError), opened(path) as archive:
            assert {name: archive.read(name) for name in archive.names} == content


def test_any_byte_of_a_mask_may_change() -> None:
    members = taken_apart()
    content = next(content for name, content in members.items() if name.endswith(".nii.gz"))
    raw = gzip.decompress(content)
    shape = tuple(int(n) for n in np.frombuffer(raw[42:48], "<i2"))
    affine = np.eye(4)
    affine[:3] = np.frombuffer(raw[280:328], "<f4").reshape(3, 4)
    labels = read_mask(content, shape, affine, 1)
    rng = np.random.default_rng(1)
    refused = 0
    for place in [*range(352), *rng.integers(352, len(raw), 50)]:
        changed = bytearray(raw)
        changed[place] ^= int(rng.integers(1, 256))
        try:
            found = read_mask(gzip.compress(bytes(changed), 1), shape, affine, 1)
            assert place < 352
            assert np.array_equal(found, labels)
        except ValueError:
            refused += 1
    assert refused > 100
    for place in rng.integers(0, len(content), 200):
        packed = bytearray(content)
        packed[place] ^= int(rng.integers(1, 256))
        try:
            found = read_mask(bytes(packed), shape, affine, 1)
            assert np.array_equal(found, labels)
        except ValueError:
            continue
    with pytest.raises(ValueError, match="no gzipped NIfTI"):
        read_mask(zlib.compress(raw), shape, affine, 1)
