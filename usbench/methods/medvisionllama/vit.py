"""A vision transformer of volumes: patches to tokens, blocks of attention, tokens back to voxels.

Dosovitskiy et al.: An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale (ICLR 2021), as
Marthi Krishna Kumar et al. use it for MedVisionLlama: norm before attention and before the MLP, none after
the last block, positions learned, and a head that is one linear layer from a token to its voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import UsbenchError

MLP_RATIO = 4

Three = tuple[int, int, int]


def grid_of(shape: Three, patch: Three) -> Three:
    """How many patches a volume (D, H, W) has along each axis, the last of them padded where it must be."""
    d, h, w = (-(-size // side) for size, side in zip(shape, patch, strict=True))
    return d, h, w


class Patches(nn.Module):
    """Volumes [B, C, D, H, W] -> embedded patches [B, T, width], in the order of D, H and W.

    Args:
        channels: C.
        width: Of a token.
        shape: (D, H, W). Sides that are no multiple of the patch's are padded by repeating the edge.
        patch: Its sides in voxels.
    """

    def __init__(self, channels: int, width: int, shape: Three, patch: Three) -> None:
        super().__init__()
        self.shape, self.patch = shape, patch
        self.embed = nn.Linear(channels * patch[0] * patch[1] * patch[2], width)

    def forward(self, volumes: Tensor) -> Tensor:
        """volumes [B, C, D, H, W] -> tokens [B, T, width].

        Raises:
            UsbenchError: For volumes of another size than it was built for.
        """
        if tuple(volumes.shape[2:]) != self.shape:
            seen, own = ("x".join(map(str, sides)) for sides in (volumes.shape[2:], self.shape))
            raise UsbenchError(
                f"medvisionllama was built for volumes of {own} voxels and got {seen}; its positions are "
                "learned for one size: build it with that shape"
            )
        (d, h, w), (nd, nh, nw) = self.patch, grid_of(self.shape, self.patch)
        lack = [n * side - size for n, side, size in zip((nd, nh, nw), self.patch, self.shape, strict=True)]
        if any(lack):
            volumes = functional.pad(volumes, (0, lack[2], 0, lack[1], 0, lack[0]), mode="replicate")
        batch, channels = volumes.shape[:2]
        cut = volumes.reshape(batch, channels, nd, d, nh, h, nw, w).permute(0, 2, 4, 6, 1, 3, 5, 7)
        tokens: Tensor = self.embed(cut.reshape(batch, nd * nh * nw, -1))
        return tokens


class Block(nn.Module):
    """A block of attention over tokens [B, T, width], then an MLP, each added to what comes in.

    Args:
        width: Of a token.
        heads: Of the attention.
        dropout: Share of attention weights, and of the MLP's output, that training leaves out.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width),
            nn.GELU(),
            nn.Linear(MLP_RATIO * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T, width] -> [B, T, width]."""
        normed = self.norm1(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class Positions(nn.Module):
    """Learned positions [1, T, width], added to tokens [B, T, width]."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, tokens, width) * 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T, width] -> [B, T, width]."""
        return tokens + self.table


class Head(nn.Module):
    """Tokens [B, T, width] -> logits [B, K, D, H, W], one linear layer from a token to its patch.

    Args:
        width: Of a token.
        classes: K.
        shape: (D, H, W) of the volume; voxels of patches that were padded are cut off.
        patch: The sides of a patch in voxels.
    """

    def __init__(self, width: int, classes: int, shape: Three, patch: Three) -> None:
        super().__init__()
        self.classes, self.shape, self.patch = classes, shape, patch
        self.out = nn.Linear(width, classes * patch[0] * patch[1] * patch[2])

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T, width] -> logits [B, K, D, H, W]."""
        (d, h, w), (nd, nh, nw) = self.patch, grid_of(self.shape, self.patch)
        voxels = self.out(tokens).reshape(-1, nd, nh, nw, self.classes, d, h, w)
        laid = voxels.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(-1, self.classes, nd * d, nh * h, nw * w)
        logits: Tensor = laid[..., : self.shape[0], : self.shape[1], : self.shape[2]]
        return logits


def parameters_of(width: int, depth: int, channels: int, classes: int, shape: Three, patch: Three) -> int:
    """The parameters of such a transformer with its head, by formula.

    Args:
        width: Of a token, w.
        depth: Blocks, each of (4 + 2 * 4) w^2 + (9 + 4) w: attention, an MLP four times as wide, two norms.
        channels: C.
        classes: K.
        shape: (D, H, W).
        patch: The sides of a patch.
    """
    voxels = patch[0] * patch[1] * patch[2]
    nd, nh, nw = grid_of(shape, patch)
    blocks = depth * ((4 + 2 * MLP_RATIO) * width**2 + (9 + MLP_RATIO) * width)
    embedding = (channels * voxels + 1) * width + nd * nh * nw * width
    return embedding + blocks + (width + 1) * classes * voxels
