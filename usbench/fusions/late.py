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


def build_late(method: Method, task: Task, settings: Mapping[str, Any], own: Mapping[str, Any]) -> Late:
    """A network of a method for each modality of a task, and their merge; own: {"merge": ...}."""
    from usbench.fusions.networks import Late

    return Late(method, len(task.modalities), len(task.classes), dict(settings), own["merge"])


def merged_segmenter(network: nn.Module, task: Task, own: Mapping[str, Any]) -> Merged:
    """A segmenter whose masks, where it gives one a modality, are merged; own: {"merge": ...}."""
    from usbench.fusions.segmenter import Merged

    return Merged(network, len(task.modalities), len(task.classes), own["merge"])


FUSION = Fusion(
    "late",
    PAPER,
    build_late,
    settings={"merge": "mean-logits"},
    choices={"merge": MERGES},
    label="late",
    colour="#009e73",
    mark="triangle",
    around_segmenter=merged_segmenter,
)
