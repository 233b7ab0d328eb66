"""A frozen block of a language model that reads tokens of an image.

Pang, Xie, Man, Wang: Frozen Transformers in Language Models Are Effective Visual Encoder Layers (ICLR 2024),
and Marthi Krishna Kumar et al., MedVisionLlama, section 3.1: the last block of a Llama with the norm that
follows it, without rotary positions and without the mask that hides later tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from usbench import UsbenchError
from usbench.methods.medvisionllama.loading import PRECISIONS, BlockConfig, Frozen
from usbench.tools import add_lora, freeze, load_errors, make_importable

LORA_TARGETS = ("q_proj", "v_proj")


class LanguageBlock(nn.Module):
    """Tokens [B, T, width] -> tokens [B, T, width] by a block that is not trained.

    Its weights are no parameters of this module: they are held beside it, outside state, gradient and
    optimiser, and follow the tokens to their device. What is trained is LoRA on the attention's q_proj and
    v_proj. The state has the digest of the frozen weights, so that it is not put around others by mistake.

    Args:
        config: The block's sizes.
        frozen: Its weights, as `load_block` gives them in that precision; None on the meta device.
        lora_rank: Of LoRA on its attention, 0 for none.
        precision: "32" or "bf16", in which the frozen weights are kept and computed.

    Raises:
        UsbenchError: For weights that do not fit the sizes.
    """

    def __init__(
        self, config: BlockConfig, frozen: Frozen | None, lora_rank: int, precision: str = "32"
    ) -> None:
        super().__init__()
        self.config = config
        self.dtype = PRECISIONS[precision]
        # A list, so that the layers are no submodules.
        self._held: list[nn.Module] = list(_layers(config, frozen))
        self.lora: nn.ModuleList | None = None
        if lora_rank:
            self.lora = add_lora(self._held[0], lora_rank, LORA_TARGETS, "the language model's block")
        digest = torch.zeros(8, dtype=torch.uint8) if frozen is None else torch.tensor(list(frozen.digest))
        self.register_buffer("frozen_digest", digest.to(torch.uint8))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T, width] -> [B, T, width], of their type and on their device."""
        layer, norm = (held.to(tokens.device) for held in self._held)
        # Turned by an angle of zero: cosine 1 and sine 0 at every position.
        one = torch.ones(1, 1, self.config.head_dim, dtype=self.dtype, device=tokens.device)
        read = layer(tokens.to(self.dtype), attention_mask=None, position_embeddings=(one, one - one))
        out: Tensor = norm(read).to(tokens.dtype)
        return out

    def frozen_tensors(self) -> list[Tensor]:
        """The weights that are not trained, vectors [N] and matrices [N, M]."""
        return [p for held in self._held for p in held.parameters() if not p.requires_grad]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        given = state_dict.get(prefix + "frozen_digest")
        own: Any = self.frozen_digest
        if given is not None and not own.is_meta and not torch.equal(given.to(own.device), own):
            raise UsbenchError(
                "this network was trained around a frozen block with other weights "
                f"({_hex(given)}, here {_hex(own)}); give method.llm and method.llm_path the same model"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _hex(digest: Tensor) -> str:
    return bytes(digest.tolist()).hex()


def _layers(config: BlockConfig, frozen: Frozen | None) -> tuple[nn.Module, nn.Module]:
    """The decoder layer and the norm after it, of transformers, frozen."""
    make_importable()
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

    made = LlamaConfig(**{**config.for_transformers(), "attn_implementation": "sdpa"})
    with torch.device("meta"):
        layer, norm = LlamaDecoderLayer(made, 0), LlamaRMSNorm(config.width, config.norm_eps)
    # Without a mask transformers would hide later tokens all the same.
    layer.self_attn.is_causal = False
    if frozen is not None:
        with load_errors(frozen.source, "the block of a language model"):
            layer.load_state_dict(frozen.layer, assign=True)
            norm.load_state_dict(frozen.norm, assign=True)
    return freeze(layer), freeze(norm)
