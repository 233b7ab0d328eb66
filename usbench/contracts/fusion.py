"""What a fusion is: early, hybrid and late are fusions, and plugins bring others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from usbench.contracts.names import is_name
from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from torch import nn

    from usbench.contracts.data import Task
    from usbench.contracts.method import Method

Mark = Literal["circle", "square", "triangle", "diamond"]


@dataclass(frozen=True)
class Fusion:
    """A fusion protocol: how the modalities of a patient become one mask.

    Attributes:
        name: As on the command line: letters, digits and hyphens.
        paper: A full reference.
        build: `(method, task, settings) -> nn.Module` from images [B, M, H, W] to logits [B, K, H, W], for
            any method of kind encoder-decoder: `method.build_network(in_channels, classes, **settings)` makes
            as many networks as are wanted. H and W are multiples of `method.size_multiple`; M is
            `len(task.modalities)` and K `len(task.classes)`. settings: those of the method. Where the fusion
            has settings of its own it is called as `build(method, task, settings, own)`.
        settings: Names and defaults of what `--set fusion.KEY=VALUE` may change.
        choices: The values that a setting may have, by its name, for those that are a choice.
        label: What tables and pages call it; by default its name.
        colour: What it is drawn in, "#rrggbb"; by default one that no other fusion of the table has.
        colour_on_dark: The same on a dark page; by default `colour`.
        mark: The shape of its marks in plots.
        around_segmenter: For a segmenter, which the fusion does not build: `(network, task, own) ->
            nn.Module` puts around its network what the fusion does at the end; by default nothing. A
            segmenter runs under a fusion only if it declares its name: its `build_segmenter` gets the name.

    Raises:
        UsbenchError: For a name, a setting or a colour that is not sound.
    """

    name: str
    paper: str
    build: Callable[..., nn.Module]
    settings: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    label: str = ""
    colour: str = ""
    colour_on_dark: str = ""
    mark: Mark = "diamond"
    around_segmenter: Callable[[nn.Module, Task, Mapping[str, Any]], nn.Module] | None = None

    def __post_init__(self) -> None:
        where = f"fusion '{self.name}'"
        if not is_name(self.name):
            raise UsbenchError(f"{where} has no sound name; use letters, digits and hyphens")
        if not callable(self.build):
            raise UsbenchError(f"{where}: build is no function; see usbench.Fusion")
        for key in (*self.settings, *self.choices):
            if not isinstance(key, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", key):
                raise UsbenchError(f"{where}: setting {key!r} has no sound name; use a-z, 0-9 and _")
        if lost := sorted(set(self.choices) - set(self.settings)):
            raise UsbenchError(f"{where}: choices names '{lost[0]}', which is no setting of it; add it")
        for colour in (self.colour, self.colour_on_dark):
            if colour and not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
                raise UsbenchError(f"{where}: its colour '{colour}' is no colour; write it as #rrggbb")

    def network(
        self, method: Method, task: Task, settings: Mapping[str, Any], own: Mapping[str, Any]
    ) -> nn.Module:
        """What `build` makes of an encoder and a decoder.

        Args:
            method: The method that gives the encoder and the decoder.
            task: Its M modalities and K classes.
            settings: The settings of the method.
            own: The settings of the fusion.

        Returns:
            A network from images [B, M, H, W] to logits [B, K, H, W].
        """
        words = (dict(own),) if self.settings else ()
        return self.build(method, task, dict(settings), *words)
