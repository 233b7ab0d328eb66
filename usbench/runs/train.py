"""Fit a network to the training slices of a fold. No test data ever gets here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.contracts.method import Supervised
from usbench.datasets.augment import light
from usbench.datasets.draws import draw_epoch
from usbench.errors import UsbenchError
from usbench.fusions.merge import as_wide
from usbench.fusions.segmenter import takes_present
from usbench.runs.checkpoint import Checkpoints, Trained
from usbench.runs.history import History
from usbench.runtime.console import told
from usbench.runtime.devices import fresh_memory
from usbench.runtime.stopping import Terminated, ending_later

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from usbench.contracts.settings import TrainSettings
    from usbench.datasets.batches import Slices
    from usbench.datasets.volumes import Volumes

__all__ = ["History", "dice_bce", "draw_epoch", "draw_present", "fit", "learning_rate"]

SMOOTH = 1.0
GRACE_SECONDS = 20.0
"""So long a training that is asked to end may go on; Slurm ends a job by force after 30 seconds."""


def dice_bce(logits: Tensor, target: Tensor, fabric: Fabric | None = None) -> tuple[Tensor, Tensor]:
    """The two training losses of a batch.

    Dice is taken for each class over the whole batch, 1 - (2 I + 1) / (P + T + 1), and averaged over classes
    (MONAI's `DiceLoss(sigmoid=True, batch=True, smooth_nr=1, smooth_dr=1)`). With several devices the sums
    are those of the batch over all of them.

    Args:
        logits: Of any float type, [B, K, H, W] or [B, K, D, H, W].
        target: 0 or 1, float, of that shape.
        fabric: What joins the devices; None for one alone.

    Returns:
        (Dice loss, binary cross-entropy), each one float32 number [].
    """
    logits = logits.float()
    probability = torch.sigmoid(logits)
    dims = (0, *range(2, logits.ndim))
    sums = torch.stack([(probability * target).sum(dims), probability.sum(dims), target.sum(dims)])
    bce = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    count = torch.tensor(float(target.numel()), device=logits.device)
    if fabric is not None and fabric.world_size > 1:
        gathered = fabric.all_gather(sums, sync_grads=True)
        assert isinstance(gathered, Tensor)
        sums = gathered.sum(0)
        # Gradients are averaged over the devices, whose shares of the batch may differ by a slice.
        total = fabric.all_reduce(count, reduce_op="sum")
        assert isinstance(total, Tensor)
        count = total / fabric.world_size
    dice = (2 * sums[0] + SMOOTH) / (sums[1] + sums[2] + SMOOTH)
    return 1 - dice.mean(), bce / count


def training_loss(
    found: Tensor | Supervised, target: Tensor, fabric: Fabric | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What is minimised in a batch: Dice loss and cross-entropy of the logits, and of any beside them.

    Args:
        found: What the network gave: logits, or `Supervised`.
        target: 0 or 1, float, [B, K, H, W] or [B, K, D, H, W].
        fabric: As of `dice_bce`.

    Returns:
        (all of it, Dice loss of the logits, cross-entropy of the logits), each a float32 number [].

    Raises:
        UsbenchError: For logits that have not the target's shape, and weights of which there are too few.
    """
    logits, others, weights = found if isinstance(found, Supervised) else Supervised(found, ())
    for one in (logits, *others):
        if one.shape != target.shape:
            raise UsbenchError(
                f"the method's logits have shape {tuple(one.shape)}, "
                f"not {'[B, K, H, W]' if target.ndim == 4 else '[B, K, D, H, W]'} = {tuple(target.shape)}; "
                "repair its forward"
            )
    if weights and len(weights) != len(others):
        raise UsbenchError(
            f"the method gives {len(others)} auxiliary logits and {len(weights)} weights; give as many"
        )
    dice, bce = dice_bce(logits, target, fabric)
    loss = dice + bce
    for one, weight in zip(others, weights or [1.0] * len(others), strict=True):
        loss = loss + weight * sum(dice_bce(one, target, fabric))
    return loss, dice, bce


def draw_present(random: np.random.Generator, count: int, modalities: int, dropout: float) -> np.ndarray:
    """Which modalities of the slices of a batch stay: each is left out by chance, but never all of a slice.

    Args:
        random: Where the draws come from; a batch takes as many whatever comes of them.
        count: Number of slices, N.
        modalities: M.
        dropout: The chance of each modality to be left out, from 0 to below 1.

    Returns:
        bool [N, M]. Where chance leaves out all, one of them, drawn evenly, stays.
    """
    present = random.random((count, modalities)) >= dropout
    kept = random.integers(modalities, size=count)
    alone = ~present.any(axis=1)
    present[alone, kept[alone]] = True
    return present


def learning_rate(settings: TrainSettings, epoch: int) -> float:
    """The polynomial schedule: lr * (1 - epoch / epochs) ** power, epochs counted from 0.

    While `train.warmup` lasts, a share of that: of W epochs the first has 1 / (W + 1), the last W / (W + 1).
    """
    rate = float(settings.lr * (1 - epoch / settings.epochs) ** settings.poly_power)
    return rate * (epoch + 1) / (settings.warmup + 1) if epoch < settings.warmup else rate


def rate_groups(network: nn.Module) -> list[dict[str, Any]]:
    """The trained parameters of a network, by the share of the learning rate that they train with.

    A module may have the attribute `learning_rate_share`, which holds for its parameters and those of what is
    within it, unless that has its own: so the rate that a new part needs does not undo a pretrained one.

    Args:
        network: With or without such modules.

    Returns:
        Groups for an optimizer, "params" and "share", the largest share first. One without such modules.

    Raises:
        UsbenchError: For a share that is no number above 0, or above 1: no method trains faster than others.
    """
    shares: dict[nn.Parameter, float] = {}
    for module in network.modules():  # from the outside to the inside
        share = getattr(module, "learning_rate_share", None)
        if share is None:
            continue
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise UsbenchError(
                f"the method's {type(module).__name__} has learning_rate_share={share!r}; use a number above "
                "0, 1 at most, or freeze its parameters"
            )
        shares |= dict.fromkeys(module.parameters(), float(share))
    trainable = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if shares.get(p, 1.0) == share], "share": share}
        for share in sorted({shares.get(p, 1.0) for p in trainable}, reverse=True)
    ]


def adam_for(trainable: Sequence[Any], settings: TrainSettings, fabric: Fabric) -> torch.optim.Adam:
    """Adam over all parameters in one kernel, or over lists of them where gradients are scaled and clipped.

    At `--precision 16` gradients are scaled. The one kernel takes the scale out by itself, after the place
    where they would be clipped, and so Fabric refuses to clip them; an Adam over lists leaves that to the
    scaler.

    Args:
        trainable: The parameters, on their device, or groups of them.
        settings: `lr`, `weight_decay` and `clip` count.
        fabric: Says whether gradients are scaled.
    """
    scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
    one_kernel = not (scaled and settings.clip)
    return torch.optim.Adam(
        trainable, lr=settings.lr, weight_decay=settings.weight_decay, fused=one_kernel or None
    )


def fit(
    network: nn.Module,
    slices: Slices | Volumes,
    settings: TrainSettings,
    fabric: Fabric,
    seed: int,
    checkpoint: Path | None = None,
    key: str = "",
    on_epoch: Callable[[History], None] | None = None,
    on_training: Callable[[History], None] | None = None,
) -> History:
    """Train a network in place.

    Every random draw is a function of seed and epoch, so that a run taken up again from its checkpoint ends
    like one that was never stopped.

    Args:
        network: Takes images [B, M, H, W], and features by name where `slices` have them; gives logits [B, K,
            H, W]. With volumes there is a D before H.
        slices: The training slices or volumes.
        settings: How to train.
        fabric: The device or devices and the numerical precision.
        seed: Of every random draw.
        checkpoint: Written after an epoch, as often as that takes little time (`usbench.runs.checkpoint`);
            where it is there already, training goes on from it. None for none.
        key: Of the run; a checkpoint made under another one is refused.
        on_epoch: Called after each epoch, on every process.
        on_training: Called once before the first epoch, with what a checkpoint says of earlier ones.

    Returns:
        What happened, the epochs of the checkpoint among it.

    Raises:
        UsbenchError: For a network without trainable parameters, a loss that is not finite, logits of a wrong
            shape, and a checkpoint of another run, or that cannot be written.
        Terminated: After SIGTERM: at the end of the epoch, which is then kept, where that is near, else at
            once.
    """
    groups = rate_groups(network)
    if not groups:
        raise UsbenchError("the method has no trainable parameter; nothing can be fitted")
    # After the groups: it keeps parameters, but no attribute of a batch norm.
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network.to(fabric.device)
    optimizer = adam_for(groups, settings, fabric)
    if settings.modality_dropout:
        _require_droppable(slices, network)
    checkpoints = Checkpoints(checkpoint, key, Trained(network, optimizer, fabric))
    history = checkpoints.restore()
    model, adam = fabric.setup(network, optimizer)
    if on_training is not None:
        on_training(history)
    begun = time.monotonic()
    started = history.epochs

    def near_its_end() -> bool:
        """Whether the running epoch and its checkpoint will be done in time."""
        if checkpoint is None or not history.rows:
            return False
        left = max(0.0, history.rows[-1]["seconds"] - (time.monotonic() - begun))
        return left + checkpoints.expected <= GRACE_SECONDS

    with ending_later(near_its_end) as asked:
        while history.epochs < settings.epochs and history.stale < settings.patience:
            begun = time.monotonic()
            # A network that reads memory it never wrote to gets NaN in the first epoch, and is stopped there.
            with fresh_memory(filled=history.epochs == started):
                row = _epoch(model, network, adam, slices, settings, fabric, seed, history.epochs)
            history.add(row)
            ends = _any(asked.yes, fabric)
            checkpoints.after_epoch(history, now=ends)
            if on_epoch is not None:
                on_epoch(history)
            if ends:
                raise Terminated(
                    f"ended by SIGTERM after epoch {history.epochs}, which is kept; the same command goes on"
                )
    return history


def _any(here: bool, fabric: Fabric) -> bool:
    """Whether something holds on one of the devices."""
    if fabric.world_size == 1:
        return here
    total = fabric.all_reduce(torch.tensor(float(here), device=fabric.device), reduce_op="sum")
    assert isinstance(total, Tensor)
    return bool(total > 0)


def _require_droppable(slices: Slices | Volumes, network: nn.Module) -> None:
    """Raise `UsbenchError` where leaving out modalities would change nothing, or not what it should."""
    if slices.modalities < 2:
        raise UsbenchError(
            "train.modality_dropout needs two modalities at least, this run has one; leave the setting out"
        )
    if slices.has_features and not takes_present(network):
        raise UsbenchError(
            "train.modality_dropout: the frozen parts of this method have seen every modality, and its "
            "network does not take 'present'; leave the setting out"
        )


def _epoch(
    model: Any,
    network: nn.Module,
    optimizer: Any,
    slices: Slices | Volumes,
    settings: TrainSettings,
    fabric: Fabric,
    seed: int,
    epoch: int,
) -> dict[str, float]:
    start = time.perf_counter()
    rate = learning_rate(settings, epoch)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)  # checkpoints of before have no share
    # Dropout and the like draw from the global generators.
    torch.manual_seed(seed * 1_000_003 + epoch * 101 + fabric.global_rank)
    draws = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    groups = slices.epoch(settings, seed, epoch, fabric.world_size)
    shares = [np.array_split(group, fabric.world_size) for group in groups]
    absences = np.random.default_rng([seed, epoch, 2])
    model.train()
    total = torch.zeros(3, device=fabric.device)
    batches = slices.batches([s[fabric.global_rank] for s in shares])
    if fabric.is_global_zero:
        batches = told(batches, f"epoch {epoch + 1}, batches", len(groups))
    for share, (images, target, extras) in zip(shares, batches, strict=True):
        if settings.augment == "light" and not slices.fixed:
            first = sum(len(part) for part in share[: fabric.global_rank])
            total_slices = sum(len(part) for part in share)
            images, target = light(
                images, target, draws, first, total_slices, settings.mirror, slices.left_right
            )
        if settings.modality_dropout:
            first = sum(len(part) for part in share[: fabric.global_rank])
            drawn = draw_present(absences, sum(map(len, share)), images.shape[1], settings.modality_dropout)
            present = torch.from_numpy(drawn[first : first + len(images)]).to(images.device)
            images = images * as_wide(present, images)
            if takes_present(network):
                extras = {**extras, "present": present}
        optimizer.zero_grad(set_to_none=True)
        loss, dice, bce = training_loss(model(images, **extras), target, fabric)
        fabric.backward(loss)
        if settings.clip:
            fabric.clip_gradients(model, optimizer, max_norm=settings.clip, error_if_nonfinite=False)
        optimizer.step()
        total += torch.stack([loss.detach(), dice.detach(), bce.detach()])
    reduced = fabric.all_reduce(total, reduce_op="mean")
    assert isinstance(reduced, Tensor)
    loss_mean, dice_mean, bce_mean = (reduced / len(groups)).tolist()
    if not math.isfinite(loss_mean):
        raise UsbenchError(
            f"the training loss became {loss_mean} in epoch {epoch + 1}; "
            f"lower train.lr (it is {settings.lr}) or train at full precision"
        )
    return {
        "epoch": epoch + 1,
        "loss": loss_mean,
        "dice_loss": dice_mean,
        "bce_loss": bce_mean,
        "lr": rate,
        "slices": sum(len(group) for group in groups),
        "seconds": time.perf_counter() - start,
    }
