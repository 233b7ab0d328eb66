"""PNG files of every depth and colour type, put together by hand (PNG specification, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6

# First column, first row, step between columns, between rows: the passes of Adam7.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _lines(values: np.ndarray, depth: int) -> bytes:
    """Rows without a filter: samples packed from the highest bit on, each row filled up to a byte."""
    content = b""
    for row in values.reshape(len(values), -1) if values.size else ():
        if depth == 16:
            content += b"\0" + row.astype(">u2").tobytes()
            continue
        bits = (row[:, None] >> np.arange(depth)[::-1]) & 1
        content += b"\0" + np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    return content


def write_png(
    path: Path,
    values: np.ndarray,
    depth: int = 8,
    colour: int = GREY,
    interlaced: bool = False,
    palette: Sequence[Sequence[int]] = (),
    chunks: Sequence[tuple[bytes, bytes]] = (),
    level: int = -1,
) -> Path:
    """Write samples as they are.

    Args:
        path: The file.
        values: Integers below 2 ** depth: [rows, columns], or [rows, columns, samples of a pixel].
        depth: Bits a sample: 1, 2, 4, 8 or 16.
        colour: The colour type.
        interlaced: By Adam7.
        palette: Red, green and blue of each index.
        chunks: Further chunks, before the pixels.
        level: Of compression; 0 stores the pixels as they are.
    """
    rows, columns = values.shape[:2]
    parts = [values[y::dy, x::dx] for x, y, dx, dy in _PASSES] if interlaced else [values]
    content = b"".join(_lines(part, depth) for part in parts)
    if palette:
        chunks = [(b"PLTE", bytes(v for entry in palette for v in entry)), *chunks]
    head = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, interlaced)
    all_chunks = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(content, level)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in all_chunks))
    return path
