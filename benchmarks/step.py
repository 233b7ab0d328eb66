"""One training epoch through usbench beside the bare PyTorch loop: same network, batches and data.

Usage: python benchmarks/step.py [--method unet] [--augment none|light] [--size 96] [--batch 8] [--steps 10]
                                 [--repeat 5] [--device auto]

Both start from the same weights, see the same slices in the same order, and make the same Adam steps
on Dice + BCE; the bare loop has its batches ready in memory, and augments nothing. Epochs of the two
alternate with epochs of ours for which torch fills fresh memory first, as it does in the first epoch of a
training; a ratio is the median of those of neighbours, on a CPU of seconds of the processor, which other
processes disturb less. The check at the end, without augmentation: both have the same weights.
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

from usbench.config import make_config
from usbench.contracts.settings import TrainSettings
from usbench.datasets.batches import Slices
from usbench.methods.registry import get_method
from usbench.runs.train import _epoch, dice_bce, draw_epoch, learning_rate
from usbench.runtime.devices import choose_device, make_fabric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--method", default="unet")
    parser.add_argument("--augment", choices=("none", "light"), default="none")
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
    settings = TrainSettings(epochs=1000, batch=words.batch, augment=words.augment)
    torch.manual_seed(0)
    method, _ = get_method(words.method)
    assert method.build_network is not None
    config = make_config("quick", method.settings, method.presets, {})
    ours = method.build_network(3, 1, **config.method).to(device)
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
        start = clock(device)
        for x, y, _ in batches:
            plain.zero_grad(set_to_none=True)
            dice, bce = dice_bce(bare(x), y)
            (dice + bce).backward()
            plain.step()
        return clock(device) - start

    def our_epoch(epoch: int) -> float:
        start = clock(device)
        _epoch(wrapped, ours, adam, slices, settings, fabric, 0, epoch)
        return clock(device) - start

    def filled_epoch() -> float:
        # Of a copy's worth: the weights go back, so that the others stay alike.
        kept = copy.deepcopy((ours.state_dict(), adam.state_dict()))
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
        seconds = our_epoch(0)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        ours.load_state_dict(kept[0])
        adam.load_state_dict(kept[1])
        return seconds

    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    our_epoch(0), bare_epoch(0)
    rounds = [(our_epoch(n), bare_epoch(n), filled_epoch()) for n in range(1, words.repeat + 1)]
    one, two, filled = (
        statistics.median(column) / words.steps * 1000 for column in zip(*rounds, strict=True)
    )
    ratio = statistics.median(mine / bare_one for mine, bare_one, _ in rounds)
    fill = statistics.median(full / mine for mine, _, full in rounds)
    same = all(
        torch.allclose(a, b, atol=1e-4) for a, b in zip(ours.parameters(), bare.parameters(), strict=True)
    )
    print(
        f"{words.method} (quick), augment {words.augment}, {words.batch} slices of {words.size} pixels, "
        f"{device}, {torch.get_num_threads()} threads"
    )
    print(f"usbench      {one:8.1f} ms a step")
    print(f"bare loop    {two:8.1f} ms a step")
    print(f"filling too  {filled:8.1f} ms a step, {fill:.3f} of usbench's")
    print(f"ratio        {ratio:8.3f} (target: at most {1.05 if words.augment == 'none' else 1.08})")
    if words.augment == "none":
        print(f"same weights afterwards: {same}")


def clock(device: torch.device) -> float:
    """Seconds: of the processor on a CPU, else of the wall once the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


if __name__ == "__main__":
    main()
