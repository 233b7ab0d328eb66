"""What the robustness track costs: all of it beside the bare forward passes of the same slices.

Usage: python benchmarks/robustness.py [--method unet] [--fusion early] [--task msd-brain] [--size 96]
           [--cases 4] [--repeat 3] [--no-masks]

Makes phantom patients, trains a network for one epoch and evaluates it on the test fold under every
condition, masks written. Beside it the same network is called as often, on slices of the same shape in the
same groups, with nothing before or after. Both are taken in turn `--repeat` times; the smallest of each
counts. Prints the seconds of both and their ratio, which is to be 1.3 at most.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import usbench
from usbench.datasets.phantom import make_phantom
from usbench.datasets.resolve import find_data
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task
from usbench.runs.network import TrainedNetwork, load_network
from usbench.runs.predict import groups_of
from usbench.runtime.devices import device_name
from usbench.scores.robustness import conditions_of


def forwards(trained: TrainedNetwork, groups: list[torch.Tensor], conditions: int) -> float:
    """Seconds of calling the network on every group, once for each condition."""
    start = time.perf_counter()
    with torch.inference_mode():
        for images in groups:
            for _ in range(conditions):
                trained.network(images)
    if trained.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="unet")
    parser.add_argument("--fusion", default="early")
    parser.add_argument("--task", default="msd-brain")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-masks", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data, runs = Path(place) / "data", Path(place) / "runs"
        make_phantom(get_task(asked.task), data, cases=asked.cases, seed=5)
        settings = {"train.epochs": 1, "data.size": asked.size}
        result = usbench.run(
            asked.method, asked.fusion, asked.task, data_dir=data, runs_dir=runs, preset="smoke", folds="0",
            settings=settings,
        )[0]  # fmt: skip
        trained = load_network(result)
        store = prepare(trained.task, find_data(trained.task, data).root, trained.config.data)
        groups = []
        for case_id in result.data["split"]["test"]:
            images = np.asarray(store.case(case_id).images, dtype=np.float32)
            groups += [
                torch.from_numpy(images[numbers]).to(trained.device) for numbers in groups_of(len(images))
            ]
        conditions = len(conditions_of(trained.task.modality_names))
        bare, whole = [], []
        forwards(trained, groups, 1)
        for _ in range(asked.repeat):
            bare.append(forwards(trained, groups, conditions))
            start = time.perf_counter()
            usbench.evaluate(result.path, data_dir=data, masks=not asked.no_masks, overwrite=True)
            whole.append(time.perf_counter() - start)
        seconds, least = min(whole), min(bare)
        print(f"{device_name(trained.device)}; {asked.method} {asked.fusion}, {asked.size} pixels")
        print(f"{sum(map(len, groups))} slices under {conditions} conditions")
        print(f"forwards {least:.1f} s, the track {seconds:.1f} s, ratio {seconds / least:.2f}")


if __name__ == "__main__":
    main()
