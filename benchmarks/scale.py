"""Seconds, disk and peak memory of a growing data set: prepare, start, and one epoch of reading batches.

Usage: python benchmarks/scale.py [--patients 5 20 80] [--size 256] [--workers 2] [--opened 484] [--keep DIR]

Makes synthetic patients with four modalities at 240 x 240 x 155, in the layout of the Decathlon, and takes
them through

  before   plain .npy arrays: all of them hashed at every start, memory-mapped, and copied into memory as long
           as they take less than 40% of what is free (what usbench did up to version 0.2.0, written out here)
  after    the store of this version: compressed by slice, a case verified once, a bound on memory
  beyond   the same, as it is with more data than the bound allows: batches are read from the store

in turns, every step in a process of its own. A start opens all cases, of which four fifths are trained on; an
epoch reads every slice of those once, in random order, in batches of 10, without a network. "again" is
`prepare` with nothing to do. Peak memory (Linux) is that of the process, with the file pages that it has
mapped, or that of its largest worker; CPU seconds are those of both. Files are in the page cache of the
machine: the first read of a cold disk is not measured. The extrapolation to 484 patients (Decathlon, Task01)
is a straight line through the largest two numbers of patients. In the end: a start with 484 tiny verified
cases, since that does not depend on their size, and a training step beside the reading of its batch.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

SHAPE, CHANNELS = (240, 240, 155), ("FLAIR", "T1w", "t1gd", "T2w")
FULL, BATCH, NAMES = 484, 10, ("images.npy", "mask.npy", "truth.npy")


def make_patients(folder: Path, count: int, shape: tuple[int, int, int] = SHAPE) -> None:
    """Write patients: noise and smooth tissue in an ellipsoid as large as a brain, 0 around it, a tumour."""
    import nibabel

    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    # Half-axes of 70, 85 and 65 voxels of a brain: a sixth of the volume, as in the glioma sample.
    radius = (x[:, None, None] / 0.58) ** 2 + (y[:, None] / 0.71) ** 2 + (z / 0.84) ** 2
    brain = radius < 1
    tissue = np.cos(9 * x[:, None, None]) * np.cos(7 * y[:, None]) * np.cos(5 * z)
    mask = ((x[:, None, None] - 0.2) ** 2 + y[:, None] ** 2 + z**2 < 0.05).astype(np.uint8)
    mask += mask * (tissue > 0.5)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    cases = [f"P_{number:03d}" for number in range(count)]
    for number, case in enumerate(cases):
        rng = np.random.default_rng(number)
        image = np.empty((*shape, 4), dtype=np.int16, order="F")
        noise = rng.normal(0, 25, shape).astype(np.float32)
        for k in range(4):
            scan = 400 + 60 * k + (150 - 40 * k) * tissue + (90 + 30 * k) * mask + np.roll(noise, k)
            image[..., k] = np.where(brain, scan, 0)
        for part, array in (("imagesTr", image), ("labelsTr", mask)):
            save(nibabel.Nifti1Image(array, np.eye(4)), folder / part / f"{case}.nii.gz")
    pairs = [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in cases]
    index = {
        "name": "Synthetic",
        "modality": {str(k): name for k, name in enumerate(CHANNELS)},
        "labels": {"0": "background", "1": "oedema", "2": "core"},
        "training": pairs,
    }
    (folder / "dataset.json").write_text(json.dumps(index))


def save(image: Any, file: Path) -> None:
    """Write NIfTI with the fastest compression."""
    import gzip

    file.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1))


# The way of before, written out.


def old_case(data: Path, settings: Any, folder: Path, case_id: str) -> None:
    """Prepare a case into plain arrays with their digests."""
    from usbench.datasets.preprocess import prepare_arrays
    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.store import _content
    from usbench.datasets.tasks import task_from_folder

    case = open_reader(task_from_folder(data), data).read(case_id)
    arrays = prepare_arrays(case, settings)
    target = folder / case_id
    target.mkdir(parents=True)
    digests = {"content": _content(case)}
    for name, array in zip(NAMES, (arrays.images, arrays.mask, case.mask), strict=True):
        np.save(target / name, array)
        digests[name] = digest(target / name)
    (target / "meta.json").write_text(json.dumps(digests))


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def old_cases(folder: Path) -> list[Any]:
    """All cases, verified and memory-mapped."""
    from types import SimpleNamespace

    cases = []
    for place in sorted(folder.iterdir()):
        known = json.loads((place / "meta.json").read_text())
        if any(digest(place / name) != known[name] for name in NAMES):
            raise SystemExit(f"{place}: changed")
        images, mask = (np.load(place / name, mmap_mode="r") for name in NAMES[:2])
        cases.append(SimpleNamespace(images=images, mask=mask))
    return cases


def old_memory(cases: list[Any]) -> tuple[Any, Any]:
    """The arrays as one tensor each if they fit, as Slices made them; else as they are."""
    import torch

    from usbench.datasets.batches import free_memory

    if sum(c.images.nbytes + c.mask.nbytes for c in cases) >= 0.4 * free_memory(torch.device("cpu")):
        return None, None
    return tuple(torch.from_numpy(np.concatenate([getattr(c, n) for c in cases])) for n in ("images", "mask"))


def old_batches(cases: list[Any], memory: tuple[Any, Any], groups: list[np.ndarray]) -> None:
    """Read batches one after the other."""
    import torch

    images, masks = memory
    starts = np.cumsum([0] + [len(c.mask) for c in cases])
    for group in groups:
        if images is not None:
            images[torch.as_tensor(group)].float(), masks[torch.as_tensor(group)]
            continue
        places = [(int(np.searchsorted(starts, i, side="right")) - 1, int(i)) for i in group]
        torch.from_numpy(np.stack([cases[c].images[i - starts[c]] for c, i in places])).float()
        torch.from_numpy(np.stack([cases[c].mask[i - starts[c]] for c, i in places]))


# One step in a process of its own.


def stage(name: str, data: Path, place: Path, size: int, workers: int) -> dict[str, float]:
    """Do one step; seconds and MB."""
    import torch

    from usbench.contracts.settings import DataSettings
    from usbench.datasets.batches import Slices
    from usbench.datasets.store import prepare
    from usbench.datasets.tasks import task_from_folder
    from usbench.datasets.workers import run_jobs

    step, way = name.split("-")
    settings, task = DataSettings(size=size), task_from_folder(data)
    device, cases = torch.device("cpu"), sorted(p.name[:-7] for p in (data / "imagesTr").glob("*.nii.gz"))
    start, begun = time.perf_counter(), used()["cpu"]
    if way == "before" and step == "prepare":
        jobs = [(data, settings, place, case) for case in cases]
        if workers > 1:
            list(run_jobs(old_case, jobs, workers))
        else:
            for job in jobs:
                old_case(*job)
    elif way == "before":
        opened = old_cases(place)
        train = opened[: max(1, 4 * len(opened) // 5)]
        memory = old_memory(train)
        if step == "epoch":
            start, begun = time.perf_counter(), used()["cpu"]
            old_batches(train, memory, shuffled(sum(len(c.mask) for c in train)))
    else:
        store = prepare(task, data, settings, workers, place)
        if step in ("start", "epoch"):
            opened = [store.case(case_id) for case_id in store.case_ids]
            train = opened[: max(1, 4 * len(opened) // 5)]
            slices = Slices(train, 2, device, resident=False if way == "beyond" else None)
            if step == "epoch":
                start, begun = time.perf_counter(), used()["cpu"]
                for _ in slices.batches(shuffled(len(slices))):
                    pass
    return {"seconds": time.perf_counter() - start, **used(begun)}


def used(begun: float = 0.0) -> dict[str, float]:
    """CPU seconds since `begun` of this process and its workers, and the largest one's peak memory in MB."""
    import psutil

    here = psutil.Process()
    processes = [here, *here.children(recursive=True)]
    cpu = sum(sum(process.cpu_times()[:2]) for process in processes)
    states = [Path(f"/proc/{process.pid}/status").read_text() for process in processes]
    peaks = [int(text.split("VmHWM:")[1].split()[0]) * 1024 / 1e6 for text in states if "VmHWM:" in text]
    return {"cpu": cpu - begun, "peak_mb": max(peaks)}


def shuffled(count: int) -> list[np.ndarray]:
    """Every slice once, in batches."""
    order = np.random.default_rng(0).permutation(count)
    return [order[start : start + BATCH] for start in range(0, count, BATCH)]


def in_process(name: str, data: Path, place: Path, words: argparse.Namespace) -> dict[str, float]:
    """Do one step in a new process."""
    call = [sys.executable, __file__, "--stage", name, "--data", str(data), "--place", str(place)]
    call += ["--size", str(words.size), "--workers", str(words.workers)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def megabytes(folder: Path) -> float:
    """What the files below a folder take, in MB (10^6 bytes)."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def line(points: list[tuple[int, float]]) -> float:
    """The value at 484 patients of the line through the last two points."""
    if len(points) < 2:
        return float("nan")
    (n, a), (m, b) = points[-2:]
    return b + (b - a) / (m - n) * (FULL - m)


def measure(words: argparse.Namespace, scratch: Path) -> None:
    """All numbers of patients, before and after in turns, then the extrapolation."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    print(f"slices of {words.size}, {words.workers} worker(s)")
    print(f"{'patients':>8}  {'':7}{'step':9}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}{'disk MB':>9}")
    for count in words.patients:
        data = scratch / f"data{count}"
        make_patients(data, count)
        steps = [("prepare", way) for way in ("before", "after")] + [("again", "after")]
        steps += [(step, way) for step in ("start", "epoch") for way in ("before", "after", "beyond")]
        for step, way in steps:
            place = scratch / f"{'before' if way == 'before' else 'after'}{count}"
            one = in_process(f"{step}-{way}", data, place, words)
            if step == "prepare":
                one["disk_mb"] = megabytes(place)
            for what, value in one.items():
                found.setdefault((f"{way:7}{step:9}", what), []).append((count, value))
            print(
                f"{count:8}  {way:7}{step:9}{one['seconds']:9.2f}{one['cpu']:9.2f}{one['peak_mb']:9.0f}"
                + (f"{one['disk_mb']:9.0f}" if "disk_mb" in one else ""),
                flush=True,
            )
        if not words.keep:
            for place in (data, scratch / f"before{count}"):
                shutil.rmtree(place)
    print(f"\n{FULL} patients, extrapolated; they are beyond the bound (before: if there is so much memory):")
    for (label, what), points in found.items():
        if label.split() not in (["after", "start"], ["after", "epoch"]):
            print(f"{label}{what:9}{line(points):12.1f}")


def many_small(words: argparse.Namespace, scratch: Path) -> None:
    """A start with many verified cases: what it costs a case does not depend on the size of a case."""
    from usbench.contracts.settings import DataSettings
    from usbench.datasets.store import prepare
    from usbench.datasets.tasks import task_from_folder
    from usbench.runtime.console import muted

    data = scratch / "small"
    make_patients(data, words.opened, (32, 32, 8))
    task, settings = task_from_folder(data), DataSettings(size=16)
    with muted():
        prepare(task, data, settings, words.workers, scratch / "store")
        time.sleep(2.1)  # files younger than two seconds are read once more
        prepare(task, data, settings, 1, scratch / "store")
    marks = [(time.perf_counter(), time.process_time())]
    store = prepare(task, data, settings, 1, scratch / "store")
    marks.append((time.perf_counter(), time.process_time()))
    for case_id in store.case_ids:
        store.case(case_id)
    marks.append((time.perf_counter(), time.process_time()))
    (checked, cpu_checked), (opened, cpu_opened) = (np.subtract(b, a) for a, b in pairwise(marks))
    print(
        f"\n{words.opened} verified cases: {checked:.2f} s ({cpu_checked:.2f} CPU s) for prepare with "
        f"nothing to do, {opened:.2f} s ({cpu_opened:.2f} CPU s) to open all of them"
    )


def step_beside_batch(words: argparse.Namespace, scratch: Path) -> None:
    """Milliseconds of a training step, and of reading its batch from the store meanwhile."""
    import torch

    from usbench.baselines.unet import build
    from usbench.contracts.settings import DataSettings
    from usbench.datasets.batches import Slices
    from usbench.datasets.store import prepare
    from usbench.datasets.tasks import task_from_folder
    from usbench.runs.train import dice_bce

    data = scratch / "one"
    make_patients(data, 1)
    store = prepare(task_from_folder(data), data, DataSettings(size=words.size), 1, scratch / "one-store")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    slices = Slices([store.case(store.case_ids[0])], 2, device, resident=False)
    groups = shuffled(len(slices))
    begin = time.perf_counter()
    for _ in slices.batches(groups):
        pass
    reading = (time.perf_counter() - begin) / len(groups) * 1000
    network = build(len(CHANNELS), 2, "resnet18").to(device)
    adam = torch.optim.Adam(network.parameters())
    times = []
    for images, target, _ in slices.batches(groups[:5]):
        begin = time.perf_counter()
        adam.zero_grad()
        dice, bce = dice_bce(network(images), target)
        (dice + bce).backward()
        adam.step()
        dice.item()  # waits for a GPU
        times.append((time.perf_counter() - begin) * 1000)
    print(
        f"batches of {BATCH}: {reading:.1f} ms to read one from the store, {min(times):.1f} ms for a step of "
        f"training a U-Net with a ResNet-18 on it ({device.type})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[5, 20, 80])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--opened", type=int, default=FULL)
    parser.add_argument("--keep", type=Path, help="a folder for the data, which is kept")
    for hidden in ("--stage", "--data", "--place"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.stage:
        print(json.dumps(stage(words.stage, Path(words.data), Path(words.place), words.size, words.workers)))
        return
    scratch = words.keep or Path(tempfile.mkdtemp(prefix="usbench-scale-"))
    try:
        measure(words, scratch)
        many_small(words, scratch)
        step_beside_batch(words, scratch)
    finally:
        if not words.keep:
            shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
