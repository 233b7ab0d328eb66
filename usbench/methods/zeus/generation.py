"""Many greedy texts of a language model at a time, each the very text that it gives alone.

A batch adds up the same numbers in another order than one text does, so its logits differ in their last
digits. A choice between two tokens that is closer than `CLOSE` could fall the other way by that: the text is
then left out here, and its caller makes it alone. What all prompts begin with is read once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from usbench.methods.zeus.reading import (
    WORTH,
    cache_argument,
    common_length,
    empty_cache,
    may_share,
    pad_left,
)

CLOSE = 1e-3
"""In logits of single precision: some fifteen times what a batch was seen to change one by (docs/zeus.md)."""


@dataclass(frozen=True)
class Prefix:
    """What several prompts begin with, read by the model.

    Attributes:
        length: In tokens, 0 for nothing.
        cache: Its keys and values, of one row; None for nothing.
    """

    length: int = 0
    cache: Any = None

    def copies(self, model: Any, count: int) -> Any:
        """A cache for so many rows that begin with this."""
        if self.cache is None:
            return empty_cache(model)
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(count)
        return cache


def read_prefix(model: Any, rows: Sequence[Tensor], answer: int) -> Prefix:
    """Read what all rows begin with, once.

    Args:
        model: A causal language model of transformers.
        rows: Embeddings of prompts, [L, width] each. One token of each is left to be read.
        answer: Tokens of the longest answer.
    """
    length = common_length(rows)
    if len(rows) < 2 or length < WORTH or not may_share(model, max(map(len, rows)) + answer):
        return Prefix()
    cache, embeds = empty_cache(model), rows[0][None, :length]
    _read(model, cache, *pad_left([embeds[0]]))
    return Prefix(length, cache)


def continued(
    model: Any,
    rows: Sequence[Tensor],
    budgets: Sequence[int],
    ends: Callable[[list[int]], bool],
    enders: set[int],
    prefix: Prefix | None = None,
    closer: float = 0.0,
) -> list[list[int] | None]:
    """The likeliest tokens after each row. A row that has ended is no longer read.

    Args:
        model: A causal language model of transformers.
        rows: Embeddings of prompts, [L, width] each.
        budgets: Of each row, the most tokens.
        ends: Whether a text ends with the tokens that it has.
        enders: Tokens that end a text and are no part of it.
        prefix: What all rows begin with.
        closer: Give a text up where the likeliest token is likelier than the next one by less, in logits.

    Returns:
        For each row its tokens, or None where it was given up.
    """
    prefix = prefix or Prefix()
    answers: list[list[int] | None] = [[] for _ in rows]
    left = [i for i, budget in enumerate(budgets) if budget > 0]
    if not left:
        return answers
    embeds, mask, positions = pad_left([rows[i][prefix.length :] for i in left])
    mask = torch.cat((mask.new_ones(len(left), prefix.length), mask), dim=1)
    positions = positions + prefix.length
    cache = prefix.copies(model, len(left))
    while left:
        logits = _read(model, cache, embeds, mask, positions)
        likeliest, near = logits.argmax(-1), _near(logits, closer)
        kept = []
        for at, (i, token) in enumerate(zip(left, likeliest.tolist(), strict=True)):
            answer = answers[i]
            assert answer is not None
            if near[at]:
                answers[i] = None
            elif token not in enders:
                answer.append(token)
                if len(answer) < budgets[i] and not ends(answer):
                    kept.append(at)
        if len(kept) < len(left):
            left = [left[at] for at in kept]
            if not left:
                break
            chosen = torch.tensor(kept, device=mask.device)
            likeliest, mask, positions = likeliest[chosen], mask[chosen], positions[chosen]
            cache.batch_select_indices(chosen)
        embeds = model.get_input_embeddings()(likeliest)[:, None]
        mask = torch.cat((mask, mask.new_ones(len(left), 1)), dim=1)
        positions = positions[:, -1:] + 1
    return answers


def _near(logits: Tensor, closer: float) -> list[bool]:
    """Of each row of logits [N, tokens], whether its two largest are closer than that."""
    if not closer:
        return [False] * len(logits)
    first, second = logits.topk(2).values.unbind(-1)
    near: list[bool] = (first - second < closer).tolist()
    return near


def _read(model: Any, cache: Any, embeds: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """Logits [N, tokens] after the last token of each row; the cache is filled in place."""
    read = model(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        logits_to_keep=1,
        **{cache_argument(model.forward): cache},
    )
    logits: Tensor = read.logits[:, -1]
    return logits
