"""SegResNet, the encoder and decoder of the BraTS 2018 winner, as MONAI builds them.

Myronenko: 3D MRI Brain Tumor Segmentation Using Autoencoder Regularization. BrainLes at MICCAI 2018.

The paper's second decoder, a variational autoencoder that rebuilds the image in training, is left out, as
in MONAI's `SegResNet`: its loss is not one of masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from usbench import EncoderDecoder, Method, UsbenchError

if TYPE_CHECKING:
    from monai.networks.nets.segresnet import SegResNet

GROUPS = 8
"""Of the group normalisation; widths are multiples of it."""


class _Encoder(nn.Module):
    """Volumes [B, C, D, H, W] -> maps [B, width * 2^i, D / 2^i, H / 2^i, W / 2^i] for i = 0 to 3."""

    def __init__(self, network: SegResNet) -> None:
        super().__init__()
        self.convInit = network.convInit
        self.dropout = network.dropout
        self.down_layers = network.down_layers

    def forward(self, volumes: Tensor) -> tuple[Tensor, ...]:
        maps = [self.dropout(self.convInit(volumes))]
        for level in self.down_layers:
            maps.append(level(maps[-1]))
        return tuple(maps[1:])


class _Decoder(nn.Module):
    """Such maps -> logits [B, K, D, H, W]. A coarser map is made as large as the next, and added to it."""

    def __init__(self, network: SegResNet) -> None:
        super().__init__()
        self.up_layers = network.up_layers
        self.up_samples = network.up_samples
        self.conv_final = network.conv_final

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        x = maps[-1]
        steps = zip(self.up_samples, self.up_layers, reversed(maps[:-1]), strict=True)
        for enlarge, level, skip in steps:
            x = level(enlarge(x) + skip)
        logits: Tensor = self.conv_final(x)
        return logits


def build(in_channels: int, classes: int, width: int = 32, dropout: float = 0.2) -> EncoderDecoder:
    """SegResNet.

    Args:
        in_channels: C of the volumes [B, C, D, H, W]; D, H and W are multiples of 8.
        classes: K of the logits [B, K, D, H, W].
        width: Channels of the finest of four maps, 32 in the paper; each further one has twice as many.
        dropout: The share of channels dropped after the first convolution, 0.2 in the paper.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: For a width that is no multiple of 8, or a dropout outside 0 to 1.
    """
    if width < GROUPS or width % GROUPS:
        raise UsbenchError(f"method.width {width} is no multiple of the {GROUPS} groups; use 8, 16, 24 or 32")
    if not 0 <= dropout < 1:
        raise UsbenchError(f"method.dropout {dropout} is not a share of channels; use 0 to less than 1")
    from monai.networks.nets.segresnet import SegResNet

    network = SegResNet(
        init_filters=width,
        in_channels=in_channels,
        out_channels=classes,
        dropout_prob=dropout,
        norm=("GROUP", {"num_groups": GROUPS}),
        blocks_down=(1, 2, 2, 4),
        blocks_up=(1, 1, 1),
    )
    return EncoderDecoder(_Encoder(network), _Decoder(network), [width * 2**level for level in range(4)])


METHOD = Method(
    name="segresnet",
    paper="Myronenko: 3D MRI Brain Tumor Segmentation Using Autoencoder Regularization. BrainLes at MICCAI "
    "2018.",
    build_network=build,
    settings={"width": 32, "dropout": 0.2},
    presets={"quick": {"width": 16}, "smoke": {"width": 8}},
    dims=3,
    size_multiple=8,
)
