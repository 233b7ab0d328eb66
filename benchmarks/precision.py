"""Does `--precision bf16` change DSC beyond seeds, and how much sooner is a step done?

Usage: python benchmarks/precision.py RUNS [--task chaos] [--data phantom] [--data-dir FOLDER]
           [--modalities t2-spir] [--method unet] [--fusion early] [--folds 0] [--seeds 3] [--size 64]
           [--preset quick] [--device auto] [--repeat 20]

Each seed is trained at 32 and at bf16, one after the other, and each pair shares its seed: the same start and
the same batches. For each patient the mean DSC over classes is averaged over seeds; the interval is that of
the mean paired difference over patients. Beside it stands what the seeds themselves do: the standard
deviation of the mean DSC over seeds at 32, and how much two seeds at 32 differ. The times are of steps of
one network at one size, the two precisions alternating, in seconds of this process on a CPU and of the clock
on a GPU; the ratio is that of the medians. What is finished is not computed again.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import usbench
from usbench.checks.subject import mock_task
from usbench.config import make_config
from usbench.fusions.build import build_model
from usbench.fusions.registry import get_fusion
from usbench.leaderboards.stats.intervals import difference_interval
from usbench.methods.registry import get_method
from usbench.runs.train import dice_bce
from usbench.runtime.devices import choose_device, device_name, make_fabric

PAIR = ("32", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path)
    for name, default in (("task", "chaos"), ("data", "phantom"), ("method", "unet"), ("fusion", "early")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--data-dir")
    parser.add_argument("--modalities")
    parser.add_argument("--folds", default="0")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=20)
    words = parser.parse_args()
    device = torch.device(choose_device(words.device))
    print(f"{device_name(device)}, torch {torch.__version__}")
    times(words, device)
    scores(words)


def times(words: argparse.Namespace, device: torch.device) -> None:
    """Print the time of a step of training at both precisions and their ratio."""
    steps = [step_of(words, precision, device) for precision in PAIR]
    for step in steps:
        step(), step()
    pairs = [tuple(step() for step in steps) for _ in range(words.repeat)]
    full, half = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    what = f"{words.method} {words.fusion}, 8 slices of {words.size} pixels, 3 modalities, 4 classes"
    print(f"{what}: a step {full:.1f} ms at 32, {half:.1f} ms at bf16, ratio {full / half:.2f}", flush=True)


def step_of(words: argparse.Namespace, precision: str, device: torch.device) -> Callable[[], float]:
    """A step of training at a precision; it returns its seconds."""
    fabric = make_fabric(device.type, 1, precision)
    torch.manual_seed(0)
    method, _ = get_method(words.method)
    config = make_config(words.preset, method.settings, method.presets, {})
    network = build_model(method, mock_task(3, 4), get_fusion(words.fusion).fusion, config).to(device)
    model, adam = fabric.setup(network, torch.optim.Adam(network.parameters(), fused=True))
    images = torch.randn(8, 3, words.size, words.size, device=device)
    target = (images[:, :1] > 0.5).float().expand(-1, 4, -1, -1)
    clock = time.perf_counter if device.type == "cuda" else time.process_time

    def step() -> float:
        start = clock()
        adam.zero_grad(set_to_none=True)
        dice, bce = dice_bce(model(images), target)
        fabric.backward(dice + bce)
        adam.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    return step


def scores(words: argparse.Namespace) -> None:
    """Train at both precisions with every seed, and print what differs."""
    found: dict[str, list[np.ndarray]] = {precision: [] for precision in PAIR}
    for seed, precision in itertools.product(range(words.seeds), PAIR):
        results = usbench.run(
            words.method,
            words.fusion,
            words.task,
            data=words.data,
            data_dir=words.data_dir,
            modalities=words.modalities.split(",") if words.modalities else None,
            folds=words.folds,
            seed=seed,
            preset=words.preset,
            settings={"data.size": words.size},
            device=words.device,
            precision=precision,
            runs_dir=words.runs,
            keep_weights=False,
        )
        patients = {
            case: np.nanmean([row["dsc"] for row in rows])
            for result in results
            for case, rows in itertools.groupby(result.rows, key=lambda row: row["case"])
        }
        found[precision].append(np.array([patients[case] for case in sorted(patients)]))
        print(f"seed {seed}, {precision:>4}: DSC {found[precision][-1].mean():.4f}", flush=True)
    full, half = (np.stack(found[precision]) for precision in PAIR)
    difference = (half - full).mean(axis=0)
    interval = difference_interval(difference)
    bounds = "none" if interval.low is None else f"{interval.low:+.4f} to {interval.high:+.4f}"
    between = [abs(a - b) for a, b in itertools.combinations(full.mean(axis=1), 2)]
    print(f"{len(difference)} patients, {words.seeds} seeds: DSC {full.mean():.4f} and {half.mean():.4f}")
    print(f"bf16 - 32: {difference.mean():+.4f}, 95 % over patients {bounds}")
    print(f"by seed: {', '.join(f'{d:+.4f}' for d in (half - full).mean(axis=1))}")
    print(
        f"between seeds at 32: SD {full.mean(axis=1).std(ddof=1):.4f}, differences up to {max(between):.4f}"
    )


if __name__ == "__main__":
    main()
