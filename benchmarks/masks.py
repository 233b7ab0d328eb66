"""Writing a mask: what zlib makes of it when it looks for runs alone, beside its usual search at level 4.

Usage: python benchmarks/masks.py FILE.nii.gz [FILE.nii.gz ...] [--repeat 9]

The files are masks, such as those of `predictions/` in the folder of a run, or the labels of a data set.
Both ways take turns on each of them; the time is that of the processor.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from usbench.runs.predict import packed_mask


def usual(content: bytes) -> bytes:
    """What was done before."""
    return gzip.compress(content, compresslevel=4, mtime=0)


def milliseconds(pack: Callable[[bytes], bytes], content: bytes) -> float:
    start = time.process_time()
    pack(content)
    return (time.process_time() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--repeat", type=int, default=9)
    words = parser.parse_args()
    sums = [0.0, 0.0]
    for file in words.files:
        content = gzip.decompress(file.read_bytes())
        assert gzip.decompress(packed_mask(content)) == content
        pairs = [
            (milliseconds(packed_mask, content), milliseconds(usual, content)) for _ in range(words.repeat)
        ]
        one, two = (statistics.median(column) for column in zip(*pairs, strict=True))
        sums = [sums[0] + one, sums[1] + two]
        size = len(packed_mask(content)) / len(usual(content))
        print(f"{file.name}: {one:.1f} ms, level 4 {two:.1f} ms, ratio {one / two:.2f}, size {size:.2f}")
    print(f"all: ratio {sums[0] / sums[1]:.2f}")


if __name__ == "__main__":
    main()
