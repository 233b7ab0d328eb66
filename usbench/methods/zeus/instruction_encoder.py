"""The frozen text towers that turn an instruction of Zeus into one embedding.

Dai et al., "Zeus: Zero-shot LLM Instruction for Union Segmentation in Multimodal Medical Imaging",
section 3.1: the whole instruction is one sentence. The paper's tower is MedCLIP's (Wang et al.,
EMNLP 2022), a Bio_ClinicalBERT with a linear layer. The others are all-MiniLM-L6-v2 (Reimers, Gurevych:
Sentence-BERT, EMNLP 2019) and CLIP's (Radford et al., ICML 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import UsbenchError
from usbench.methods.zeus.vision_language import build_model, check_info
from usbench.tools import (
    below,
    freeze,
    load_errors,
    make_importable,
    quiet,
    read_json,
    read_weights,
    seeded,
    unknown,
)

KINDS = ("minilm", "medclip", "clip")
# The length that MedCLIP was trained with, in tokens.
MEDCLIP_TOKENS = 77
BATCH = 32


class TextEncoder:
    """A frozen text tower. It is no module, so no optimiser, state dict or train() reaches it.

    Args:
        name: One of `KINDS`.
        module: The network of the tower.
        tokenizer: Texts -> token numbers and their attention mask.
        encode: `(token numbers [N, L], mask [N, L]) -> embeddings [N, width]`.
        width: Of an embedding.
        max_tokens: What it reads of a text, with the tokens that mark its beginning and end.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        tokenizer: Any,
        encode: Callable[[Tensor, Tensor], Tensor],
        width: int,
        max_tokens: int,
    ) -> None:
        self.name, self.width, self.max_tokens = name, width, max_tokens
        self.module: nn.Module = freeze(module)
        self._tokenizer, self._encode = tokenizer, encode

    def to(self, device: torch.device | str) -> TextEncoder:
        """This encoder, moved to `device`."""
        self.module.to(device)
        return self

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Texts -> [N, width]. A text longer than `max_tokens` is cut, see `truncated`."""
        device = next(self.module.parameters()).device
        rows = [torch.zeros(0, self.width, device=device)]
        for start in range(0, len(texts), BATCH):
            read = self._tokenizer(
                list(texts[start : start + BATCH]),
                truncation=True,
                max_length=self.max_tokens,
                padding=True,
                return_tensors="pt",
            )
            rows.append(self._encode(read["input_ids"].to(device), read["attention_mask"].to(device)))
        return torch.cat(rows)

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """For each text, whether the encoder cuts it."""
        return [len(self._tokenizer(t, verbose=False)["input_ids"]) > self.max_tokens for t in texts]


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over what is not padding.

    Args:
        states: [N, L, width].
        mask: 1 for a token, 0 for padding, [N, L].

    Returns:
        Means [N, width], 0 for a row without tokens.
    """
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def load_text_encoder(
    name: str,
    path: Path,
    vocabulary: Path | None = None,
    device: torch.device | str = "cpu",
    unit: bool = False,
) -> TextEncoder:
    """A frozen text tower of one of `KINDS`. The caller's random state is left as it was.

    "minilm" takes the mean over the tokens, brought to length 1 as all-MiniLM-L6-v2 does. "medclip" takes the
    mean of hidden states 1, 2 and last over the tokens, then MedCLIP's projection; MedCLIP's own code takes
    that mean over padding too, so that a text depends on its neighbours, and padding is
    left out here; it brings the embedding to length 1, which `unit` does. "clip" takes CLIP's projected text
    embedding.

    Args:
        name: One of `KINDS`.
        path: For "minilm" and "clip" a folder of transformers; for "medclip" MedCLIP's pytorch_model.bin or
            its folder.
        vocabulary: For "medclip" the folder of Bio_ClinicalBERT with vocab.txt and config.json.
        device: Where the tower goes.
        unit: Whether MedCLIP's embedding is brought to length 1; the others are as they are.

    Raises:
        UsbenchError: For another name, and for files that are missing, damaged or do not fit.
    """
    path = Path(path)
    if name not in KINDS:
        raise unknown("text encoder", name, KINDS)
    make_importable()
    if name == "medclip":
        if vocabulary is None:
            raise UsbenchError(
                f"{path}: MedCLIP's text encoder needs a second folder, that of Bio_ClinicalBERT with "
                "vocab.txt and config.json; name it as well"
            )
        with seeded(0):
            return _medclip(path, Path(vocabulary), unit).to(device)
    return (_minilm if name == "minilm" else _clip)(path).to(device)


def _tokenizer(folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        raise UsbenchError(f"{folder / 'config.json'}: there is no such file; give a folder of transformers")
    with quiet(), load_errors(folder, "the tokenizer"):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.padding_side = "right"
    return tokenizer


def _minilm(path: Path) -> TextEncoder:
    tokenizer = _tokenizer(path)
    with seeded(0), quiet(), load_errors(path, "the text encoder"):
        from transformers import AutoModel

        model, info = AutoModel.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    # The pooler is not used, and not every sentence encoder has one.
    missing = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
    check_info({**info, "missing_keys": missing}, str(path), extra=False)
    limit = min(int(tokenizer.model_max_length), int(model.config.max_position_embeddings))
    settings = path / "sentence_bert_config.json"
    if settings.is_file():
        found = read_json(settings, "the settings of a sentence encoder", "get the file again")
        limit = min(limit, int(found.get("max_seq_length") or limit))

    def encode(ids: Tensor, mask: Tensor) -> Tensor:
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return functional.normalize(masked_mean(states, mask), dim=-1)

    return TextEncoder("minilm", model, tokenizer, encode, int(model.config.hidden_size), limit)


class _MedClipText(nn.Module):
    def __init__(self, bert: nn.Module, weight: Tensor, unit: bool) -> None:
        super().__init__()
        self.bert, self.unit = bert, unit
        self.projection = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.projection.weight.data.copy_(weight)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.bert(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        states = torch.stack((hidden[1], hidden[2], hidden[-1])).mean(0)
        embeddings: Tensor = self.projection(masked_mean(states, mask))
        return functional.normalize(embeddings, dim=-1) if self.unit else embeddings


def _medclip(path: Path, vocabulary: Path, unit: bool) -> TextEncoder:
    tokenizer = _tokenizer(vocabulary)
    from transformers import BertConfig, BertModel

    with quiet(), load_errors(vocabulary, "the configuration of BERT"):
        config = BertConfig.from_pretrained(vocabulary, local_files_only=True)
    state = read_weights(path, ("text_model.",))
    weight = state.get("text_model.projection_head.weight")
    if weight is None or weight.dim() != 2 or weight.shape[1] != config.hidden_size:
        raise UsbenchError(
            f"{path}: there is no text_model.projection_head.weight from {config.hidden_size}; "
            "give MedCLIP's pytorch_model.bin and the folder of Bio_ClinicalBERT"
        )
    if len(tokenizer) > config.vocab_size:
        raise UsbenchError(
            f"{vocabulary}: the tokenizer has {len(tokenizer)} words, config.json {config.vocab_size}; "
            "get both from one model"
        )
    bert = build_model(BertModel, config, below(state, "text_model.model."), str(path))
    model = _MedClipText(bert, weight, unit)
    limit = min(MEDCLIP_TOKENS, int(config.max_position_embeddings))
    return TextEncoder("medclip", model, tokenizer, model, int(weight.shape[0]), limit)


def _clip(path: Path) -> TextEncoder:
    tokenizer = _tokenizer(path)
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    with quiet(), load_errors(path, "the configuration of CLIP"):
        config = CLIPTextConfig.from_pretrained(path, local_files_only=True)
    state = read_weights(path, ("text_model.", "text_projection."))
    model = build_model(CLIPTextModelWithProjection, config, state, str(path))

    def encode(ids: Tensor, mask: Tensor) -> Tensor:
        embeddings: Tensor = model(input_ids=ids, attention_mask=mask).text_embeds
        return embeddings

    width, limit = int(model.text_projection.out_features), int(config.max_position_embeddings)
    return TextEncoder("clip", model, tokenizer, encode, width, limit)
