"""Late fusion: a whole network a modality, trained through the merge of their masks (Guo et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from usbench.contracts.fusion import Fusion
from usbench.fusions.guo import PAPER

if TYPE_CHECKING:
    from torch import nn

    from usbench.contracts.data import Task
    from usbench.contracts.method import Method
    from usbench.fusions.networks import Late
    from usbench.fusions.segmenter import Merged


MERGES = ("mean-logits", "mean-probs", "vote", "learned")

ABSENT = ("skip", "zero")
"""Of a modality that a patient lacks: its mask is left out of the merge, or made from an image of zeros."""


def build_late(method: Method, task: Task, settings: Mapping[str, Any], own: Mapping[str, Any]) -> Late:
    """A network of a method for each modality of a task, and their merge; own: {"merge", "absent"}."""
    from usbench.fusions.networks import Late

    return Late(method, len(task.modalities), len(task.classes), dict(settings), own["merge"], own["absent"])


def merged_segmenter(network: nn.Module, task: Task, own: Mapping[str, Any]) -> Merged:
    """A segmenter whose masks, where it gives one a modality, are merged; own: {"merge", "absent"}."""
    from usbench.fusions.segmenter import Merged

    return Merged(network, len(task.modalities), len(task.classes), own["merge"], own["absent"])


FUSION = Fusion(
    "late",
    PAPER,
    build_late,
    settings={"merge": "mean-logits", "absent": "skip"},
    choices={"merge": MERGES, "absent": ABSENT},
    label="late",
    colour="#009e73",
    mark="triangle",
    around_segmenter=merged_segmenter,
)
