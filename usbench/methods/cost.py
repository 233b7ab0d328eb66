"""What a network costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
