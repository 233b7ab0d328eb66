"""Tests that every method must pass: inherit `MethodTests` in a pytest file and name the method.

from usbench.testing import MethodTests

class TestMine(MethodTests):
    method = METHOD
"""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from usbench.config import FusionSettings, make_config
from usbench.datasets.base import Modality, Structure, Task
from usbench.errors import UsbenchError
from usbench.fusion import build_model
from usbench.methods.contract import FUSIONS, Method
from usbench.training import dice_bce


def mock_task(modalities: int = 2, classes: int = 1) -> Task:
    """A task that exists nowhere, for tests: M modalities m0, m1, ... and K classes c0, c1, ..."""
    return Task(
        name="mock",
        title="Mock",
        layout="msd",
        folder=".",
        modalities=tuple(Modality(f"m{i}", f"scan {i}") for i in range(modalities)),
        classes=tuple(Structure(f"c{i}", f"organ {i}", labels=(i + 1,)) for i in range(classes)),
        case_ids=(),
        nsd_tolerance_mm=1.0,
        licence="none",
        citation="none",
        homepage="none",
    )


def eight_slices(folder: Path, size: int) -> tuple[Tensor, Tensor]:
    """Prostate phantom slices with the most foreground: images [8, 2, S, S], target [8, 1, S, S]."""
    from usbench.datasets.phantom import make_phantom
    from usbench.datasets.store import DataSettings, prepare
    from usbench.datasets.tasks import get_task

    task = get_task("msd-prostate")
    make_phantom(task, folder / "phantom", cases=1, seed=0)
    store = prepare(task, folder / "phantom", DataSettings(size=size), workers=1, cache=folder / "prepared")
    case = store.case(store.case_ids[0])
    chosen = case.mask.astype(bool).sum(axis=(1, 2)).argsort()[-8:]
    images = torch.from_numpy(case.images[chosen].astype("float32"))
    return images, torch.from_numpy(case.mask[chosen][:, None].astype("float32"))


class MethodTests:
    """Conformance of one method under every fusion it declares.

    method: the method. settings: overrides such as {"method.encoder": "resnet18"} that make it
    small. modalities: the numbers of modalities tried. sizes: slice sizes, odd ones among them.
    overfit_size, overfit_steps, overfit_lr: how `test_overfits_eight_slices` trains.
    """

    method: Method
    settings: dict[str, Any] = {}  # noqa: RUF012
    modalities: tuple[int, ...] = (2, 3, 4)
    sizes: tuple[tuple[int, int], ...] = ((64, 64), (50, 75))
    overfit_size: int = 64
    overfit_steps: int = 300
    overfit_lr: float = 1e-3

    def build(
        self, fusion: str, modalities: int = 2, classes: int = 2, merge: str = "mean-logits"
    ) -> nn.Module:
        """The network of a fusion with the test's settings, always from the same seed."""
        torch.manual_seed(0)
        overrides = {"fusion.merge": merge, **self.settings}
        config = make_config("smoke", self.method.settings, self.method.presets, overrides)
        assert config.fusion == FusionSettings(merge, config.fusion.hybrid)
        return build_model(self.method, mock_task(modalities, classes), fusion, config)

    def images(self, modalities: int = 2, size: tuple[int, int] = (64, 64), batch: int = 2) -> Tensor:
        """A batch [B, M, H, W], always the same."""
        return torch.randn(batch, modalities, *size, generator=torch.Generator().manual_seed(1))

    def call(self, network: nn.Module, images: Tensor) -> Tensor:
        """The logits of a batch; overridden where a method needs precomputed rows."""
        logits: Tensor = network(images)
        return logits

    def test_shapes(self) -> None:
        """Logits [B, K, H, W] for every fusion, number of modalities and size, finite."""
        for fusion, count, size in itertools.product(self.method.fusions, self.modalities, self.sizes):
            network = self.build(fusion, count).eval()
            with torch.no_grad():
                logits = self.call(network, self.images(count, size))
            assert logits.shape == (2, 2, *size), f"{fusion}, M={count}, size {size}"
            assert torch.isfinite(logits).all(), f"{fusion}, M={count}, size {size}"

    def test_every_parameter_gets_a_gradient(self) -> None:
        """One backward pass reaches all that is trainable."""
        for fusion, count in itertools.product(self.method.fusions, self.modalities):
            network = self.build(fusion, count).train()
            self.call(network, self.images(count)).square().mean().backward()
            dead = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
            assert not dead, f"{fusion}, M={count}: no gradient for {dead[:5]}"

    def test_every_modality_counts(self) -> None:
        """A change in any one modality changes the logits."""
        for fusion, count in itertools.product(self.method.fusions, self.modalities):
            network, images = self.build(fusion, count).eval(), self.images(count)
            with torch.no_grad():
                before = self.call(network, images)
                for modality in range(count):
                    changed = images.clone()
                    changed[:, modality] = changed[:, modality].flip(-1) + 1
                    after = self.call(network, changed)
                    assert not torch.allclose(before, after), (
                        f"{fusion}: modality {modality} of {count} is ignored"
                    )

    def test_save_and_load(self, tmp_path: Path) -> None:
        """A network built anew gives identical logits with the saved state."""
        for fusion in self.method.fusions:
            network, images = self.build(fusion).eval(), self.images()
            torch.save(network.state_dict(), tmp_path / "state.pt")
            other = self.build(fusion)
            for parameter in other.parameters():
                nn.init.normal_(parameter)
            other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
            with torch.no_grad():
                assert torch.equal(self.call(network, images), self.call(other.eval(), images)), fusion

    def test_same_seed_same_network(self) -> None:
        """Building twice from one seed gives the same weights."""
        for fusion in self.method.fusions:
            one, two = self.build(fusion).state_dict(), self.build(fusion).state_dict()
            assert all(torch.equal(one[name], two[name]) for name in one), fusion

    def test_no_state_between_batches(self) -> None:
        """In evaluation a batch's logits do not depend on what came before, nor on its neighbours."""
        for fusion in self.method.fusions:
            network, images = self.build(fusion).eval(), self.images(batch=3)
            with torch.no_grad():
                first = self.call(network, images)
                self.call(network, images * 3 + 1)
                assert torch.equal(first, self.call(network, images)), fusion
                alone = self.call(network, images[:1])
            assert torch.allclose(first[:1], alone, atol=1e-4), fusion

    def test_bfloat16_is_finite(self) -> None:
        """Autocast to bfloat16 gives finite logits and gradients."""
        for fusion in self.method.fusions:
            network = self.build(fusion).train()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = self.call(network, self.images())
            logits.float().square().mean().backward()
            assert torch.isfinite(logits).all(), fusion
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            assert all(torch.isfinite(g).all() for g in gradients), fusion

    def test_other_fusions_are_refused(self) -> None:
        """A fusion that is not declared is an error that says so."""
        for fusion in set(FUSIONS) - set(self.method.fusions):
            with pytest.raises(UsbenchError, match=fusion):
                self.build(fusion)

    @pytest.mark.slow
    def test_large_sizes(self) -> None:
        """Up to 1024 pixels a side, square or not: the logits have the size of the image."""
        network = self.build(self.method.fusions[0]).eval()
        for size in ((1024, 1024), (1024, 64), (480, 736)):
            with torch.no_grad():
                logits = self.call(network, self.images(size=size, batch=1))
            assert logits.shape == (1, 2, *size), f"size {size}"
            assert torch.isfinite(logits).all(), f"size {size}"

    @pytest.mark.slow
    def test_compiles(self) -> None:
        """`torch.compile` accepts the network and changes its logits by rounding only."""
        network, images = self.build(self.method.fusions[0]).eval(), self.images()
        compiled = cast(nn.Module, torch.compile(network))
        with torch.no_grad():
            assert torch.allclose(self.call(compiled, images), self.call(network, images), atol=1e-3)

    @pytest.mark.slow
    def test_overfits_eight_slices(self, tmp_path: Path) -> None:
        """Trained on eight slices of a phantom, the network segments them: a Dice over 0.9."""
        images, target = eight_slices(tmp_path, self.overfit_size)
        for fusion in self.method.fusions:
            network = self.build(fusion, modalities=images.shape[1], classes=1).train()
            adam = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=self.overfit_lr)
            dice = 0.0
            for _ in range(self.overfit_steps):
                adam.zero_grad()
                logits = self.call(network, images)
                dice_loss, bce = dice_bce(logits, target)
                (dice_loss + bce).backward()
                adam.step()
                mask = (logits.detach() > 0).float()
                dice = float(2 * (mask * target).sum() / (mask.sum() + target.sum()))
                if dice > 0.93:
                    break
            assert dice > 0.9, f"{fusion}: {dice:.3f} after {self.overfit_steps} steps"

    def test_pickles(self) -> None:
        """Networks go to other processes by pickle."""
        for fusion in self.method.fusions:
            network, images = self.build(fusion).eval(), self.images()
            copy = pickle.loads(pickle.dumps(network)).eval()
            with torch.no_grad():
                assert torch.equal(self.call(network, images), self.call(copy, images)), fusion
