"""The decoder that U-Nets share: step up, merge with the skip, until the finest map; a 1x1 head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class LadderDecoder(nn.Module):
    """Steps from the coarsest map to the finest, and the head.

    level: `(coarse channels, fine channels) -> module` that takes (coarse map, skip map of twice its
    size) and gives a map like the skip. channels: of the maps, finest first. The input is the tuple
    of maps, finest first; the output logits [B, K, H, W] at the size of the finest.
    """

    def __init__(self, level: Callable[[int, int], nn.Module], channels: Sequence[int], classes: int) -> None:
        super().__init__()
        fine = list(reversed(channels[:-1]))
        coarse = list(reversed(channels[1:]))
        self.levels = nn.ModuleList(level(c, f) for c, f in zip(coarse, fine, strict=True))
        self.head = nn.Conv2d(channels[0], classes, kernel_size=1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        x = features[-1]
        for level, skip in zip(self.levels, reversed(features[:-1]), strict=True):
            x = level(x, skip)
        logits: Tensor = self.head(x)
        return logits
