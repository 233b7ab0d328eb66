"""U-Net with a choice of encoder.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation.
MICCAI 2015. The network is that of segmentation-models-pytorch, with a ResNet-34 by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from usbench.errors import UsbenchError, unknown
from usbench.methods.contract import EncoderDecoder, Method
from usbench.torchvision_cpu import make_importable


class _Encoder(nn.Module):
    """The encoder's feature maps without its first, which is the image itself."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.encoder(images)[1:])


class _Decoder(nn.Module):
    """The decoder and its head; it wants to know the size of the image, which is twice its finest map."""

    def __init__(self, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = head

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        height, width = features[0].shape[-2:]
        image = features[0].new_empty((0, 0, 2 * height, 2 * width))
        logits: Tensor = self.head(self.decoder([image, *features]))
        return logits


def build(
    in_channels: int, classes: int, encoder: str = "resnet34", pretrained: str = "none"
) -> EncoderDecoder:
    """U-Net from `in_channels` to `classes` logits, for sizes that are multiples of 32.

    encoder: any encoder of segmentation-models-pytorch. pretrained: "none", or the name of a set
    of weights that library has for the encoder ("imagenet"), which it downloads once; its rule
    for other channel counts is to repeat and rescale the first convolution.
    """
    make_importable()
    import segmentation_models_pytorch as smp

    encoders = smp.encoders.get_encoder_names()
    if encoder not in encoders and not encoder.startswith("tu-"):
        raise unknown(
            "value of method.encoder", encoder, encoders, "see segmentation-models-pytorch's encoders"
        )
    try:
        network = smp.Unet(
            encoder,
            encoder_weights=None if pretrained == "none" else pretrained,
            in_channels=in_channels,
            classes=classes,
        )
    except Exception as error:
        if pretrained == "none":
            raise UsbenchError(
                f"method.encoder '{encoder}' cannot be built: {error}; choose another"
            ) from error
        raise UsbenchError(
            f"method.pretrained '{pretrained}' of encoder '{encoder}' cannot be had "
            f"({type(error).__name__}): go online once, or start from nothing: --set method.pretrained=none"
        ) from error
    return EncoderDecoder(
        _Encoder(network.encoder),
        _Decoder(network.decoder, network.segmentation_head),
        network.encoder.out_channels[1:],
    )


def _weights(settings: Mapping[str, Any]) -> str:
    return str(settings["pretrained"])


METHOD = Method(
    name="unet",
    paper="Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. "
    "MICCAI 2015.",
    build_network=build,
    settings={"encoder": "resnet34", "pretrained": "imagenet"},
    presets={
        "quick": {"encoder": "resnet18", "pretrained": "none"},
        "smoke": {"encoder": "resnet18", "pretrained": "none"},
    },
    weights=_weights,
)
