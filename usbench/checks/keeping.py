"""Checks that a network survives being written down: its state, and itself."""

from __future__ import annotations

import pickle

import torch
from torch import nn

from usbench.checks.outcome import Outcome, failed, passed
from usbench.checks.repeating import ROUNDING
from usbench.checks.subject import Subject, adam, differs, listed, shift
from usbench.runtime.console import count


def saves(subject: Subject) -> Outcome:
    """A network of another seed gives the logits of the one whose state it loads, after a step."""
    network, images = subject.network().train(), subject.images()
    optimizer = adam(network, lr=0.01)
    # On other images, so that what a network remembers of them is not taken for what it has learned.
    subject.loss(network, subject.images(size=subject.small, seed=2)).backward()
    optimizer.step()
    file = subject.folder / "state.pt"
    try:
        torch.save(network.state_dict(), file)
        state = torch.load(file, weights_only=True)
    except Exception as error:
        return failed(
            f"its state does not go through torch.save and torch.load: {type(error).__name__}: {error}"
        )
    other = subject.build(seed=1)
    for parameter in other.parameters():
        nn.init.constant_(parameter, 0.5)
    try:
        other.load_state_dict(state)
    except RuntimeError as error:
        return failed(f"a second network does not take the state: {error}")
    with torch.no_grad():
        one, two = subject.call(network.eval(), images), subject.call(other.eval(), images)
    if differs(one, two, ROUNDING):
        return failed(f"after loading the state logits differ by {shift(one, two):.2g}")
    return passed(count(state, "tensor"))


def pickles(subject: Subject) -> Outcome:
    """The network and an unpickled copy give the same logits: so it gets to other processes."""
    network, images = subject.network().eval(), subject.images()
    try:
        packed = pickle.dumps(network)
    except Exception as error:
        return failed(f"pickling raises {type(error).__name__}: {error}")
    other = pickle.loads(packed).eval()
    one, two = network.state_dict(), other.state_dict()
    if lost := [n for n in one if n not in two or not torch.equal(one[n], two[n])]:
        return failed(f"the copy differs in {listed(lost)}")
    with torch.no_grad():
        before, after = subject.call(network, images), subject.call(other, images)
    if differs(before, after, ROUNDING):
        return failed(f"the copy's logits differ by {shift(before, after):.2g}")
    return passed(f"{len(packed) / 2**20:.1f} MB")
