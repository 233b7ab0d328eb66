"""What a network costs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class ParameterCount(NamedTuple):
    """The number of parameters of a network, and of those that are trained."""

    all: int
    trainable: int


def count_parameters(network: nn.Module) -> ParameterCount:
    """Count the parameters of `network`; one that several layers share counts once.

    Args:
        network: on any device, "meta" included.

    Returns:
        How many numbers its parameters hold, and how many of them training changes.
    """
    parameters = list(network.parameters())
    return ParameterCount(
        sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
    )


def measure_gflops(
    network: nn.Module, images: Tensor, extras: dict[str, Tensor] | None = None
) -> float | None:
    """Forward GFLOPs of one slice (2 x multiply-adds), images [1, M, S, S]; None if it cannot be counted."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(images, **(extras or {}))
        return float(counter.get_total_flops()) / 1e9
    except (RuntimeError, NotImplementedError, AssertionError):
        return None
    finally:
        network.train(was_training)
