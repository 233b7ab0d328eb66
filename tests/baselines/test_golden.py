"""Stored outputs of every built-in network from a fixed seed: nobody changes one without noticing.

`python tests/baselines/test_golden.py` writes golden.json beside it, after a change that was meant: what
is new or differs gets a new line, all else stays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.volume_tests import volume_config, volumes

from usbench.config import make_config
from usbench.contracts.method import Method
from usbench.fusions.build import build_model
from usbench.fusions.registry import get_fusion
from usbench.methods.registry import BUILT_IN, get_method
from usbench.testing import mock_task

FILE = Path(__file__).with_name("golden.json")
MODALITIES, CLASSES, SIZE = (2, 3, 4), 2, 64


def outputs(name: str, fusion: str, modalities: int) -> list[float]:
    """Mean, deviation and eight values of the logits, in float32 on the CPU."""
    method, _ = get_method(name)
    if method.dims == 3:
        shape = method.presets["smoke"].get("volume.shape", (8, 32, 32))
        config = volume_config(method, shape, **WITHOUT_WEIGHTS.get(name, {}))
        images = volumes(modalities, shape)
    else:
        own = {f"method.{key}": value for key, value in WITHOUT_WEIGHTS.get(name, {}).items()}
        config = make_config("smoke", method.settings, method.presets, own)
        images = torch.randn(1, modalities, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    network = build_model(method, mock_task(modalities, CLASSES), get_fusion(fusion).fusion, config).eval()
    with torch.no_grad():
        logits = network(images)
    places = logits.flatten()[:: logits.numel() // 8][:8]
    return [round(float(v), 6) for v in (logits.mean(), logits.std(), *places)]


EVERY_DAY = ("unet", "unext-small")
"""The others are large, and come with the slow tests."""


WITHOUT_WEIGHTS: dict[str, dict[str, Any]] = {
    "medvisionllama": {"llm": "random", "depth": 1},
    "mulmodseg": {"text": "random"},
}
"""Settings of the methods that would read weights: with these they draw them."""


def _reads_weights(method: Method) -> bool:
    return method.frozen_parameters(method.settings) > 0


def cells() -> list[Any]:
    return [
        pytest.param(name, fusion, modalities, marks=() if name in EVERY_DAY else pytest.mark.slow)
        for name in sorted(BUILT_IN)
        if get_method(name)[0].features is None
        and get_method(name)[0].pipeline is None
        and (name in WITHOUT_WEIGHTS or not _reads_weights(get_method(name)[0]))
        for fusion in get_method(name)[0].fusions
        for modalities in MODALITIES
    ]


def like(stored: list[float], values: list[float]) -> bool:
    scale = max(1e-3, max(map(abs, stored)))
    return values == pytest.approx(stored, abs=2e-3 * scale)


@pytest.mark.parametrize(("name", "fusion", "modalities"), cells())
def test_output_is_the_stored_one(name: str, fusion: str, modalities: int) -> None:
    stored = json.loads(FILE.read_text())[f"{name}-{fusion}-{modalities}"]
    assert like(stored, outputs(name, fusion, modalities))


if __name__ == "__main__":
    before = json.loads(FILE.read_text())
    found = {}
    for name, fusion, modalities in (cell.values for cell in cells()):
        key, values = f"{name}-{fusion}-{modalities}", outputs(name, fusion, modalities)
        # The last digits differ between machines: what is still right stays as it is.
        found[key] = before[key] if key in before and like(before[key], values) else values
    lines = [f"{json.dumps(key)}: {json.dumps(values)}" for key, values in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
