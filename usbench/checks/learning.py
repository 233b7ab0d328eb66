"""Checks of training: gradients, frozen parts, and that the method can learn at all."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from usbench.checks.outcome import Outcome, failed, not_applicable, passed
from usbench.checks.subject import PAIR, Subject, adam, listed, trainable
from usbench.datasets.ways import BySlices, way_of
from usbench.runs.train import dice_bce
from usbench.runtime.console import count

STEPS = 3
"""So many steps may pass before a parameter has had a gradient: some start behind a gate that is zero."""


def gradients(subject: Subject) -> Outcome:
    """Every trainable parameter gets a gradient that is not all zero, for each number of modalities."""
    for modalities in subject.modalities:
        silent: set[str] | None = None
        # On small slices an attention may have a single place to look at, which leaves nothing to learn.
        for size in subject.trained:
            unreached, now = _silent(subject, modalities, size)
            if unreached:
                return failed(f"M={modalities}: no gradient for {listed(unreached)}")
            silent = now if silent is None else silent & now
            if not silent:
                break
        if silent:
            words = f"the gradient of {listed(sorted(silent))} is exactly zero, {STEPS} steps long"
            return failed(f"M={modalities}: {words}, on {subject.words(size)} and smaller")
    return passed(f"all parameters, M = {', '.join(map(str, subject.modalities))}")


def _silent(subject: Subject, modalities: int, size: tuple[int, ...]) -> tuple[list[str], set[str]]:
    """Names of the trainable parameters without a gradient, and of those with none but zeros, in steps."""
    network = subject.network(modalities).train()
    images = subject.images(modalities, size)
    optimizer = adam(network)
    silent = {name for name, p in network.named_parameters() if p.requires_grad}
    for _ in range(STEPS):
        optimizer.zero_grad()
        subject.loss(network, images).backward()
        named = dict(network.named_parameters())
        unreached = [name for name in named if name in silent and named[name].grad is None]
        silent = {name for name in silent if not _moved(named[name].grad)}
        if unreached or not silent:
            return unreached, silent
        optimizer.step()
    return [], silent


def _moved(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.ne(0).any())


def modalities(subject: Subject) -> Outcome:
    """A change in any one modality changes the logits, for each number of modalities."""
    for several in subject.modalities:
        network = subject.network(several).eval()
        images = subject.small_images(several, batch=1)
        with torch.no_grad():
            before = subject.call(network, images)
            for modality in range(several):
                changed = images.clone()
                changed[:, modality] = changed[:, modality].flip(-1) + 1
                after = subject.call(network, changed)
                if torch.allclose(before, after):
                    return failed(
                        f"modality {modality} of {several} (from 0) is ignored: another image of it changes "
                        f"no logit by more than {float((before - after).abs().max()):.1g}"
                    )
    return passed(f"M = {', '.join(map(str, subject.modalities))}")


def frozen(subject: Subject) -> Outcome:
    """A step of training leaves frozen parameters, and buffers of modules that are frozen, as they are."""
    network = subject.network().train()
    parameters = {n: p for n, p in network.named_parameters() if not p.requires_grad}
    buffers = _frozen_buffers(network)
    if not parameters and not buffers:
        return not_applicable("the network has no frozen part")
    before = {n: t.detach().clone() for n, t in {**parameters, **buffers}.items()}
    optimizer = adam(network)
    for _ in range(2):
        optimizer.zero_grad()
        subject.loss(network, subject.small_images()).backward()
        optimizer.step()
    now = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    changed = [n for n, t in before.items() if n not in now or not torch.equal(t, now[n])]
    if any(n in buffers for n in changed):
        names = [n for n in changed if n in buffers]
        return failed(
            f"buffers of frozen modules change in training: {listed(names)}",
            "keep frozen modules in evaluation: override train() and call .eval() on them there",
        )
    if changed:
        return failed(f"frozen parameters change in training: {listed(changed)}")
    return passed(f"{count(parameters, 'parameter')} and {count(buffers, 'buffer')}")


def _frozen_buffers(network: nn.Module) -> dict[str, Tensor]:
    """The buffers below modules that have parameters, all of them frozen."""
    found = {}
    for name, module in network.named_modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            found.update({f"{name}.{n}" if name else n: b for n, b in module.named_buffers()})
    return found


def overfits(subject: Subject) -> Outcome:
    """Trained on eight slices or two volumes of a phantom, the network segments them: a Dice over 0.9."""
    if first := subject.shares_halves_with:
        return not_applicable(f"the same encoder and decoder are trained under {first} fusion")
    seen = []
    # Coarse networks cannot draw the outline on small slices.
    for size in dict.fromkeys((subject.overfit_size, max(subject.overfit_size, subject.side))):
        images, target = way_of(subject.config).few(prepared_case(subject.folder, size))
        dice, steps = _overfit(subject, images, target)
        seen.append(f"Dice {dice:.2f} after {steps} steps on {subject.words(tuple(images.shape[2:]))}")
        if dice > 0.9:
            return passed(seen[-1])
    return failed(f"{', '.join(seen)}; 0.9 is wanted")


def _overfit(subject: Subject, images: Tensor, target: Tensor) -> tuple[float, int]:
    """Train on a few images until their Dice passes 0.93: the Dice, and the steps taken."""
    network = subject.build(images.shape[1], 1).train()
    optimizer = torch.optim.Adam(trainable(network), lr=subject.overfit_lr)
    dice, step = 0.0, 0
    while step < subject.overfit_steps and dice <= 0.93:
        step += 1
        optimizer.zero_grad()
        logits = subject.call(network, images, 1)
        dice_loss, bce = dice_bce(logits, target)
        (dice_loss + bce).backward()
        optimizer.step()
        mask = (logits.detach() > 0).float()
        dice = float(2 * (mask * target).sum() / (mask.sum() + target.sum()))
    return dice, step


def eight_slices(folder: Path, size: int) -> tuple[Tensor, Tensor]:
    """Prostate phantom slices with the most foreground.

    Args:
        folder: Where the phantom and its prepared store are, made on the first call.
        size: S, the side of a slice.

    Returns:
        Images [8, 2, S, S] and target [8, 1, S, S].
    """
    images, target = BySlices().few(prepared_case(folder, size))
    assert images.shape[1] == PAIR
    return images, target


def prepared_case(folder: Path, size: int):  # type: ignore[no-untyped-def]
    """The one case of a prostate phantom, prepared below `folder` where a run with that cache has it."""
    from usbench.contracts.settings import DataSettings
    from usbench.datasets.phantom import make_phantom
    from usbench.datasets.store import prepare
    from usbench.datasets.tasks import get_task
    from usbench.runtime.console import muted

    task = get_task("msd-prostate")
    with muted():
        if not (folder / "phantom").is_dir():
            make_phantom(task, folder / "phantom", cases=1, seed=0)
        settings = DataSettings(size=size)
        store = prepare(task, folder / "phantom", settings, workers=1, cache=folder / "prepared")
    return store.case(store.case_ids[0])
