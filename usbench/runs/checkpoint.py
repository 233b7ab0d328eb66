"""The checkpoint of a training: written as often as it costs little, checked before it is used.

The file is one of `torch.save` with a line behind it, which states the version of the format and the SHA-256
of all before it. torch reads over the line; it checks no digest of its own.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from usbench.errors import UsbenchError
from usbench.runs.history import History
from usbench.runtime.console import say
from usbench.storage.files import atomic_path, os_errors

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FORMAT = 2
"""Version of the file; version 1 had no digest and no scaler."""

SHARE = 0.02
"""At most this share of a training goes into checkpoints, but for a first one of under a second."""

_FIRST_SECONDS = 1.0  # a first checkpoint that takes less than that is written after the first epoch
_BYTES_PER_SECOND = 250e6  # of a disk that was not measured yet
_LINE = "\nusbench checkpoint {format:3d} sha256 {digest}\n"
_LENGTH = len(_LINE.format(format=0, digest="0" * 64))
_CHUNK = 1 << 24


@dataclass
class Trained:
    """What a checkpoint holds the state of.

    Attributes:
        network: The network.
        optimizer: Its optimizer.
        fabric: The devices and the precision; with 16 bits it scales gradients, and the scale is kept too.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    fabric: Fabric

    @property
    def precision(self) -> str:
        """Of the numbers, in Fabric's words."""
        return str(getattr(self.fabric.strategy.precision, "precision", "32-true"))

    @property
    def scaler(self) -> Any:
        """What scales gradients, or None."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    def bytes(self) -> int:
        """About what a checkpoint takes: the network and what Adam keeps of each trained number."""
        tensors = [value for value in self.network.state_dict().values() if isinstance(value, torch.Tensor)]
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        return sum(int(t.nbytes) for t in [*tensors, *trained, *trained])


class Checkpoints:
    """Writes the checkpoint of a training, and takes it up.

    Args:
        path: The file; None for none.
        key: Of the run; a checkpoint made under another one is refused.
        trained: What is kept.
    """

    def __init__(self, path: Path | None, key: str, trained: Trained) -> None:
        self.path, self.key, self.trained = path, key, trained
        self.kept = 0
        """The epoch that the file is of; 0 for none."""
        self.spent = 0.0
        """Seconds that this process has spent on writing."""
        self._start = time.monotonic()
        self.expected = trained.bytes() / _BYTES_PER_SECOND
        """Seconds that the next one takes, as far as is known."""

    def restore(self) -> History:
        """Go on from the file, where there is one that can be used; what is wrong with it is said.

        With several devices, every process calls this and all take up the same.

        Returns:
            What happened so far; of no epoch where training starts anew.

        Raises:
            UsbenchError: For a checkpoint of another run, or of another network.
        """
        found, wrong = None, ""
        if self.path is not None and self.path.exists():
            found, wrong = self._read(self.path)
        fabric = self.trained.fabric
        mine = None if found is None else len(found["rows"])
        first = fabric.broadcast(mine) if fabric.world_size > 1 else mine
        if wrong and fabric.is_global_zero:
            say(f"{self.path}: {wrong}; it is not used, training starts anew")
        if first is None:
            return History()
        if first != mine or found is None:
            raise UsbenchError(
                f"{self.path}: this process does not see the checkpoint that the first one goes on from"
                f"{f' ({wrong})' if wrong else ''}; keep --runs-dir on a folder that all nodes share"
            )
        self._load(found)
        self.kept = len(found["rows"])
        return History(found["rows"], found["best"], found["stale"])

    def after_epoch(self, history: History, now: bool = False) -> None:
        """Write the file if it is time; the first process alone does.

        Args:
            history: What happened so far.
            now: Write whatever it costs, unless this epoch is kept already.
        """
        if self.path is None or not self.trained.fabric.is_global_zero or self.kept == history.epochs:
            return
        if now or self._is_due():
            begin = time.monotonic()
            self._write(self.path, history)
            self.expected = time.monotonic() - begin
            self.spent += self.expected
            self.kept = history.epochs

    def _is_due(self) -> bool:
        if not self.kept and self.expected < _FIRST_SECONDS:
            return True
        return self.spent + self.expected <= SHARE * (time.monotonic() - self._start)

    def _write(self, path: Path, history: History) -> None:
        trained = self.trained
        state = {
            "format": FORMAT,
            "key": self.key,
            "precision": trained.precision,
            "network": trained.network.state_dict(),
            "optimizer": trained.optimizer.state_dict(),
            "scaler": None if trained.scaler is None else trained.scaler.state_dict(),
            "rows": history.rows,
            "best": history.best,
            "stale": history.stale,
        }
        # Durable: a power cut may not take the old one and leave half of the new one.
        with atomic_path(path) as temporary:
            try:
                torch.save(state, temporary)
            except RuntimeError as error:  # torch's writer hides the operating system's own error.
                raise UsbenchError(
                    f"{path}: cannot write the checkpoint ({error}); free some space"
                ) from error
            digest = _digest(temporary, temporary.stat().st_size)
            with open(temporary, "ab") as stream:
                stream.write(_LINE.format(format=FORMAT, digest=digest).encode())

    def _read(self, path: Path) -> tuple[dict[str, Any] | None, str]:
        """What the file holds, or why it is of no use."""
        with os_errors(path, "read the checkpoint"):
            size = path.stat().st_size - _LENGTH
            with open(path, "rb") as stream:
                stream.seek(max(0, size))
                line = stream.read()
            if size < 0 or not line.startswith(b"\nusbench checkpoint "):
                return None, "has no digest (it is cut off, damaged, or an older version of usbench wrote it)"
            if line != _LINE.format(format=FORMAT, digest=_digest(path, size)).encode():
                return None, "is damaged (its digest does not fit), or another version of usbench wrote it"
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # It is what was written, and this torch cannot read it.
            return None, f"cannot be read by this torch ({type(error).__name__})"
        if found["key"] != self.key:
            raise UsbenchError(f"{path}: belongs to another run; remove it or use --overwrite")
        if found["precision"] != self.trained.precision:
            return None, f"was made at precision {found['precision']}, this run has {self.trained.precision}"
        if (found["scaler"] is None) != (self.trained.scaler is None):
            return None, "was made with another way of scaling gradients"
        return found, ""

    def _load(self, found: dict[str, Any]) -> None:
        try:
            self.trained.network.load_state_dict(found["network"])
            self.trained.optimizer.load_state_dict(found["optimizer"])
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            words = " ".join(str(error).split())[:200]
            raise UsbenchError(
                f"{self.path}: does not fit the network of this run ({words}); "
                "remove it or use --overwrite to start again"
            ) from error
        if self.trained.scaler is not None:
            self.trained.scaler.load_state_dict(found["scaler"])


def _digest(path: Path, size: int) -> str:
    """SHA-256, in hex, of the first bytes of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while size and (data := stream.read(min(size, _CHUNK))):
            digest.update(data)
            size -= len(data)
    return digest.hexdigest()
