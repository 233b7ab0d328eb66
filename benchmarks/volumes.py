"""Networks of volumes beside the bare loop and beside MONAI's own parts, and the memory of many patients.

Usage: python benchmarks/volumes.py [--slices 64] [--side 128] [--patients 6] [--repeat 5] [--device auto]

1. A training step through usbench beside the bare PyTorch loop, with the same network, patches and optimiser;
   the bare loop has its batches ready in memory.
2. Foreground-balanced patches of an epoch beside MONAI's CacheDataset with FgBgToIndicesd (once) and
   RandCropByPosNegLabeld, once with the patients in memory as there, once read from the compressed store.
3. The prediction of a patient beside MONAI's SlidingWindowInferer and the same network.
4. The peak memory of an epoch of patches read from the store, for few and for many patients.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from usbench.contracts.settings import TrainSettings, VolumeSettings
from usbench.datasets.geometry import SliceGeometry
from usbench.datasets.store import PreparedCase
from usbench.datasets.volumes import Volumes
from usbench.datasets.ways import ByVolumes
from usbench.runs.train import _epoch, dice_bce, learning_rate
from usbench.runtime.devices import choose_device, make_fabric
from usbench.storage.slices import SliceArray, write_slices

CPU = torch.device("cpu")
PATCH = (16, 64, 64)
SETTINGS = VolumeSettings("patch", patch=PATCH, patches=4)
AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.memory is not None:
        print(peak_of_epoch(words.memory, words.patients))
        return
    device = make_fabric(choose_device(words.device), 1, "32").device
    print(
        f"patches {PATCH} of {words.slices} slices of {words.side} pixels, two modalities, {device}, ", end=""
    )
    print(f"{torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        cases = [made(Path(folder), i, words.slices, words.side) for i in range(words.patients)]
        step(cases, words.repeat, words.device)
        ours, theirs = sampling(cases, words.repeat)
        predicting, inferring = prediction(cases[0], words.repeat, device)
        both = (theirs + inferring) / (ours + predicting)
        print(f"sampling and prediction of a patient together: {both:.2f} times as fast (target: 1.2)")
        for i in range(words.patients, 4 * words.patients):
            made(Path(folder), i, words.slices, words.side)
        memory(Path(folder), words)


def made(folder: Path, number: int, slices: int, side: int) -> PreparedCase:
    """A patient of smooth noise with a ball as foreground, in the compressed form of the prepared store."""
    images, mask = folder / f"{number}.images", folder / f"{number}.mask"
    if not images.exists():
        random = np.random.default_rng(number)
        small = random.normal(size=(slices, 2, side // 8, side // 8)).astype(np.float16)
        write_slices(images, small.repeat(8, axis=2).repeat(8, axis=3))
        z, y, x = np.ogrid[:slices, :side, :side]
        away = ((z - slices / 2) * 3) ** 2 + (y - side / 2) ** 2 + (x - side / 3) ** 2
        write_slices(mask, (away < (side / 5) ** 2).astype(np.uint8))
    geometry = SliceGeometry.from_affine((side, side, slices), AFFINE)
    where = {"affine": AFFINE, "spacing": (1.0, 1.0, 3.0), "geometry": geometry, "path": folder}
    stored, truth = SliceArray(images), SliceArray(mask)
    return PreparedCase(str(number), stored, truth, agreement={}, foreground=truth.any(axis=(1, 2)), **where)


def network() -> nn.Module:
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    return UNet(3, 2, 1, channels=(8, 16, 32), strides=(2, 2))


def step(cases: list[PreparedCase], repeat: int, device: str) -> None:
    """Epochs of usbench and of the bare loop, alternating."""
    fabric = make_fabric(choose_device(device), 1, "32")
    settings = TrainSettings(epochs=1000, batch=2)
    ours, volumes = network().to(fabric.device), Volumes(cases, 1, fabric.device, SETTINGS)
    bare = copy.deepcopy(ours)
    words = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": True}
    wrapped, adam = fabric.setup(ours, torch.optim.Adam(ours.parameters(), **words))
    plain = torch.optim.Adam(bare.parameters(), **words)

    def bare_epoch(epoch: int) -> float:
        batches = list(volumes.batches(volumes.epoch(settings, 0, epoch, 1)))
        for group in plain.param_groups:
            group["lr"] = learning_rate(settings, epoch)
        bare.train()

        def steps() -> None:
            for x, y, _ in batches:
                plain.zero_grad(set_to_none=True)
                dice, bce = dice_bce(bare(x), y)
                (dice + bce).backward()
                plain.step()

        return seconds(steps, fabric.device)

    def our_epoch(epoch: int) -> float:
        return seconds(
            lambda: _epoch(wrapped, ours, adam, volumes, settings, fabric, 0, epoch), fabric.device
        )

    pairs = [(our_epoch(number), bare_epoch(number)) for number in range(repeat + 1)][1:]
    count = len(volumes.epoch(settings, 0, 0, 1))
    one, two = (statistics.median(column) / count * 1000 for column in zip(*pairs, strict=True))
    print(f"step:       usbench {one:.1f} ms, bare loop {two:.1f} ms: ", end="")
    print(f"ratio {one / two:.3f} (target: at most 1.05)")


def sampling(cases: list[PreparedCase], repeat: int) -> tuple[float, float]:
    """Seconds for the patches of an epoch of one patient: of usbench in memory, and of MONAI."""
    from monai.data import CacheDataset, DataLoader, list_data_collate
    from monai.transforms import Compose, FgBgToIndicesd, RandCropByPosNegLabeld

    settings = TrainSettings(batch=2)
    items = [
        {
            "image": torch.from_numpy(np.asarray(case.images).astype(np.float32))
            .transpose(0, 1)
            .contiguous(),
            "label": torch.from_numpy(np.asarray(case.mask))[None],
        }
        for case in cases
    ]
    crop = RandCropByPosNegLabeld(
        ["image", "label"],
        "label",
        PATCH,
        num_samples=SETTINGS.patches,
        fg_indices_key="label_fg_indices",
        bg_indices_key="label_bg_indices",
    )
    cached = CacheDataset(items, Compose([FgBgToIndicesd("label"), crop]), num_workers=0, progress=False)
    loader = DataLoader(cached, batch_size=1, shuffle=True, collate_fn=list_data_collate, num_workers=0)

    def theirs() -> None:
        for batch in loader:
            for part in batch["image"].split(2):
                part.float()
            batch["label"].float()

    found = {}
    for name, resident in (("in memory", True), ("from the store", False)):
        volumes = Volumes(cases, 1, CPU, SETTINGS, resident=resident)
        epochs = iter(range(10_000))

        def ours(volumes: Volumes = volumes, epochs: Iterator[int] = epochs) -> None:
            for _ in volumes.batches(volumes.epoch(settings, 0, next(epochs), 1)):
                pass

        pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeat + 1)][1:]
        one, two = (statistics.median(column) / len(cases) for column in zip(*pairs, strict=True))
        found[name] = (one, two)
        print(
            f"sampling:   usbench {name} {1000 * one:.1f} ms a patient, MONAI in memory {1000 * two:.1f} ms: "
            f"{two / one:.2f} times as fast"
        )
    return found["in memory"]


def prediction(case: PreparedCase, repeat: int, device: torch.device) -> tuple[float, float]:
    """Seconds for the logits of a patient: of usbench, and of MONAI's inferer."""
    from monai.inferers import SlidingWindowInferer

    one, way = network().to(device).eval(), ByVolumes(SETTINGS)
    inferer = SlidingWindowInferer(PATCH, 4, SETTINGS.overlap, mode="gaussian", padding_mode="replicate")
    images = torch.from_numpy(np.asarray(case.images).astype(np.float32)).to(device)

    def ours() -> None:
        with torch.inference_mode():
            way.logits(one, images, 3.0)

    def theirs() -> None:
        with torch.inference_mode():
            inferer(images.transpose(0, 1)[None], one)

    pairs = [(seconds(ours, device), seconds(theirs, device)) for _ in range(repeat + 1)][1:]
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"prediction: usbench {mine:.2f} s a patient, MONAI's inferer {other:.2f} s: "
        f"{other / mine:.2f} times as fast"
    )
    return mine, other


def memory(folder: Path, words: argparse.Namespace) -> None:
    """Peak memory of an epoch in a process of its own, for the patients and for four times as many."""
    found = []
    for patients in (words.patients, 4 * words.patients):
        command = [sys.executable, __file__, "--memory", str(folder), "--patients", str(patients)]
        command += ["--slices", str(words.slices), "--side", str(words.side)]
        found.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    whole = words.slices * words.side**2 * 5 / 1e6
    print(
        f"memory:     {found[0] / 1e3:.0f} MB for {words.patients} patients, {found[1] / 1e3:.0f} MB for "
        f"{4 * words.patients}; a patient unpacked takes {whole:.0f} MB"
    )


def peak_of_epoch(folder: Path, patients: int) -> int:
    """Peak resident memory of this process in kB after an epoch of patches that are read from the store."""
    some = SliceArray(folder / "0.images").shape
    cases = [made(folder, i, some[0], some[-1]) for i in range(patients)]
    volumes = Volumes(cases, 1, CPU, SETTINGS, resident=False)
    for _ in volumes.batches(volumes.epoch(TrainSettings(batch=2), 0, 0, 1)):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def seconds(work: Callable[[], object], device: torch.device = CPU) -> float:
    """How long it takes."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
