"""The checkpoint: what is wrong with it is said, and it is not used; it takes its share of the time."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn

from usbench.contracts.settings import TrainSettings
from usbench.datasets.batches import Slices
from usbench.errors import UsbenchError
from usbench.runs import checkpoint as module
from usbench.runs.checkpoint import Checkpoints, Trained
from usbench.runs.history import History
from usbench.runs.train import fit
from usbench.runtime.devices import make_fabric
from usbench.runtime.stopping import Terminated

FABRIC = make_fabric("cpu", 1, "32")
SETTINGS = TrainSettings(epochs=3, batch=2, lr=1e-2, empty=0.3, augment="none")


@dataclasses.dataclass
class Case:
    images: np.ndarray
    mask: np.ndarray
    foreground: np.ndarray


def slices() -> Slices:
    draws = np.random.default_rng(0)
    images = draws.normal(size=(4, 1, 8, 8)).astype(np.float16)
    mask = (images[:, 0] > 0).astype(np.uint8)
    return Slices([Case(images, mask, np.ones(4, bool))], 1, torch.device("cpu"))  # type: ignore[list-item]


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))


def train(path: Path, on_epoch: Any = None, key: str = "k") -> tuple[nn.Module, History]:
    made = network()
    return made, fit(made, slices(), SETTINGS, FABRIC, 5, checkpoint=path, key=key, on_epoch=on_epoch)


def same(one: nn.Module, two: nn.Module) -> bool:
    other = two.state_dict()
    return all(torch.equal(value, other[name]) for name, value in one.state_dict().items())


class Killed(Exception):
    pass


def stopped_after_the_first_epoch(path: Path) -> bytes:
    def stop(history: History) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(path, stop)
    return path.read_bytes()


def test_every_flipped_bit_is_named_and_training_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    whole = stopped_after_the_first_epoch(path)
    trained = Trained(network(), torch.optim.Adam(network().parameters()), FABRIC)
    draws = random.Random(0)
    # Anywhere, and in the line with the digest.
    bits = [draws.randrange(8 * len(whole)) for _ in range(100)]
    bits += [8 * len(whole) - 1 - draws.randrange(8 * 96) for _ in range(40)]
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert Checkpoints(path, "k", trained).restore().rows == []
        assert f"{path}: " in (said := capsys.readouterr().err)
        assert "training starts anew" in said
    undisturbed, history = train(tmp_path / "other.pt")
    again, rows = train(path)
    assert "training starts anew" in capsys.readouterr().err
    assert same(undisturbed, again)
    assert [row["loss"] for row in history.rows] == [row["loss"] for row in rows.rows]


@pytest.mark.parametrize("damage", ["truncated", "empty", "longer", "no digest"])
def test_what_is_not_whole_is_named(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "checkpoint.pt"
    whole = stopped_after_the_first_epoch(path)
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "empty": b"",
            "longer": whole + b"\n",
            "no digest": whole[: whole.rindex(b"\nusbench")],  # as older versions wrote it
        }[damage]
    )
    _, history = train(path)
    assert history.epochs == 3
    assert "checkpoint.pt: has no digest" in capsys.readouterr().err


def test_of_another_run_it_is_refused_and_of_another_network_too(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    stopped_after_the_first_epoch(path)
    with pytest.raises(UsbenchError, match=r"checkpoint\.pt: belongs to another run.*--overwrite"):
        train(path, key="other")
    with pytest.raises(UsbenchError, match=r"checkpoint\.pt: does not fit the network.*--overwrite"):
        fit(nn.Conv2d(1, 1, 5, padding=2), slices(), SETTINGS, FABRIC, 5, checkpoint=path, key="k")


def test_the_scale_of_gradients_is_kept_and_the_precision_has_to_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(scale: float) -> Trained:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
        made = network()
        return Trained(made, torch.optim.Adam(made.parameters()), fabric)

    path = tmp_path / "checkpoint.pt"
    before = trained(1024.0)
    before.scaler.scale(torch.ones(1))
    before.scaler.update(new_scale=512.0)
    row = {"epoch": 1, "loss": 1.0}
    Checkpoints(path, "k", before).after_epoch(History([row], 1.0, 0))
    after = trained(2.0)
    assert Checkpoints(path, "k", after).restore().rows == [row]
    assert after.scaler.get_scale() == 512.0
    plain = Trained(network(), torch.optim.Adam(network().parameters()), FABRIC)
    assert Checkpoints(path, "k", plain).restore().rows == []
    assert "made at precision 16-mixed, this run has 32-true" in " ".join(capsys.readouterr().err.split())


class Clock:
    """A clock that moves when somebody works."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("epoch", "write", "stated"), [(1.0, 0.02, 5e6), (60.0, 15.0, 5e9), (600.0, 3.0, 5e9)]
)
def test_writing_takes_two_percent_of_the_time_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: float, write: float, stated: float
) -> None:
    """By a clock of ours, with epochs and writes of so many seconds, and a network of so many bytes."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Trained, "bytes", lambda self: stated)
    made = network()
    checkpoints = Checkpoints(
        tmp_path / "c.pt", "k", Trained(made, torch.optim.Adam(made.parameters()), FABRIC)
    )
    kept: list[float] = []

    def writing(self: Checkpoints, path: Path, history: History) -> None:
        clock.now += write
        kept.append(clock.now)

    monkeypatch.setattr(Checkpoints, "_write", writing)
    history = History()
    for number in range(1, 401):
        clock.now += epoch
        history.add({"epoch": number, "loss": 1.0})
        checkpoints.after_epoch(history)
    assert checkpoints.spent <= 0.02 * clock.now
    # A small network is kept after its first epoch; and at no time more is lost than fifty writes take.
    if stated < 1e8:
        assert kept[0] == epoch + write
    gaps = np.diff([0.0, *kept, clock.now])
    assert max(gaps[1:]) <= max(epoch, 100 * write) + epoch + write


def term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_training_that_is_asked_to_end_keeps_its_epoch_and_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, _ = train(tmp_path / "a.pt")
    monkeypatch.setattr(module, "SHARE", 0.0)  # Only the first epoch would be kept.

    def asked(history: History) -> None:
        if history.epochs == 1:
            term()

    path = tmp_path / "b.pt"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated, match="after epoch 2, which is kept"):
        train(path, asked)
    assert signal.getsignal(signal.SIGTERM) == before
    again, history = train(path)
    assert history.epochs == 3
    assert same(undisturbed, again)


def test_where_the_end_of_the_epoch_is_far_it_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usbench.runs.train.GRACE_SECONDS", -1.0)
    with pytest.raises(Terminated, match="ended by SIGTERM; nothing finished is lost") as stopped:
        train(tmp_path / "c.pt", lambda history: term())
    assert stopped.value.code == 143
