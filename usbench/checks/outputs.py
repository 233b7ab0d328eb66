"""Checks of what a network is and gives: that it builds, the shape and kind of its output, its cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from usbench.checks.outcome import Outcome, failed, not_applicable, passed
from usbench.checks.subject import CLASSES, PAIR, Subject, adam, listed, mock_task, plain, trainable
from usbench.contracts.method import FUSIONS
from usbench.datasets.ways import way_of
from usbench.errors import UsbenchError
from usbench.fusions.build import build_model
from usbench.fusions.registry import declared
from usbench.weights.store import WeightsAbsent

REACH = 1.05
"""A logit passes this in both directions when it is pushed: a probability, a tanh or a ReLU does not."""


def fusions(subject: Subject) -> Outcome:
    """The declared protocol builds, and protocols that are not declared are refused by name."""
    try:
        subject.network()
    except WeightsAbsent:
        raise
    except (Exception, SystemExit) as error:
        return failed(
            f"{subject.fusion} is declared and does not build: {type(error).__name__}: {error}",
            f"mend the builder, or leave '{subject.fusion}' out of METHOD.fusions",
        )
    others = [fusion for fusion in FUSIONS if fusion not in subject.method.fusions]
    for fusion in others:
        try:
            build_model(subject.method, mock_task(PAIR, CLASSES), declared(fusion), subject.config)
        except UsbenchError as error:
            if fusion in str(error):
                continue
            return failed(f"{fusion} is refused without being named: {error}")
        return failed(f"{fusion} is not declared and builds all the same")
    refused = f"; {', '.join(others)} refused" if others else ""
    return passed(f"{subject.fusion} builds{refused}")


def builds(subject: Subject) -> Outcome:
    """For each number of modalities and classes it builds, and gives logits of the size of the images."""
    for modalities, classes in itertools.product(subject.modalities, subject.classes):
        where = f"M={modalities}, K={classes}"
        try:
            found = _output(subject, modalities, classes)
        except WeightsAbsent:
            raise
        except (Exception, SystemExit) as error:
            return failed(f"{where}: {type(error).__name__}: {error}")
        wanted = [1, classes, *subject.full]
        if not isinstance(found, Tensor) or list(found.shape) != wanted:
            return failed(f"{where}: gives {plain(found)}, not {wanted}")
    network = subject.network()
    for mode in ("evaluation", "training"):
        with torch.no_grad():
            found = subject.call(network.train(mode == "training"), subject.images())
        wanted = [2, CLASSES, *subject.full]
        if not isinstance(found, Tensor) or list(found.shape) != wanted:
            return failed(f"M={PAIR}, K={CLASSES}, in {mode}: gives {plain(found)}, not {wanted}")
    if not trainable(network):
        return failed("no parameter is trainable", "leave requires_grad on where the network shall learn")
    return passed(f"M = {_words(subject.modalities)}; K = {_words(subject.classes)}")


def _output(subject: Subject, modalities: int, classes: int) -> object:
    """The logits of one image, without values where the network can do that: most of them can, fast."""
    size = subject.full
    if subject.method.features is None and subject.caller is None:
        try:
            with torch.device("meta"):
                network = subject.build(modalities, classes).eval()
                return network(torch.zeros(1, modalities, *size))
        except (Exception, SystemExit):
            pass  # Not every network can be built without memory; what is wrong shows below.
    network = subject.build(modalities, classes).eval()
    with torch.no_grad():
        return subject.call(network, subject.images(modalities, size, batch=1), classes)


def _words(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def shape(subject: Subject) -> Outcome:
    """Finite logits [B, K, H, W] at every size, odd ones too."""
    for modalities in subject.modalities:
        network = subject.network(modalities).eval()
        every = subject.thorough or modalities == PAIR
        for size in subject.tried if every else subject.tried[-1:]:
            if subject.of_one_size:
                network = subject.build(modalities, size=size).eval()
            images = subject.images(modalities, size, batch=1)
            with torch.no_grad():
                logits = subject.call(network, images)
            where, wanted = f"M={modalities}, {subject.words(size)}", [1, CLASSES, *size]
            if list(logits.shape) != wanted:
                return failed(
                    f"{where}: gives {plain(logits)}, not {wanted}",
                    "give logits at the size of the input, or set METHOD.size_multiple to what the network "
                    "divides by",
                )
            if not torch.isfinite(logits).all():
                bad = int((~torch.isfinite(logits)).sum())
                return failed(f"{where}: {bad} of {logits.numel()} logits are not finite")
    sizes = ", ".join("x".join(map(str, size)) for size in subject.tried)
    return passed(f"{sizes}, M = {_words(subject.modalities)}")


def dtype(subject: Subject) -> Outcome:
    """Float32 images give float32 logits."""
    with torch.no_grad():
        logits = subject.call(subject.network().eval(), subject.images())
    if logits.dtype != torch.float32:
        return failed(f"float32 images give {str(logits.dtype).removeprefix('torch.')} logits")
    return passed("float32")


def logits(subject: Subject) -> Outcome:
    """Outputs are unbounded: pushed by training they pass -1 and 1, which nothing after a sigmoid does."""
    if first := subject.shares_halves_with:
        return not_applicable(f"the same decoder is looked at under {first} fusion")
    classes = max(subject.classes)
    images = subject.small_images()
    low, high = float("inf"), -float("inf")
    ends = []
    summed = True
    for sign in (1, -1):
        network = subject.network(classes=classes).train()
        optimizer = adam(network, lr=0.03)
        for _ in range(100):
            out = subject.call(network, images, classes)
            if not torch.isfinite(out).all():
                return failed("outputs become infinite when they are trained towards one side")
            low, high = min(low, float(out.min())), max(high, float(out.max()))
            summed &= classes > 1 and bool(((out.sum(1) - 1).abs() < 1e-3).all())
            ends.append(float((sign * out.detach()).amax((0, *range(2, out.ndim))).min()))
            if ends[-1] > REACH:
                break
            optimizer.zero_grad()
            (-sign * out.mean()).backward()
            optimizer.step()
        else:
            return failed(_bounded(low, high, summed))
    return passed(f"seen from {low:.2f} to {high:.2f}")


def _bounded(low: float, high: float, summed: bool) -> str:
    seen = f"outputs stay from {low:.3g} to {high:.3g} however they are trained"
    if summed:
        return f"{seen} and sum to 1 over the classes: a softmax"
    if low >= 0 and high <= 1:
        return f"{seen}: probabilities"
    return f"{seen}: log-probabilities or an activation" if high <= 0 else f"{seen}: an activation"


def bfloat16(subject: Subject) -> Outcome:
    """Autocast to bfloat16 gives finite logits and gradients; of volumes logits alone are judged.

    On a CPU torch does not always write its gradients of 3D convolutions in bfloat16, whatever the network.
    """
    network, images = subject.network().train(), subject.small_images()
    for scale in (1, 5):  # Prepared intensities are clipped to -5..5.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = subject.call(network, images * scale)
        if not torch.isfinite(out).all():
            bad = int((~torch.isfinite(out)).sum())
            return failed(f"{bad} of {out.numel()} logits are not finite, images of deviation {scale}")
        if subject.method.dims == 2:
            out.float().square().mean().backward()
    bad_names = [
        n for n, p in network.named_parameters() if p.grad is not None and not p.grad.isfinite().all()
    ]
    if bad_names:
        return failed(f"the gradient of {listed(bad_names)} is not finite")
    return passed(f"logits up to {float(out.detach().abs().max()):.2g}")


def cost(subject: Subject) -> Outcome:
    """Parameters, GFLOPs and memory; it informs, and never fails."""
    from usbench.methods.cost import count_parameters, measure_gflops

    network = subject.network()
    count, trained = count_parameters(network)
    images = way_of(subject.config).nominal(PAIR, subject.config.data.size).images
    images = subject.images(size=tuple(images.shape[2:]), batch=1)
    flops = None
    if subject.caller is None:
        flops = measure_gflops(network, images, subject.rows(images))
    operations = "GFLOPs n/a" if flops is None else f"{flops:.2f} GFLOPs"
    saved = _activation_bytes(subject, network, images)
    kept = 4 * (count + 3 * trained)  # Weights, gradients and the two moments of Adam.
    memory = "memory n/a" if saved is None else f"{(kept + saved) / 2**20:.0f} MB to train on"
    return passed(
        f"{count:,} parameters, {trained:,} trained; {operations} and {memory}, "
        f"{subject.words(tuple(images.shape[2:]))}"
    )


def _activation_bytes(subject: Subject, network: nn.Module, images: Tensor) -> int | None:
    """Bytes that a forward pass in training keeps for the backward pass, without those of the parameters."""
    held = {p.untyped_storage().data_ptr() for p in network.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    pair = torch.cat([images, images])
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = subject.call(network.train(), pair)
    except (RuntimeError, NotImplementedError, ValueError):
        return None
    del out
    return sum(seen.values()) // 2


def large_sizes(subject: Subject) -> Outcome:
    """Up to 1024 pixels a side, square or not; of volumes one slice, and twice the size: finite logits."""
    if subject.of_one_size:
        return not_applicable("it is built for volumes of one size")
    network = subject.network().eval()
    sizes: list[tuple[int, ...]] = [(1024, 1024), (1024, 64), (480, 736)]
    if len(subject.full) == 3:
        depth, height, width = subject.full
        sizes = [(1, height, width), (2 * depth, height, 2 * width)]
    for size in sizes:
        with torch.no_grad():
            out = subject.call(network, subject.images(size=size, batch=1))
        if list(out.shape) != [1, CLASSES, *size] or not torch.isfinite(out).all():
            return failed(f"{subject.words(size)}: {plain(out)}, or not finite")
    return passed()


def compiles(subject: Subject) -> Outcome:
    """`torch.compile` accepts the network and changes its logits by rounding only."""
    network, images = subject.network().eval(), subject.images()
    # What was compiled before in this process must not decide: its sizes would make those here symbolic, and
    # past a limit of compilations nothing is compiled at all.
    torch.compiler.reset()
    compiled: nn.Module = torch.compile(network, dynamic=False, backend=subject.compiler)  # type: ignore[assignment]
    with torch.no_grad():
        one, two = subject.call(compiled, images), subject.call(network, images)
    if not torch.allclose(one, two, atol=1e-3):
        return failed(f"compiled, logits differ by {float((one - two).abs().max()):.2g}")
    return passed()


def absent_weights(error: BaseException | None) -> Outcome | None:
    """n/a where an error comes from weights that are not here, else None."""
    while error is not None:
        if isinstance(error, WeightsAbsent):
            return not_applicable(str(error))
        error = error.__cause__ or error.__context__
    return None
