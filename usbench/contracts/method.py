"""What a method is. Three ways in: an encoder and a decoder, a whole segmenter, or an outside pipeline.

A method is described by a `Method`, made once at import and cheap to make: networks are built by
its `build` only when a run needs them. Their output is always logits [B, K, H, W], one sigmoid for each
foreground class, at the size of the input; networks of volumes (`Method.dims` 3) take [B, C, D, H, W] and
give [B, K, D, H, W], where D counts slices. A pipeline (`usbench.contracts.pipeline`) has no network here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from usbench.contracts.names import PROTOCOLS, is_name
from usbench.contracts.pipeline import Pipeline
from usbench.errors import UsbenchError

FUSIONS = PROTOCOLS

PIPELINE_FUSIONS = ("early", "late")
"""An outside pipeline takes modalities as channels, or runs once for each."""


class EncoderDecoder(nn.Module):
    """A network in two halves, which is what lets every fusion protocol follow for free.

    Args:
        encoder: Images [B, C, H, W] -> tuple of feature maps, finest first; volumes [B, C, D, H, W] where the
            method's `dims` is 3.
        decoder: Such a tuple -> logits [B, K, H, W], or [B, K, D, H, W].
        channels: The number of channels of each feature map.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, channels: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.channels = tuple(channels)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, K, H, W], or with D before H in both."""
        logits: Tensor = self.decoder(self.encoder(images))
        return logits


class Supervised(NamedTuple):
    """What a segmenter may give while it trains: its logits, and others that are trained on the same masks.

    So do networks with auxiliary decoders, or with masks at several scales (deep supervision). In evaluation
    a network gives its logits alone.

    Attributes:
        logits: [B, K, H, W] (under late fusion [B, M, K, H, W]), those that `usbench` scores; volumes have D
            before H.
        auxiliary: Others, each [B, K, H, W] at the size of the images. Dice and cross-entropy of each are
            added to the loss of the logits.
        weights: What each of those counts; nothing where each counts 1, as much as the logits.
    """

    logits: Tensor
    auxiliary: Sequence[Tensor]
    weights: Sequence[float] = ()


def _nothing() -> None:
    return None


def _no_remarks(notes: Sequence[Any]) -> list[str]:
    return []


@dataclass(frozen=True)
class Feature:
    """Rows that frozen parts of a method make once for every slice.

    Attributes:
        name: The keyword under which the network gets them.
        what: A few words for a progress bar.
        key: All that decides the rows besides the prepared images (settings, digests of weights); JSON-like.
        compute: Images [N, M, S, S] of one case, float32 on the device -> (rows [N, ...], a JSON-like note
            or None).
        per_slice: A slice's rows depend on that slice alone, so that they may also be computed for a batch of
            slices.
        free: Lets go of what `compute` loaded.
        remarks: From the notes of all cases, a line for each thing that did not go as it should (a text that
            fell back or was cut); they stand in the result.
        bits: Of a stored number: 16, or 8 with a scale for each map (`usbench.features.rows.Form`), where a
            number is off by half of the 127th part of its map's largest. Numbers are then other ones: let a
            setting of the method decide it, so that it is part of a cell's digest.
        mean_under: Fusions under which the network uses nothing of rows [N, M, ...] but their mean over
            modalities; stored then is that mean alone, and the network gets [N, 1, ...].
        per_modality: Rows are [N, M, ...], and those of a modality depend on its images alone. Then damaged
            scans of a few modalities cost no more than those of each (`usbench evaluate`).

    Raises:
        UsbenchError: For another number of bits.
    """

    name: str
    what: str
    key: Any
    compute: Callable[[Tensor], tuple[Tensor, Any]]
    per_slice: bool = True
    free: Callable[[], None] = _nothing
    remarks: Callable[[Sequence[Any]], list[str]] = _no_remarks
    bits: int = 16
    mean_under: tuple[str, ...] = ()
    per_modality: bool = False

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise UsbenchError(f"feature '{self.name}' has bits={self.bits}; choose 8 or 16")


@dataclass(frozen=True)
class Method:
    """A segmentation method, as the registry and a run see it.

    Exactly one of `build_network`, `build_segmenter` and `pipeline` is given.

    Attributes:
        name: As on the command line.
        paper: A full reference.
        build_network: `(in_channels, classes, **settings) -> EncoderDecoder`.
        build_segmenter: `(task, fusion, **settings) -> nn.Module` from images [B, M, H, W] to logits
            [B, K, H, W]. Under late fusion it may give the masks of every modality, [B, M, K, H, W], which
            are then merged as `fusion.merge` says. In training it may give `Supervised`.
        pipeline: A program that trains and predicts from a folder, with a recipe of its own.
        fusions: The protocols it supports, of a pipeline early and late alone; a segmenter may also name
            fusions of plugins (`Fusion`), under which an encoder and a decoder always run.
        settings: Names and defaults of what `--set method.KEY=VALUE` may change, all of them keyword
            arguments of the builder.
        presets: Other defaults, by preset: of its own settings by their names, of others as "section.key",
            such as "train.lr" or "volume.mode".
        weights: The words for what the network starts from, given the settings ("none", "imagenet").
        licence: The licence of those weights, given the settings; "none" where it starts from nothing.
        needed_weights: Which entries of the table of weights (`usbench weights list`) the method reads, given
            the settings. A run that lacks some names them all before it looks at data.
        dims: What its network sees: 2 for slices, 3 for volumes. Of a pipeline it says nothing.
        takes_shape: Whether the builder wants `shape`, the size of what the network is trained on, padded to
            `size_multiple`. With `dims` 3 it is (D, H, W), that of all volumes it will see (`volume.shape` or
            `volume.patch`), as networks with learned positions need. With `dims` 2 it is (H, W) of the slices
            (`data.size`), and the network still takes any other size.
        size_multiple: Inputs are padded to a multiple of this and the logits cropped back; with `dims` 3 it
            may be three numbers, for D, H and W.
        widens: Whether `build_network` takes `bottlenecks=M`, which makes a decoder whose deepest map is M of
            them concatenated; `fusion.hybrid=concat` needs that.
        features: For frozen parts. `(task, device, **settings) -> [Feature, ...]`; each is computed once for
            every case and stored, and the network is then called as
            `network(images, **{name: rows of the batch})`. Where rows depend on a slice, slices are augmented
            by a few views of each, whose rows are stored too (`train.views`).
        frozen_parameters: Parameters of frozen parts that are not in the network, given the settings.
        pretraining_overlap: What is known of the task's cases in the pretraining data.
        made_of: Modules beside the method's own code that it is built from, such as that of another method's
            network: a change in one of them makes new cells of this method too.
        home: The module of a plugin that the method was found in; the registry fills it in.
    """

    name: str
    paper: str
    build_network: Callable[..., EncoderDecoder] | None = None
    build_segmenter: Callable[..., nn.Module] | None = None
    pipeline: Pipeline | None = None
    fusions: tuple[str, ...] = FUSIONS
    settings: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    weights: Callable[[Mapping[str, Any]], str] = lambda settings: "none"
    licence: Callable[[Mapping[str, Any]], str] = lambda settings: "none"
    needed_weights: Callable[[Mapping[str, Any]], Sequence[str]] = lambda settings: ()
    dims: int = 2
    takes_shape: bool = False
    size_multiple: int | tuple[int, int, int] = 32
    widens: bool = False
    features: Callable[..., Sequence[Feature]] | None = None
    frozen_parameters: Callable[[Mapping[str, Any]], int] = lambda settings: 0
    pretraining_overlap: str = "none"
    made_of: tuple[str, ...] = ()
    home: str = ""

    def __post_init__(self) -> None:
        ways = (self.build_network, self.build_segmenter, self.pipeline)
        if sum(way is not None for way in ways) != 1:
            raise UsbenchError(
                f"method '{self.name}' must give build_network, build_segmenter or pipeline, one of the "
                "three; see usbench.contracts.method.Method"
            )
        if self.dims not in (2, 3):
            raise UsbenchError(f"method '{self.name}' has dims={self.dims}; choose 2 (slices) or 3 (volumes)")
        if self.features is not None and self.dims == 3:
            raise UsbenchError(
                f"method '{self.name}': features are computed slice by slice, which a method of volumes "
                "(dims=3) cannot use; run the frozen part within the network"
            )
        if isinstance(self.size_multiple, tuple) and (self.dims == 2 or len(self.size_multiple) != 3):
            raise UsbenchError(
                f"method '{self.name}' has size_multiple={self.size_multiple}; give one number, or with "
                "dims=3 three, for D, H and W"
            )
        if self.pipeline is not None:
            if not isinstance(self.pipeline, Pipeline):
                raise UsbenchError(
                    f"method '{self.name}': its pipeline is a {type(self.pipeline).__name__}; write "
                    "pipeline=usbench.Pipeline(...)"
                )
            if self.features is not None:
                raise UsbenchError(
                    f"method '{self.name}': a pipeline has no network that takes features; leave them out"
                )
            if self.fusions == FUSIONS:  # What stands there where nothing is said.
                able = tuple(f for f in PIPELINE_FUSIONS if f not in self.pipeline.why_not)
                object.__setattr__(self, "fusions", able)
        # It names folders of results.
        if not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise UsbenchError(f"method '{self.name}' has no sound name; use letters, digits and hyphens")
        for fusion in self.fusions:
            # Only a segmenter has a say in fusions of plugins; what looks like a slip is one.
            own = self.kind == "segmenter" and is_name(fusion)
            if fusion not in FUSIONS and (not own or difflib.get_close_matches(fusion.lower(), FUSIONS, n=1)):
                raise UsbenchError(
                    f"method '{self.name}' declares fusion '{fusion}'; choose from {', '.join(FUSIONS)}"
                )
            if self.pipeline is not None and fusion not in PIPELINE_FUSIONS:
                raise UsbenchError(f"method '{self.name}' declares fusion '{fusion}': {self.why_not(fusion)}")

    @property
    def kind(self) -> str:
        """Which of the three the method gives: "encoder-decoder", "segmenter" or "pipeline"."""
        if self.pipeline is not None:
            return "pipeline"
        return "encoder-decoder" if self.build_network else "segmenter"

    def why_not(self, fusion: str) -> str:
        """Why a pipeline does not run under a fusion, in a sentence; "" for other methods."""
        if self.pipeline is None:
            return ""
        return self.pipeline.why_not.get(fusion, "an outside pipeline has no halves to fuse between")
