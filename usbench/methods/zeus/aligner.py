"""The dimension aligner of Zeus: from the instruction's embedding to a sparse prompt of SAM.

Dai et al., "Zeus: Zero-shot LLM Instruction for Union Segmentation in Multimodal Medical Imaging",
section 3.1 and Table 1: a trainable two-layer projection to SAM's 256 dimensions.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

START = {"none": 0.02, "unit": 1.0, "classes": 1.0}
"""By `method.prompt_norm`, the deviation of trained prompts at their start, about an instruction's."""


def standardised(rows: Tensor) -> Tensor:
    """Rows [..., width] with mean 0 and deviation 1 over their channels; nothing is trained.

    A text encoder gives rows of length 1, so that the biases of an aligner outweigh the text; SAM's own
    prompts have a deviation of 0.1 to 0.7.
    """
    return functional.layer_norm(rows, rows.shape[-1:], eps=1e-8)


def told_apart(rows: Tensor) -> Tensor:
    """Rows [B, M, K, width] without their mean over the classes; a single class stays as it is.

    The last states of a language model behind questions on four organs have cosines of 0.98 to 0.997: what
    they share is ten times as long as what tells the organs apart.
    """
    return rows - rows.mean(dim=2, keepdim=True) if rows.shape[2] > 1 else rows


class Aligner(nn.Module):
    """Embeddings [..., in_width] -> prompts [..., out], by two linear layers with a GELU between.

    Args:
        in_width: Width of an embedding.
        hidden: Width between the layers.
        out: Width of a prompt.
    """

    def __init__(self, in_width: int, hidden: int, out: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_width, hidden), nn.GELU(), nn.Linear(hidden, out))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings [..., in_width] -> prompts [..., out]."""
        prompts: Tensor = self.layers(embeddings)
        return prompts
