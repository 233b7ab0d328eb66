"""Predicting a patient through usbench beside the bare forward of the network, in one run.

Usage: python benchmarks/predict.py --folder PHANTOM [--task msd-brain] [--method unext-small] [--repeat 7]
       python benchmarks/predict.py --folder PHANTOM --run RUN [--repeat 7]

The patient is a phantom of the task, prepared as a run prepares it. The network is one with random weights,
whose classes lie everywhere, or the trained one of a run, whose classes lie where organs are. The bare
forward has its batches ready in memory and throws its logits away; usbench reads the compressed store,
enlarges logits to the patient's grid and gives a mask there. The two alternate, and the ratio is that of the
medians. The check at the end: the mask is that of the index of the largest logit, the plain way.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from usbench.config import make_config
from usbench.datasets.batches import Slices
from usbench.datasets.phantom import make_phantom
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task
from usbench.fusions.build import build_model
from usbench.fusions.registry import get_fusion
from usbench.methods.registry import get_method
from usbench.runs.network import load_network
from usbench.runs.predict import predict
from usbench.runtime.devices import choose_device, make_fabric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", default="msd-brain")
    parser.add_argument("--method", default="unext-small")
    parser.add_argument("--fusion", default="early")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder", type=Path, required=True, help="for the phantom, kept between calls")
    parser.add_argument("--run", type=Path, help="a finished run on this task instead of random weights")
    parser.add_argument("--device", default="auto")
    words = parser.parse_args()

    fabric = make_fabric(choose_device(words.device), 1, "32")
    if words.run is not None:
        trained = load_network(words.run, device=words.device)
        task, config, network = trained.task, trained.config, trained.network
        words.method, words.fusion = trained.method.name, trained.fusion
        words.task, words.size = task.name, config.data.size
    else:
        task, (method, _) = get_task(words.task), get_method(words.method)
        fusion = get_fusion(words.fusion).fusion
        config = make_config("quick", method.settings, method.presets, {"data.size": words.size}, fusion)
        torch.manual_seed(0)
        network = build_model(method, task, fusion, config).to(fabric.device).eval()
    if not words.folder.is_dir():
        make_phantom(task, words.folder, cases=1, seed=0)
    store = prepare(task, words.folder, config.data, workers=1, cache=words.folder / "prepared")
    case = store.case(store.case_ids[0])
    classes = len(task.classes)
    groups = np.array_split(np.arange(len(case.images)), -(-len(case.images) // 16))
    batches = [x for x, _ in Slices([case], classes, fabric.device, targets=False).images(groups)]

    def bare() -> list[torch.Tensor]:
        with torch.inference_mode():
            return [network(x) for x in batches]

    def ours() -> Any:
        return predict(network, case, classes, fabric.device, fabric=fabric, thresholds=task.thresholds)

    ours(), bare()
    pairs = [(seconds(ours), seconds(bare)) for _ in range(words.repeat)]
    one, two = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
    side = case.geometry.side
    large = [torch.nn.functional.interpolate(x, size=(side, side), mode="bilinear") for x in bare()]
    highest, label = torch.cat(large).max(dim=1)
    plain = case.geometry.from_slices(((label + 1) * (highest > 0)).to(torch.uint8).cpu().numpy())
    same = None if task.regions else bool(np.array_equal(ours().volume, plain))
    print(
        f"{words.method} {words.fusion}, {words.task}: {len(case.images)} slices of {words.size} pixels onto "
        f"{case.geometry.shape}, {classes} classes, {fabric.device}, {torch.get_num_threads()} threads"
    )
    print(f"usbench      {one:8.1f} ms a patient")
    print(f"bare forward {two:8.1f} ms a patient")
    print(f"ratio        {one / two:8.3f} (target: at most 1.15); mask of the plain way: {same}")


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes: on a GPU by the clock, else in time of the processor, free of neighbours."""
    if not torch.cuda.is_available():
        start = time.process_time()
        call()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
