"""Swin UNETR, a shifted-window transformer with a convolutional decoder, as MONAI builds it.

Hatamizadeh, Nath, Tang, Yang, Roth, Xu: Swin UNETR: Swin Transformers for Semantic Segmentation of Brain
Tumors in MRI Images. BrainLes at MICCAI 2021, LNCS 12962, 2022.

It is cut as UNETR is: the blocks that MONAI calls `encoder1` to `encoder4` and `encoder10` belong to the
encoder, so that a map is never the volume itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from usbench import EncoderDecoder, Method, UsbenchError

if TYPE_CHECKING:
    from monai.networks.nets.swin_unetr import SwinUNETR

COARSEST = 32
"""Voxels of a side that become one at the coarsest scale."""


class _Encoder(nn.Module):
    """Volumes [B, C, D, H, W] -> six maps, of D, D/2, D/4, D/8, D/16 and D/32 slices.

    They have 1, 1, 2, 4, 8 and 16 times `width` channels.
    """

    def __init__(self, network: SwinUNETR) -> None:
        super().__init__()
        self.swinViT = network.swinViT
        self.encoder1 = network.encoder1
        self.encoder2 = network.encoder2
        self.encoder3 = network.encoder3
        self.encoder4 = network.encoder4
        self.encoder10 = network.encoder10
        self.normalize = network.normalize

    def forward(self, volumes: Tensor) -> tuple[Tensor, ...]:
        hidden = self.swinViT(volumes, self.normalize)
        return (
            self.encoder1(volumes),
            self.encoder2(hidden[0]),
            self.encoder3(hidden[1]),
            self.encoder4(hidden[2]),
            hidden[3],
            self.encoder10(hidden[4]),
        )


class _Decoder(nn.Module):
    """Such maps -> logits [B, K, D, H, W]."""

    def __init__(self, network: SwinUNETR) -> None:
        super().__init__()
        self.decoder5 = network.decoder5
        self.decoder4 = network.decoder4
        self.decoder3 = network.decoder3
        self.decoder2 = network.decoder2
        self.decoder1 = network.decoder1
        self.out = network.out

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        x = maps[-1]
        levels = (self.decoder5, self.decoder4, self.decoder3, self.decoder2, self.decoder1)
        for level, skip in zip(levels, reversed(maps[:-1]), strict=True):
            x = level(x, skip)
        logits: Tensor = self.out(x)
        return logits


def build(
    in_channels: int, classes: int, shape: tuple[int, int, int], width: int = 48, window: int = 7
) -> EncoderDecoder:
    """Swin UNETR: four stages of two blocks, 3 to 24 heads, no dropout.

    Args:
        in_channels: C of the volumes [B, C, D, H, W]; D, H and W are multiples of 32.
        classes: K of the logits [B, K, D, H, W].
        shape: (D, H, W) of the volumes. No weight depends on it; it is looked at so that a size at which
            training cannot work is named at once.
        width: Channels of the finest map, 48 in the paper.
        window: Tokens along each side of a window of attention, 7 in the paper.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: For a width that is no multiple of 12, a window under 2, or a volume whose coarsest map
            is one voxel, over which instance normalisation has no variance.
    """
    if width < 12 or width % 12:
        raise UsbenchError(f"method.width {width} is no multiple of 12; use 12, 24, 36 or 48")
    if window < 2:
        raise UsbenchError(f"method.window {window} leaves a token alone; use 2 or more")
    if max(shape) <= COARSEST:
        raise UsbenchError(
            f"swin-unetr makes a single voxel of a volume of {'x'.join(map(str, shape))} at its coarsest "
            "scale, and cannot normalise it; make volume.patch (or volume.shape) larger than 32 along an axis"
        )
    from monai.networks.nets.swin_unetr import SwinUNETR

    network = SwinUNETR(
        in_channels=in_channels,
        out_channels=classes,
        feature_size=width,
        depths=(2, 2, 2, 2),
        num_heads=(3, 6, 12, 24),
        window_size=window,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        dropout_path_rate=0.0,
    )
    channels = [width * times for times in (1, 1, 2, 4, 8, 16)]
    return EncoderDecoder(_Encoder(network), _Decoder(network), channels)


METHOD = Method(
    name="swin-unetr",
    paper="Hatamizadeh, Nath, Tang, Yang, Roth, Xu: Swin UNETR: Swin Transformers for Semantic "
    "Segmentation of Brain Tumors in MRI Images. BrainLes at MICCAI 2021, LNCS 12962, 2022.",
    build_network=build,
    settings={"width": 48, "window": 7},
    presets={
        "quick": {"width": 12, "window": 4},
        # The volumes of this preset would be padded to 32x32x32, a single voxel at the coarsest scale.
        "smoke": {"width": 12, "window": 4, "volume.shape": (8, 32, 64), "volume.patch": (8, 32, 64)},
    },
    dims=3,
    takes_shape=True,
    size_multiple=COARSEST,
)
