"""Models of the classes that Zeus takes in its real file formats, small enough for tests."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from usbench.methods.zeus.model import METHOD
from usbench.methods.zeus.parts import Parts, resolve
from usbench.runtime.torchvision_cpu import make_importable

LLM_WIDTH = 64


def byte_tokenizer(begin: str, end: str, closing: bool = False) -> Any:
    """A tokenizer with one token a byte, which puts `begin` before a text and perhaps `end` after it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate([begin, end, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}" if closing else f"{begin} $A", special_tokens=[(begin, 0), (end, 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=begin, eos_token=end, pad_token=end)


def tiny_blip2(words: Any) -> Any:
    """A BLIP-2 with a Q-Former of four queries of width 16, in front of the language model of `words`."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = Blip2Config(
        vision_config={**small, "hidden_size": 20, "image_size": 28, "patch_size": 14},
        qformer_config={**small, "hidden_size": 16, "encoder_hidden_size": 20},
        text_config=words.to_dict(),
        num_query_tokens=4,
    )
    return shaken(Blip2ForConditionalGeneration(config))


def tiny_blip2_flan_t5() -> Any:
    """The one that XrayGPT looks through."""
    from transformers import T5Config

    return tiny_blip2(T5Config(vocab_size=50, d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


_DECODER: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": LLM_WIDTH,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "tie_word_embeddings": False,
}


def tiny_llama(positions: int = 256) -> Any:
    make_importable()
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**_DECODER, max_position_embeddings=positions)).eval()


def tiny_mistral(window: int) -> Any:
    """As `tiny_llama`, each token sees so many back, itself among them."""
    make_importable()
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**_DECODER, sliding_window=window)).eval()


def llama_folder(folder: Path, shard: str = "40KB") -> Any:
    """`tiny_llama` with no norm left at 1, saved by transformers in shards, as the hub keeps a Llama."""
    model = tiny_llama()
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 2.0, generator=generator)
    model.save_pretrained(folder, max_shard_size=shard)
    return model


def shaken(model: Any) -> Any:
    """The model with no parameter left at 0, 1 or a tiny start."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.normal_(0.1, 0.3, generator=generator)
    return model.eval()


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def bert_folder(folder: Path, positions: int = 40) -> Any:
    """A tiny BERT with its vocabulary, as the hub keeps Bio_ClinicalBERT: config.json and vocab.txt."""
    from transformers import BertConfig, BertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "liver", "is", "large", "."]
    config = BertConfig(
        vocab_size=10, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=positions,
    )  # fmt: skip
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    config.save_pretrained(folder)
    return shaken(BertModel(config))


def tiny_sam(seed: int = 0) -> Any:
    """A Sam whose image encoder is tiny and whose other parts are the published ones, all random."""
    make_importable()
    parts = pytest.importorskip("segment_anything.modeling")
    torch.manual_seed(seed)
    made = parts.Sam(
        image_encoder=parts.ImageEncoderViT(
            img_size=256,
            embed_dim=32,
            depth=2,
            num_heads=2,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=parts.PromptEncoder(
            embed_dim=256, image_embedding_size=(16, 16), input_image_size=(256, 256), mask_in_chans=16
        ),
        mask_decoder=parts.MaskDecoder(
            transformer=parts.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
        ),
    )
    # Positions start at zero and norms at one, where a mistake would not show.
    for name, parameter in made.named_parameters():
        if "pos" in name or "norm" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return made.eval()


def parts(**changes: Any) -> Parts:
    """The parts of Zeus by its own settings, changed."""
    return resolve({**METHOD.settings, **changes})
