"""MISSFormer, a U-shaped transformer with a bridge across its scales.

Huang, Deng, Li, Yuan, Fu: MISSFormer: An Effective Transformer for 2D Medical Image Segmentation.
IEEE Transactions on Medical Imaging 2022, doi:10.1109/TMI.2022.3230943. A hierarchical transformer encoder, a
bridge in which all scales attend to each other, and a decoder of the same blocks.

With three input channels and two classes it has 35,452,290 parameters. The authors' code has
42,462,082 at the only size it takes, 224; 7,009,792 of them never receive a gradient (second and
third norms of every feed-forward part, blocks and a concatenation on the coarsest decoder step,
which has nothing to concatenate) and are left out here, which changes no output. Any multiple of
32 will do here. By default nothing is pretrained, as in the paper. The encoder is MiT-B1 (Xie et al.,
SegFormer, NeurIPS 2021) but for its feed-forward part, which adds a skip and a norm: weights of MiT-B1
can start all of it but those norms.

In hybrid fusion each modality has an encoder; the bridge belongs to the decoder and sees the merged
maps.
A checkpoint of the authors' code fills all of it (`missformer_published`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import EncoderDecoder, Method, UsbenchError
from usbench.baselines.missformer_published import load_published, read_published
from usbench.baselines.pretrained import is_file, licence, make_encoder, weights_name

WIDTHS = (64, 128, 320, 512)
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
BLOCKS = 2
MIT = "mit_b1"
TOKEN = 64
"""Width of the bridge's tokens; a place of a map gives as many as its channels hold."""

Size = tuple[int, int]


def _channels_last(image: Tensor) -> Tensor:
    return image.permute(0, 2, 3, 1)


def _convolve(convolution: nn.Module, grid: Tensor) -> Tensor:
    """A convolution on a map with its channels last, [B, H, W, C] -> [B, H', W', C']."""
    result: Tensor = convolution(grid.permute(0, 3, 1, 2))
    return _channels_last(result)


def _attend(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention of query [B, N, C] to keys and values [B, L, C] -> [B, N, C]."""
    split = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, keys, values)]
    return functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Self-attention over a map, with keys and values from a map reduced `reduction` times."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        self.reduce: nn.Module | None = None
        if reduction > 1:
            self.reduce = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.norm = nn.LayerNorm(channels)

    def forward(self, grid: Tensor) -> Tensor:
        """[B, H, W, C] -> the same shape."""
        source = grid if self.reduce is None else self.norm(_convolve(self.reduce, grid))
        keys, values = self.key_value(source.flatten(1, 2)).chunk(2, dim=-1)
        mixed = _attend(self.query(grid.flatten(1, 2)), keys, values, self.heads)
        result: Tensor = self.project(mixed).reshape(grid.shape)
        return result


class FeedForward(nn.Module):
    """The enhanced feed-forward part: fc1, GELU(LN(dwconv3(h) + h)), fc2, with h four times as wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.fc1 = nn.Linear(channels, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, grid: Tensor) -> Tensor:
        """[B, H, W, C] -> the same shape."""
        hidden = self.fc1(grid)
        hidden = functional.gelu(self.norm(_convolve(self.depthwise, hidden) + hidden))
        result: Tensor = self.fc2(hidden)
        return result


class Block(nn.Module):
    """Attention and feed-forward, each on a normed map and added to it."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, grid: Tensor) -> Tensor:
        """[B, H, W, C] -> the same shape."""
        grid = grid + self.attention(self.norm1(grid))
        result: Tensor = grid + self.feed_forward(self.norm2(grid))
        return result


class _Stage(nn.Module):
    """Overlapping patches, blocks, LayerNorm: one scale of the encoder."""

    def __init__(self, in_channels: int, level: int) -> None:
        super().__init__()
        channels = WIDTHS[level]
        kernel, stride = (7, 4) if level == 0 else (3, 2)
        self.embed = nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2)
        self.embed_norm = nn.LayerNorm(channels)
        self.blocks = nn.Sequential(
            *(Block(channels, HEADS[level], REDUCTIONS[level]) for _ in range(BLOCKS))
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        grid: Tensor = self.norm(self.blocks(self.embed_norm(_convolve(self.embed, _channels_last(image)))))
        return grid.permute(0, 3, 1, 2)


class _Encoder(nn.Module):
    """Image -> four maps at 1/4, 1/8, 1/16 and 1/32 of its size."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        widths = (in_channels, *WIDTHS[:-1])
        self.stages = nn.ModuleList(_Stage(width, level) for level, width in enumerate(widths))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return tuple(maps)


def to_tokens(grids: Sequence[Tensor]) -> Tensor:
    """Maps [B, H, W, C], finest first, as one row of tokens [B, N, 64].

    Every place of a map gives C / 64 tokens in a row, its channels in their order; at 224 the four
    maps give 3136 + 1568 + 980 + 392.
    """
    return torch.cat([grid.reshape(grid.shape[0], -1, TOKEN) for grid in grids], dim=1)


def to_grids(tokens: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """Tokens [B, N, 64] as the four maps [B, H, W, C] of the sizes given: the inverse of `to_tokens`."""
    counts = [h * w * c // TOKEN for (h, w), c in zip(sizes, WIDTHS, strict=True)]
    parts = tokens.split(counts, dim=1)
    return [part.reshape(-1, h, w, c) for part, (h, w), c in zip(parts, sizes, WIDTHS, strict=True)]


class BridgeAttention(nn.Module):
    """Single-head attention of the tokens of all scales to reduced tokens of all scales.

    The first three maps are reduced by convolutions of kernel and stride 8, 4 and 2, so that every
    scale comes to the size of the fourth, which is taken as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(
            nn.Conv2d(width, width, ratio, stride=ratio)
            for width, ratio in zip(WIDTHS, REDUCTIONS, strict=True)
            if ratio > 1
        )
        self.norm = nn.LayerNorm(TOKEN)
        self.query = nn.Linear(TOKEN, TOKEN)
        self.key_value = nn.Linear(TOKEN, 2 * TOKEN)
        self.project = nn.Linear(TOKEN, TOKEN)

    def reduced(self, tokens: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Tokens [B, N, 64] -> the tokens attended to, [B, L, 64]: 49 + 98 + 245 + 392 at 224."""
        *finer, coarsest = to_grids(tokens, sizes)
        small = [_convolve(reduce, grid) for reduce, grid in zip(self.reduce, finer, strict=True)]
        result: Tensor = self.norm(to_tokens([*small, coarsest]))
        return result

    def forward(self, tokens: Tensor, sizes: Sequence[Size]) -> Tensor:
        """[B, N, 64] -> the same shape."""
        keys, values = self.key_value(self.reduced(tokens, sizes)).chunk(2, dim=-1)
        result: Tensor = self.project(_attend(self.query(tokens), keys, values, heads=1))
        return result


class BridgeLayer(nn.Module):
    """Attention across the scales, then a feed-forward part for each; both added to the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(TOKEN)
        self.attention = BridgeAttention()
        self.norm2 = nn.LayerNorm(TOKEN)
        self.feed_forward = nn.ModuleList(FeedForward(width) for width in WIDTHS)

    def forward(self, tokens: Tensor, sizes: Sequence[Size]) -> Tensor:
        """[B, N, 64] -> the same shape."""
        tokens = tokens + self.attention(self.norm1(tokens), sizes)
        grids = to_grids(self.norm2(tokens), sizes)
        return tokens + to_tokens([feed(grid) for feed, grid in zip(self.feed_forward, grids, strict=True)])


class Expansion(nn.Module):
    """A finer map from a coarser one: [B, H, W, C] -> [B, f H, f W, C'], by a Linear and a shuffle.

    The Linear gives every place f x f x C' channels: rows of the new places, their columns, channels.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.expand = nn.Linear(in_channels, factor * factor * out_channels, bias=False)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, grid: Tensor) -> Tensor:
        """A map [B, H, W, C] -> [B, f H, f W, C'], f the factor."""
        batch, height, width, _ = grid.shape
        f = self.factor
        places = self.expand(grid).reshape(batch, height, width, f, f, -1).transpose(2, 3)
        result: Tensor = self.norm(places.reshape(batch, f * height, f * width, -1))
        return result


class _Step(nn.Module):
    """Concatenation with the skip, a Linear, blocks: one scale of the decoder."""

    def __init__(self, level: int) -> None:
        super().__init__()
        channels = WIDTHS[level]
        self.join = nn.Linear(WIDTHS[level + 1] // 2 + channels, channels)
        self.blocks = nn.Sequential(
            *(Block(channels, HEADS[level], REDUCTIONS[level]) for _ in range(BLOCKS))
        )

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        result: Tensor = self.blocks(self.join(torch.cat([coarse, skip], dim=-1)))
        return result


class _Decoder(nn.Module):
    """The bridge and the way up: four maps -> logits at four times the size of the finest."""

    def __init__(self, classes: int, bridge_layers: int) -> None:
        super().__init__()
        levels = range(len(WIDTHS) - 2, -1, -1)
        self.bridge = nn.ModuleList(BridgeLayer() for _ in range(bridge_layers))
        self.expansions = nn.ModuleList(
            Expansion(WIDTHS[level + 1], WIDTHS[level + 1] // 2, factor=2) for level in levels
        )
        self.steps = nn.ModuleList(_Step(level) for level in levels)
        self.last = Expansion(WIDTHS[0], WIDTHS[0], factor=4)
        self.head = nn.Conv2d(WIDTHS[0], classes, 1)
        for part in (self.expansions, self.steps, self.last, self.head):
            part.apply(_initialise)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        grids = [_channels_last(image) for image in features]
        sizes = [(grid.shape[1], grid.shape[2]) for grid in grids]
        tokens = to_tokens(grids)
        for layer in self.bridge:
            tokens = layer(tokens, sizes)
        *skips, grid = to_grids(tokens, sizes)
        for expansion, step, skip in zip(self.expansions, self.steps, reversed(skips), strict=True):
            grid = step(expansion(grid), skip)
        logits: Tensor = self.head(self.last(grid).permute(0, 3, 1, 2))
        return logits


def _initialise(module: nn.Module) -> None:
    """The authors' start of the decoder; the encoder and the bridge start as PyTorch starts them."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def start_from_mit(encoder: _Encoder, mit: nn.Module) -> None:
    """Copy the weights of a MiT-B1 (segmentation-models-pytorch's) of as many input channels.

    The norms inside the feed-forward parts, which MiT lacks, keep their start.
    """
    for level, stage in enumerate(encoder.stages, start=1):
        assert isinstance(stage, _Stage)
        pairs = [
            (stage.embed, mit.get_submodule(f"patch_embed{level}.proj")),
            (stage.embed_norm, mit.get_submodule(f"patch_embed{level}.norm")),
            (stage.norm, mit.get_submodule(f"norm{level}")),
        ]
        for index, block in enumerate(stage.blocks):
            theirs = mit.get_submodule(f"block{level}.{index}")
            pairs += [
                (block.get_submodule(ours), theirs.get_submodule(name))
                for ours, name in _MIT_NAMES.items()
                if REDUCTIONS[level - 1] > 1 or name not in ("attn.sr", "attn.norm")
            ]
        for ours, their in pairs:
            ours.load_state_dict(their.state_dict())


_MIT_NAMES = {
    "norm1": "norm1",
    "attention.query": "attn.q",
    "attention.key_value": "attn.kv",
    "attention.project": "attn.proj",
    "attention.reduce": "attn.sr",
    "attention.norm": "attn.norm",
    "norm2": "norm2",
    "feed_forward.fc1": "mlp.fc1",
    "feed_forward.depthwise": "mlp.dwconv.dwconv",
    "feed_forward.fc2": "mlp.fc2",
}


def build(in_channels: int, classes: int, bridge_layers: int = 4, pretrained: str = "none") -> EncoderDecoder:
    """MISSFormer.

    Args:
        in_channels: C of the images [B, C, H, W]; H and W are multiples of 32.
        classes: K of the logits [B, K, H, W].
        bridge_layers: Depth of the bridge, four in the paper's network; 0 leaves plain skips.
        pretrained: "none", "imagenet" or the path of MiT-B1 weights for the encoder, see
            `usbench.baselines.pretrained.make_encoder`; or the path of a checkpoint of the authors' code, see
            `usbench.baselines.missformer_published.load_published`.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: For a negative depth, and for weights that are absent or do not fit.
    """
    if bridge_layers < 0:
        raise UsbenchError(f"method.bridge_layers is {bridge_layers}; give 0 or more")
    encoder = _Encoder(in_channels)
    published = read_published(pretrained) if is_file(pretrained) else None
    if pretrained != "none" and published is None:
        start_from_mit(encoder, make_encoder(MIT, in_channels, pretrained))
    network = EncoderDecoder(encoder, _Decoder(classes, bridge_layers), WIDTHS)
    if published is not None:
        load_published(network, published, pretrained)
    return network


METHOD = Method(
    name="missformer",
    paper="Huang, Deng, Li, Yuan, Fu: MISSFormer: An Effective Transformer for 2D Medical Image "
    "Segmentation. IEEE Transactions on Medical Imaging 2022.",
    build_network=build,
    settings={"bridge_layers": 4, "pretrained": "none"},
    weights=lambda settings: weights_name(str(settings["pretrained"])),
    licence=lambda settings: licence(MIT, str(settings["pretrained"])),
)
