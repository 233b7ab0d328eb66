"""Merging the masks of several networks into one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from usbench.errors import UsbenchError

MERGES = "mean-logits, mean-probs, vote or learned"


def merge_logits(
    logits: Tensor, merge: str, weight: Tensor | None = None, present: Tensor | None = None
) -> Tensor:
    """Merge the masks of M networks.

    Args:
        logits: [B, M, K, H, W], or [B, M, K, D, H, W] of volumes.
        merge: "mean-logits": the mean, the default: with the mean of probabilities one network that says no
            everywhere keeps the mask empty for ever. "mean-probs": the logit of the mean probability,
            computed from log-probabilities so that it stays exact, and its gradient alive, where a
            probability rounds to 0 or 1. "vote": the logit of the share of networks that say yes,
            (yes + 1/2) / (M + 1); a tie goes to the sign of the mean logit. Counting has no gradient: that
            of the mean logit is used in its place. "learned": a weighted mean of logits.
        weight: Of "learned": [M, K], as a softmax over the modalities.
        present: Which of the masks count, bool [B, M], at least one of each row; None for all. What is said
            above then holds for those that count, as if there were no others.

    Returns:
        float32 [B, K, H, W] or [B, K, D, H, W], logits.
    """
    logits = logits.float()
    there = None if present is None else as_wide(present, logits).to(logits.device)
    if merge == "mean-logits":
        return _mean(logits, there)
    if merge == "mean-probs":
        yes, no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        if there is not None:
            yes, no = (part.masked_fill(~there, -math.inf) for part in (yes, no))
        return torch.logsumexp(yes, dim=1) - torch.logsumexp(no, dim=1)
    if merge == "vote":
        mean = _mean(logits, there)
        said = logits > 0 if there is None else (logits > 0) & there
        networks = logits.shape[1] if there is None else there.sum(dim=1)
        count = said.sum(dim=1)
        odds = torch.log((count + 0.5) / (networks - count + 0.5))
        whole = torch.as_tensor(networks, dtype=mean.dtype, device=mean.device)
        tie = mean.sign() * 0.5 * torch.log((whole + 2) / whole)
        voted = torch.where(2 * count == networks, tie, odds)
        return mean + (voted - mean).detach()
    if merge == "learned":
        if weight is None:
            raise UsbenchError(
                "merge 'learned' needs its weights; build it through usbench.fusions.networks.Late"
            )
        share = as_wide(weight.float()[None], logits)
        if there is not None:
            share = share.masked_fill(~there, -math.inf)
        return (logits * torch.softmax(share, dim=1)).sum(dim=1)
    raise UsbenchError(f"unknown merge '{merge}'; choose {MERGES}")


def as_wide(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor [B, ...] with axes of length 1 at its end, as many as `like` [B, ...] has more than it."""
    return tensor.reshape(*tensor.shape, *[1] * (like.ndim - tensor.ndim))


def _mean(logits: Tensor, there: Tensor | None) -> Tensor:
    """The mean over M of logits [B, M, K, H, W], of those that are `there`, bool [B, M, 1, ...]."""
    if there is None:
        return logits.mean(dim=1)
    return logits.masked_fill(~there, 0.0).sum(dim=1) / there.sum(dim=1)
