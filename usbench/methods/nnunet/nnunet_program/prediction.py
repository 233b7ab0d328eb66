"""Masks of the test cases by the final checkpoint, and what the network is."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .data import images_of
from .shared import ENDING, Alive, Spent, partial_of, say


def predictor_of(job: Mapping[str, Any], plans: dict[str, Any], dataset: dict[str, Any], final: Path) -> Any:
    """nnU-Net's predictor with the trained network.

    It is made by hand: nnU-Net looks trainers up by name among its own.
    """
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    checkpoint = torch.load(final, map_location="cpu", weights_only=False)
    manager = PlansManager(plans)
    chosen = manager.get_configuration(job["configuration"])
    network = nnUNetTrainer.build_network_architecture(
        manager,
        chosen,
        determine_num_input_channels(manager, chosen, dataset),
        manager.get_label_manager(dataset).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    network.load_state_dict(checkpoint["network_weights"])
    predictor = nnUNetPredictor(
        device=torch.device(job["device"]),
        perform_everything_on_device=job["device"] == "cuda",
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        network,
        manager,
        chosen,
        [checkpoint["network_weights"]],
        dataset,
        checkpoint["trainer_name"],
        checkpoint["inference_allowed_mirroring_axes"],
    )
    return predictor


def predict(job: Mapping[str, Any], predictor: Any, spent: Spent) -> None:
    """The mask of every test case that no earlier start has left, with the values of dataset.json."""
    import torch
    from nnunetv2.inference.export_prediction import export_prediction_from_logits

    cases = list(job["test"])
    masks, export = Path(job["masks"]), Path(job["work"]) / "export"
    masks.mkdir(parents=True, exist_ok=True)
    export.mkdir(exist_ok=True)
    predictor.network.register_forward_hook(Alive())
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    for number, case in enumerate(cases, 1):
        mask = masks / f"{case}{ENDING}"
        if mask.exists():
            continue
        began = time.monotonic()
        data, _, properties = preprocessor.run_case(
            images_of(job, "imagesTs", case),
            None,
            predictor.plans_manager,
            predictor.configuration_manager,
            predictor.dataset_json,
        )
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).numpy()
        export_prediction_from_logits(
            logits,
            properties,
            predictor.configuration_manager,
            predictor.plans_manager,
            predictor.dataset_json,
            str(export / "mask"),
        )
        partial = partial_of(mask)
        shutil.copyfile(export / f"mask{ENDING}", partial)
        os.replace(partial, mask)
        spent.add("predict", time.monotonic() - began, job["device"])
        say("case", text="nnU-Net predicts test cases", number=number, total=len(cases))


def gflops_per_slice(network: Any, channels: int, patch: list[int]) -> float | None:
    """Forward GFLOPs (2 x multiply-adds) of a patch, of a 3D one divided by its slices; None if unknown."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    device = next(network.parameters()).device
    images = torch.zeros(1, channels, *patch, device=device)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images)
    except (NotImplementedError, RuntimeError):
        return None
    return float(counter.get_total_flops() / 1e9 / math.prod(patch[:-2]))


def versions() -> dict[str, str]:
    """Of what decided the masks."""
    import platform
    from importlib.metadata import version

    names = ("nnunetv2", "dynamic-network-architectures", "batchgeneratorsv2", "torch", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def outcome(job: Mapping[str, Any], plans: dict[str, Any], predictor: Any, spent: Spent) -> dict[str, Any]:
    """What stands in the result."""
    plan = plans["configurations"][job["configuration"]]
    network = predictor.network
    # The decoder holds the encoder; parameters() gives each once, a state dict twice.
    parameters = list(network.parameters())
    patch = [int(size) for size in plan["patch_size"]]
    return {
        "parameters": sum(one.numel() for one in parameters),
        "trainable": sum(one.numel() for one in parameters if one.requires_grad),
        "gflops_per_slice": gflops_per_slice(network, job["channels"], patch),
        "epochs": job["epochs"],
        "train_seconds": spent.values.get("train"),
        "predict_seconds": spent.values.get("predict"),
        "prepare_seconds": spent.values.get("prepare"),
        "peak_memory_mb": spent.values.get("memory_mb"),
        "lost": "lost" in spent.values,
        "patch": patch,
        "batch": plan["batch_size"],
        "stages": plan["architecture"]["arch_kwargs"]["n_stages"],
        "normalisation": plan["normalization_schemes"],
        "mirrored": predictor.allowed_mirroring_axes is not None,
        "versions": versions(),
    }
