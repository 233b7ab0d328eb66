"""What it costs to keep to the bound of stored features: counting every file each time, or a running total.

Usage: python benchmarks/features.py [--cases 484] [--views 4]

Stores so many cases and views of each, with rows of a few bytes, so that little but the bookkeeping is
left: once with the total counted anew for each (as versions up to 0.2.0 did, twice a case), once as it is
done now. Prints the CPU seconds of both for the counting alone, and their ratio; "storing" is what writing
the rows takes.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from usbench.features.total import StoredTotal, features_dir
from usbench.storage.arrays import save_arrays


def old_count() -> int:
    """Every file of every feature, as it was counted before."""
    return sum(path.stat().st_size for path in features_dir().glob("*/*/rows.npy"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=484)
    parser.add_argument("--views", type=int, default=4)
    words = parser.parse_args()
    rows = np.zeros((1, 4), np.float16)
    spent = {"storing": 0.0, "old": 0.0, "new": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["USBENCH_CACHE"] = folder
        total = StoredTotal()
        for view in range(1 + words.views):
            for case in range(words.cases):
                start = time.process_time()
                for _ in range(2):
                    known = total.bytes()
                seen = time.process_time()
                for _ in range(2):
                    counted = old_count()
                old = time.process_time()
                assert known == counted
                save_arrays(Path(features_dir()) / f"view-{view}" / str(case), {"rows": rows}, {})
                stored = time.process_time()
                total.add(rows.nbytes + 128)  # numpy's header
                spent["new"] += seen - start + time.process_time() - stored
                spent["old"] += old - seen
                spent["storing"] += stored - old
    number = words.cases * (1 + words.views)
    print(f"{words.cases} cases x {1 + words.views}: {number} times, CPU seconds")
    print(
        f"counting anew {spent['old']:.2f}, running total {spent['new']:.4f}, storing {spent['storing']:.2f}"
    )
    print(f"ratio {spent['old'] / max(spent['new'], 1e-9):.0f}")


if __name__ == "__main__":
    main()
