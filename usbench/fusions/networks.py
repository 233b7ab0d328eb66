"""The networks that early, hybrid and late fusion make of an encoder and a decoder.

Where shapes are said for slices, [B, M, H, W], volumes have D before H: [B, M, D, H, W].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from usbench.contracts.method import Method
from usbench.errors import UsbenchError
from usbench.fusions.merge import merge_logits


class Early(nn.Module):
    """One network that sees the M modalities as its input channels."""

    def __init__(self, method: Method, modalities: int, classes: int, settings: dict[str, Any]) -> None:
        super().__init__()
        assert method.build_network is not None
        self.network = method.build_network(modalities, classes, **settings)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, M, H, W] -> logits [B, K, H, W]."""
        logits: Tensor = self.network(images)
        return logits


class Hybrid(nn.Module):
    """One encoder a modality, one decoder, and between them the M maps of every scale made one.

    merge "conv1x1": concatenated and merged by a 1x1 convolution, at every scale. merge "concat":
    the deepest maps are concatenated into a decoder widened for them, the others averaged, for
    methods whose decoder can be widened (`Method.widens`).
    """

    def __init__(
        self, method: Method, modalities: int, classes: int, settings: dict[str, Any], merge: str
    ) -> None:
        super().__init__()
        assert method.build_network is not None
        build = method.build_network
        networks = [build(1, classes, **settings) for _ in range(modalities)]
        channels = networks[0].channels
        self.encoders = nn.ModuleList(network.encoder for network in networks)
        if merge == "concat":
            if not method.widens:
                raise UsbenchError(
                    f"method '{method.name}' has a decoder of fixed width; use fusion.hybrid=conv1x1"
                )
            self.decoder = build(1, classes, bottlenecks=modalities, **settings).decoder
            self.merges = nn.ModuleList([*(_Mean(modalities) for _ in channels[:-1]), nn.Identity()])
        else:
            self.decoder = networks[0].decoder
            convolution = nn.Conv3d if method.dims == 3 else nn.Conv2d
            self.merges = nn.ModuleList(convolution(modalities * c, c, kernel_size=1) for c in channels)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, M, H, W] -> logits [B, K, H, W]."""
        pyramids = [encoder(images[:, i : i + 1]) for i, encoder in enumerate(self.encoders)]
        scales = zip(self.merges, zip(*pyramids, strict=True), strict=True)
        merged = tuple(merge(torch.cat(maps, dim=1)) for merge, maps in scales)
        logits: Tensor = self.decoder(merged)
        return logits


class _Mean(nn.Module):
    """The mean of M maps that come concatenated, [B, M * C, H, W] -> [B, C, H, W]."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, concatenated: Tensor) -> Tensor:
        mean: Tensor = concatenated.unflatten(1, (self.maps, -1)).mean(dim=1)
        return mean


class Late(nn.Module):
    """One whole network a modality; their masks are merged by `merge_logits`.

    Attributes:
        takes_present: Whether it is told which modalities are there; then those that are not are left out of
            the merge (absent "skip"). With "zero" their networks see images of zeros and have their say.
    """

    def __init__(
        self,
        method: Method,
        modalities: int,
        classes: int,
        settings: dict[str, Any],
        merge: str,
        absent: str = "skip",
    ) -> None:
        super().__init__()
        assert method.build_network is not None
        build = method.build_network
        self.networks = nn.ModuleList(build(1, classes, **settings) for _ in range(modalities))
        self.merge = merge
        self.takes_present = absent == "skip"
        self.weight = nn.Parameter(torch.zeros(modalities, classes)) if merge == "learned" else None

    def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor:
        """images [B, M, H, W], present: bool [B, M] or None for all -> logits [B, K, H, W]."""
        masks: list[Tensor | None] = [None] * len(self.networks)
        for i, network in enumerate(self.networks):
            # A mask that nothing is made of is not computed; in training every network takes its part.
            if present is None or self.training or bool(present[:, i].any()):
                masks[i] = network(images[:, i : i + 1])
        made = next(mask for mask in masks if mask is not None)
        stacked = torch.stack([torch.zeros_like(made) if mask is None else mask for mask in masks], dim=1)
        return merge_logits(stacked, self.merge, self.weight, present)
