"""Forward and backward of every built-in network beside the classic U-Net, in one run.

Usage: python benchmarks/networks.py [--methods a,b] [--size 256] [--batch 2] [--repeat 3] [--device auto]

Three input channels, two classes, early fusion, the networks as preset `paper` has them, from
nothing. The classic U-Net is timed beside each network in turn and the ratio is that of the
medians. The published column is the same ratio for the published implementation where one is
known (MISSFormer at 224 pixels against the classic U-Net at 256). Peak memory is of the GPU;
on a CPU it is not told apart by network and left out.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from usbench.config import make_config
from usbench.fusions.build import build_model
from usbench.fusions.registry import get_fusion
from usbench.methods.cost import measure_gflops
from usbench.methods.registry import BUILT_IN, get_method
from usbench.runs.train import dice_bce
from usbench.runtime.devices import choose_device
from usbench.testing import mock_task

PUBLISHED = {"attunet": 1.4, "unext": 0.03, "transunet": 1.05, "missformer": 0.33, "resunet": 1.6}


def network_of(name: str, device: torch.device) -> nn.Module:
    method, _ = get_method(name)
    settings = {"method.pretrained": "none"} if "pretrained" in method.settings else {}
    config = make_config("paper", method.settings, method.presets, settings)
    return build_model(method, mock_task(3, 2), get_fusion("early").fusion, config).to(device).train()


def step_of(network: nn.Module, images: Tensor, target: Tensor) -> Callable[[], float]:
    def step() -> float:
        wait(images.device)
        start = time.perf_counter()
        dice, bce = dice_bce(network(images), target)
        (dice + bce).backward()
        wait(images.device)
        network.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    return step


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--methods", default=",".join(n for n in BUILT_IN if n not in ("mist", "nnunet", "zeus"))
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="auto")
    words = parser.parse_args()
    device = torch.device(choose_device(words.device))

    def batch(size: int) -> tuple[Tensor, Tensor]:
        images = torch.randn(words.batch, 3, size, size, device=device)
        return images, (images[:, :2] > 0.5).float()

    base = step_of(network_of("unet-classic", device), *batch(words.size))
    print(f"batch {words.batch}, {words.size} pixels, {device}, {torch.get_num_threads()} threads")
    columns = ("method", "pixels", "s an image", "U-Net", "ratio", "published", "GFLOPs")
    print("{:14} {:>6} {:>11} {:>8} {:>7} {:>9} {:>7}".format(*columns))
    for name in words.methods.split(","):
        size = 224 if name == "missformer" and words.size == 256 else words.size
        network = network_of(name, device)
        images, target = batch(size)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        step = step_of(network, images, target)
        step(), base()
        pairs = [(step(), base()) for _ in range(words.repeat)]
        ours, theirs = (statistics.median(column) / words.batch for column in zip(*pairs, strict=True))
        flops = measure_gflops(network, images[:1]) or float("nan")
        published = f"{PUBLISHED[name]:.2f}" if name in PUBLISHED else "-"
        times = f"{ours:11.3f} {theirs:8.3f} {ours / theirs:7.2f}"
        line = f"{name:14} {size:6} {times} {published:>9} {flops:7.1f}"
        if device.type == "cuda":
            line += f"  peak {torch.cuda.max_memory_allocated(device) / 2**20:.0f} MB"
        print(line, flush=True)


if __name__ == "__main__":
    main()
