"""A fusion as a plugin: late fusion in which every pixel decides how much each modality counts.

    usbench run --plugin examples/gated_late.py --fusion gated-late --method unet --task msd-prostate

One whole network a modality, as in late fusion. Beside them a small gate looks at all modalities and gives
each a weight in every pixel; the weights add up to 1 over the modalities, and the merged logits are the
weighted mean. With equal weights that is `fusion.merge=mean-logits`, which is where training starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from usbench import Fusion, Method, Task


class GatedLate(nn.Module):
    """Images [B, M, H, W] -> logits [B, K, H, W]."""

    def __init__(self, method: Method, modalities: int, classes: int, settings: Mapping[str, Any]) -> None:
        super().__init__()
        assert method.build_network is not None
        build = method.build_network
        self.networks = nn.ModuleList(build(1, classes, **settings) for _ in range(modalities))
        self.gate = nn.Sequential(
            nn.Conv2d(modalities, 16, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, modalities, kernel_size=5, padding=2),
        )
        # The last convolution starts at zero: equal weights.
        for parameter in self.gate[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        masks = torch.stack([net(images[:, i : i + 1]) for i, net in enumerate(self.networks)], dim=1)
        share = self.gate(images).float().softmax(dim=1)
        return (share[:, :, None] * masks.float()).sum(dim=1)


def build(method: Method, task: Task, settings: Mapping[str, Any]) -> nn.Module:
    return GatedLate(method, len(task.modalities), len(task.classes), settings)


FUSION = Fusion(
    name="gated-late",
    paper="Example of usbench, after Arevalo et al.: Gated Multimodal Units for Information Fusion. 2017.",
    build=build,
)
