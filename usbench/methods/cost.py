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
    """Forward GFLOPs (2 x multiply-adds) of one input of a network; None if they cannot be counted.

    Args:
        network: in any mode.
        images: [1, M, S, S], or a volume [1, M, D, H, W].
        extras: what else it takes, by name.
    """
    from torch.utils.flop_counter import FlopCounterMode

    was_training = network.training
    network.eval()
    # The counter's hooks fail on a parameter that wants gradients and is handed to a part of the network.
    wanting = [p for p in network.parameters() if p.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(images, **(extras or {}))
        return float(counter.get_total_flops()) / 1e9
    except (RuntimeError, NotImplementedError, AssertionError):
        return None
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)
        network.train(was_training)


def gflops_of_slice(
    network: nn.Module, images: Tensor, extras: dict[str, Tensor], per_slice: float
) -> float | None:
    """Forward GFLOPs of one slice of a patient; None if they cannot be counted.

    Args:
        network: in any mode.
        images: one input of it, [1, M, S, S] or [1, M, D, H, W].
        extras: what else it takes, by name.
        per_slice: how many such inputs a slice takes: 1 for a network of slices, less for one of volumes.
    """
    whole = measure_gflops(network, images, extras)
    return None if whole is None else whole * per_slice
