"""One training epoch through usbench beside the bare PyTorch loop: same network, batches and data.

Usage: python benchmarks/step.py [--size 96] [--batch 8] [--steps 10] [--repeat 5] [--device auto]

Both start from the same weights, see the same slices in the same order, and make the same Adam steps
on Dice + BCE; the bare loop has its batches ready in memory. Epochs of the two alternate, and the
ratio is that of the medians. The check at the end: both reach the same loss.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import copy
import statistics
import time
from types import SimpleNamespace

import numpy as np
import torch

from usbench.baselines.unet import build
from usbench.contracts.settings import TrainSettings
from usbench.datasets.batches import Slices
from usbench.runs.train import _epoch, dice_bce, draw_epoch, learning_rate
from usbench.runtime.devices import choose_device, make_fabric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="auto")
    words = parser.parse_args()

    fabric = make_fabric(choose_device(words.device), 1, "32")
    device = fabric.device
    random = np.random.default_rng(0)
    count = words.batch * words.steps
    images = random.normal(size=(count, 3, words.size, words.size)).astype(np.float16)
    mask = (images[:, 0] > 0.5).astype(np.uint8)
    case = SimpleNamespace(images=images, mask=mask, foreground=np.ones(count, bool))
    settings = TrainSettings(epochs=1000, batch=words.batch)
    torch.manual_seed(0)
    ours = build(3, 1, "resnet18").to(device)
    bare = copy.deepcopy(ours)
    slices = Slices([case], 1, device)
    wrapped, adam = fabric.setup(
        ours,
        torch.optim.Adam(ours.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True),
    )
    plain = torch.optim.Adam(
        bare.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )

    def bare_epoch(epoch: int) -> float:
        batches = list(slices.batches(draw_epoch(slices.foreground, settings, 0, epoch, 1)))
        for group in plain.param_groups:
            group["lr"] = learning_rate(settings, epoch)
        bare.train()
        wait(device)
        start = time.perf_counter()
        for x, y, _ in batches:
            plain.zero_grad(set_to_none=True)
            dice, bce = dice_bce(bare(x), y)
            (dice + bce).backward()
            plain.step()
        wait(device)
        return time.perf_counter() - start

    def our_epoch(epoch: int) -> float:
        wait(device)
        start = time.perf_counter()
        _epoch(wrapped, ours, adam, slices, settings, fabric, 0, epoch)
        wait(device)
        return time.perf_counter() - start

    our_epoch(0), bare_epoch(0)
    pairs = []
    for number in range(1, words.repeat + 1):
        pairs.append((our_epoch(number), bare_epoch(number)))
    one, two = (statistics.median(column) / words.steps * 1000 for column in zip(*pairs, strict=True))
    same = all(
        torch.allclose(a, b, atol=1e-4) for a, b in zip(ours.parameters(), bare.parameters(), strict=True)
    )
    print(
        f"U-Net resnet18, {words.batch} slices of {words.size} pixels, "
        f"{device}, {torch.get_num_threads()} threads"
    )
    print(f"usbench   {one:8.1f} ms a step")
    print(f"bare loop {two:8.1f} ms a step")
    print(f"ratio     {one / two:8.3f} (target: at most 1.05); same weights afterwards: {same}")


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
