"""The methods as a table: where each comes from, what it costs under each fusion, what failed to import."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.datasets.base import Task
    from usbench.methods.contract import Fusion, Method


def catalogue(
    task: str = "chaos", preset: str = "paper", plugins: Sequence[Path] = ()
) -> list[dict[str, Any]]:
    """One dict a method, sorted by name, with counts for the task's M modalities and K classes.

    Keys: name, origin, version, kind, paper, fusions, weights (what it starts from under the preset),
    licence (of those weights), size (pixels of the preset), error (None, or why it cannot be used; the
    keys from kind on are then absent), and costs: for each fusion (early, hybrid, late and what plugins
    bring; one of these that cannot be used is named on standard error) its parameters, trainable
    (None where the method has nothing to say) and gflops_per_slice (2 x multiply-adds, None where it
    cannot be counted), or None where the protocol does not apply. Networks are built without memory
    for their weights.
    """
    from usbench.config import make_config
    from usbench.datasets.tasks import get_task
    from usbench.methods.registry import find_methods

    the_task = get_task(task, plugins)
    fusions = _fusions(plugins)
    rows = []
    for name, found in sorted(find_methods(plugins).items()):
        row: dict[str, Any] = {"name": name, "origin": found.origin, "version": found.version, "error": None}
        rows.append(row)
        try:
            method = found.load()
            config = make_config(preset, method.settings, method.presets, {})
            row |= {
                "kind": method.kind,
                "paper": method.paper,
                "fusions": list(method.fusions),
                "weights": method.weights(config.method),
                "licence": method.licence(config.method),
                "size": config.data.size,
                "costs": {
                    name: _cost_if(method, the_task, fusion, config) for name, fusion in fusions.items()
                },
            }
        except UsbenchError as error:
            row["error"] = str(error)
        except Exception as error:  # A plugin's code raises what it likes, and breaks its own row alone.
            words = " ".join(str(error).split()) or "no message"
            row["error"] = f"cannot be built: {type(error).__name__}: {words}; repair it"
    return rows


def _fusions(plugins: Sequence[Path]) -> dict[str, str | Fusion]:
    """Every fusion that can be used, by name, as `usbench.fusion.build_model` takes it."""
    from usbench.console import say
    from usbench.methods.fusions import PROTOCOLS, find_fusions

    fusions: dict[str, str | Fusion] = {name: name for name in PROTOCOLS}
    for name, found in sorted(find_fusions(plugins).items()):
        try:
            fusions[name] = found.load()
        except UsbenchError as error:
            say(str(error))
    return fusions


def _cost_if(method: Method, task: Task, fusion: str | Fusion, config: Config) -> dict[str, Any] | None:
    """The cost, None where the fusion does not apply, or a plugin's does not build (then it is said why)."""
    from usbench.console import say
    from usbench.fusion import applies

    if not applies(method, fusion):
        return None
    try:
        return cost(method, task, fusion, config)
    except Exception as error:
        if isinstance(fusion, str):
            raise
        say(f"fusion '{fusion.name}', method '{method.name}': {error}")
        return None


def cost(method: Method, task: Task, fusion: str | Fusion, config: Config) -> dict[str, Any]:
    """Parameters, trainable parameters and GFLOPs a slice of a method under a fusion protocol."""
    import dataclasses

    import torch

    from usbench.fusion import build_model
    from usbench.inference import measure_gflops

    # Weights change no count, and are not fetched for one.
    settings = {key: "none" if key == "pretrained" else value for key, value in config.method.items()}
    with torch.device("meta"):
        network = build_model(method, task, fusion, dataclasses.replace(config, method=settings))
        images = torch.zeros(1, len(task.modalities), config.data.size, config.data.size)
    parameters = list(network.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "gflops_per_slice": None if method.features else measure_gflops(network, images),
    }


def render(rows: Sequence[dict[str, Any]], form: str) -> str:
    """The catalogue as "json" or as a "table" for a terminal."""
    if form == "json":
        return json.dumps(list(rows), indent=2, ensure_ascii=False)
    from tabulate import tabulate

    table = []
    for row in rows:
        if row["error"]:
            table.append([row["name"], row["origin"], "FAILED", row["error"]])
            continue
        for fusion, found in row["costs"].items():
            if found is None:
                table.append([row["name"], row["origin"], fusion, "n/a"])
                continue
            flops = found["gflops_per_slice"]
            table.append(
                [
                    row["name"],
                    row["origin"],
                    fusion,
                    f"{found['parameters']:,}",
                    f"{found['trainable']:,}",
                    "-" if flops is None else f"{flops:.1f}",
                    row["weights"],
                    row["licence"],
                    row["paper"],
                ]
            )
    headers = [
        "method",
        "from",
        "fusion",
        "parameters",
        "trainable",
        "GFLOPs a slice",
        "starts from",
        "licence of weights",
        "paper",
    ]
    text: str = tabulate(table, headers=headers, disable_numparse=True)
    return text
