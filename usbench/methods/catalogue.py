"""The methods as a table: where each comes from, what it costs under each fusion, what failed to import."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.contracts.data import Task
    from usbench.contracts.fusion import Fusion
    from usbench.contracts.method import Method
    from usbench.fusions.registry import FoundFusion


def catalogue(
    task: str = "chaos", preset: str = "paper", plugins: Sequence[Path] = (), names: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """One dict a method, sorted by name, with counts for the task's M modalities and K classes.

    names: only these methods. Without any, methods of installed packages are listed and not imported: they
    may be many, and slow. Plugin files that cannot be used are listed too.
    Keys: name, origin, version, counted (whether it was imported), error (None, or why it cannot be used).
    Where it was counted also kind, paper, fusions, weights (what it starts from under the preset), licence
    (of those weights), size (pixels of the preset), and costs: for each fusion (early, hybrid, late and those
    of plugin files; one of these that cannot be used is named on standard error) its parameters, trainable
    (None where the method has nothing to say) and gflops_per_slice (2 x multiply-adds, None where it cannot
    be counted; all three None for an outside pipeline, which has no network here), or None where the protocol
    does not apply. Networks are built without memory for their weights where they can be.
    What was counted is kept, see `usbench.methods.kept`. Raises `UsbenchError` for an unknown name.
    """
    from usbench.methods.kept import KeptRows

    kept = KeptRows(task, preset, plugins, names)
    rows = kept.read()
    if rows is None:
        rows, complete = _count(task, preset, plugins, names)
        if complete:
            kept.write(rows)
    return rows


def _count(
    task: str, preset: str, plugins: Sequence[Path], names: Sequence[str]
) -> tuple[list[dict[str, Any]], bool]:
    """The rows of `catalogue`, and whether nothing was said of a fusion or a plugin that cannot be used."""
    from usbench.datasets.tasks import get_task
    from usbench.methods.registry import search
    from usbench.runtime.console import track

    the_task = get_task(task, plugins)
    fusions, refused = _fusions(plugins)
    methods = search(plugins)
    rows: list[dict[str, Any]] = []
    for name in names:
        methods.get(name)  # A wrong one is said before anything is counted.
    wanted = sorted(set(names) or methods.found)
    for name in track(wanted, "counting the methods", len(wanted)):
        found = methods.get(name) if names else methods.found[name]
        counted = bool(names) or not found.installed
        row: dict[str, Any] = {
            "name": name,
            "origin": found.origin,
            "version": found.version,
            "counted": counted,
            "error": None,
        }
        rows.append(row)
        if not counted:
            continue
        try:
            # What a plugin prints while it builds is no output of usbench.
            with contextlib.redirect_stdout(sys.stderr):
                row |= _facts(found.load(), the_task, preset, fusions)
        except UsbenchError as error:
            row["error"] = str(error)
        except (Exception, SystemExit) as error:
            words = " ".join(str(error).split()) or "no message"
            row["error"] = f"method '{name}' ({found.origin}) fails: {type(error).__name__}: {words}"
    for problem in methods.problems:
        if problem.of_file and not names:
            name = problem.name or Path(problem.origin.removeprefix("file ")).stem
            rows.append(
                {
                    "name": name,
                    "origin": problem.origin,
                    "version": "",
                    "counted": False,
                    "error": problem.text,
                }
            )
    failed = any(cost == {} for row in rows for cost in row.get("costs", {}).values())
    for row in rows:
        if "costs" in row:
            costs: dict[str, Any] = row["costs"]
            row["costs"] = {name: cost or None for name, cost in costs.items()}
    return rows, not (refused or failed or any(row["error"] for row in rows))


def _facts(method: Method, task: Task, preset: str, fusions: Mapping[str, FoundFusion]) -> dict[str, Any]:
    """What the catalogue says of a method beside where it is from."""
    from usbench.config import make_config

    config = make_config(preset, method.settings, method.presets, {}, dims=method.dims)
    return {
        "kind": method.kind,
        "paper": method.paper,
        "fusions": list(method.fusions),
        "weights": method.weights(config.method),
        "licence": method.licence(config.method),
        "size": config.data.size,
        "costs": {name: _cost_if(method, task, fusion, config) for name, fusion in fusions.items()},
    }


def _fusions(plugins: Sequence[Path]) -> tuple[dict[str, FoundFusion], bool]:
    """The protocols and what plugin files bring, by name; and whether one of them cannot be used."""
    from usbench.fusions.registry import get_fusion, search_fusions
    from usbench.runtime.console import say

    fusions: dict[str, FoundFusion] = {}
    refused = False
    for name, found in search_fusions(plugins).found.items():
        if found.installed:
            continue
        try:
            fusions[name] = get_fusion(name, plugins)
        except UsbenchError as error:
            say(str(error))
            refused = True
    return fusions, refused


def _cost_if(method: Method, task: Task, found: FoundFusion, config: Config) -> dict[str, Any] | None:
    """The cost, None where the fusion does not apply; {} where a plugin's does not build (it is said why)."""
    from usbench.fusions.build import applies
    from usbench.runtime.console import say

    if not applies(method, found.fusion):
        return None
    try:
        return cost(method, task, found.fusion, config)
    except Exception as error:
        if found.found.origin == "built in":
            raise
        say(f"fusion '{found.name}', method '{method.name}': {error}")
        return {}


def cost(method: Method, task: Task, fusion: Fusion, config: Config) -> dict[str, Any]:
    """Parameters, trainable parameters and GFLOPs a slice of a method under a fusion protocol."""
    import dataclasses

    import torch
    from torch import nn

    from usbench.datasets.ways import way_of
    from usbench.fusions.build import build_model
    from usbench.methods.cost import count_parameters, gflops_of_slice

    if method.pipeline is not None:
        return {"parameters": None, "trainable": None, "gflops_per_slice": None}

    # Weights change no count, and are not fetched for one.
    settings = {key: "none" if key == "pretrained" else value for key, value in config.method.items()}
    bare = dataclasses.replace(config, method=settings)

    def built(device: str) -> nn.Module:
        with torch.device(device):
            return build_model(method, task, fusion, bare)

    def counted(network: nn.Module, device: str) -> float | None:
        if method.features:
            return None
        with torch.device(device):
            example = way_of(config).nominal(len(task.modalities), config.data.size)
        return gflops_of_slice(network.to(device), *example)

    try:
        network = built("meta")
    except UsbenchError:
        raise
    except Exception:  # A network may need real numbers while it is built.
        network = built("cpu")
    parameters = count_parameters(network)
    gflops = None
    with contextlib.suppress(Exception):
        gflops = counted(network, "meta")
    if gflops is None and not method.features:  # Or while it runs; then one input is computed.
        gflops = counted(built("cpu"), "cpu")
    return {
        "parameters": parameters.all,
        "trainable": parameters.trainable,
        "gflops_per_slice": gflops,
    }


def render(rows: Sequence[dict[str, Any]], form: str) -> str:
    """The catalogue as "json" or as a "table" for a terminal."""
    if form == "json":
        return json.dumps(list(rows), indent=2, ensure_ascii=False)
    from tabulate import tabulate

    table: list[list[str]] = []
    notes = []
    for row in rows:
        first = [row["name"], row["origin"]]
        if row["error"]:
            table.append([*first, "FAILED"])
            notes.append(f"{row['name']}: {row['error']}")
            continue
        if not row["counted"]:
            table.append([*first, "not counted"])
            continue
        for fusion, found in row["costs"].items():
            table.append([*first, fusion, *_counts(found)])
            first = ["", ""]
        licence = f" ({row['licence']})" if row["weights"] != "none" else ""
        outside = (
            " An outside pipeline: what it trains is known after its run."
            if row["kind"] == "pipeline"
            else ""
        )
        notes.append(f"{row['name']}: {row['paper']} Starts from: {row['weights']}{licence}.{outside}")
    if not all(row["counted"] or row["error"] for row in rows):
        notes.append("Methods of installed packages are counted where they are named: usbench methods NAME")
    headers = ["method", "from", "fusion", "parameters", "trainable", "GFLOPs a slice"]
    align = ["left"] * 3 + ["right"] * 3
    filled = [[*cells, *[""] * (len(headers) - len(cells))] for cells in table]
    text: str = tabulate(filled, headers=headers, disable_numparse=True, colalign=align)
    return "\n".join([text, "", *notes])


def _counts(cost: Mapping[str, Any] | None) -> list[str]:
    if cost is None:
        return ["n/a"]
    flops = cost["gflops_per_slice"]
    if cost["parameters"] is None:
        return ["-"] * 3
    return [f"{cost['parameters']:,}", f"{cost['trainable']:,}", "-" if flops is None else f"{flops:.1f}"]
