"""Counting parameters, by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from usbench.methods.cost import count_parameters, measure_gflops


def test_shared_parameters_count_once_and_frozen_ones_are_not_trained() -> None:
    shared = nn.Linear(3, 5)  # 3 * 5 weights and 5 biases
    frozen = nn.Conv2d(2, 4, 3, bias=False).requires_grad_(False)  # 2 * 4 * 9 weights
    count = count_parameters(nn.Sequential(shared, frozen, shared))
    assert count == (20 + 72, 20)
    assert (count.all, count.trainable) == count


def test_operations_are_counted_where_a_part_is_given_a_parameter() -> None:
    """As networks with learned positions do: torch's counter does not take it while it wants gradients."""

    class Adds(nn.Module):
        def forward(self, images: Tensor, what: Tensor) -> Tensor:
            return images + what

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.what = nn.Parameter(torch.zeros(1, 2, 1, 1))
            self.frozen = nn.Conv2d(2, 3, 1, bias=False).requires_grad_(False)
            self.last = nn.Conv2d(3, 5, 1, bias=False)
            self.adds = Adds()

        def forward(self, images: Tensor) -> Tensor:
            for one in self.what:
                images = self.adds(images, one[None])
            last: Tensor = self.last(self.frozen(self.adds(images, self.what)))
            return last

    network = Network().train()
    # A convolution of 1 x 1 is 2 x (inputs x outputs) operations in each of 16 places.
    assert measure_gflops(network, torch.zeros(1, 2, 4, 4)) == 2 * 16 * (2 * 3 + 3 * 5) / 1e9
    assert network.training
    assert [p.requires_grad for p in network.parameters()] == [True, False, True]
