"""The share of a training that goes into its checkpoints: after every epoch, and as usbench writes them.

    python benchmarks/checkpoints.py [--method transunet --modalities 2] [--epochs 10,60,600] [--folder DIR]

The network (late fusion, preset `paper`), its Adam and every write are real, to the disk and with their
digest. The epochs are not trained: their seconds, several lengths beside each other, are added to the clock
by which `usbench.runs.checkpoint` decides. Both ways are timed in one run on one disk.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import tempfile
import time
from pathlib import Path

import torch

from usbench.config import make_config
from usbench.fusions.build import build_model
from usbench.fusions.registry import get_fusion
from usbench.methods.registry import get_method
from usbench.runs import checkpoint
from usbench.runs.checkpoint import Checkpoints, Trained
from usbench.runs.history import History
from usbench.runtime.devices import make_fabric
from usbench.testing import mock_task

WRITES = 3
"""So many are timed at least."""


class Clock:
    """The clock of the machine, and what was added to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return time.monotonic() + self.added


def trained(name: str, modalities: int) -> Trained:
    """A network after its first step, so that Adam has all its state."""
    method, _ = get_method(name)
    settings = {"method.pretrained": "none"} if "pretrained" in method.settings else {}
    config = make_config("paper", method.settings, method.presets, settings)
    network = build_model(method, mock_task(modalities, 1), get_fusion("late").fusion, config)
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Trained(network, optimizer, make_fabric("cpu", 1, "32"))


def share(of: Trained, folder: Path, epoch: float, every: bool) -> tuple[float, float, int, int]:
    """(share of the time, seconds of a write, writes, epochs) of a training with epochs of such length."""
    clock = Clock()
    checkpoint.time = clock  # type: ignore[assignment]
    path, history = folder / "checkpoint.pt", History()
    path.unlink(missing_ok=True)
    checkpoints, begin, writes = Checkpoints(path, "key", of), clock.monotonic(), 0
    while writes < WRITES:
        clock.added += epoch
        history.add({"epoch": history.epochs + 1, "loss": 1.0, "seconds": epoch})
        checkpoints.after_epoch(history, now=every)
        writes += checkpoints.kept == history.epochs
    while not every and not checkpoints._is_due():  # The time until the next one counts, too.
        clock.added += epoch
        history.add({"epoch": history.epochs + 1, "loss": 1.0, "seconds": epoch})
    took = clock.monotonic() - begin
    return checkpoints.spent / took, checkpoints.spent / writes, writes, history.epochs


def main() -> None:
    """Prints a line for each length of an epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--method", default="transunet")
    parser.add_argument("--modalities", type=int, default=2)
    parser.add_argument("--epochs", default="10,60,600", help="seconds of an epoch, several with commas")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk that is to be measured")
    words = parser.parse_args()
    of = trained(words.method, words.modalities)
    print(
        f"{words.method} late, {words.modalities} modalities: {of.bytes() / 1e9:.2f} GB, {checkpoint.SHARE=}"
    )
    print("epoch    every epoch: share  a write     by time: share  a write  one in   goal")
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        for epoch in map(float, words.epochs.split(",")):
            old = share(of, Path(folder), epoch, every=True)
            new = share(of, Path(folder), epoch, every=False)
            print(
                f"{epoch:5.0f} s {old[0]:18.1%} {old[1]:8.1f} s {new[0]:18.2%} {new[1]:8.1f} s "
                f"{new[3] / new[2]:5.1f} ep.   2%",
                flush=True,
            )


if __name__ == "__main__":
    main()
