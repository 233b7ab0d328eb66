"""Networks of segmentation-models-pytorch as an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from usbench import EncoderDecoder, UsbenchError
from usbench.baselines.pretrained import (
    BUNDLED,
    BUNDLED_ENCODER,
    check_encoder,
    licence,
    make_encoder,
    weights_name,
)

SETTINGS = {"encoder": "resnet34", "pretrained": "imagenet"}
PRESETS = {
    "quick": {"encoder": "resnet18", "pretrained": "none"},
    "smoke": {"encoder": "resnet18", "pretrained": "none"},
}

_DEFAULTS = {SETTINGS["encoder"], *(preset["encoder"] for preset in PRESETS.values())}


class _Encoder(nn.Module):
    """The encoder's feature maps without its first, which is the image itself, and without empty ones.

    Encoders that start with stride 4 give a map of no channels at half size, which has nothing to fuse.
    """

    def __init__(self, encoder: nn.Module, empty: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.empty = empty

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.encoder(images)[1 + self.empty :])


class _Decoder(nn.Module):
    """The decoder and its head. It expects what the encoder leaves out: the image, of which it wants
    to know the size, and the empty maps."""

    def __init__(self, decoder: nn.Module, head: nn.Module, empty: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = head
        self.empty = empty

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        batch, _, height, width = features[0].shape
        scales = [2**step for step in range(self.empty + 1, 0, -1)]
        left_out = [features[0].new_empty((batch, 0, s * height, s * width)) for s in scales]
        logits: Tensor = self.head(self.decoder([*left_out, *features]))
        return logits


def build_smp(
    architecture: str, in_channels: int, classes: int, encoder: str, pretrained: str
) -> EncoderDecoder:
    """A network of segmentation-models-pytorch.

    Args:
        architecture: A class of that library whose decoder takes every map of the encoder, "Unet" or
            "UnetPlusPlus".
        in_channels: C of the images [B, C, H, W]; H and W are multiples of 32.
        classes: K of the logits [B, K, H, W].
        encoder: As for `usbench.baselines.pretrained.make_encoder`; `encoder_of` it is used.
        pretrained: Likewise.

    Returns:
        The network in two halves.

    Raises:
        UsbenchError: As `make_encoder`, and where the library refuses the pair of architecture and encoder.
    """
    encoder = encoder_of(encoder, pretrained)
    check_encoder(encoder)
    import segmentation_models_pytorch as smp

    try:
        network = getattr(smp, architecture)(
            encoder, encoder_weights=None, in_channels=in_channels, classes=classes
        )
    except Exception as error:
        raise UsbenchError(f"method.encoder '{encoder}' cannot be built: {error}; choose another") from error
    if pretrained != "none":
        network.encoder = make_encoder(encoder, in_channels, pretrained)
    channels = network.encoder.out_channels[1:]
    empty = sum(c == 0 for c in channels)
    return EncoderDecoder(
        _Encoder(network.encoder, empty),
        _Decoder(network.decoder, network.segmentation_head, empty),
        channels[empty:],
    )


def encoder_of(encoder: str, pretrained: str) -> str:
    """The encoder that is built: that of the bundled weights, where these are asked for.

    Args:
        encoder: `method.encoder`; what presets say gives way to bundled weights.
        pretrained: `method.pretrained`.

    Raises:
        UsbenchError: Where another encoder was asked for, of which no weights are bundled.
    """
    if pretrained != "bundled" or encoder == BUNDLED_ENCODER:
        return encoder
    if encoder not in _DEFAULTS:
        raise UsbenchError(
            f"method.encoder '{encoder}': method.pretrained 'bundled' is for {BUNDLED_ENCODER} alone; "
            "leave method.encoder out, or choose --set method.pretrained=imagenet, none or a file"
        )
    return BUNDLED_ENCODER


def needed_weights(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Entries of the table of weights that the encoder starts from."""
    return (BUNDLED,) if settings["pretrained"] == "bundled" else ()


def weights(settings: Mapping[str, Any]) -> str:
    """What the encoder starts from: "none", the name of a set, or a file with its digest."""
    return weights_name(str(settings["pretrained"]))


def licence_of(settings: Mapping[str, Any]) -> str:
    """The licence of the weights that the encoder starts from."""
    return licence(str(settings["encoder"]), str(settings["pretrained"]))
