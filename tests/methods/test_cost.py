"""Counting parameters, by hand."""

from __future__ import annotations

from torch import nn

from usbench.methods.cost import count_parameters


def test_shared_parameters_count_once_and_frozen_ones_are_not_trained() -> None:
    shared = nn.Linear(3, 5)  # 3 * 5 weights and 5 biases
    frozen = nn.Conv2d(2, 4, 3, bias=False).requires_grad_(False)  # 2 * 4 * 9 weights
    count = count_parameters(nn.Sequential(shared, frozen, shared))
    assert count == (20 + 72, 20)
    assert (count.all, count.trainable) == count
