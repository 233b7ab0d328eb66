"""Early fusion: the modalities are the channels of one network (Guo et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usbench.contracts.fusion import Fusion
from usbench.fusions.guo import PAPER

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.contracts.method import Method
    from usbench.fusions.networks import Early


def build_early(method: Method, task: Task, settings: Mapping[str, Any]) -> Early:
    """The network of a method that sees all modalities of a task at once."""
    from usbench.fusions.networks import Early

    return Early(method, len(task.modalities), len(task.classes), dict(settings))


FUSION = Fusion(
    "early", PAPER, build_early, label="early", colour="#0072b2", colour_on_dark="#56b4e9", mark="circle"
)
