"""UNETR, a vision transformer with a convolutional decoder, as MONAI builds it.

Hatamizadeh, Tang, Nath, Yang, Myronenko, Landman, Roth, Xu: UNETR: Transformers for 3D Medical Image
Segmentation. WACV 2022.

Where it is cut: the encoder is the transformer and the blocks that MONAI calls `encoder1` to `encoder4`,
which make feature maps of the volume itself and of the outputs of three transformer blocks. So the five
maps are a pyramid, and under hybrid fusion each modality has its own blocks for its voxels. A cut before
these blocks would have the volume as a map, and hybrid fusion would merge M images into one grey value a
voxel before any layer saw them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from usbench import EncoderDecoder, Method, UsbenchError

if TYPE_CHECKING:
    from monai.networks.nets.unetr import UNETR

PATCH = 16


class _Encoder(nn.Module):
    """Volumes [B, C, D, H, W] -> five maps.

    [B, width * 2^i, D / 2^i, H / 2^i, W / 2^i] for i = 0 to 3, and the tokens,
    [B, hidden, D / 16, H / 16, W / 16].
    """

    def __init__(self, network: UNETR, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.vit = network.vit
        self.encoder1 = network.encoder1
        self.encoder2 = network.encoder2
        self.encoder3 = network.encoder3
        self.encoder4 = network.encoder4
        self.shape = shape

    def forward(self, volumes: Tensor) -> tuple[Tensor, ...]:
        if tuple(volumes.shape[2:]) != self.shape:
            raise UsbenchError(
                f"unetr was built for volumes of {_size(self.shape)} voxels and got "
                f"{_size(volumes.shape[2:])}; its position embedding fits one size: build it with that shape"
            )
        tokens, hidden = self.vit(volumes)
        return (
            self.encoder1(volumes),
            self.encoder2(self._as_map(hidden[3])),
            self.encoder3(self._as_map(hidden[6])),
            self.encoder4(self._as_map(hidden[9])),
            self._as_map(tokens),
        )

    def _as_map(self, tokens: Tensor) -> Tensor:
        """Tokens [B, D/16 * H/16 * W/16, hidden] -> [B, hidden, D/16, H/16, W/16]."""
        grid = [side // PATCH for side in self.shape]
        made: Tensor = tokens.transpose(1, 2).unflatten(2, grid).contiguous()
        return made


class _Decoder(nn.Module):
    """Such maps -> logits [B, K, D, H, W]."""

    def __init__(self, network: UNETR) -> None:
        super().__init__()
        self.decoder5 = network.decoder5
        self.decoder4 = network.decoder4
        self.decoder3 = network.decoder3
        self.decoder2 = network.decoder2
        self.out = network.out

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        x = maps[-1]
        levels = (self.decoder5, self.decoder4, self.decoder3, self.decoder2)
        for level, skip in zip(levels, reversed(maps[:-1]), strict=True):
            x = level(x, skip)
        logits: Tensor = self.out(x)
        return logits


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def build(
    in_channels: int,
    classes: int,
    shape: tuple[int, int, int],
    width: int = 16,
    hidden: int = 768,
    heads: int = 12,
) -> EncoderDecoder:
    """UNETR, with twelve transformer blocks, patches of 16x16x16 voxels and no dropout.

    Args:
        in_channels: C of the volumes [B, C, D, H, W].
        classes: K of the logits [B, K, D, H, W].
        shape: (D, H, W) of every volume that the network will see, multiples of 16.
        width: Channels of the finest map, 16 in the paper; the next three have 2, 4 and 8 times as many.
        hidden: Numbers in a token, 768 in the paper; four times as many inside the feed-forward parts.
        heads: Of the attention, 12 in the paper; `hidden` is a multiple of it.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: For settings that do not fit, or a volume that is a single patch.
    """
    if width < 1:
        raise UsbenchError(f"method.width {width} is not a number of channels; use 1 or more")
    if heads < 1 or hidden < 1 or hidden % heads:
        raise UsbenchError(
            f"method.hidden {hidden} is no multiple of method.heads {heads}; use 768 and 12, or 192 and 3"
        )
    if max(shape) <= PATCH:
        raise UsbenchError(
            f"unetr cuts a volume of {_size(shape)} voxels into one patch of 16x16x16, which has nothing to "
            "attend to; make volume.patch (or volume.shape) larger than 16 along an axis"
        )
    from monai.networks.nets.unetr import UNETR

    network = UNETR(
        in_channels=in_channels,
        out_channels=classes,
        img_size=shape,
        feature_size=width,
        hidden_size=hidden,
        mlp_dim=4 * hidden,
        num_heads=heads,
        dropout_rate=0.0,
    )
    for block in network.vit.blocks:
        # Parts for a second input, which MONAI builds and a vision transformer never uses.
        block.norm_cross_attn = block.cross_attn = nn.Identity()
    channels = [width, 2 * width, 4 * width, 8 * width, hidden]
    return EncoderDecoder(_Encoder(network, (shape[0], shape[1], shape[2])), _Decoder(network), channels)


METHOD = Method(
    name="unetr",
    paper="Hatamizadeh, Tang, Nath, Yang, Myronenko, Landman, Roth, Xu: UNETR: Transformers for 3D Medical "
    "Image Segmentation. WACV 2022.",
    build_network=build,
    settings={"width": 16, "hidden": 768, "heads": 12},
    presets={
        "quick": {"width": 8, "hidden": 192, "heads": 3},
        "smoke": {"width": 4, "hidden": 48, "heads": 3},
    },
    dims=3,
    takes_shape=True,
    size_multiple=PATCH,
)
