"""What a fusion is that a plugin brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from usbench.contracts.names import is_name
from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.contracts.method import Method


@dataclass(frozen=True)
class Fusion:
    """A fusion protocol that a plugin brings, beside early, hybrid and late.

    name: as on the command line: letters, digits and hyphens. paper: a full reference.
    build: `(method, task, settings) -> nn.Module` from images [B, M, H, W] to logits [B, K, H, W], for any
    method of kind encoder-decoder: `method.build_network(in_channels, classes, **settings)` makes as many
    networks as are wanted. H and W are multiples of `method.size_multiple`; M is `len(task.modalities)`
    and K `len(task.classes)`. settings: those of the method. A segmenter runs under the fusion only if
    it declares its name, and does then by itself what that means: its `build_segmenter` gets the name.
    """

    name: str
    paper: str
    build: Callable[[Method, Task, Mapping[str, Any]], nn.Module]

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise UsbenchError(f"fusion '{self.name}' has no sound name; use letters, digits and hyphens")
        if not callable(self.build):
            raise UsbenchError(f"fusion '{self.name}': build is no function; see usbench.Fusion")
