"""Numerical precisions: what a device does not compute in is refused, and scaled gradients are clipped.

A CPU stands for a GPU here: torch's `GradScaler` and autocast to float16 exist for both, and Fabric takes the
same way with them, where it is handed them.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from kit.places import TINY
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from torch import Tensor, nn

import usbench
from usbench.cli.main import main
from usbench.contracts.request import Request
from usbench.contracts.settings import TrainSettings
from usbench.datasets.batches import Slices
from usbench.errors import UsbenchError
from usbench.runs import plan
from usbench.runs.train import _epoch, adam_for
from usbench.runtime.devices import PRECISIONS, make_fabric, require_precision

CLIP = 0.01


def half_precision(scale: float) -> Fabric:
    """What `--precision 16` is on a GPU, on a CPU: autocast to float16 and gradients scaled."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))


def one_step(fabric: Fabric, clip: float) -> tuple[nn.Module, torch.optim.Adam, dict[str, float]]:
    """A network after an epoch of one batch of four slices, its optimiser and what is said of the epoch."""
    random = np.random.default_rng(0)
    images = random.normal(size=(4, 2, 16, 16)).astype(np.float16)
    case: Any = SimpleNamespace(
        images=images, mask=(images[:, 0] > 0.5).astype(np.uint8), foreground=np.ones(4, bool)
    )
    settings = TrainSettings(epochs=2, batch=4, lr=1e-2, weight_decay=0.0, clip=clip)
    made = network()
    adam = adam_for(list(made.parameters()), settings, fabric)
    model, wrapped = fabric.setup(made, adam)
    slices = Slices([case], 1, torch.device("cpu"))
    return made, adam, _epoch(model, made, wrapped, slices, settings, fabric, 0, 0)


def gradient_norm(adam: torch.optim.Adam) -> float:
    """The norm of the gradients that Adam saw in its first step: its mean of them is a tenth of them."""
    means = [state["exp_avg"].flatten() for state in adam.state.values()]
    return float(torch.cat(means).norm()) / 0.1


def weights(made: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in made.parameters()])


def test_fabric_clips_no_gradients_of_an_adam_in_one_kernel() -> None:
    """The reason for the other Adam; if this ever passes, one kernel will do for all."""
    fabric = half_precision(1024.0)
    made = network()
    model, adam = fabric.setup(made, torch.optim.Adam(made.parameters(), fused=True))
    fabric.backward(model(torch.ones(1, 2, 8, 8)).sum())
    with pytest.raises(NotImplementedError, match="clipping is not implemented for optimizers handling"):
        fabric.clip_gradients(model, adam, max_norm=1.0)


def test_scaled_gradients_are_clipped_as_they_are_without_their_scale() -> None:
    made, adam, row = one_step(half_precision(1024.0), CLIP)
    assert gradient_norm(adam) == pytest.approx(CLIP, rel=1e-3)
    assert math.isfinite(row["loss"])
    unscaled, _, other = one_step(half_precision(1.0), CLIP)
    assert row["loss"] == other["loss"]
    assert torch.allclose(weights(made), weights(unscaled), atol=1e-3)
    assert not torch.equal(weights(made), weights(network()))


def test_a_step_of_gradients_that_overflow_is_left_out() -> None:
    fabric = half_precision(2.0**40)
    made, adam, row = one_step(fabric, CLIP)
    assert math.isfinite(row["loss"])
    assert not adam.state
    assert torch.equal(weights(made), weights(network()))
    precision = fabric.strategy.precision
    assert isinstance(precision, MixedPrecision)
    assert precision.scaler is not None
    assert precision.scaler.get_scale() == 2.0**39


def test_gradients_that_are_scaled_and_not_clipped_take_one_kernel() -> None:
    made, adam, _ = one_step(half_precision(1024.0), 0.0)
    assert adam.defaults["fused"] is True
    assert gradient_norm(adam) > 10 * CLIP
    unscaled, _, _ = one_step(half_precision(1.0), 0.0)
    assert torch.allclose(weights(made), weights(unscaled), atol=1e-3)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_nothing_else_changes_the_optimiser(precision: str) -> None:
    _, adam, _ = one_step(make_fabric("cpu", 1, precision), CLIP)
    assert adam.defaults["fused"] is True
    assert gradient_norm(adam) == pytest.approx(CLIP, rel=1e-2)


def test_float16_is_refused_on_a_cpu_only() -> None:
    with pytest.raises(UsbenchError, match="--precision 16: a CPU does not train in float16; use --prec"):
        require_precision("16", "cpu")
    with pytest.raises(UsbenchError, match="--precision 16: a CPU"):
        make_fabric("cpu", 1, "16")
    require_precision("16", "cuda")
    for precision in ("32", "bf16"):
        require_precision(precision, "cpu")


@pytest.mark.parametrize(
    "precision", ["64", "16-true", "bf16-true", "16-mixed", "transformer-engine", "", "fp16", "32.0"]
)
def test_precisions_that_no_run_has_are_unknown(precision: str) -> None:
    with pytest.raises(UsbenchError, match=f"unknown precision '{precision}'"):
        usbench.run("unet", "early", "chaos", precision=precision)
    with pytest.raises(UsbenchError, match="unknown precision"):
        require_precision(precision, "cuda")


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_fabric_computes_in_what_was_asked_for(precision: str) -> None:
    assert make_fabric("cpu", 1, precision).strategy.precision.precision == PRECISIONS[precision]


def test_what_fabric_takes_in_place_of_a_precision_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does with float16 on a CPU, where usbench did not know of it."""
    monkeypatch.setitem(PRECISIONS, "half", "16-mixed")
    with pytest.raises(UsbenchError, match="--precision half: Lightning Fabric would compute in bf16-mixed"):
        make_fabric("cpu", 1, "half")


@pytest.mark.parametrize("way", ["run", "matrix", "file"])
def test_float16_on_a_cpu_is_refused_before_anything_is_made(tmp_path: Path, cache: Path, way: str) -> None:
    file, runs = tmp_path / "matrix.yaml", tmp_path / "runs"
    file.write_text("methods: [tiny]\nfusions: [early]\ntasks: [msd-prostate]\nprecision: 16\n")
    words = {
        "run": ["run", "--method", "tiny", "--task", "msd-prostate", "--precision", "16"],
        "matrix": ["matrix", "--methods", "tiny", "--tasks", "msd-prostate", "--precision", "16"],
        "file": ["matrix", str(file), "--dry-run"],
    }[way]
    before = sorted(cache.rglob("*"))
    words += ["--plugin", str(TINY), "--device", "cpu", "--runs-dir", str(runs)]
    made = CliRunner().invoke(main, words)
    assert isinstance(made.exception, UsbenchError), made.output
    said = str(made.exception)
    assert said.startswith("--precision 16: a CPU does not train in float16; use")
    assert "\n" not in said
    assert not list(tmp_path.rglob("result.json"))
    assert sorted(cache.rglob("*")) == before


@pytest.mark.parametrize("has", [True, False])
def test_a_run_at_bf16_says_where_the_processor_lacks_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_prostate: Path, has: bool
) -> None:
    monkeypatch.setattr(plan, "has_bfloat16", lambda: has)
    asked: dict[str, Any] = {"plugins": (TINY,), "device": "cpu", "data_dir": small_prostate}
    for precision in ("32", "bf16"):
        plan.make_plan(Request("tiny", "early", "msd-prostate", precision=precision, **asked))
        said = "this processor has no instructions for it" in capsys.readouterr().err
        assert said == (precision == "bf16" and not has)
