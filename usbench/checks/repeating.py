"""Checks that the same comes out where the same goes in: seeds, modes, batches, what came before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode

from usbench.checks.outcome import Outcome, failed, passed
from usbench.checks.subject import Subject, differs, listed, plain, shift
from usbench.runtime.console import count

ROUNDING = 1e-5
"""Relative; other blocks of memory and other sizes of batches may round otherwise, no more."""
BATCHED = 1e-4


def same_seed(subject: Subject) -> Outcome:
    """Building twice from one seed gives the same weights."""
    one, two = subject.network().state_dict(), subject.build().state_dict()
    if one.keys() != two.keys():
        return failed(f"only one of two networks has {listed(sorted(one.keys() ^ two.keys()))}")
    names = [name for name in one if not torch.equal(one[name], two[name])]
    if names:
        return failed(
            f"{len(names)} of {len(one)} tensors differ in two networks of one seed: {listed(names)}"
        )
    return passed(count(one, "tensor"))


def same_output(subject: Subject) -> Outcome:
    """In evaluation two copies of a network give the same logits for the same images, whatever was drawn."""
    images = subject.images()
    outs = []
    for seed in (3, 4):
        network = subject.network().eval()
        torch.manual_seed(seed)
        with torch.no_grad():
            outs.append(subject.call(network, images))
    one, two = outs
    if differs(one, two, ROUNDING):
        return failed(f"the same images give logits that differ by {shift(one, two):.2g} in evaluation")
    return passed("two copies")


def same_training(subject: Subject) -> Outcome:
    """A step of training from one seed gives the same gradients and buffers twice."""
    found = []
    images = subject.small_images()  # Before the seed: looking for a size that works draws numbers too.
    for _ in range(2):
        network = subject.network().train()
        torch.manual_seed(5)
        subject.loss(network, images).backward()
        gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        found.append({**gradients, **dict(network.named_buffers())})
    one, two = found
    names = [n for n in one if n not in two or differs(one[n].float(), two[n].float(), ROUNDING)]
    if names:
        return failed(
            f"a step taken twice from one seed differs in {len(names)} of {len(one)}: {listed(names)}"
        )
    return passed(f"{len(one)} gradients and buffers")


class _NoFunctionalDropout(TorchFunctionMode):
    """Functions that drop something give back what they got."""

    dropping = (
        functional.dropout,
        functional.dropout1d,
        functional.dropout2d,
        functional.dropout3d,
        functional.alpha_dropout,
        functional.feature_alpha_dropout,
        torch.dropout,
    )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in self.dropping:
            return args[0] if args else kwargs["input"]
        if func is functional.scaled_dot_product_attention:
            args = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args
            kwargs.pop("dropout_p", None)
        return func(*args, **kwargs)


def train_eval(subject: Subject) -> Outcome:
    """Training and evaluation differ in dropout, drop path and batch statistics, and in nothing else."""
    images = subject.images()
    network = subject.network().eval()
    with torch.no_grad():
        evaluated = subject.call(network, images)
        network.train()
        for module in network.modules():
            if _may_differ(module):
                module.eval()
        with _NoFunctionalDropout():
            trained = subject.call(network, images)
    if not isinstance(trained, Tensor) or trained.shape != evaluated.shape:
        return failed(
            f"in training it gives {plain(trained)}, in evaluation {plain(evaluated)}",
            "give one tensor [B, K, H, W] always; outputs for deep supervision have no place in the loss",
        )
    if differs(evaluated, trained, BATCHED):
        return failed(
            f"logits in training differ by {shift(evaluated, trained):.2g} from those in evaluation, with "
            "dropout, drop path and batch norm as in evaluation"
        )
    return passed()


def _may_differ(module: nn.Module) -> bool:
    kinds = (_BatchNorm, _InstanceNorm, nn.MultiheadAttention, nn.RNNBase)
    name = type(module).__name__.lower()
    return isinstance(module, kinds) or any(w in name for w in ("drop", "stochasticdepth", "batchnorm"))


def batch_of_one(subject: Subject) -> Outcome:
    """One slice can be predicted and trained on: a device's share of a batch may be one."""
    images = subject.images(batch=1)
    for mode in ("evaluation", "training"):
        network = subject.network().train(mode == "training")
        try:
            logits = subject.call(network, images)
            if mode == "training":
                logits.square().mean().backward()
        except Exception as error:
            return failed(f"a batch of 1 in {mode}: {type(error).__name__}: {error}")
        if len(logits) != 1 or not torch.isfinite(logits).all():
            return failed(f"a batch of 1 in {mode} gives {plain(logits)}, or logits that are not finite")
    return passed("in evaluation and training")


def state(subject: Subject) -> Outcome:
    """In evaluation a batch's logits do not depend on the batches before it, and no buffer changes."""
    network, images = subject.network().eval(), subject.images(batch=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        first = subject.call(network, images)
        subject.call(network, images * 3 + 1)
        again = subject.call(network, images)
    if not torch.equal(first, again):
        return failed(
            f"after another batch the same images give logits that differ by {shift(first, again):.2g}"
        )
    after = network.state_dict()
    names = [n for n in before if n not in after or not torch.equal(before[n], after[n])]
    if names:
        return failed(f"predicting changes {listed(names)}")
    return passed()


def samples(subject: Subject) -> Outcome:
    """In evaluation a slice has the same logits alone and among others."""
    network, images = subject.network().eval(), subject.images(batch=3)
    with torch.no_grad():
        together = subject.call(network, images)
        alone = subject.call(network, images[:1])
        others = subject.call(network, torch.cat([images[:1], images[1:] * 3 + 1]))
    for what, found in (("alone", alone), ("beside other slices", others[:1])):
        if differs(together[:1], found, BATCHED):
            return failed(f"a slice has logits that differ by {shift(together[:1], found):.2g} {what}")
    return passed("a batch of 3")
