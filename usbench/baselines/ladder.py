"""The two halves that U-Nets share: blocks with pooling between them; steps up that merge with the skips."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class PoolingEncoder(nn.Module):
    """A block for each level, with 2x2 max-pooling between them.

    Args:
        block: `(input channels, output channels) -> module` that keeps the size of a map.
        in_channels: C of the images [B, C, H, W].
        channels: of the levels, finest first.
    """

    def __init__(
        self, block: Callable[[int, int], nn.Module], in_channels: int, channels: Sequence[int]
    ) -> None:
        super().__init__()
        inputs = [in_channels, *channels[:-1]]
        self.blocks = nn.ModuleList(block(i, o) for i, o in zip(inputs, channels, strict=True))
        self.pool = nn.MaxPool2d(kernel_size=2)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images [B, C, H, W] -> maps [B, channels[i], H / 2^i, W / 2^i], finest first."""
        maps = [self.blocks[0](images)]
        for block in self.blocks[1:]:
            maps.append(block(self.pool(maps[-1])))
        return tuple(maps)


class LadderDecoder(nn.Module):
    """Steps from the coarsest map to the finest, and the head.

    Args:
        level: `(coarse channels, fine channels) -> module` that takes (coarse map, skip map of twice its
            size) and gives a map like the skip.
        channels: of the maps, finest first.
        classes: K of the logits.
    """

    def __init__(self, level: Callable[[int, int], nn.Module], channels: Sequence[int], classes: int) -> None:
        super().__init__()
        fine = list(reversed(channels[:-1]))
        coarse = list(reversed(channels[1:]))
        self.levels = nn.ModuleList(level(c, f) for c, f in zip(coarse, fine, strict=True))
        self.head = nn.Conv2d(channels[0], classes, kernel_size=1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Maps [B, channels[i], H / 2^i, W / 2^i], finest first -> logits [B, K, H, W]."""
        x = features[-1]
        for level, skip in zip(self.levels, reversed(features[:-1]), strict=True):
            x = level(x, skip)
        logits: Tensor = self.head(x)
        return logits
