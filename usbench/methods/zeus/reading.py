"""How the language model of Zeus reads rows of embeddings: padded, and what rows share read once.

The prompts of one image differ in the target alone, which stands behind the image: what comes before it, the
tokens of the image among it, is read once for all targets and its keys and values are used for each.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

WORTH = 4  # tokens: a shorter beginning is read anew sooner than shared


def pad_left(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [L, width] -> embeddings [N, longest, width], attention mask and positions [N, longest]."""
    longest = max(map(len, rows))
    embeds = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
    mask = torch.ones(len(rows), longest, dtype=torch.long, device=embeds.device)
    for i, row in enumerate(rows):
        mask[i, : longest - len(row)] = 0
    return embeds, mask, (mask.cumsum(1) - 1).clamp(min=0)


def common_length(rows: Sequence[Tensor]) -> int:
    """How many embeddings all rows [L, width] begin with alike. One of each row is left to be read."""
    least = min(map(len, rows)) - 1
    same = torch.ones(least, dtype=torch.bool, device=rows[0].device)
    for row in rows[1:]:
        same &= (row[:least] == rows[0][:least]).all(dim=1)
    return int(same.long().cumprod(0).sum())


def may_share(model: Any, tokens: int) -> bool:
    """Whether rows of so many tokens see all of themselves.

    Where layers look back a window alone, the padding behind what is shared would take places in it.
    """
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    return window is None or tokens <= int(window)


def empty_cache(model: Any) -> Any:
    """A cache for the keys and values of a model of transformers, which nothing was read into."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def cache_argument(forward: Any) -> str:
    """What a model calls the cache: newer versions of transformers renamed it, model by model."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def last_states(model: Any, rows: Sequence[Tensor], images: Sequence[int]) -> Tensor:
    """The last layer, after its norm, at the last token of each row. Gradients reach the rows.

    Args:
        model: A causal language model of transformers.
        rows: Embeddings of prompts, N of [L, width].
        images: Of each row a number; rows with one number hold the very same image tokens behind the same
            words, so that the gradient of what they share may go through one of them.

    Returns:
        Float32 [N, width of the model].
    """
    numbers = list(dict.fromkeys(images))
    groups = [[row for row, image in zip(rows, images, strict=True) if image == number] for number in numbers]
    length = 0
    if len(groups) < len(rows) and may_share(model, max(map(len, rows))):
        length = min(map(common_length, groups))
    with _attention(rows[0]):
        if length < WORTH:
            return _last(model, *pad_left(rows))
        cache = empty_cache(model)
        shared = torch.stack([group[0][:length] for group in groups])
        mask = torch.ones(shared.shape[:2], dtype=torch.long, device=shared.device)
        _last(model, shared, mask, mask.cumsum(1) - 1, cache)
        index = torch.tensor([numbers.index(image) for image in images], device=shared.device)
        cache.batch_select_indices(index)
        embeds, behind, positions = pad_left([row[length:] for row in rows])
        return _last(model, embeds, torch.cat((mask[index], behind), dim=1), positions + length, cache)


def _last(model: Any, embeds: Tensor, mask: Tensor, positions: Tensor, cache: Any = None) -> Tensor:
    """The state [N, width] of the last token of each row; a cache is filled in place."""
    base = model.base_model
    kept = {} if cache is None else {cache_argument(base.forward): cache}
    read = base(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=positions,
        use_cache=cache is not None,
        **kept,
    )
    state: Tensor = read.last_hidden_state[:, -1].float()
    return state


def _attention(row: Tensor) -> contextlib.AbstractContextManager[Any]:
    """On a processor torch's fused attention in 16 bit goes back several times as slowly as the plain one."""
    if row.device.type != "cpu" or row.dtype == torch.float32:
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)
