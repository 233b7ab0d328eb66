"""MedVisionLlama: a vision transformer of volumes, and a frozen block of a language model before its decoder.

Marthi Krishna Kumar, Chadha, Mendola, Shmuel: MedVisionLlama: Leveraging Pre-Trained Large Language Model
Layers to Enhance Medical Image Segmentation. The encoder is the patch embedding, the learned positions and
the blocks; two mappers bring its tokens to the width of a Llama's last block and back; the decoder is one
linear layer from a token to its voxels. Its controls are settings: `llm=none` is the paper's ViT-Baseline,
`control` has ViT-Depth and ViT-MLP, and `llm=random` and `llm=shuffled` are the block without what it
learned, which the paper lacks. Where the paper leaves something open, docs/medvisionllama.md says what is
done.

Under hybrid fusion each modality has an encoder, and the block stands behind the merge, in the decoder's
half, as it stands between encoder and decoder; with `place=after-embedding` each encoder has one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from usbench import EncoderDecoder, Method
from usbench.methods.medvisionllama.block import LanguageBlock
from usbench.methods.medvisionllama.loading import config_of, load_block
from usbench.methods.medvisionllama.mappers import Mapper
from usbench.methods.medvisionllama.options import (
    Options,
    frozen_parameters,
    hidden_of_mlp,
    licence_words,
    needed_weights,
    resolve,
    size_of_vit,
    weights_words,
)
from usbench.methods.medvisionllama.vit import Block, Head, Patches, Positions, Three, grid_of


class Refined(nn.Module):
    """Tokens [B, T, width] -> tokens [B, T, width] through a language model's block and two mappers.

    residual "outer": P + back(block(there(P))). "inner", as in the published code: with H = there(P),
    back(block(H) + H).
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        if torch.get_default_device().type == "meta":
            config, frozen = config_of(options.llm, options.llm_path), None
        else:
            config, frozen = load_block(options.llm, options.llm_path, options.llm_precision)
        self.residual = options.residual
        self.there = Mapper(options.width, config.width, options.rank, options.mapper_base)
        self.block = LanguageBlock(config, frozen, options.lora_rank, options.llm_precision)
        self.back = Mapper(config.width, options.width, options.rank, options.mapper_base)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T, width] -> [B, T, width]."""
        wide = self.there(tokens)
        if self.residual == "inner":
            inner: Tensor = self.back(self.block(wide) + wide)
            return inner
        outer: Tensor = tokens + self.back(self.block(wide))
        return outer


class PlainMlp(nn.Module):
    """Tokens [B, T, width] plus an MLP of them, in the place of the block (the paper's ViT-MLP)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T, width] -> [B, T, width]."""
        out: Tensor = tokens + self.layers(tokens)
        return out


class Encoder(nn.Module):
    """Volumes [B, C, D, H, W] -> tokens as one map [B, width, D / d, H / h, W / w], for patches (d, h, w)."""

    def __init__(
        self, options: Options, channels: int, size: tuple[int, int, int], shape: Three, refine: nn.Module
    ) -> None:
        super().__init__()
        width, depth, heads = size
        self.grid = grid_of(shape, options.patch)
        self.patches = Patches(channels, width, shape, options.patch)
        self.refine = refine
        self.positions = Positions(self.grid[0] * self.grid[1] * self.grid[2], width)
        self.blocks = nn.Sequential(*(Block(width, heads, options.dropout) for _ in range(depth)))

    def forward(self, volumes: Tensor) -> tuple[Tensor]:
        """volumes [B, C, D, H, W] -> one map [B, width, D / d, H / h, W / w]."""
        tokens = self.blocks(self.positions(self.refine(self.patches(volumes))))
        return (tokens.transpose(1, 2).unflatten(2, self.grid).contiguous(),)


class Decoder(nn.Module):
    """Such a map, perhaps refined, -> logits [B, K, D, H, W]."""

    def __init__(self, options: Options, width: int, classes: int, shape: Three, refine: nn.Module) -> None:
        super().__init__()
        self.refine = refine
        self.head = Head(width, classes, shape, options.patch)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """maps: one [B, width, D / d, H / h, W / w] -> logits [B, K, D, H, W]."""
        tokens = maps[0].flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.refine(tokens))
        return logits


def build_network(in_channels: int, classes: int, *, shape: Three, **settings: Any) -> EncoderDecoder:
    """The network for volumes of one size. On the meta device no weights are read.

    Args:
        in_channels: C.
        classes: K.
        shape: (D, H, W); padded within to a multiple of the patch.
        settings: As `METHOD.settings`.

    Returns:
        Volumes [B, C, D, H, W] -> logits [B, K, D, H, W].

    Raises:
        UsbenchError: Naming the setting that is wrong, or the weights that are absent and how to get them.
    """
    options = resolve(settings)
    d, h, w = shape
    shape = (d, h, w)
    size = size_of_vit(options, in_channels, classes, shape)
    early: nn.Module = nn.Identity()
    late: nn.Module = nn.Identity()
    if options.control == "vit-mlp":
        late = PlainMlp(options.width, hidden_of_mlp(options, in_channels, classes, shape))
    elif options.has_block and options.place == "after-embedding":
        early = Refined(options)
    elif options.has_block:
        late = Refined(options)
    encoder = Encoder(options, in_channels, size, shape, early)
    return EncoderDecoder(encoder, Decoder(options, size[0], classes, shape, late), (size[0],))


METHOD = Method(
    name="medvisionllama",
    paper="Marthi Krishna Kumar, Chadha, Mendola, Shmuel: MedVisionLlama: Leveraging Pre-Trained Large "
    "Language Model Layers to Enhance Medical Image Segmentation.",
    build_network=build_network,
    settings={
        "llm": "smollm2",
        "llm_path": "",
        "llm_precision": "32",
        "place": "after-encoder",
        "residual": "outer",
        "rank": 8,
        "mapper_base": "frozen-random",
        "lora_rank": 8,
        "control": "none",
        "width": 64,
        "depth": 16,
        "heads": 4,
        "dropout": 0.2,
        "patch": (8, 8, 8),
    },
    presets={
        "paper": {
            "volume.mode": "whole",
            "volume.shape": (128, 128, 128),
            "train.lr": 2e-3,
            "train.batch": 4,
            "train.epochs": 200,
            "train.weight_decay": 0.0,
            "train.poly_power": 0.0,
        },
        "quick": {"depth": 4, "patch": (4, 8, 8), "volume.mode": "whole", "train.lr": 2e-3},
        "smoke": {"depth": 2, "patch": (4, 8, 8), "volume.mode": "whole", "train.lr": 2e-3},
    },
    weights=weights_words,
    licence=licence_words,
    needed_weights=needed_weights,
    dims=3,
    takes_shape=True,
    size_multiple=1,
    frozen_parameters=frozen_parameters,
    pretraining_overlap="none: the language model was trained on text alone",
)
