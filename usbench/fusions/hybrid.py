"""Hybrid fusion: an encoder a modality, features merged scale by scale, one decoder (Guo et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usbench.contracts.fusion import Fusion
from usbench.fusions.guo import PAPER

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.contracts.method import Method
    from usbench.fusions.networks import Hybrid

HYBRIDS = ("conv1x1", "concat")


def build_hybrid(method: Method, task: Task, settings: Mapping[str, Any], own: Mapping[str, Any]) -> Hybrid:
    """The encoders, merges and decoder of a method for the modalities of a task; own: {"hybrid": ...}."""
    from usbench.fusions.networks import Hybrid

    return Hybrid(method, len(task.modalities), len(task.classes), dict(settings), own["hybrid"])


FUSION = Fusion(
    "hybrid",
    PAPER,
    build_hybrid,
    settings={"hybrid": "conv1x1"},
    choices={"hybrid": HYBRIDS},
    label="hybrid",
    colour="#d55e00",
    colour_on_dark="#e69f00",
    mark="square",
)
