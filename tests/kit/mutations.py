"""Files as a careless or hostile hand leaves them: drawn changes of good ones."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, -1e-320, 10**18, 10**30, 10**300, "", "x", "../x", "\x1b[31m", "\u202ex",
    "=1+1", "\u0663", "1_000", [], ["x", 1], {}, {"x": {"y": 1}}, [[[[]]]], "x" * 5000, [0] * 500,
)  # fmt: skip
"""Values in the place of others."""

SPLICES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"NaN", b"-Infinity", b"1e400", b"9" * 5000, b'"\\ud800"',
    b"[" * 3000,
    b'{"a":' * 3000, b"&a [*a]", b"!!timestamp x", b"!!python/name:os.system", b"\xd9\xa3", b"1_000",
    b"\r", b'"', b",,,,", b"\x1b]0;x\x07", b"2024-99-99", b": : :", b"- " * 500, b"<<: *x", b"\n\n---\n",
)  # fmt: skip
"""Bytes in the midst of others."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON-like value, from the outside."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


@st.composite
def values(draw: st.DrawFn, value: Any) -> Any:
    """A JSON-like value of which some places are absent, or hold something else."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(value)) or [()]))
        if not path:
            break
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        if isinstance(inner, dict) and draw(st.booleans()):
            del inner[path[-1]]
        else:
            inner[path[-1]] = copy.deepcopy(draw(st.sampled_from(JUNK) | st.floats() | st.text(max_size=8)))
    return value


@st.composite
def contents(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which some are flipped, cut off, there twice, or in the midst of which others stand."""
    kind = draw(st.sampled_from(("flip", "cut", "splice", "twice", "random")))
    content = content or b" "
    place = draw(st.integers(0, len(content) - 1))
    if kind == "flip":
        changed = bytearray(content)
        changed[place] ^= draw(st.integers(1, 255))
        return bytes(changed)
    if kind == "cut":
        return content[:place]
    if kind == "splice":
        return content[:place] + draw(st.sampled_from(SPLICES)) + content[place + draw(st.integers(0, 20)) :]
    if kind == "twice":
        lines = content.splitlines(keepends=True)
        number = draw(st.integers(0, len(lines) - 1))
        return b"".join(lines[: number + 1] + lines[number:])
    return draw(st.binary(max_size=200))


def json_with_twice(value: Any) -> bytes:
    """JSON whose first key is there twice."""
    text = json.dumps(value)
    return (text[:1] + text[1 : text.index(",")] + ", " + text[1:]).encode()


def _loop(place: Path) -> None:
    place.symlink_to(place.name)


def _device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def _nowhere(place: Path) -> None:
    place.symlink_to("nowhere")


def _sparse(place: Path) -> None:
    with open(place, "wb") as stream:
        stream.truncate(1 << 36)


ODD_FILES: tuple[Callable[[Path], None], ...] = (os.mkfifo, Path.mkdir, _loop, _device, _nowhere, _sparse)
"""What may stand where a file is expected."""


@contextmanager
def modest(seconds: float = 20.0, megabytes: float = 200.0) -> Iterator[None]:
    """Fail where what happens within takes longer, or more memory at its peak than there was before."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before, began = _peak(), time.monotonic()
    yield
    assert time.monotonic() - began < seconds
    assert _peak() - before < megabytes


def _peak() -> float:
    """The most memory that this process had since it was last reset, in MiB; 0 where nobody says."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0
