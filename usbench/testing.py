"""Tests that every method must pass: inherit `MethodTests` in a pytest file and name the method.

from usbench.testing import MethodTests

class TestMine(MethodTests):
    method = METHOD

The rules are those of `usbench check`, see docs/check.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from usbench.checks.learning import eight_slices
from usbench.checks.subject import Subject, mock_task
from usbench.checks.suite import CHECKS, get_check, run_check
from usbench.config import make_config
from usbench.contracts.method import Method
from usbench.fusions.build import build_model
from usbench.fusions.registry import declared, settings_of
from usbench.runtime.torchvision_cpu import make_importable

make_importable()

__all__ = ["MethodTests", "eight_slices", "mock_task"]

_OWN = {
    "fusions", "shape", "gradients", "modalities", "saves", "same-seed", "state", "samples", "bfloat16",
    "overfits", "pickles",
}  # fmt: skip
_REST = [check.name for check in CHECKS if check.name not in _OWN]


class MethodTests:
    """Conformance of one method under every fusion it declares.

    Attributes:
        method: The method.
        settings: Overrides such as {"method.encoder": "resnet18"} that make it small.
        modalities: The numbers of modalities tried.
        sizes: Height and width of slices, odd ones among them; of a method of volumes depth, height and
            width, by default what it sees under preset smoke and an odd size.
        overfit_size: Side of the slices on which `test_overfits_eight_slices` trains.
        overfit_steps: Its steps.
        overfit_lr: Its learning rate.
        thorough: Try every size with every number of modalities, train each fusion towards its outputs
            and on eight slices and in bfloat16, though fusions share an encoder and a decoder, and let
            `torch.compile` make code as `usbench check` does, which takes minutes for large networks.
    """

    method: Method
    settings: dict[str, Any] = {}  # noqa: RUF012
    modalities: tuple[int, ...] = (2, 3, 4)
    sizes: tuple[tuple[int, ...], ...] = ((64, 64), (50, 75))
    overfit_size: int = 64
    overfit_steps: int = 300
    overfit_lr: float = 1e-3
    thorough: bool = False

    def build(
        self, fusion: str, modalities: int = 2, classes: int = 2, merge: str = "mean-logits"
    ) -> nn.Module:
        """The network of a fusion with the test's settings, always from the same seed."""
        torch.manual_seed(0)
        overrides = {"fusion.merge": merge, **self.settings}
        the_fusion = declared(fusion)
        own = settings_of(the_fusion, overrides)
        of = self.method
        config = make_config("smoke", of.settings, of.presets, own, the_fusion, of.dims)
        assert config.fusion.get("merge", merge) == merge
        return build_model(self.method, mock_task(modalities, classes), the_fusion, config)

    def images(self, modalities: int = 2, size: tuple[int, ...] = (64, 64), batch: int = 2) -> Tensor:
        """A batch [B, M, H, W] or, with a depth in `size`, [B, M, D, H, W], always the same."""
        return torch.randn(batch, modalities, *size, generator=torch.Generator().manual_seed(1))

    def call(self, network: nn.Module, images: Tensor) -> Tensor:
        """The logits of a batch; overridden where a method needs precomputed rows.

        Args:
            network: As of `build`.
            images: [B, M, H, W].

        Returns:
            [B, K, H, W].
        """
        logits: Tensor = network(images)
        return logits

    def require(self, name: str, folder: Path = Path(), fusions: Sequence[str] | None = None) -> None:
        """Fail where the check `name` fails under a fusion protocol; skip where it applies to none."""
        absent = []
        for fusion in fusions or self.method.fusions:
            subject = Subject(
                self.method,
                fusion,
                folder,
                settings=self.settings,
                modalities=self.modalities,
                sizes=self.sizes,
                overfit_size=self.overfit_size,
                overfit_steps=self.overfit_steps,
                overfit_lr=self.overfit_lr,
                caller=self.call if self._calls_itself else None,
                thorough=self.thorough,
                compiler="inductor" if self.thorough else "aot_eager",
            )
            found = run_check(get_check(name), subject)
            assert found.state != "fail", f"{fusion}: {name}: {found.reason}; {found.remedy}"
            absent += [found.reason] if found.state == "n/a" else []
        if len(absent) == len(fusions or self.method.fusions):
            pytest.skip(absent[0])

    @property
    def _calls_itself(self) -> bool:
        return type(self).call is not MethodTests.call

    def test_shapes(self) -> None:
        """Logits [B, K, H, W] for every fusion, number of modalities and size, finite."""
        self.require("shape")

    def test_every_parameter_gets_a_gradient(self) -> None:
        """One backward pass reaches all that is trainable."""
        self.require("gradients")

    def test_every_modality_counts(self) -> None:
        """A change in any one modality changes the logits."""
        self.require("modalities")

    def test_save_and_load(self, tmp_path: Path) -> None:
        """A network built anew gives identical logits with the saved state."""
        self.require("saves", tmp_path)

    def test_same_seed_same_network(self) -> None:
        """Building twice from one seed gives the same weights."""
        self.require("same-seed")

    def test_no_state_between_batches(self) -> None:
        """In evaluation a batch's logits do not depend on what came before, nor on its neighbours."""
        self.require("state")
        self.require("samples")

    def test_bfloat16_is_finite(self) -> None:
        """Autocast to bfloat16 gives finite logits and gradients."""
        shares = self.method.build_network is not None and not self.thorough
        self.require("bfloat16", fusions=self.method.fusions[:1] if shares else None)

    def test_other_fusions_are_refused(self) -> None:
        """A fusion that is not declared is an error that says so."""
        self.require("fusions")

    @pytest.mark.slow
    def test_large_sizes(self) -> None:
        """Up to 1024 pixels a side, square or not: the logits have the size of the image."""
        self.require("large-sizes", fusions=self.method.fusions[:1])

    @pytest.mark.slow
    def test_compiles(self) -> None:
        """`torch.compile` accepts the network and changes its logits by rounding only."""
        self.require("compiles", fusions=self.method.fusions[:1])

    @pytest.mark.slow
    def test_overfits_eight_slices(self, tmp_path: Path) -> None:
        """Trained on eight slices of a phantom, the network segments them: a Dice over 0.9."""
        self.require("overfits", tmp_path)

    def test_pickles(self) -> None:
        """Networks go to other processes by pickle."""
        self.require("pickles")

    @pytest.mark.slow
    @pytest.mark.parametrize("name", _REST)
    def test_other_checks(self, name: str, tmp_path: Path) -> None:
        """What else `usbench check` looks at."""
        self.require(name, tmp_path)
