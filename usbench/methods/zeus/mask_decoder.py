"""SAM's mask decoder without its IoU head, for batches of images with several prompts each.

Kirillov, Mintun, Ravi, Mao, Rolland, Gustafson, Xiao, Whitehead, Berg, Lo, Dollár, Girshick: Segment
Anything. ICCV 2023. Zeus trains this part and drops the estimate of the IoU. Tokens (one that SAM
reads the IoU from, four for masks, then the prompt's) and the image attend to each other in two
layers; a small network turns a mask token into the weights of a dot product with the upscaled image.

Parameters carry the names that they have in SAM's files, under `mask_decoder.`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.methods.zeus.image_encoder import take
from usbench.tools import unknown

WIDTH, HEADS, HIDDEN, LAYERS = 256, 8, 2048, 2
MASK_TOKENS = 4
_BUFFERS = {
    "no_mask": "prompt_encoder.no_mask_embed.weight",
    "frequencies": "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
}


class Attention(nn.Module):
    """Attention with eight heads, of which one side may be the same for all prompts of an image.

    Queries [B, P or 1, N, 256], keys and values [B, P or 1, L, 256] -> [B, P, N, 256].

    Args:
        inner: Width of all heads together.
    """

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, inner)
        self.k_proj = nn.Linear(WIDTH, inner)
        self.v_proj = nn.Linear(WIDTH, inner)
        self.out_proj = nn.Linear(inner, WIDTH)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of queries to keys and values.

        Args:
            queries: [B, P or 1, N, 256].
            keys: [B, P or 1, L, 256].
            values: [B, P or 1, L, 256].

        Returns:
            [B, P, N, 256].
        """
        asking, asked, count = queries.shape[1], keys.shape[1], queries.shape[2]
        fold = asked == 1 < asking
        if fold:  # Queries do not see each other, so those of all prompts can share the image's keys.
            queries = queries.flatten(1, 2).unsqueeze(1)
        query, key, value = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(2, 3)
            for layer, x in ((self.q_proj, queries), (self.k_proj, keys), (self.v_proj, values))
        )
        query = query.expand(-1, asked, -1, -1, -1)
        mixed = functional.scaled_dot_product_attention(
            query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
        )
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out.reshape(-1, max(asking, asked), count, WIDTH)


class FeedForward(nn.Module):
    """256 -> 2048, ReLU, -> 256."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(WIDTH, HIDDEN)
        self.lin2 = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [..., 256] -> the same shape."""
        out: Tensor = self.lin2(functional.relu(self.lin1(x)))
        return out


class Layer(nn.Module):
    """Tokens attend to each other, then to the image, pass an MLP; then the image attends to them.

    A norm follows each sum.

    Args:
        first: Whether the attention among the tokens replaces them, instead of being added.
    """

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.cross_attn_token_to_image = Attention(WIDTH // 2)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = FeedForward()
        self.norm3 = nn.LayerNorm(WIDTH)
        self.cross_attn_image_to_token = Attention(WIDTH // 2)
        self.norm4 = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, image: Tensor, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """One step of tokens and image.

        Args:
            x: The tokens as the layer before left them, [B, P, N, 256].
            image: [B, P or 1, L, 256].
            tokens: The tokens at the start, [B, P, N, 256]; added to `x` where it attends, as its position
                encoding.
            positions: Of the image's pixels, [L, 256].

        Returns:
            The tokens [B, P, N, 256] and the image [B, P, L, 256].
        """
        if self.first:
            x = self.norm1(self.self_attn(x, x, x))
        else:
            placed = x + tokens
            x = self.norm1(x + self.self_attn(placed, placed, x))
        located = image + positions
        x = self.norm2(x + self.cross_attn_token_to_image(x + tokens, located, image))
        x = self.norm3(x + self.mlp(x))
        return x, self.norm4(image + self.cross_attn_image_to_token(located, x + tokens, x))


class TwoWayTransformer(nn.Module):
    """tokens [B, P, N, 256], image [B, 1, L, 256], positions [L, 256] -> both [B, P, ., 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(first=i == 0) for i in range(LAYERS))
        self.final_attn_token_to_image = Attention(WIDTH // 2)
        self.norm_final_attn = nn.LayerNorm(WIDTH)

    def forward(self, tokens: Tensor, image: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and image, each having attended to the other.

        Args:
            tokens: N of each of P prompts, [B, P, N, 256].
            image: L pixels, [B, 1, L, 256].
            positions: Of the pixels, [L, 256].

        Returns:
            The tokens [B, P, N, 256] and the image [B, P, L, 256].
        """
        x = tokens
        for layer in self.layers:
            x, image = layer(x, image, tokens, positions)
        x = x + self.final_attn_token_to_image(x + tokens, image + positions, image)
        return self.norm_final_attn(x), image


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of every pixel of [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """A map [N, C, H, W] -> the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Hypernetwork(nn.Module):
    """From a mask token to the 32 weights of its mask: three linear layers, ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        widths = (WIDTH, WIDTH, WIDTH, WIDTH // 8)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Mask tokens [..., 256] -> weights [..., 32]."""
        first, second, last = self.layers
        out: Tensor = last(functional.relu(second(functional.relu(first(x)))))
        return out


class MaskDecoder(nn.Module):
    """Image embeddings and prompt tokens -> one mask for each prompt.

    3,925,728 parameters: SAM's 4,058,340 less the IoU head's 132,612. Buffers, frozen, from SAM's prompt
    encoder: `no_mask` [1, 256], added to every pixel of the embedding, and `frequencies` [2, 128] of its
    positions. `load_sam` fills everything.

    Args:
        masks: "first" gives SAM's single mask, from its first mask token; the hypernetworks of the other
            three stay in the module, frozen, and 3,506,304 parameters train. "mean" gives the mean of the
            four masks; all train.
        together: Whether the prompts of an image go through the decoder in one pass, where they see each
            other and the image attends to all of them, instead of each by itself as in SAM. The token of a
            prompt's mask is then SAM's plus the mean of that prompt's tokens, which tells them apart. A
            prompt by itself costs as much as all together. No parameter is added.

    Attributes:
        learning_rate_share: Of the learning rate, the share that it trains with.

    Raises:
        UsbenchError: For another value of `masks`.
    """

    no_mask: Tensor
    frequencies: Tensor
    learning_rate_share: float = 1.0

    def __init__(self, masks: Literal["first", "mean"] = "first", together: bool = False) -> None:
        super().__init__()
        if masks not in ("first", "mean"):
            raise unknown("masks", masks, ("first", "mean"))
        self.masks, self.together = masks, together
        self.iou_token = nn.Embedding(1, WIDTH)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, WIDTH)
        self.transformer = TwoWayTransformer()
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, WIDTH // 4, kernel_size=2, stride=2),
            ChannelNorm(WIDTH // 4, eps=1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(WIDTH // 4, WIDTH // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Hypernetwork() for _ in range(MASK_TOKENS))
        if masks == "first":
            self.output_hypernetworks_mlps[1:].requires_grad_(False)
        self.register_buffer("no_mask", torch.zeros(1, WIDTH))
        self.register_buffer("frequencies", torch.randn(2, WIDTH // 2))

    @property
    def _used(self) -> int:
        """Masks that make up one."""
        return 1 if self.masks == "first" else MASK_TOKENS

    def positions(self, height: int, width: int) -> Tensor:
        """The position encoding of a grid's pixels, float32 [height * width, 256], row by row."""
        matrix = self.frequencies.float()
        y, x = (
            (2 * torch.arange(n, device=matrix.device) + 1).float() / n - 1  # centres, from -1 to 1
            for n in (height, width)
        )
        # Not a matrix product: under autocast one would round the phases to half precision.
        phases = y[:, None, None] * matrix[1] + x[None, :, None] * matrix[0]
        phases = 2 * math.pi * phases.flatten(0, 1)
        return torch.cat((phases.sin(), phases.cos()), dim=-1)

    def forward(self, embedding: Tensor, sparse: Tensor) -> Tensor:
        """The masks of an image, one for each prompt.

        Args:
            embedding: Of the image, [B, 256, h, w].
            sparse: N tokens of each of P prompts, [B, P, N, 256].

        Returns:
            Logits [B, P, 4h, 4w].
        """
        height, width = embedding.shape[-2:]
        image = embedding.flatten(2).transpose(1, 2).unsqueeze(1) + self.no_mask
        tokens, image = self.transformer(self._tokens(sparse), image, self.positions(height, width))
        grid = image.flatten(0, 1).transpose(1, 2).unflatten(2, (height, width))
        features = self.output_upscaling(grid).flatten(2)  # of each prompt, or of all together
        used = self._used
        of_masks = tokens[:, :, 1 : 1 + used]
        if self.together:
            of_masks = tokens[:, 0, 1 : 1 + sparse.shape[1] * used].unflatten(1, (-1, used))
        weights = [self.output_hypernetworks_mlps[i](of_masks[:, :, i]) for i in range(used)]
        # The mean of the masks is the mask of the mean, since a mask is linear in its weights.
        mean = torch.stack(weights).mean(0)
        logits: Tensor = (mean if self.together else mean.flatten(0, 1).unsqueeze(1)) @ features
        return logits.reshape(*sparse.shape[:2], 4 * height, 4 * width)

    def _tokens(self, sparse: Tensor) -> Tensor:
        """Tokens [B, P or 1, ., 256] of prompts [B, P, N, 256]: the IoU's, those of masks, the prompts'."""
        batch, prompts = sparse.shape[:2]
        if not self.together:
            own = torch.cat((self.iou_token.weight, self.mask_tokens.weight))
            return torch.cat((own.expand(batch, prompts, -1, -1), sparse), dim=2)
        of_masks = self.mask_tokens.weight[: self._used] + sparse.mean(dim=2, keepdim=True)
        parts = (self.iou_token.weight.expand(batch, 1, -1), of_masks.flatten(1, 2), sparse.flatten(1, 2))
        return torch.cat(parts, dim=1).unsqueeze(1)


def load_sam(decoder: MaskDecoder, state: Mapping[str, Tensor], path: Path) -> None:
    """Fill a decoder from the state of a SAM or LiteMedSAM file; the IoU head is left out.

    Args:
        decoder: The decoder to fill.
        state: What `image_encoder.sam_state` read: tensors of any shape.
        path: The file, for messages.

    Raises:
        UsbenchError: Naming `path` and the first tensor of the decoder that is missing, of another shape,
            or not known.
    """
    own = take(
        decoder,
        state,
        lambda name: _BUFFERS.get(name, f"mask_decoder.{name}"),
        path,
        what="SAM's mask decoder",
        inside="mask_decoder.",
        unused="mask_decoder.iou_prediction_head.",
    )
    decoder.load_state_dict(own)
