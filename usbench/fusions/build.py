"""The three fusion protocols, for any encoder and decoder.

Early: the modalities are the channels of one network. Hybrid: an encoder for each modality, their
features merged scale by scale, one decoder. Late: a whole network for each modality, their masks
merged at the end and trained jointly through the merge. The protocols are those of Guo et al.,
"Deep learning-based image segmentation on multimodal medical imaging", IEEE TRPMS 2019, as used
by Dai et al., "Zeus".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.contracts.fusion import Fusion
from usbench.contracts.method import FUSIONS, Method
from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.contracts.data import Task


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
            self.merges = nn.ModuleList(nn.Conv2d(modalities * c, c, kernel_size=1) for c in channels)

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
    """One whole network a modality; their masks are merged by `merge_logits`."""

    def __init__(
        self, method: Method, modalities: int, classes: int, settings: dict[str, Any], merge: str
    ) -> None:
        super().__init__()
        assert method.build_network is not None
        build = method.build_network
        self.networks = nn.ModuleList(build(1, classes, **settings) for _ in range(modalities))
        self.merge = merge
        self.weight = nn.Parameter(torch.zeros(modalities, classes)) if merge == "learned" else None

    def forward(self, images: Tensor) -> Tensor:
        """images [B, M, H, W] -> logits [B, K, H, W]."""
        stacked = torch.stack([net(images[:, i : i + 1]) for i, net in enumerate(self.networks)], dim=1)
        return merge_logits(stacked, self.merge, self.weight)


class Merged(nn.Module):
    """A segmenter whose masks, where it gives one a modality, are merged by `merge_logits`."""

    def __init__(self, network: nn.Module, modalities: int, classes: int, merge: str) -> None:
        super().__init__()
        self.network = network
        self.merge = merge
        self.weight = nn.Parameter(torch.zeros(modalities, classes)) if merge == "learned" else None

    def forward(self, images: Tensor, **extras: Tensor) -> Tensor:
        """images [B, M, H, W] -> logits [B, K, H, W]."""
        logits: Tensor = self.network(images, **extras)
        return merge_logits(logits, self.merge, self.weight) if logits.ndim == 5 else logits


def merge_logits(logits: Tensor, merge: str, weight: Tensor | None = None) -> Tensor:
    """Merge the masks of M networks, [B, M, K, H, W] logits, into [B, K, H, W] logits (float32).

    mean-logits: the mean, the default: with the mean of probabilities one network that says no
    everywhere keeps the mask empty for ever.
    mean-probs: the logit of the mean probability, computed from log-probabilities so that it stays
    exact, and its gradient alive, where a probability rounds to 0 or 1.
    vote: the logit of the share of networks that say yes, (yes + 1/2) / (M + 1); a tie goes to the
    sign of the mean logit. Counting has no gradient: that of the mean logit is used in its place.
    learned: a weighted mean of logits, weights [M, K] as a softmax over the modalities.
    """
    logits = logits.float()
    if merge == "mean-logits":
        return logits.mean(dim=1)
    if merge == "mean-probs":
        log_yes = torch.logsumexp(functional.logsigmoid(logits), dim=1)
        log_no = torch.logsumexp(functional.logsigmoid(-logits), dim=1)
        return log_yes - log_no
    if merge == "vote":
        networks = logits.shape[1]
        mean = logits.mean(dim=1)
        yes = (logits > 0).sum(dim=1)
        count = torch.log((yes + 0.5) / (networks - yes + 0.5))
        tie = mean.sign() * 0.5 * math.log((networks + 2) / networks)
        voted = torch.where(2 * yes == networks, tie, count)
        return mean + (voted - mean).detach()
    if merge == "learned":
        if weight is None:
            raise UsbenchError(
                "merge 'learned' needs its weights; build it through usbench.fusions.build.Late"
            )
        share = torch.softmax(weight.float(), dim=0)
        return (logits * share[None, :, :, None, None]).sum(dim=1)
    raise UsbenchError(f"unknown merge '{merge}'; choose mean-logits, mean-probs, vote or learned")


class Padded(nn.Module):
    """Any network as one that takes any size: inputs padded to a multiple, logits cropped back.

    The padding repeats the edge, half of it on each side.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, images: Tensor, **extras: Tensor) -> Tensor:
        """images [B, M, H, W] of any size -> logits [B, K, H, W]."""
        height, width = images.shape[-2:]
        down, right = (-height) % self.multiple, (-width) % self.multiple
        if not (down or right):
            logits: Tensor = self.network(images, **extras)
            return logits
        top, left = down // 2, right // 2
        padded = functional.pad(images, (left, right - left, top, down - top), mode="replicate")
        logits = self.network(padded, **extras)
        return logits[..., top : top + height, left : left + width]


def applies(method: Method, fusion: str | Fusion) -> bool:
    """Whether the method runs under the fusion: a protocol by name, or a fusion that a plugin brings.

    An encoder and a decoder run under every fusion of a plugin, a segmenter under those that it declares.
    """
    if isinstance(fusion, Fusion):
        return method.build_network is not None or fusion.name in method.fusions
    return fusion in method.fusions


def require_fusion(method: Method, fusion: str | Fusion) -> None:
    """Raise `UsbenchError` where the method does not support the fusion protocol."""
    name = fusion if isinstance(fusion, str) else fusion.name
    if isinstance(fusion, str) and fusion not in (*FUSIONS, *method.fusions):
        from usbench.errors import unknown

        raise unknown("fusion", fusion, FUSIONS)
    if not applies(method, fusion):
        raise UsbenchError(
            f"method '{method.name}' does not apply to {name} fusion; choose {' or '.join(method.fusions)}"
        )


def build_model(method: Method, task: Task, fusion: str | Fusion, config: Config) -> nn.Module:
    """The network of a run: images [B, M, H, W] -> logits [B, K, H, W], any H and W.

    fusion: the name of a protocol, or a fusion that a plugin brings.
    """
    require_fusion(method, fusion)
    modalities, classes = len(task.modalities), len(task.classes)
    settings = config.method
    network: nn.Module
    if method.build_segmenter is not None:
        name = fusion if isinstance(fusion, str) else fusion.name
        network = method.build_segmenter(task, name, **settings)
        if fusion == "late":
            network = Merged(network, modalities, classes, config.fusion.merge)
    elif isinstance(fusion, Fusion):
        network = _brought(fusion, method, task, settings)
    elif fusion == "early":
        network = Early(method, modalities, classes, settings)
    elif fusion == "hybrid":
        network = Hybrid(method, modalities, classes, settings, config.fusion.hybrid)
    else:
        network = Late(method, modalities, classes, settings, config.fusion.merge)
    return Padded(network, method.size_multiple)


def _brought(fusion: Fusion, method: Method, task: Task, settings: dict[str, Any]) -> nn.Module:
    """What the fusion of a plugin builds; whatever it raises is an error that names it."""
    try:
        network = fusion.build(method, task, dict(settings))
    except UsbenchError:
        raise
    except Exception as error:
        raise UsbenchError(
            f"fusion '{fusion.name}' cannot be built for method '{method.name}': {type(error).__name__}: "
            f"{error}; mend it (--debug shows where)"
        ) from error
    if not isinstance(network, nn.Module):
        raise UsbenchError(
            f"fusion '{fusion.name}' built a {type(network).__name__}, not a network; return an nn.Module"
        )
    return network
