"""U-Net with a choice of encoder.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation.
MICCAI 2015. The network is that of segmentation-models-pytorch, with a ResNet-34 by default.
"""

from __future__ import annotations

from usbench import EncoderDecoder, Method
from usbench.baselines.smp import PRESETS, SETTINGS, build_smp, licence_of, needed_weights, weights


def build(
    in_channels: int, classes: int, encoder: str = "resnet34", pretrained: str = "none"
) -> EncoderDecoder:
    """U-Net from `in_channels` to `classes` logits, for sizes that are multiples of 32.

    encoder, pretrained and errors as for `usbench.baselines.smp.build_smp`.
    """
    return build_smp("Unet", in_channels, classes, encoder, pretrained)


METHOD = Method(
    name="unet",
    paper="Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. "
    "MICCAI 2015.",
    build_network=build,
    settings=SETTINGS,
    presets=PRESETS,
    weights=weights,
    needed_weights=needed_weights,
    licence=licence_of,
)
