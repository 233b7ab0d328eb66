"""TransUNet: a transformer over the features of a ResNet, and a cascaded decoder with skips.

Chen, Lu, Yu, Luo, Adeli, Wang, Lu, Yuille, Zhou: TransUNet: Transformers Make Strong Encoders for
Medical Image Segmentation. arXiv:2102.04306, 2021. This is R50-ViT-B/16, its main network. The two
halves of the encoder are those of Kolesnikov et al., "Big Transfer" (ECCV 2020: ResNet-V2 with
standardised weights and group norms), and Dosovitskiy et al., "An Image is Worth 16x16 Words"
(ICLR 2021: ViT-B on a ResNet's features).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import EncoderDecoder, Method, UsbenchError
from usbench.baselines.npz import NpzFile
from usbench.baselines.pretrained import weights_name
from usbench.tools import unknown

WIDTH, HEADS, HIDDEN = 768, 12, 3072
DROPOUT = 0.1
CHANNELS = (64, 256, 512, WIDTH)
UNITS = (3, 4, 9)
PATCH = 16
GRID = 16
STEMS = ("published", "own")
WEIGHTS = "R50+ViT-B_16.npz"
_REMEDY = (
    f"get {WEIGHTS} from https://storage.googleapis.com/vit_models/imagenet21k/ and give its path, "
    "or start from nothing: --set method.pretrained=none"
)


class StandardisedConv(nn.Conv2d):
    """A convolution whose every filter is brought to mean 0 and (biased) variance 1 before use."""

    def forward(self, x: Tensor) -> Tensor:
        """A map [B, I, H, W] -> [B, O, H / stride, W / stride]."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-5)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


def _conv(inner: int, out: int, size: int, stride: int = 1) -> StandardisedConv:
    return StandardisedConv(inner, out, size, stride=stride, padding=size // 2, bias=False)


class Projection(nn.Module):
    """A shortcut by a 1x1 convolution, then a norm over each channel by itself."""

    def __init__(self, inner: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv = _conv(inner, out, 1, stride)
        self.norm = nn.GroupNorm(out, out, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """A map [B, I, H, W] -> [B, O, H / stride, W / stride]."""
        projected: Tensor = self.norm(self.conv(x))
        return projected


class ResidualUnit(nn.Module):
    """Three convolutions, 1x1, 3x3 (with the stride) and 1x1, with group norms, and a shortcut.

    Args:
        inner: Channels of the input.
        out: Channels of the output.
        stride: Of the second convolution and of the shortcut.
        project: Whether the shortcut is a `Projection`, as where width or size change.
    """

    def __init__(self, inner: int, out: int, stride: int, project: bool) -> None:
        super().__init__()
        narrow = out // 4
        self.conv1 = _conv(inner, narrow, 1)
        self.norm1 = nn.GroupNorm(32, narrow, eps=1e-6)
        self.conv2 = _conv(narrow, narrow, 3, stride)
        self.norm2 = nn.GroupNorm(32, narrow, eps=1e-6)
        self.conv3 = _conv(narrow, out, 1)
        self.norm3 = nn.GroupNorm(32, out, eps=1e-6)
        self.shortcut = Projection(inner, out, stride) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """A map [B, I, H, W] -> [B, O, H / stride, W / stride]."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = functional.relu(self.norm2(self.conv2(y)))
        return functional.relu(self.norm3(self.conv3(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """The first three blocks of a ResNet-50, as skips at 1/2, 1/4, 1/8 and a map at 1/16.

    Args:
        in_channels: C of the images.
        stem: What is done with a single channel, one of `STEMS`.
    """

    def __init__(self, in_channels: int, stem: str) -> None:
        super().__init__()
        self.copies = 3 if in_channels == 1 and stem == "published" else 1
        self.root = StandardisedConv(self.copies * in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.root_norm = nn.GroupNorm(32, 64, eps=1e-6)
        self.pool = nn.MaxPool2d(3, stride=2)
        inner = 64
        blocks = []
        for index, units in enumerate(UNITS):
            out = 256 * 2**index
            first = ResidualUnit(inner, out, stride=1 if index == 0 else 2, project=True)
            rest = (ResidualUnit(out, out, stride=1, project=False) for _ in range(units - 1))
            blocks.append(nn.Sequential(first, *rest))
            inner = out
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images [B, C, H, W] -> skips at 1/2, 1/4 and 1/8 and the map at 1/16.

        Returns:
            [B, 64, H/2, W/2], [B, 256, H/4, W/4], [B, 512, H/8, W/8] and [B, 1024, H/16, W/16].
        """
        if self.copies > 1:
            images = images.expand(-1, self.copies, -1, -1)
        half = functional.relu(self.root_norm(self.root(images)))
        # The pool has no padding: n / 4 - 1 pixels are left of n, and only the skip is filled up.
        quarter = self.blocks[0](self.pool(half))
        eighth = self.blocks[1](quarter)
        return half, functional.pad(quarter, (0, 1, 0, 1)), eighth, self.blocks[2](eighth)


class Attention(nn.Module):
    """Multi-head self-attention of tokens [B, N, WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, N, WIDTH] -> the same shape."""
        query, key, value = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return tokens


class Layer(nn.Module):
    """A layer of the transformer, norms first: x + attention, then x + MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.fc1 = nn.Linear(WIDTH, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, WIDTH)
        self.drop = nn.Dropout(DROPOUT)
        for linear in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, N, WIDTH] -> the same shape."""
        x = x + self.attention(self.norm1(x))
        hidden = self.drop(functional.gelu(self.fc1(self.norm2(x))))
        added: Tensor = self.drop(self.fc2(hidden))
        return x + added


def resize_positions(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """A position embedding [1, C, G, G] on a grid of `size`: bilinear, corners on corners."""
    if positions.shape[-2:] == size:
        return positions
    return functional.interpolate(positions, size, mode="bilinear", align_corners=True)


class Encoder(nn.Module):
    """[B, C, H, W] -> maps of 64, 256, 512 and 768 channels at 1/2, 1/4, 1/8 and 1/16.

    Args:
        in_channels: C of the images.
        grid: Side of the stored position embedding; it is resized to the grid of other inputs.
        layers: Number of layers of the transformer.
        stem: As of `ResNet`.
    """

    def __init__(self, in_channels: int, grid: int, layers: int, stem: str) -> None:
        super().__init__()
        self.resnet = ResNet(in_channels, stem)
        self.embedding = nn.Conv2d(256 * 2 ** (len(UNITS) - 1), WIDTH, kernel_size=1)
        self.positions = nn.Parameter(torch.zeros(1, WIDTH, grid, grid))
        self.drop = nn.Dropout(DROPOUT)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images [B, C, H, W] -> [B, 64, H/2, W/2], ..., [B, 768, H/16, W/16], finest first."""
        *skips, features = self.resnet(images)
        embedded = self.embedding(features)
        size = (embedded.shape[-2], embedded.shape[-1])
        tokens = (embedded + resize_positions(self.positions, size)).flatten(2).transpose(1, 2)
        tokens = self.drop(tokens)
        for layer in self.layers:
            tokens = layer(tokens)
        return (*skips, self.norm(tokens).transpose(1, 2).unflatten(2, size))


class Decoder(nn.Module):
    """The encoder's maps -> logits [B, K, H, W].

    Args:
        classes: K of the logits.
        bottlenecks: The deepest map is that many encoders' concatenated, 768 channels each.
    """

    def __init__(self, classes: int, bottlenecks: int) -> None:
        super().__init__()
        self.first = _conv_norm_relu(bottlenecks * WIDTH, 512)
        widths, skips = (512, 256, 128, 64, 16), (512, 256, 64, 0)
        self.steps = nn.ModuleList(
            nn.Sequential(
                _conv_norm_relu(widths[i] + skips[i], widths[i + 1]), _conv_norm_relu(widths[i + 1])
            )
            for i in range(4)
        )
        self.head = nn.Conv2d(16, classes, kernel_size=3, padding=1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Maps [B, 64, H/2, W/2], ..., [B, 768, H/16, W/16], finest first -> logits [B, K, H, W]."""
        half, quarter, eighth, deepest = features
        x = self.first(deepest)
        for step, skip in zip(self.steps, ((eighth,), (quarter,), (half,), ()), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            x = step(torch.cat((x, *skip), dim=1))
        logits: Tensor = self.head(x)
        return logits


def _conv_norm_relu(inner: int, out: int | None = None) -> nn.Sequential:
    out = out or inner
    return nn.Sequential(
        nn.Conv2d(inner, out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


def load_published(encoder: Encoder, path: str) -> None:
    """Fill an encoder from R50+ViT-B_16.npz, the weights published with the vision transformer.

    The class token and the classifier are left out, the position embedding is resized to the
    encoder's grid (at 224 pixels that is the file's own, 14 x 14), and the first convolution follows
    `NpzFile.image_conv` where it has not three channels.

    Args:
        encoder: The encoder to fill.
        path: The file.

    Raises:
        UsbenchError: For a missing, damaged or other file.
    """
    resnet = encoder.resnet
    with NpzFile(path, _REMEDY) as file:
        file.image_conv(resnet.root, "conv_root")
        file.norm(resnet.root_norm, "gn_root")
        for b, block in enumerate(resnet.blocks, start=1):
            assert isinstance(block, nn.Sequential)
            for u, unit in enumerate(block, start=1):
                assert isinstance(unit, ResidualUnit)
                key = f"block{b}/unit{u}"
                for i in (1, 2, 3):
                    file.conv(getattr(unit, f"conv{i}"), f"{key}/conv{i}")
                    file.norm(getattr(unit, f"norm{i}"), f"{key}/gn{i}")
                if isinstance(unit.shortcut, Projection):
                    file.conv(unit.shortcut.conv, f"{key}/conv_proj")
                    file.norm(unit.shortcut.norm, f"{key}/gn_proj")
        file.conv(encoder.embedding, "embedding")
        positions = file.positions("Transformer/posembed_input/pos_embedding", WIDTH)
        grid = encoder.positions.shape[-1]
        encoder.positions.data.copy_(resize_positions(positions, (grid, grid)))
        for i, layer in enumerate(encoder.layers):
            assert isinstance(layer, Layer)
            key = f"Transformer/encoderblock_{i}"
            file.norm(layer.norm1, f"{key}/LayerNorm_0")
            attention = f"{key}/MultiHeadDotProductAttention_1"
            for name in ("query", "key", "value"):
                file.dense(getattr(layer.attention, name), f"{attention}/{name}", heads_out=HEADS)
            file.dense(layer.attention.out, f"{attention}/out", heads_in=HEADS)
            file.norm(layer.norm2, f"{key}/LayerNorm_2")
            file.dense(layer.fc1, f"{key}/MlpBlock_3/Dense_0")
            file.dense(layer.fc2, f"{key}/MlpBlock_3/Dense_1")
        file.norm(encoder.norm, "Transformer/encoder_norm")


def build(
    in_channels: int,
    classes: int,
    pretrained: str = "none",
    grid: int = 0,
    layers: int = 12,
    stem: str = "published",
    bottlenecks: int = 1,
    shape: tuple[int, int] | None = None,
) -> EncoderDecoder:
    """TransUNet.

    Args:
        in_channels: C of the images [B, C, H, W]; H and W are multiples of 32.
        classes: K of the logits [B, K, H, W].
        pretrained: "none", or the path of R50+ViT-B_16.npz, see `load_published`.
        grid: Side of the stored position embedding; other sizes of input resize it. 0 is a sixteenth of
            the size trained at, as published, so that nothing is resized there.
        layers: Of the transformer, 12 in the paper; with fewer the published weights give their first ones.
        stem: What is done with images of one channel: "published" repeats them to three, and the first
            filters are standardised over 3 x 7 x 7; "own" has filters of one channel, standardised over
            7 x 7, which is another function of the same image.
        bottlenecks: With more than one, the decoder takes that many encoders' deepest maps concatenated.
        shape: H and W of the slices trained on; where they are not known, 256 pixels are taken.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: For a number out of range, another stem, or a file of weights that does not fit.
    """
    for name, value, least in (("grid", grid, 0), ("layers", layers, 1), ("bottlenecks", bottlenecks, 1)):
        if value < least:
            raise UsbenchError(f"setting method.{name}: {value} is out of range; choose {least} or more")
    if stem not in STEMS:
        raise unknown("value of method.stem", stem, STEMS)
    side = grid or (max(shape) // PATCH if shape else GRID)
    encoder = Encoder(in_channels, side, layers, stem)
    if pretrained != "none":
        load_published(encoder, pretrained)
    return EncoderDecoder(encoder, Decoder(classes, bottlenecks), CHANNELS)


def _licence(settings: Mapping[str, Any]) -> str:
    return "none" if settings["pretrained"] == "none" else "Apache-2.0"


METHOD = Method(
    name="transunet",
    paper="Chen, Lu, Yu, Luo, Adeli, Wang, Lu, Yuille, Zhou: TransUNet: Transformers Make Strong Encoders "
    "for Medical Image Segmentation. arXiv:2102.04306, 2021.",
    build_network=build,
    settings={"pretrained": "none", "grid": 0, "layers": 12, "stem": "published"},
    presets={"quick": {"layers": 4}, "smoke": {"layers": 2}},
    weights=lambda settings: weights_name(str(settings["pretrained"])),
    licence=_licence,
    takes_shape=True,
    widens=True,
)
