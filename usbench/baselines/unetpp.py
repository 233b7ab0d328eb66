"""UNet++ with a choice of encoder: skips that are themselves small nested U-Nets.

Zhou, Siddiquee, Tajbakhsh, Liang: UNet++: Redesigning Skip Connections to Exploit Multiscale
Features in Image Segmentation. IEEE TMI 2020, arXiv:1912.05074. The network is that of
segmentation-models-pytorch, with a ResNet-34 by default; it has one output, without the paper's
deep supervision.
"""

from __future__ import annotations

from torch import nn

from usbench import EncoderDecoder, Method, UsbenchError
from usbench.baselines.smp import PRESETS, SETTINGS, build_smp, licence_of, needed_weights, weights


def build(
    in_channels: int, classes: int, encoder: str = "resnet34", pretrained: str = "none"
) -> EncoderDecoder:
    """UNet++ from `in_channels` to `classes` logits, for sizes that are multiples of 32.

    encoder, pretrained and errors as for `usbench.baselines.smp.build_smp`; the library's UNet++
    does not take its "mit_b" encoders.
    """
    if encoder.startswith("mit_b"):
        raise UsbenchError(
            f"method.encoder '{encoder}' does not go with unetpp; choose another, for example resnet34"
        )
    network = build_smp("UnetPlusPlus", in_channels, classes, encoder, pretrained)
    # With a VGG encoder the library makes a centre block and never calls it.
    network.get_submodule("decoder.decoder").center = nn.Identity()
    return network


METHOD = Method(
    name="unetpp",
    paper="Zhou, Siddiquee, Tajbakhsh, Liang: UNet++: Redesigning Skip Connections to Exploit Multiscale "
    "Features in Image Segmentation. IEEE TMI 2020.",
    build_network=build,
    settings=SETTINGS,
    presets=PRESETS,
    weights=weights,
    needed_weights=needed_weights,
    licence=licence_of,
)
