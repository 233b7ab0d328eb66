"""What Zeus' stored features save: an epoch with them beside an epoch that computes them in every batch.

Usage: python benchmarks/zeus.py [--task msd-prostate] [--size 256] [--cases 1] [--repeat 2]
           [--encoder litemedsam|sam-vit-b]

Phantom patients, late fusion, the bundled weights; with --encoder sam-vit-b the paper's encoder with random
weights, on which its time does not depend. Prints the seconds for precomputing a slice (all
modalities), for an epoch either way and their ratio, and the peak memory of the process (of the GPU
where there is one). The language model is not part of either epoch. The more classes, the smaller the ratio:
the decoder runs once for each, the encoder once for all.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from usbench.config import make_config
from usbench.contracts.settings import TrainSettings
from usbench.datasets.batches import Slices
from usbench.datasets.phantom import make_phantom
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task
from usbench.features.store import FeatureStore, fresh_rows
from usbench.fusions.build import build_model
from usbench.fusions.registry import get_fusion
from usbench.methods.registry import get_method
from usbench.methods.zeus.image_encoder import load_image_encoder
from usbench.runs.train import fit
from usbench.runtime.devices import choose_device, make_fabric
from usbench.runtime.memory import peak_memory_mb
from usbench.runtime.torchvision_cpu import make_importable
from usbench.weights.store import weights_dir


def random_vit(folder: Path, size: int, device: torch.device) -> Callable[[torch.Tensor], Any]:
    """What feature `embedding` computes, by SAM's ViT-B with random weights in a file of SAM's format."""
    make_importable()
    from segment_anything import sam_model_registry

    file = folder / "sam_vit_b.pth"
    torch.save(sam_model_registry["vit_b"]().state_dict(), file)
    encoder = load_image_encoder("sam-vit-b", file, size).to(device)

    def compute(images: torch.Tensor) -> Any:
        flat = torch.cat([encoder(some) for some in images.flatten(0, 1).split(4)])
        return flat.unflatten(0, images.shape[:2]), None

    return compute


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--task", default="msd-prostate")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--cases", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--encoder", default="litemedsam", choices=["litemedsam", "sam-vit-b"])
    words = parser.parse_args()
    device = torch.device(choose_device(words.device))
    fabric = make_fabric(device.type, 1, "32")
    method, _ = get_method("zeus")
    task = get_task(words.task)
    settings = {"method.size": words.size, "method.instruction": "fixed", "data.size": words.size}
    config = make_config("quick", method.settings, method.presets, settings)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("USBENCH_WEIGHTS", str(weights_dir()))
        os.environ["USBENCH_CACHE"] = folder
        make_phantom(task, Path(folder) / "data", cases=words.cases, seed=0)
        store = prepare(task, Path(folder) / "data", config.data)
        assert method.features is not None
        features = list(method.features(task, device, **config.method))
        if words.encoder != "litemedsam":
            features[0] = replace(features[0], compute=random_vit(Path(folder), words.size, device))
        slices = sum(len(store.case(i).mask) for i in store.case_ids)
        start = time.perf_counter()
        made = FeatureStore(features, "bench", task, store, device, 50.0).collect(store.case_ids).cases
        each = (time.perf_counter() - start) / slices
        modalities, classes = len(task.modalities), len(task.classes)
        print(
            f"{task.name}: {slices} slices, {modalities} modalities, {classes} classes, "
            f"{words.size} pixels, {words.encoder}, {device}, {torch.get_num_threads()} threads"
        )
        print(f"precomputing: {1000 * each:.0f} ms a slice (loading the models included)")
        cases = [store.case(i) for i in store.case_ids]
        stored: list[Any] = [made[i].rows for i in store.case_ids]
        absent: list[Any] = [{**rows, "embedding": None} for rows in stored]
        epoch = TrainSettings(epochs=1, batch=8, empty=0.2)
        times: dict[str, list[float]] = {"stored": [], "computed": []}
        for _ in range(words.repeat):
            for name, extras in (("stored", stored), ("computed", absent)):
                torch.manual_seed(0)
                network = build_model(method, task, get_fusion("late").fusion, config)
                batches = Slices(
                    cases, len(task.classes), device, extras, fresh_rows(features), regions=task.regions
                )
                times[name].append(fit(network, batches, epoch, fabric, seed=0).seconds)
        ours, theirs = (statistics.median(times[name]) for name in ("stored", "computed"))
        print(f"epoch with stored features {ours:.1f} s, without {theirs:.1f} s, ratio {theirs / ours:.1f}")
        print(f"peak memory {peak_memory_mb(device):.0f} MB")


if __name__ == "__main__":
    main()
