"""How many parameters a submitted network has by our own count: the built-in method is built again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usbench.contracts.data import Task
from usbench.contracts.method import Method
from usbench.errors import UsbenchError

_TIMES = 4
"""Settings of somebody else are built with as long as no number is more than so many times the usual one."""


def own_count(data: Mapping[str, Any], task: Task) -> dict[str, int] | None:
    """The parameters of the network of a result, by building it here without weights.

    Args:
        data: A result.json.
        task: Its task, as it is here.

    Returns:
        "parameters" and "trainable"; None where the network cannot be told from here: of a method that is
        not built in or whose code is other code here, of an outside pipeline, of settings far from the usual.
    """
    from usbench.methods.registry import get_method, source_hash

    stated = data["method"]
    brought = data.get("fusion", {}).get("origin", "built in") != "built in"
    if "outside" in data or stated["origin"] != "built in" or brought:
        return None
    method, _ = get_method(stated["name"])
    if method.pipeline is not None or source_hash(method) != stated["source_hash"]:
        return None
    if not _usual(method, data["config"]):
        return None
    try:
        return _built(method, data, task)
    except (Exception, SystemExit):  # Odd settings fail in their own way, and are no reason to refuse.
        return None


def _built(method: Method, data: Mapping[str, Any], task: Task) -> dict[str, int]:
    import dataclasses

    import torch

    from usbench.fusions.build import build_model
    from usbench.fusions.registry import get_fusion
    from usbench.methods.cost import count_parameters
    from usbench.results.result import Result
    from usbench.runs.of_result import config_of

    config = config_of(Result(Path(), dict(data), []))
    # Weights change no count, and are not fetched for one.
    settings = {key: "none" if key == "pretrained" else value for key, value in config.method.items()}
    bare = dataclasses.replace(config, method=settings)
    fusion = get_fusion(data["cell"]["fusion"]).fusion
    try:
        with torch.device("meta"):
            network = build_model(method, task, fusion, bare)
    except UsbenchError:
        raise
    except Exception:  # A network may need real numbers while it is built.
        network = build_model(method, task, fusion, bare)
    count = count_parameters(network)
    return {"parameters": count.all, "trainable": count.trainable}


def _usual(method: Method, config: Mapping[str, Any]) -> bool:
    """Whether settings are near enough to what the method is used with to build a network of them unseen."""
    stated = config["method"]
    if set(stated) != set(method.settings):
        return False
    known = {name: [default] for name, default in method.settings.items()}
    for preset in method.presets.values():
        for name, value in preset.items():
            if name in known:
                known[name].append(value)
    sizes = [config["data"].get("size", 0), *(n for v in config.get("volume", {}).values() for n in _flat(v))]
    small = all(isinstance(size, str) or abs(size) <= 1024 for size in sizes)
    return small and all(_near(value, known[name]) for name, value in stated.items())


def _near(value: Any, known: list[Any]) -> bool:
    if isinstance(value, bool) or value is None or value in known:
        return True
    if isinstance(value, str):
        return False
    limit = _TIMES * max((abs(n) for one in known for n in _flat(one) if not isinstance(n, str)), default=0)
    parts = _flat(value)
    longest = max(len(_flat(one)) for one in known)
    return len(parts) <= longest and all(not isinstance(n, str) and abs(n) <= limit for n in parts)


def _flat(value: Any) -> list[Any]:
    """The numbers and texts in a value of a setting."""
    if isinstance(value, list | tuple):
        return [inner for one in value for inner in _flat(one)]
    if isinstance(value, Mapping):
        return [inner for one in value.values() for inner in _flat(one)]
    return [] if value is None else [value]
