"""nnU-Net's trainer on all training cases, and on from its own checkpoint after a kill."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .shared import Alive, Spent, is_whole, partial_of, say, seal, seed_all

CHECKPOINT_SHARE = 0.05
"""Checkpoints are written after an epoch unless that takes more than this share of the time."""


def trainer_class(job: Mapping[str, Any], spent: Spent) -> Any:
    """nnU-Net's trainer with our epochs, seeds and mirroring, and checkpoints that a kill cannot damage."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Trainer(nnUNetTrainer):  # type: ignore[misc]
        """What differs from nnU-Net's own."""

        saved_at = 0.0
        saving = 0.0

        def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:
            """nnU-Net's augmentation; no axis is mirrored, nor at test time, where the task forbids it."""
            rotation, dummy, patch, axes = (
                super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
            )
            if not job["mirror"]:
                axes = self.inference_allowed_mirroring_axes = None
            return rotation, dummy, patch, axes

        def on_epoch_start(self) -> None:
            """Draws are a function of seed and epoch, so that a training that went on is the same one."""
            seed_all(job["seed"], self.current_epoch)
            super().on_epoch_start()

        def on_epoch_end(self) -> None:
            """Says the numbers of the epoch; a checkpoint as often as it costs little."""
            dear = self.saving > CHECKPOINT_SHARE * (time.monotonic() - self.saved_at)
            self.save_every = self.num_epochs + 1 if dear else 1
            super().on_epoch_end()
            began, ended = (
                self.logger.get_value(f"epoch_{which}_timestamps", step=-1) for which in ("start", "end")
            )
            loss = float(self.logger.get_value("train_losses", step=-1))
            lr = float(self.logger.get_value("lrs", step=-1))
            spent.add("train", ended - began, job["device"])
            say("epoch", epoch=self.current_epoch, loss=loss, lr=lr, seconds=ended - began)

        def save_checkpoint(self, filename: str) -> None:
            """Whole or not at all. That of the best epoch is never used, and so never written."""
            if Path(filename).name == "checkpoint_best.pth":
                return
            began = time.monotonic()
            partial = partial_of(Path(filename))
            super().save_checkpoint(str(partial))
            seal(partial)
            os.replace(partial, filename)
            self.saved_at = time.monotonic()
            self.saving = self.saved_at - began

        def plot_network_architecture(self) -> None:
            """Nothing: it needs a package that is no longer kept."""

    return Trainer


def train(job: Mapping[str, Any], plans: dict[str, Any], dataset: dict[str, Any], spent: Spent) -> Path:
    """Fold "all" of what is prepared, which is the training cases. Returns the final checkpoint.

    nnU-Net validates while it trains, on training cases then: nothing is chosen by it, and it is one batch.
    """
    import torch

    # Augmentation in this process on a CPU; drawn numbers are then ours to seed.
    workers = int(job["threads"] or min(12, os.cpu_count() or 1)) if job["device"] == "cuda" else 0
    os.environ["nnUNet_n_proc_DA"] = str(workers)
    seed_all(job["seed"])
    torch.backends.cudnn.benchmark = job["device"] == "cuda"
    # The trainer takes this key out of the plans that it is given.
    given = {**plans, "continue_training": False}
    trainer = trainer_class(job, spent)(
        given, job["configuration"], "all", dataset, torch.device(job["device"])
    )
    trainer.num_epochs = job["epochs"]
    trainer.num_iterations_per_epoch = job["iterations"]
    trainer.num_val_iterations_per_epoch = 1
    trainer.logger.plot_progress_png = lambda folder: None
    final, latest = (Path(trainer.output_folder) / f"checkpoint_{name}.pth" for name in ("final", "latest"))
    for leftover in final.parent.glob(".*.partial"):
        leftover.unlink()
    if final.exists() and is_whole(final):
        return final
    trainer.initialize()
    if latest.exists() and is_whole(latest):
        trainer.load_checkpoint(str(latest))
    trainer.network.register_forward_hook(Alive())
    say("train", epochs=job["epochs"], done=trainer.current_epoch)
    trainer.run_training()
    return final
