"""Training: the loss against MONAI, the schedule by hand, resuming to the same numbers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from usbench.contracts.method import Supervised
from usbench.contracts.settings import TrainSettings
from usbench.datasets.augment import light
from usbench.datasets.batches import Slices
from usbench.errors import UsbenchError
from usbench.runs.predict import write_mask
from usbench.runs.train import (
    History,
    dice_bce,
    draw_epoch,
    draw_present,
    fit,
    learning_rate,
    rate_groups,
    training_loss,
)
from usbench.runtime.devices import make_fabric


def cases(count: int = 2, slices: int = 6, size: int = 16) -> list[Any]:
    """Prepared cases with a bright square to be found, some slices empty."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        images = random.normal(size=(slices, 2, size, size)).astype(np.float16)
        mask = np.zeros((slices, size, size), np.uint8)
        for z in range(slices - 2):
            row, column = random.integers(2, size - 8, 2)
            mask[z, row : row + 6, column : column + 6] = 1 + z % 2
            images[z, :, row : row + 6, column : column + 6] += 2 + 2 * (z % 2)
        made.append(SimpleNamespace(images=images, mask=mask, foreground=mask.any(axis=(1, 2))))
    return made


def network() -> nn.Module:
    torch.manual_seed(3)
    layers = [
        nn.Conv2d(2, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(8, 2, 1),
    ]
    return nn.Sequential(*layers)


FABRIC = make_fabric("cpu", 1, "32")
SETTINGS = TrainSettings(epochs=4, batch=4, lr=1e-2, empty=0.3, augment="light")


def test_dice_is_monais() -> None:
    losses = pytest.importorskip("monai.losses")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 8, 8, generator=generator) * 3
    target = (torch.rand(3, 2, 8, 8, generator=generator) > 0.7).float()
    dice, bce = dice_bce(logits, target)
    theirs = losses.DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)(logits, target)
    assert dice.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert bce.item() == pytest.approx(nn.BCEWithLogitsLoss()(logits, target).item(), abs=1e-6)


def test_polynomial_schedule_by_hand() -> None:
    settings = TrainSettings(epochs=100, lr=0.1, poly_power=0.9)
    assert learning_rate(settings, 0) == pytest.approx(0.1)
    assert learning_rate(settings, 50) == pytest.approx(0.1 * 0.5**0.9)
    assert learning_rate(settings, 99) == pytest.approx(0.1 * 0.01**0.9)


def test_warm_up_by_hand() -> None:
    settings = TrainSettings(epochs=10, lr=0.1, poly_power=0.0, warmup=4)
    rates = [learning_rate(settings, epoch) for epoch in range(6)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])


def test_epoch_takes_every_foreground_slice_once_and_few_empty_ones() -> None:
    foreground = np.array([True] * 30 + [False] * 70)
    groups = draw_epoch(foreground, TrainSettings(batch=8, empty=0.25), seed=1, epoch=0, world=1)
    drawn = np.concatenate(groups)
    assert len(set(drawn.tolist())) == len(drawn) == 40
    assert set(range(30)) <= set(drawn.tolist())
    assert {len(g) for g in groups} == {8}
    again = draw_epoch(foreground, TrainSettings(batch=8, empty=0.25), seed=1, epoch=0, world=1)
    later = draw_epoch(foreground, TrainSettings(batch=8, empty=0.25), seed=1, epoch=1, world=1)
    assert all(np.array_equal(a, b) for a, b in zip(groups, again, strict=True))
    assert not np.array_equal(drawn, np.concatenate(later))
    everything = draw_epoch(foreground, TrainSettings(batch=33, empty=1.0), seed=1, epoch=0, world=1)
    assert sorted(len(g) for g in everything) == [25, 25, 25, 25]


def test_few_slices_come_again_until_there_are_enough_batches() -> None:
    settings = TrainSettings(batch=8, empty=0.5, min_batches=10)
    groups = draw_epoch(np.array([True] * 6 + [False] * 9), settings, seed=0, epoch=0, world=1)
    assert len(groups) >= 10
    drawn = np.concatenate(groups)
    counts = np.bincount(drawn, minlength=15)
    assert set(counts[:6]) == {len(drawn) // 12}  # six full and six empty slices in each turn
    assert counts[6:].sum() == counts[:6].sum()


def test_no_batch_is_a_single_slice() -> None:
    groups = draw_epoch(np.ones(9, bool), TrainSettings(batch=1), seed=0, epoch=0, world=1)
    assert min(len(g) for g in groups) >= 2


def test_targets_are_one_channel_a_class() -> None:
    made = cases(1)
    slices = Slices(made, 2, torch.device("cpu"))
    ((images, target, extras),) = slices.batches([np.array([0, 1, 5])])
    assert images.shape == (3, 2, 16, 16)
    assert images.dtype == torch.float32
    assert not extras
    assert torch.equal(target[0, 0], torch.from_numpy(made[0].mask[0] == 1).float())
    assert torch.equal(target[1, 1], torch.from_numpy(made[0].mask[1] == 2).float())
    assert target[2].sum() == 0


def test_reading_ahead_gives_what_resident_data_gives() -> None:
    made = cases(3)
    groups = [np.array([4, 11]), np.array([17, 0, 6]), np.array([3])]
    extras = [{"row": torch.arange(6).float()[:, None] + 10 * i} for i in range(3)]
    near, far = (Slices(made, 2, torch.device("cpu"), extras, resident=r) for r in (True, False))
    for one, two in zip(near.batches(groups), far.batches(groups), strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
        assert torch.equal(one[2]["row"], two[2]["row"])


def with_shares() -> Any:
    """The network, its first layer at half the rate, its batch norm at a quarter of it."""
    made: Any = nn.Sequential(nn.Sequential(*list(network())[:3]), *list(network())[3:])
    made[0].learning_rate_share, made[0][1].learning_rate_share = 0.5, 0.25
    return made


def test_parts_train_at_their_share_of_the_rate() -> None:
    """Against Adam by hand: without momentum its first step is the rate times the gradient's sign."""
    made = with_shares()
    made[2].bias.requires_grad_(False)
    groups = rate_groups(made)
    assert [(group["share"], len(group["params"])) for group in groups] == [(1.0, 1), (0.5, 2), (0.25, 2)]
    before = [p.detach().clone() for p in made.parameters()]
    history = fit(
        made, Slices(cases(), 2, FABRIC.device), dataclasses.replace(SETTINGS, epochs=1, batch=12), FABRIC, 5
    )
    assert history.rows[0]["lr"] == 1e-2
    moved = [(p.detach() - was).abs().max().item() for p, was in zip(made.parameters(), before, strict=True)]
    # Weight and bias of a convolution, of the norm, of the other convolution, whose bias is frozen.
    assert moved == pytest.approx([5e-3, 5e-3, 2.5e-3, 2.5e-3, 1e-2, 0.0], rel=1e-2)
    plain = network()
    assert [list(group["params"]) for group in rate_groups(plain)] == [list(plain.parameters())]
    for wrong in ("0.5", 0, float("nan"), -1):
        made[0].learning_rate_share = wrong
        with pytest.raises(UsbenchError, match=f"has learning_rate_share={wrong!r}; use a number above 0"):
            rate_groups(made)
    made[0].learning_rate_share = 2
    with pytest.raises(
        UsbenchError, match="Sequential has learning_rate_share=2; use a number above 0, 1 at"
    ):
        rate_groups(made)


def test_shares_of_the_rate_survive_a_stop(tmp_path: Path) -> None:
    slices = Slices(cases(), 2, FABRIC.device)
    whole, halved = with_shares(), with_shares()
    fit(whole, slices, SETTINGS, FABRIC, 5)
    checkpoint = tmp_path / "checkpoint.pt"

    class StopError(Exception): ...

    def stop(history: History) -> None:
        if history.epochs == 2:
            raise StopError

    with pytest.raises(StopError):
        fit(halved, slices, SETTINGS, FABRIC, 5, checkpoint, "k", stop)
    again = with_shares()
    fit(again, slices, SETTINGS, FABRIC, 5, checkpoint, "k")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_resumed_training_equals_undisturbed_training(tmp_path: Path) -> None:
    slices = Slices(cases(), 2, torch.device("cpu"))
    whole = network()
    undisturbed = fit(whole, slices, SETTINGS, FABRIC, seed=5, checkpoint=tmp_path / "a.pt", key="k")

    class Killed(Exception):
        pass

    def stop(history: History) -> None:
        if history.epochs == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(network(), slices, SETTINGS, FABRIC, seed=5, checkpoint=tmp_path / "b.pt", key="k", on_epoch=stop)
    torch.manual_seed(999)  # whatever happened in between
    other = network()
    resumed = fit(other, slices, SETTINGS, FABRIC, seed=5, checkpoint=tmp_path / "b.pt", key="k")
    assert [r["loss"] for r in resumed.rows] == [r["loss"] for r in undisturbed.rows]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_training_learns() -> None:
    history = fit(
        network(),
        Slices(cases(), 2, torch.device("cpu")),
        TrainSettings(epochs=80, batch=4, lr=2e-2),
        FABRIC,
        0,
    )
    assert history.rows[-1]["loss"] < 0.6 * history.rows[0]["loss"]


def test_stops_when_the_training_loss_no_longer_falls() -> None:
    slices = Slices(cases(), 2, torch.device("cpu"))
    frozen = dataclasses.replace(SETTINGS, epochs=50, lr=1e-12, weight_decay=0.0, patience=3, augment="none")
    history = fit(nn.Conv2d(2, 2, 1), slices, frozen, FABRIC, 0)
    assert 4 <= history.epochs < 50
    assert history.stale == 3


def test_loss_that_is_not_finite_is_an_error() -> None:
    bad = cases()
    bad[0].images[:] = np.nan
    with pytest.raises(UsbenchError, match=r"loss became nan.*train\.lr"):
        fit(network(), Slices(bad, 2, torch.device("cpu")), SETTINGS, FABRIC, 0)


def test_network_that_reads_what_was_never_written_is_stopped_in_the_first_epoch() -> None:
    class Reads(nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            return logits + torch.empty(logits.shape)

    with pytest.raises(UsbenchError, match="loss became nan in epoch 1"):
        fit(Reads(2, 2, 1), Slices(cases(), 2, torch.device("cpu")), SETTINGS, FABRIC, 0)


def test_fresh_memory_is_filled_in_the_first_epoch_alone() -> None:
    filled: list[bool] = []

    def note(_: History) -> None:
        filled.append(torch.utils.deterministic.fill_uninitialized_memory)

    class Notes(nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            note(History())
            return super().forward(images)

    ends: list[int] = []
    slices = Slices(cases(), 2, torch.device("cpu"))
    fit(Notes(2, 2, 1), slices, SETTINGS, FABRIC, 0, on_epoch=lambda _: ends.append(len(filled)))
    assert all(filled[: ends[0]])
    assert not any(filled[ends[0] :])
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_written_mask_is_what_other_programs_read_and_always_the_same(tmp_path: Path) -> None:
    import nibabel
    import SimpleITK

    volume = np.zeros((20, 30, 7), np.uint8)
    volume[4:9, 5:25, 2:5] = 1
    volume[6:8, 7:9, 3] = 3
    files = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    for file in files:
        write_mask(volume, np.diag([1.0, 2.0, 3.0, 1.0]), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    np.testing.assert_array_equal(np.asarray(nibabel.load(files[0]).dataobj), volume)
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(files[0])))
    np.testing.assert_array_equal(read.transpose(2, 1, 0), volume)


def test_wrong_shape_of_logits_is_an_error() -> None:
    with pytest.raises(UsbenchError, match=r"logits have shape \(\d, 1, 16, 16\)"):
        fit(nn.Conv2d(2, 1, 1), Slices(cases(), 2, torch.device("cpu")), SETTINGS, FABRIC, 0)


def test_auxiliary_logits_by_hand() -> None:
    # Two pixels, the first of them foreground. A logit of log 3 is a probability of 3/4, one of 0 of 1/2.
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    sure = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2) * math.log(3)
    # Dice 1 - (2 x 3/4 + 1) / (3/4 + 1/4 + 1 + 1), cross-entropy log 4/3; 1 - (2 x 1/2 + 1) / 3 and log 2.
    of_sure, of_even = 1 / 6 + math.log(4 / 3), 1 / 3 + math.log(2)
    even = torch.zeros_like(sure)
    loss, dice, bce = training_loss(Supervised(sure, [even, sure]), target)
    assert loss.item() == pytest.approx(2 * of_sure + of_even, abs=1e-6)
    assert (dice.item(), bce.item()) == pytest.approx((1 / 6, math.log(4 / 3)), abs=1e-6)
    loss, *_ = training_loss(Supervised(sure, [even, sure], [0.5, 0.25]), target)
    assert loss.item() == pytest.approx(1.25 * of_sure + 0.5 * of_even, abs=1e-6)
    assert training_loss(sure, target)[0].item() == pytest.approx(of_sure, abs=1e-6)
    with pytest.raises(UsbenchError, match="gives 1 auxiliary logits and 2 weights"):
        training_loss(Supervised(sure, [even], [1.0, 1.0]), target)
    with pytest.raises(UsbenchError, match=r"logits have shape \(1, 1, 1, 1\)"):
        training_loss(Supervised(sure, [even[..., :1]]), target)


def test_parts_that_only_auxiliary_logits_reach_are_trained() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.beside = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor | Supervised:
            return (
                Supervised(self.main(images), [self.beside(images)]) if self.training else self.main(images)
            )

    torch.manual_seed(0)
    both, alone = Twice(), nn.Conv2d(2, 2, 1)
    alone.load_state_dict(both.main.state_dict())
    start = both.beside.weight.detach().clone()
    slices = Slices(cases(), 2, torch.device("cpu"))
    # Without a bound on the gradients of all parameters together the logits' own are what they are alone.
    settings = dataclasses.replace(SETTINGS, clip=0)
    history = fit(both, slices, settings, FABRIC, 0)
    assert not torch.equal(both.beside.weight, start)
    fit(alone, slices, settings, FABRIC, 0)
    assert torch.equal(both.main.weight, alone.weight)
    last = history.rows[-1]
    assert last["loss"] > last["dice_loss"] + last["bce_loss"]


def test_augmentation_moves_image_and_mask_together() -> None:
    image = torch.zeros(4, 1, 32, 32)
    image[:, :, 10:20, 12:22] = 1
    moved, target = light(image, image.clone(), torch.Generator().manual_seed(0))
    assert not torch.equal(target, image)
    assert set(target.unique().tolist()) <= {0.0, 1.0}
    for picture, mask in zip(moved, target, strict=True):
        bright = picture > (picture.min() + picture.max()) / 2
        overlap = 2 * (bright & (mask > 0)).sum() / (bright.sum() + (mask > 0).sum())
        assert overlap > 0.95


def test_mirroring_exchanges_left_and_right_in_half_of_the_slices_and_only_where_allowed() -> None:
    image = torch.zeros(200, 1, 32, 32)
    image[..., :16] = 1
    for mirror, share in ((False, (0, 0)), (True, (0.4, 0.6))):
        moved, target = light(image, image.clone(), torch.Generator().manual_seed(0), mirror=mirror)
        right = target[..., 16:].mean((1, 2, 3)) > target[..., :16].mean((1, 2, 3))
        assert share[0] <= right.float().mean() <= share[1]
        bright = moved > moved.amin((1, 2, 3), keepdim=True) + 0.5 * (
            moved.amax((1, 2, 3), keepdim=True) - moved.amin((1, 2, 3), keepdim=True)
        )
        assert (bright == (target > 0)).float().mean() > 0.9


def test_augmentation_of_a_share_is_that_of_the_whole_batch() -> None:
    images = torch.randn(5, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    target = (images[:, :1] > 0).float()
    whole, _ = light(images, target, torch.Generator().manual_seed(7))
    share, _ = light(images[3:], target[3:], torch.Generator().manual_seed(7), first=3, total=5)
    assert torch.allclose(whole[3:], share, atol=1e-6)


def test_slices_are_changed_unless_rows_belong_to_them_as_they_are() -> None:
    """A row for each slice, as a text on its patient would be."""
    made, seen = cases(), []

    class Wants(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network()

        def forward(self, images: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
            seen.append(images.clone())
            return self.layers(images)

    def images_of(**words: Any) -> list[torch.Tensor]:
        seen.clear()
        rows = [{"text": np.ones((len(case.images), 3), np.float32)} for case in made]
        settings = dataclasses.replace(SETTINGS, epochs=1)
        fit(Wants(), Slices(made, 2, torch.device("cpu"), rows, **words), settings, FABRIC, 0)
        return list(seen)

    known = torch.from_numpy(np.concatenate([case.images for case in made])).float()
    fixed, changed = images_of(), images_of(fixed=False)
    assert all((known == one).flatten(1).all(1).any() for batch in fixed for one in batch)
    assert not any((known == one).flatten(1).all(1).any() for batch in changed for one in batch)


def test_modality_dropout_leaves_one_modality_of_every_slice_at_least() -> None:
    present = draw_present(np.random.default_rng(0), 20_000, 3, 0.5)
    assert present.any(axis=1).all()
    # Each is left out with chance 1/2, and where all three are (1/8), one stays: 3/2 + 1/8 on average.
    assert present.sum(axis=1).mean() == pytest.approx(1.625, abs=0.02)
    assert present.mean(axis=0) == pytest.approx([1.625 / 3] * 3, abs=0.02)
    assert draw_present(np.random.default_rng(0), 5, 3, 0.0).all()


def test_modality_dropout_zeroes_images_and_tells_who_wants_to_know() -> None:
    seen = []

    class Told(nn.Module):
        takes_present = True

        def __init__(self) -> None:
            super().__init__()
            self.layers = network()

        def forward(self, images: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
            assert present is not None
            seen.append((images.detach().flatten(2).abs().sum(2) > 0, present))
            return self.layers(images)

    settings = dataclasses.replace(SETTINGS, epochs=2, modality_dropout=0.5)
    slices = Slices(cases(), 2, torch.device("cpu"))
    told, plain = Told(), network()
    fit(told, slices, settings, FABRIC, 0)
    assert all(torch.equal(*pair) for pair in seen)
    assert any(not present.all() for _, present in seen)
    # A network that does not want to know is trained on the same images.
    fit(plain, slices, settings, FABRIC, 0)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, told.layers.state_dict()[name]), name


def test_modality_dropout_needs_something_to_drop() -> None:
    made = cases()
    one = [SimpleNamespace(images=c.images[:, :1], mask=c.mask, foreground=c.foreground) for c in made]
    settings = dataclasses.replace(SETTINGS, modality_dropout=0.3)
    with pytest.raises(UsbenchError, match="needs two modalities"):
        fit(nn.Conv2d(1, 2, 1), Slices(one, 2, torch.device("cpu")), settings, FABRIC, 0)
    rows = [{"row": np.zeros((6, 2, 3), np.float16)}] * 2
    with pytest.raises(UsbenchError, match="does not take 'present'"):
        fit(network(), Slices(made, 2, torch.device("cpu"), rows), settings, FABRIC, 0)
