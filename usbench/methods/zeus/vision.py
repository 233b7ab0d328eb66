"""The image tower that the language model sees through, loaded when it is first asked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from usbench.methods.zeus.image_encoder import HIGH, LOW, ImageEncoder, load_image_encoder
from usbench.methods.zeus.parts import WEIGHTS, Parts
from usbench.methods.zeus.vision_language import VisionEncoder, load_vision_encoder
from usbench.tools import weight_digest, weight_path

BATCH = 4


class SamTower:
    """The frozen image encoder: slices [N, S, S] -> embeddings [N, 256, h, w].

    Args:
        parts: Which encoder, and its input size.
        device: Where it runs.
    """

    def __init__(self, parts: Parts, device: torch.device) -> None:
        self.parts, self.device = parts, device
        self._network: ImageEncoder | None = None

    @property
    def key(self) -> list[Any]:
        """All that decides an embedding besides the slice."""
        key = [self.parts.image_encoder, weight_digest(self.parts.image_encoder), self.parts.size]
        return key if self.parts.encoder_precision == "32" else [*key, self.parts.encoder_precision]

    def __call__(self, images: Tensor) -> Tensor:
        """Embed slices.

        Args:
            images: Standardised intensities [N, S, S].

        Returns:
            Embeddings [N, 256, h, w] on the tower's device; h = w = input size / stride of the encoder.

        Raises:
            UsbenchError: For weights that are absent, damaged or do not fit.
        """
        if self._network is None:
            name = self.parts.image_encoder
            loaded = load_image_encoder(
                name, weight_path(name), self.parts.size, precision=self.parts.encoder_precision
            )
            self._network = loaded.to(self.device)
        network = self._network
        return torch.cat([network(some.to(self.device)) for some in images.split(BATCH)])

    def free(self) -> None:
        """Let go of the network."""
        self._network = None


class VisionTower:
    """The vision-language model's image side: slices [N, S, S] -> features [N, T, width].

    "sam-pool" is for where there is no pair of image and text towers that were trained together: the mean of
    the frozen image encoder's embedding, T = 1.

    Args:
        parts: Which encoder.
        device: Where it runs.
    """

    def __init__(self, parts: Parts, device: torch.device) -> None:
        self.parts, self.device = parts, device
        self._sam = SamTower(parts, device)
        self._network: VisionEncoder | None = None

    @property
    def key(self) -> list[Any]:
        """All that decides a feature besides the slice."""
        if self.parts.vision_encoder == "sam-pool":
            return ["sam-pool", *self._sam.key]
        key = [self.parts.vision_encoder, weight_digest(WEIGHTS[self.parts.vision_encoder][0])]
        return [*key, "padded"] if self.parts.pads else key

    def __call__(self, images: Tensor) -> Tensor:
        """Describe slices by features.

        Args:
            images: Standardised intensities [N, S, S].

        Returns:
            Features [N, T, width] on the tower's device.

        Raises:
            UsbenchError: For weights that are absent, damaged or do not fit.
        """
        if self.parts.vision_encoder == "sam-pool":
            return self._sam(images).mean(dim=(2, 3)).unsqueeze(1)
        if self._network is None:
            name = self.parts.vision_encoder
            path, small = weight_path(WEIGHTS[name][0]), "pad" if self.parts.pads else "enlarge"
            self._network = load_vision_encoder(name, path, small=small).to(self.device)
        network = self._network
        unit = ((images.to(self.device) - LOW) / (HIGH - LOW)).clamp(0, 1)
        return torch.cat([network(some) for some in unit.split(BATCH)])

    def free(self) -> None:
        """Let go of the networks."""
        self._network = None
        self._sam.free()
