"""The two layers between the width of the vision transformer and that of a language model.

Marthi Krishna Kumar et al., MedVisionLlama, section 3.2: LoRA stands "in the dimension mapping layers". LoRA
is an addition of low rank to a matrix that is not trained (Hu et al., ICLR 2022). Which matrix that is the
paper leaves open; in the published code it is a random one.
"""

from __future__ import annotations

from torch import Tensor, nn

from usbench.tools import add_lora

BASES = ("frozen-random", "trained")


class Mapper(nn.Module):
    """Tokens [B, T, wide_in] -> tokens [B, T, wide_out]: a matrix without bias and LoRA on it.

    At the start LoRA adds nothing.

    Args:
        wide_in: Width of what comes.
        wide_out: Width of what goes.
        rank: Of LoRA, 0 for none.
        base: "frozen-random": the matrix stays as it was drawn, and is part of the network's state;
        "trained".
    """

    def __init__(self, wide_in: int, wide_out: int, rank: int, base: str) -> None:
        super().__init__()
        self.matrix = nn.Linear(wide_in, wide_out, bias=False)
        weight = self.matrix.weight
        if rank:
            add_lora(self, rank, ("matrix",), "the mapper")
        weight.requires_grad_(base == "trained")

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T, wide_in] -> [B, T, wide_out]."""
        mapped: Tensor = self.matrix(tokens)
        return mapped
