"""Every network on a GPU that is not there: nothing that it computes with was left on the CPU.

Training is `usbench.runs.train._epoch` itself (augmentation, absent modalities, forward and loss) but for
the backward pass, which torch does not follow without a GPU; prediction is `usbench.runs.predict.predict`.
These are run at every precision of a GPU. `tests/kit/fake_cuda.py` says how. Of a real GPU nothing is shown
here: neither speed nor numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from kit.fake_cuda import CUDA, TYPES, fake_cuda, needs_cuda_build
from kit.stacked import stacked
from kit.tiny_models import llama_folder
from torch import Tensor, nn

from usbench.checks.subject import mock_task
from usbench.config import make_config
from usbench.contracts.settings import TrainSettings
from usbench.datasets.batches import Slices
from usbench.datasets.ways import way_of
from usbench.fusions.build import build_model
from usbench.fusions.late import MERGES
from usbench.fusions.merge import merge_logits
from usbench.fusions.registry import get_fusion
from usbench.fusions.segmenter import takes_present
from usbench.methods.registry import BUILT_IN, get_method
from usbench.runs.predict import predict
from usbench.runs.train import _epoch

pytestmark = [pytest.mark.slow, needs_cuda_build]

SIZE = 64
NETWORKS = [name for name in BUILT_IN if name not in ("mist", "nnunet", "zeus")]
SMALL = {
    "medvisionllama": {"method.width": 32, "method.depth": 2, "method.heads": 4, "method.llm": "llama"},
    "mulmodseg": {"method.text": "random"},
}


class Wrong(AssertionError):
    """A tensor is on another device than it should be."""


def on_gpu(tensor: Tensor) -> None:
    if tensor.device != CUDA:
        raise Wrong(f"on {tensor.device}")


def stand_in() -> Any:
    """What `_epoch` needs of Fabric and of an optimiser, without a backward pass."""

    def backward(loss: Tensor) -> None:
        on_gpu(loss)
        assert loss.dtype == torch.float32
        assert loss.shape == ()

    return SimpleNamespace(
        device=CUDA,
        world_size=1,
        global_rank=0,
        is_global_zero=True,
        backward=backward,
        clip_gradients=lambda *_, **__: None,
        all_reduce=lambda tensor, reduce_op: tensor,
        autocast=nullcontext,  # `fake_cuda` has entered it
    )


OPTIMIZER: Any = SimpleNamespace(param_groups=[{}], zero_grad=lambda **_: None, step=lambda: None)


def train(network: nn.Module, data: Any, dropout: float = 0.5) -> None:
    """An epoch of one batch; what it says of its loss is read from the device."""
    settings = TrainSettings(
        epochs=1, batch=4, augment="light", modality_dropout=dropout, mirror=True, clip=1.0, empty=1.0
    )
    said = _epoch(network, network, OPTIMIZER, data, settings, stand_in(), seed=0, epoch=0)
    assert said["slices"] >= 1


def case(size: int = SIZE) -> Any:
    """Four slices of two modalities on a native grid that is not the network's."""
    from usbench.datasets.geometry import SliceGeometry

    native = SliceGeometry.from_affine((size + 16, size + 16, 4), np.diag([-1.0, -1.0, 3.0, 1.0]))
    return stacked(slices=4, size=size, geometry=native)


def try_all(
    monkeypatch: pytest.MonkeyPatch, build: Callable[[], nn.Module], config: Any, extras: Any = ()
) -> None:
    """Train and predict with a network at every precision."""
    one, way = case(), way_of(config)
    for precision in TYPES:
        network = build().train()
        with fake_cuda(monkeypatch, precision):
            network.to(CUDA)
            train(network, way.training([one], 2, CUDA, False, extras))
            for present in (None, [True, False]) if takes_present(network) and not extras else (None,):
                made = predict(
                    network,
                    one,
                    2,
                    CUDA,
                    extras=extras,
                    fabric=stand_in(),
                    probabilities=True,
                    present=present,
                    way=way,
                )
                assert made.volume.shape == (SIZE + 16, SIZE + 16, 4)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("llama") / "tiny"
    llama_folder(made)
    return made


def cells() -> list[Any]:
    """Every network under every fusion that it has."""
    made = []
    for name in NETWORKS:
        for fusion in get_method(name)[0].fusions:
            modes = ("whole", "patch") if get_method(name)[0].dims == 3 and fusion == "late" else ("",)
            made += [
                pytest.param(name, fusion, mode, id=f"{name}-{fusion}{mode and '-'}{mode}") for mode in modes
            ]
    return made


@pytest.mark.parametrize(("name", "fusion", "mode"), cells())
def test_networks(monkeypatch: pytest.MonkeyPatch, llama: Path, name: str, fusion: str, mode: str) -> None:
    method, _ = get_method(name)
    own: dict[str, Any] = dict(SMALL.get(name, {}))
    if name == "medvisionllama":
        own["method.llm_path"] = str(llama)
    if mode:
        # Where a patch is centred on foreground, values of the mask are looked at.
        own |= {"volume.mode": mode, "volume.foreground": 0.0}
    config = make_config(
        "smoke", method.settings, method.presets, own, get_fusion(fusion).fusion, method.dims
    )
    task = mock_task(2, 2)
    try_all(monkeypatch, lambda: build_model(method, task, get_fusion(fusion).fusion, config), config)


ZEUS = [
    pytest.param(fusion, instruction, id=f"{fusion}-{instruction}")
    for fusion in ("hybrid", "late")
    for instruction in ("text", "none")
]


@pytest.mark.parametrize(("fusion", "instruction"), ZEUS)
def test_zeus(monkeypatch: pytest.MonkeyPatch, fusion: str, instruction: str) -> None:
    """Its decoders get rows of frozen parts; of their weights only the shape counts, so none is loaded.

    Absent modalities are left to other tests: hybrid fusion then asks which values a tensor has.
    """
    method, _ = get_method("zeus")
    own = {"method.instruction": instruction}
    config = make_config("smoke", method.settings, method.presets, own, get_fusion(fusion).fusion, 2)

    def build() -> nn.Module:
        with torch.device("meta"):
            return build_model(method, mock_task(2, 2), get_fusion(fusion).fusion, config)

    modalities = 1 if fusion == "hybrid" else 2
    rows: dict[str, Any] = {"embedding": np.ones((4, modalities, 256, 4, 4), np.float16)}
    if instruction == "text":
        rows["instruction"] = np.ones((4, 2, 2, 384), np.float16)
    one = case()
    for precision in TYPES:
        network = build().train()
        with fake_cuda(monkeypatch, precision):
            network.to(CUDA)
            train(network, Slices([one], 2, CUDA, [rows]), dropout=0.0)
            predict(network, one, 2, CUDA, extras=[rows], fabric=stand_in())
            if fusion == "late":
                there = torch.ones(4, 2, dtype=torch.bool, device=CUDA)
                moved = {name: torch.ones(a.shape, device=CUDA) for name, a in rows.items()}
                on_gpu(network(torch.ones(4, 2, SIZE, SIZE, device=CUDA), present=there, **moved))


@pytest.mark.parametrize("resident", [True, False])
def test_features_and_batches(monkeypatch: pytest.MonkeyPatch, resident: bool) -> None:
    """Slices that stay on the device and those that are read, with stored rows and rows made anew."""
    one = case()
    rows: dict[str, Any] = {"stored": np.ones((4, 3), np.float16), "fresh": None}
    with fake_cuda(monkeypatch):
        seen: list[Tensor] = []

        def fresh(images: Tensor) -> Tensor:
            seen.append(images)
            return images.mean(dim=(2, 3))

        slices = Slices([one], 2, CUDA, [rows], {"fresh": fresh}, resident=resident)
        ((images, target, extras),) = slices.batches([np.array([0, 1, 3])])
        for tensor in (images, target, *extras.values(), *seen):
            on_gpu(tensor)
        assert sorted(extras) == ["fresh", "stored"]
        assert seen[0].shape == (3, 2, SIZE, SIZE)


@pytest.mark.parametrize("merge", MERGES)
def test_merges(monkeypatch: pytest.MonkeyPatch, merge: str) -> None:
    for precision in TYPES:
        with fake_cuda(monkeypatch, precision):
            logits = torch.rand(2, 3, 2, 8, 8, device=CUDA, dtype=TYPES[precision])
            weight = torch.zeros(3, 2, device=CUDA)
            for present in (None, torch.ones(2, 3, dtype=torch.bool, device=CUDA)):
                on_gpu(merge_logits(logits, merge, weight, present))


class Left(nn.Module):
    """A network with a fault: a tensor that does not move with it, or is made on the CPU."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.kept = torch.ones(1, 2, 1, 1)
        self.register_buffer("carried", torch.ones(1, 2, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.conv(images)
        if self.fault == "kept":
            return found * self.kept
        if self.fault == "zeros":
            return torch.cat([found[:, :1], torch.zeros(len(images), 1, *images.shape[2:])], dim=1)
        if self.fault == "weights":
            return nn.functional.conv2d(found, torch.ones(2, 2, 1, 1))
        if self.fault == "home":
            return found.cpu()
        if self.fault == "numpy":
            return found + torch.from_numpy(found.detach().numpy()).to(found.device)
        carried: Tensor = self.carried  # type: ignore[assignment]
        return found * carried


@pytest.mark.parametrize("fault", ["kept", "zeros", "weights", "home", "numpy", ""])
def test_planted_faults_are_found(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    config = make_config("smoke", {}, {}, {})
    if not fault:
        try_all(monkeypatch, lambda: Left(fault), config)
        return
    words = "device|can't convert cuda:0 device type tensor to numpy"
    with pytest.raises((RuntimeError, TypeError, Wrong), match=words):
        try_all(monkeypatch, lambda: Left(fault), config)


def test_networks_that_compute_in_float16_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for autocast is one: a matrix product is of the type that was asked for."""
    for precision, dtype in TYPES.items():
        with fake_cuda(monkeypatch, precision):
            made = nn.functional.conv2d(
                torch.ones(1, 2, 8, 8, device=CUDA), torch.ones(2, 2, 3, 3, device=CUDA)
            )
            assert made.dtype == (dtype or torch.float32)
