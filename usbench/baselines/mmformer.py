"""mmFormer: an encoder for each modality, attention within and between modalities, decoders that each learn.

Zhang, He, Yang, Li, Wei, Huang, Zhang, He, Zheng: mmFormer: Multimodal Medical Transformer for Incomplete
Multimodal Learning of Brain Tumor Segmentation. MICCAI 2022, arXiv:2206.02425. Made for patients who lack a
modality: each has an encoder of its own; a transformer looks within each modality (intra), another one at
the tokens of all of them (inter), where those of absent ones are zeros. While it trains, one more decoder,
the same for all modalities, segments from each of them alone, and the decoder gives a mask at every scale;
all of them are trained on the same masks (`usbench.Supervised`).

The network is its own hybrid fusion, and has no other. In three dimensions, with four modalities and volumes
of 128 x 128 x 128, it has the tensors of the authors' code, without those that it never uses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import Method, Supervised, UsbenchError

if TYPE_CHECKING:
    from usbench import Task

LEVELS = 5
COARSEST = 2 ** (LEVELS - 1)
"""Pixels a side behind one token."""
TOKENS = ("published", "place")
_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_MODES = {2: "bilinear", 3: "trilinear"}


def _before(
    dims: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, reflect: bool = True
) -> nn.Sequential:
    """Instance norm and leaky ReLU, then a convolution."""
    convolution = _CONVOLUTIONS[dims](
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=kernel // 2,
        padding_mode="reflect" if reflect and kernel > 1 else "zeros",
    )
    return nn.Sequential(_NORMS[dims](inputs), nn.LeakyReLU(0.2), convolution)


def _larger(maps: Tensor, times: int) -> Tensor:
    """Maps [B, C, ...] with sides `times` as long, the corners where they were."""
    mode = _MODES[maps.ndim - 2]
    return functional.interpolate(maps, scale_factor=times, mode=mode, align_corners=True)


class Encoder(nn.Module):
    """The convolutions of one modality.

    Args:
        dims: 2 or 3.
        widths: Channels of the five levels, each at half the size of the one before.
    """

    def __init__(self, dims: int, widths: Sequence[int]) -> None:
        super().__init__()
        first = _CONVOLUTIONS[dims](1, widths[0], 3, padding=1, padding_mode="reflect")
        entries = [first, *(_before(dims, a, b, stride=2) for a, b in pairwise(widths))]
        self.entries = nn.ModuleList(entries)
        self.blocks = nn.ModuleList(nn.Sequential(_before(dims, w, w), _before(dims, w, w)) for w in widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 1, H, W] -> maps of every level, the finest first."""
        maps = []
        for entry, block in zip(self.entries, self.blocks, strict=True):
            image = entry(image)
            image = image + block(image)
            maps.append(image)
        return maps


class Decoder(nn.Module):
    """From the maps of all levels to one mask for each class.

    Args:
        dims: 2 or 3.
        widths: Of the maps, the finest first.
        classes: K.
        modalities: M, where the maps are those of all modalities, one after the other: then they are merged
            at every level, and there is a mask at each coarser level too. 0 where they are those of one.
    """

    def __init__(self, dims: int, widths: Sequence[int], classes: int, modalities: int = 0) -> None:
        super().__init__()
        convolution = _CONVOLUTIONS[dims]
        finer = list(pairwise(widths))
        self.ups = nn.ModuleList(_before(dims, coarse, fine) for fine, coarse in finer)
        self.joins = nn.ModuleList(
            nn.Sequential(_before(dims, 2 * fine, fine), _before(dims, fine, fine, kernel=1))
            for fine, _ in finer
        )
        self.head = convolution(widths[0], classes, 1)
        self.merges = nn.ModuleList(_merge(dims, modalities, w) for w in widths if modalities)
        self.heads = nn.ModuleList(convolution(w, classes, 1) for w in widths[1:] if modalities)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Maps, the finest first -> logits [B, K, H, W], and in training those of the coarser levels."""
        merged = [merge(one) for merge, one in zip(self.merges, maps, strict=True)] if self.heads else maps
        coarser = []
        found = merged[-1]
        for level in reversed(range(len(maps) - 1)):
            if self.heads and self.training:
                coarser.append(_larger(self.heads[level](found), 2 ** (level + 1)))
            found = self.ups[level](_larger(found, 2))
            pair = (merged[level], found) if self.heads else (found, merged[level])
            found = self.joins[level](torch.cat(pair, dim=1))
        return self.head(found), coarser


def _merge(dims: int, modalities: int, width: int) -> nn.Sequential:
    """Maps of all modalities to those of one."""
    return nn.Sequential(
        _before(dims, modalities * width, width, kernel=1),
        _before(dims, width, width, reflect=False),
        _before(dims, width, width, kernel=1),
    )


class Attention(nn.Module):
    """Self-attention of several heads, with dropout of its weights and of what it gives.

    Args:
        hidden: Numbers in a token.
        heads: A divisor of it.
        dropout: Share of what is left out in training.
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, hidden] -> [B, N, hidden]."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        chance = self.dropout if self.training else 0.0
        seen = functional.scaled_dot_product_attention(query, key, value, dropout_p=chance)
        return functional.dropout(self.out(seen.transpose(1, 2).flatten(2)), self.dropout, self.training)


class Transformer(nn.Module):
    """Blocks of attention and two layers each, norms first; positions are added before every block.

    Args:
        hidden: Numbers in a token.
        inner: Of the wider layer.
        heads: Of the attention.
        depth: Blocks.
        dropout: As of `Attention`.
    """

    def __init__(self, hidden: int, inner: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.looks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), Attention(hidden, heads, dropout), nn.Dropout(dropout))
            for _ in range(depth)
        )
        self.thinks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden),
                nn.Linear(hidden, inner),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(inner, hidden),
                nn.Dropout(dropout),
            )
            for _ in range(depth)
        )

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Tokens [B, N, hidden] and positions [1, N, hidden] -> [B, N, hidden]."""
        for look, think in zip(self.looks, self.thinks, strict=True):
            tokens = tokens + places
            tokens = tokens + look(tokens)
            tokens = tokens + think(tokens)
        return tokens


class MMFormer(nn.Module):
    """The network.

    Args:
        modalities: M of the images [B, M, H, W] or volumes [B, M, D, H, W].
        classes: K of the logits.
        shape: (H, W) or (D, H, W) for which positions are learned, multiples of 16, of at least 32. Others
            are seen too, with positions between the learned ones.
        width: Channels of the finest level; each coarser one has twice as many.
        hidden: Numbers in a token.
        inner: Of the wider layer of a transformer.
        heads: Of the attention, a divisor of `hidden`.
        depth: Blocks of each transformer.
        dropout: In the transformers, from 0 to below 1.
        tokens: "published": the map behind the transformer of all modalities has M neighbouring tokens of one
            modality in the place of one place of M modalities, as in the authors' code; "place": the latter.

    Attributes:
        takes_present: It is told which modalities a slice has.

    Raises:
        UsbenchError: For settings that do not fit.
    """

    takes_present = True

    def __init__(
        self,
        modalities: int,
        classes: int,
        shape: Sequence[int],
        width: int = 8,
        hidden: int = 512,
        inner: int = 4096,
        heads: int = 8,
        depth: int = 1,
        dropout: float = 0.1,
        tokens: str = "published",
    ) -> None:
        super().__init__()
        if tokens not in TOKENS:
            raise UsbenchError(f"method.tokens is '{tokens}'; choose {' or '.join(TOKENS)}")
        for name, value in (("width", width), ("inner", inner), ("depth", depth), ("heads", heads)):
            if value < 1:
                raise UsbenchError(f"method.{name} is {value}; give 1 or more")
        if hidden < 1 or hidden % heads:
            raise UsbenchError(
                f"method.hidden is {hidden}, no multiple of method.heads {heads}; use 512 and 8"
            )
        if not 0 <= dropout < 1:
            raise UsbenchError(f"method.dropout is {dropout}; give 0 or more, and less than 1")
        self.tokens, self.grid = tokens, tuple(side // COARSEST for side in shape)
        dims = len(self.grid)
        widths = [width * 2**level for level in range(LEVELS)]
        convolution, deepest = _CONVOLUTIONS[dims], widths[-1]

        def transformer() -> Transformer:
            return Transformer(hidden, inner, heads, depth, dropout)

        self.encoders = nn.ModuleList(Encoder(dims, widths) for _ in range(modalities))
        self.entries = nn.ModuleList(convolution(deepest, hidden, 1) for _ in range(modalities))
        self.places = nn.Parameter(torch.zeros(modalities, math.prod(self.grid), hidden))
        self.intra = nn.ModuleList(transformer() for _ in range(modalities))
        self.inter = transformer()
        self.exit = convolution(modalities * hidden, modalities * deepest, 1)
        self.decoder = Decoder(dims, widths, classes, modalities)
        self.alone = Decoder(dims, widths, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor | Supervised:
        """Segment slices or volumes.

        Args:
            images: [B, M, H, W], H and W multiples of 32, or [B, M, D, H, W].
            present: Which modalities each has, bool [B, M]; None for all.

        Returns:
            Logits [B, K, H, W] or [B, K, D, H, W]; in training beside them those of each modality by itself,
            and of the four coarser levels. Where a modality is absent the logits stand in the place of its
            own, and train nothing.
        """
        maps = [encoder(images[:, m : m + 1]) for m, encoder in enumerate(self.encoders)]
        places = self._places(maps[0][-1].shape[2:])
        looked = [
            transformer(entry(found[-1]).flatten(2).transpose(1, 2), place)
            for transformer, entry, found, place in zip(self.intra, self.entries, maps, places, strict=True)
        ]
        levels = [[found[level] for found in maps] for level in range(LEVELS - 1)]
        if present is not None:
            levels = [[_where(present[:, m], one) for m, one in enumerate(level)] for level in levels]
            looked = [_where(present[:, m], one) for m, one in enumerate(looked)]
        deepest = self._together(looked, places, maps[0][-1].shape[2:])
        logits: Tensor
        logits, coarser = self.decoder([*(torch.cat(level, dim=1) for level in levels), deepest])
        if not self.training:
            return logits
        own = [self.alone(found)[0] for found in maps]
        if present is not None:
            own = [_where(present[:, m], one, logits.detach()) for m, one in enumerate(own)]
        return Supervised(logits, [*own, *coarser])

    def _places(self, grid: Sequence[int]) -> list[Tensor]:
        """Of each modality the positions [1, N, hidden] of a grid of tokens."""
        if tuple(grid) == self.grid:
            return list(self.places.unsqueeze(1))
        maps = self.places.transpose(1, 2).unflatten(2, self.grid)
        resized = functional.interpolate(maps, tuple(grid), mode=_MODES[len(self.grid)], align_corners=False)
        return list(resized.flatten(2).transpose(1, 2).unsqueeze(1))

    def _together(self, looked: list[Tensor], places: list[Tensor], grid: Sequence[int]) -> Tensor:
        """Tokens of every modality [B, N, hidden] -> the deepest map [B, M x its channels, grid]."""
        found = self.inter(torch.cat(looked, dim=1), torch.cat(places, dim=1))
        if self.tokens == "place":
            found = torch.cat(found.chunk(len(looked), dim=1), dim=2)
        else:  # M neighbours of one modality in the place of one place of M modalities, as the authors' code.
            found = found.unflatten(1, (-1, len(looked))).flatten(2)
        deepest: Tensor = self.exit(found.transpose(1, 2).unflatten(2, tuple(grid)))
        return deepest


def _where(present: Tensor, maps: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """Maps [B, ...] of the slices that are `present`, bool [B]; zeros, or `otherwise`, for the others."""
    there = present.reshape(-1, *[1] * (maps.ndim - 1))
    return torch.where(there, maps, maps.new_zeros(()) if otherwise is None else otherwise)


def build(task: Task, fusion: str, shape: tuple[int, ...], **settings: Any) -> MMFormer:
    """mmFormer for the modalities and classes of a task; the defaults are those of the authors' code.

    Args:
        task: Of M modalities and K classes.
        fusion: "hybrid".
        shape: (H, W) of the slices or (D, H, W) of the volumes, for which positions are learned.
        settings: Others of `MMFormer`.

    Returns:
        The network, from images [B, M, H, W] to logits [B, K, H, W], or with D before H in both.

    Raises:
        UsbenchError: For settings that do not fit.
    """
    return MMFormer(len(task.modalities), len(task.classes), shape, **settings)


_PAPER = (
    "Zhang, He, Yang, Li, Wei, Huang, Zhang, He, Zheng: mmFormer: Multimodal Medical Transformer for "
    "Incomplete Multimodal Learning of Brain Tumor Segmentation. MICCAI 2022."
)
_SETTINGS = {
    "width": 8,
    "hidden": 512,
    "inner": 4096,
    "heads": 8,
    "depth": 1,
    "dropout": 0.1,
    "tokens": "published",
}
_PRESETS = {
    "quick": {"hidden": 256, "inner": 1024},
    "smoke": {"width": 4, "hidden": 64, "inner": 128, "heads": 4},
}

METHOD = Method(
    name="mmformer",
    paper=_PAPER,
    build_segmenter=build,
    fusions=("hybrid",),
    settings=_SETTINGS,
    presets=_PRESETS,
    takes_shape=True,
    size_multiple=32,
)
VOLUMES = Method(
    name="mmformer3d",
    paper=_PAPER,
    build_segmenter=build,
    fusions=("hybrid",),
    settings=_SETTINGS,
    presets=_PRESETS,
    dims=3,
    takes_shape=True,
    size_multiple=32,
)
