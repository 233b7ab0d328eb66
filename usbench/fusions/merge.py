"""Merging the masks of several networks into one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from usbench.errors import UsbenchError


def merge_logits(logits: Tensor, merge: str, weight: Tensor | None = None) -> Tensor:
    """Merge the masks of M networks.

    Args:
        logits: [B, M, K, H, W].
        merge: "mean-logits": the mean, the default: with the mean of probabilities one network that says no
            everywhere keeps the mask empty for ever. "mean-probs": the logit of the mean probability,
            computed from log-probabilities so that it stays exact, and its gradient alive, where a
            probability rounds to 0 or 1. "vote": the logit of the share of networks that say yes,
            (yes + 1/2) / (M + 1); a tie goes to the sign of the mean logit. Counting has no gradient: that
            of the mean logit is used in its place. "learned": a weighted mean of logits.
        weight: Of "learned": [M, K], as a softmax over the modalities.

    Returns:
        float32 [B, K, H, W], logits.
    """
    logits = logits.float()
    if merge == "mean-logits":
        return logits.mean(dim=1)
    if merge == "mean-probs":
        log_yes = torch.logsumexp(functional.logsigmoid(logits), dim=1)
        log_no = torch.logsumexp(functional.logsigmoid(-logits), dim=1)
        return log_yes - log_no
    if merge == "vote":
        networks = logits.shape[1]
        mean = logits.mean(dim=1)
        yes = (logits > 0).sum(dim=1)
        count = torch.log((yes + 0.5) / (networks - yes + 0.5))
        tie = mean.sign() * 0.5 * math.log((networks + 2) / networks)
        voted = torch.where(2 * yes == networks, tie, count)
        return mean + (voted - mean).detach()
    if merge == "learned":
        if weight is None:
            raise UsbenchError(
                "merge 'learned' needs its weights; build it through usbench.fusions.networks.Late"
            )
        share = torch.softmax(weight.float(), dim=0)
        return (logits * share[None, :, :, None, None]).sum(dim=1)
    raise UsbenchError(f"unknown merge '{merge}'; choose mean-logits, mean-probs, vote or learned")
