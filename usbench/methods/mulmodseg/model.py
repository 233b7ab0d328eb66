"""MulModSeg: any encoder and decoder, told in words which organ is sought in which modality.

Li et al.: MulModSeg: Enhancing Unpaired Multi-Modal Medical Image Segmentation with Modality-Conditioned Text
Embedding and Alternating Training. WACV 2025, arXiv:2411.15576. The network's own last layer gives way to
`head.Head`, which a frozen embedding of "A <modality> of a <organ>." writes anew for each class and slice.

The paper trains one network on scans of two modalities in turn, each scan with the texts of its own. Here the
modalities of a patient come together. Early fusion has one network, hybrid fusion an encoder for each
modality and one decoder; both take, for each class, the mean of the embeddings of the modalities that are
there. Late fusion has a network with a head for each modality, told of that one alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from usbench import EncoderDecoder, Method
from usbench.baselines import attunet, resunet, unet, unet_classic, unetpp
from usbench.methods.mulmodseg.head import Head
from usbench.methods.mulmodseg.texts import (
    Texts,
    check_texts,
    frozen_parameters,
    licence_of,
    weights_of,
    words_of,
)
from usbench.tools import unknown

if TYPE_CHECKING:
    from usbench import Task

_MODULES = (unet, unetpp, unet_classic, attunet, resunet)
NETWORKS: dict[str, Method] = {module.METHOD.name: module.METHOD for module in _MODULES}
"""Networks whose decoder ends in a layer `head` on a map of the image's size."""


class Branch(nn.Module):
    """One or several encoders, one decoder without its last layer, and the head in its place.

    Args:
        network: A name of `NETWORKS`.
        settings: Those of the method, of which the network takes its own.
        encoders: How many encoders.
        channels: Of the images that each of them sees.
        classes: K.
        width: Of a text.
    """

    def __init__(
        self,
        network: str,
        settings: Mapping[str, Any],
        encoders: int,
        channels: int,
        classes: int,
        width: int,
    ) -> None:
        super().__init__()
        built = [_built(network, settings, channels, classes) for _ in range(encoders)]
        maps = built[0].channels
        self.encoders = nn.ModuleList(one.encoder for one in built)
        self.merges = nn.ModuleList(
            nn.Conv2d(encoders * c, c, kernel_size=1) if encoders > 1 else nn.Identity() for c in maps
        )
        self.decoder = built[0].decoder
        ending = self.decoder.get_submodule("head").modules()
        last = next(layer for layer in ending if isinstance(layer, nn.Conv2d)).in_channels
        self.decoder.head = nn.Identity()
        self.head = Head(last, maps[-1], width)

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """images [B, encoders * channels, H, W], texts [B, K, width] -> logits [B, K, H, W]."""
        parts = images.chunk(len(self.encoders), dim=1)
        pyramids = [encoder(part) for encoder, part in zip(self.encoders, parts, strict=True)]
        merged = tuple(
            merge(torch.cat(maps, dim=1))
            for merge, maps in zip(self.merges, zip(*pyramids, strict=True), strict=True)
        )
        logits: Tensor = self.head(self.decoder(merged), merged[-1], texts)
        return logits


class MulModSeg(nn.Module):
    """The network of a task under a fusion.

    Args:
        task: Its M modalities and K classes.
        fusion: "early", "hybrid" or "late".
        settings: As `METHOD.settings`.

    Attributes:
        takes_present: Whether it is told which modalities are there: where it takes the mean of their texts.
            Late fusion leaves that to the merge.

    Raises:
        UsbenchError: Naming the setting that is wrong, or the weights that are absent and how to get them.
    """

    def __init__(self, task: Task, fusion: str, settings: Mapping[str, Any]) -> None:
        super().__init__()
        name = _network(settings)[0].name
        text, encoder = check_texts(settings)
        self.late = fusion == "late"
        self.takes_present = not self.late
        modalities, classes = len(task.modalities), len(task.classes)
        encoders, channels = (1, modalities) if fusion == "early" else (modalities, 1)
        self.texts = Texts(task, text, encoder)
        self.branches = nn.ModuleList(
            Branch(name, settings, 1 if self.late else encoders, channels, classes, self.texts.width)
            for _ in range(modalities if self.late else 1)
        )

    def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor:
        """Segment a batch of slices.

        Args:
            images: [B, M, H, W]; H and W are multiples of 32.
            present: Which modalities each slice has, bool [B, M]; None for all.

        Returns:
            Logits [B, K, H, W]; under late fusion those of every modality, [B, M, K, H, W].
        """
        batch = len(images)
        if not self.late:
            logits: Tensor = self.branches[0](images, self.texts(present, batch))
            return logits
        masks = [
            branch(image, own.expand(batch, -1, -1))
            for branch, image, own in zip(
                self.branches, images.split(1, dim=1), self.texts.vectors, strict=True
            )
        ]
        return torch.stack(masks, dim=1)


def _own(network: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that the network has; what is not among them keeps the network's default."""
    return {key: settings.get(key, value) for key, value in NETWORKS[network].settings.items()}


def _built(network: str, settings: Mapping[str, Any], channels: int, classes: int) -> EncoderDecoder:
    build = NETWORKS[network].build_network
    assert build is not None
    return build(channels, classes, **_own(network, settings))


def build(task: Task, fusion: str, **settings: Any) -> MulModSeg:
    """MulModSeg for a task. On the meta device no text encoder is read.

    Args:
        task: Its modalities and classes.
        fusion: "early", "hybrid" or "late".
        settings: As `METHOD.settings`.

    Raises:
        UsbenchError: Naming the setting that is wrong, or the weights that are absent and how to get them.
    """
    return MulModSeg(task, fusion, settings)


def _network(settings: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
    """The chosen network, and those of the settings that it has."""
    name = str(settings["network"])
    if name not in NETWORKS:
        raise unknown("value of method.network", name, NETWORKS)
    return NETWORKS[name], _own(name, settings)


def needed_weights(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Entries of the table of weights that the network starts from, and that of the text encoder."""
    method, own = _network(settings)
    return (*method.needed_weights(own), *weights_of(settings))


def weights(settings: Mapping[str, Any]) -> str:
    """What a result says it started from: the encoder's weights where there are some, and the texts."""
    method, own = _network(settings)
    start = method.weights(own)
    return ", ".join([*([] if start == "none" else [start]), words_of(settings)])


def licence(settings: Mapping[str, Any]) -> str:
    """The licences of the encoder's weights and of the text encoder; "none" where neither is read."""
    method, own = _network(settings)
    found = [method.licence(own), licence_of(settings)]
    return "; ".join(one for one in found if one != "none") or "none"


METHOD = Method(
    name="mulmodseg",
    paper="Li et al.: MulModSeg: Enhancing Unpaired Multi-Modal Medical Image Segmentation with "
    "Modality-Conditioned Text Embedding and Alternating Training. WACV 2025.",
    build_segmenter=build,
    settings={
        "network": "unet",
        **unet.METHOD.settings,
        "width": 64,
        "text": "text",
        "text_encoder": "minilm",
    },
    presets={
        "quick": {**unet.METHOD.presets["quick"], "width": 16},
        "smoke": {**unet.METHOD.presets["smoke"], "width": 8},
    },
    weights=weights,
    licence=licence,
    needed_weights=needed_weights,
    frozen_parameters=frozen_parameters,
    made_of=(*(module.__name__ for module in _MODULES), "usbench.methods.zeus.instruction_encoder"),
)
