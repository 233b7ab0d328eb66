"""Preparing a data set: usbench beside the same steps written with MONAI's transforms.

Usage: python benchmarks/prepare.py [--task-dir DIR] [--size 128] [--repeat 3]

Both read every case, turn it to LPS, normalise each modality over its foreground, pad slices to
squares, resize them and save them in half precision. usbench also checks the data, hashes the raw
and the prepared arrays, and keeps the native mask. Without --task-dir the data is a phantom of the
brain task. Times are for the work alone, with every module already imported in the main process
(the workers of usbench start and import within the time of the first run, and are kept for the next;
MONAI's are forked in every run), and the best of --repeat runs, with the first beside it; the time
of importing is printed apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def timed(work: Callable[[], object]) -> float:
    """Seconds on the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def imports() -> tuple[float, float]:
    """Seconds to import what each side needs, in this process: usbench first, since MONAI needs more."""

    def ours() -> None:
        import nibabel  # noqa: F401
        from PIL import Image  # noqa: F401

        import usbench.datasets.readers.layouts
        import usbench.datasets.store  # noqa: F401

    def theirs() -> None:
        import monai.transforms  # noqa: F401

    return timed(ours), timed(theirs)


def monai_case(image: Path, label: Path, target: Path, size: int) -> None:
    """Prepare one case with MONAI; one thread, as for each of usbench's workers."""
    import torch
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        Resized,
        SpatialPadd,
    )

    torch.set_num_threads(1)
    load = Compose(
        [
            LoadImaged(("image", "label"), reader="NibabelReader"),
            EnsureChannelFirstd("image"),
            EnsureChannelFirstd("label", channel_dim="no_channel"),
            Orientationd(("image", "label"), axcodes="LPS", labels=None),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    case = load({"image": str(image), "label": str(label)})
    side, depth = max(case["image"].shape[1:3]), case["image"].shape[3]
    shape = Compose(
        [
            SpatialPadd(("image", "label"), (side, side, depth)),
            Resized(("image", "label"), (size, size, depth), mode=("area", "nearest")),
        ]
    )
    case = shape(case)
    target.mkdir(parents=True)
    images = case["image"].permute(3, 0, 2, 1).to(torch.float16).contiguous()
    masks = case["label"][0].permute(2, 1, 0).to(torch.uint8).contiguous()
    np.save(target / "images.npy", images.numpy())
    np.save(target / "mask.npy", masks.numpy())


def monai_all(folder: Path, target: Path, size: int, workers: int) -> None:
    pairs = json.loads((folder / "dataset.json").read_text())["training"]
    jobs = [(folder / p["image"], folder / p["label"], target / str(i), size) for i, p in enumerate(pairs)]
    if workers == 1:
        for job in jobs:
            monai_case(*job)
        return
    # Forked, so that MONAI's workers need not import anything again.
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.starmap(monai_case, jobs, chunksize=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task-dir", type=Path, help="a folder in the layout of the Decathlon")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    args = parser.parse_args()

    our_import, their_import = imports()
    from usbench.contracts.settings import DataSettings
    from usbench.datasets.readers.layouts import locate
    from usbench.datasets.store import prepare
    from usbench.datasets.tasks import get_task, task_from_folder

    if args.task_dir is not None:
        task, root = task_from_folder(args.task_dir), args.task_dir
    else:
        from usbench.datasets.phantom import phantom_root

        task = get_task("msd-brain")
        root = phantom_root(task)
    folder = locate(task, root)
    assert folder is not None
    settings = DataSettings(size=args.size)
    print(f"data: {folder}, slices of {args.size}; best of {args.repeat} runs")
    print(f"import: usbench {our_import:.2f} s, MONAI {their_import:.2f} s")
    for workers in args.workers:
        ours, theirs = [], []
        for _ in range(args.repeat):
            scratch = Path(tempfile.mkdtemp(prefix="usbench-prepare-"))
            try:
                theirs.append(timed(lambda: monai_all(folder, scratch / "monai", args.size, workers)))  # noqa: B023
                ours.append(timed(lambda: prepare(task, root, settings, workers, scratch / "usbench")))  # noqa: B023
            finally:
                shutil.rmtree(scratch)
        print(
            f"{workers} worker(s): usbench {min(ours):.2f} s (first run {ours[0]:.2f} s), "
            f"MONAI {min(theirs):.2f} s (first run {theirs[0]:.2f} s); "
            f"usbench is {min(theirs) / min(ours):.2f} times as fast"
        )


if __name__ == "__main__":
    main()
