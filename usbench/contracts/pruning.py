"""What a user asks `usbench prune` for: rules of what is removed, and of which runs."""

from __future__ import annotations

from dataclasses import dataclass

from usbench.contracts.options import Options, option
from usbench.errors import UsbenchError


@dataclass(frozen=True)
class Rules(Options):
    """What `usbench prune` removes, and of which runs.

    Raises:
        UsbenchError: where no rule is named, or a value is wrong.
    """

    networks: bool = option(False, "The trained networks of finished cells.", kind="switch")
    checkpoints: bool = option(
        False,
        "Checkpoints beside a finished result, and files that killed runs left half-written.",
        kind="switch",
    )
    unfinished: bool = option(
        False, "Whole folders of cells that were started and are not finished.", kind="switch"
    )
    tracks_masks: bool = option(
        False, "The masks of finished tracks; their scores and pictures stay.", kind="switch"
    )
    older_than: float | None = option(
        None,
        "Only of runs that were finished, or last written to, more than so many days ago.",
        kind="number",
        least=0,
        metavar="DAYS",
        wrong="is out of range; choose 0 or more days",
    )
    task: tuple[str, ...] | None = option(None, "Only of these tasks, comma-separated.", kind="names")
    method: tuple[str, ...] | None = option(None, "Only of these methods, comma-separated.", kind="names")
    fusion: tuple[str, ...] | None = option(None, "Only of these fusions, comma-separated.", kind="names")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.networks or self.checkpoints or self.unfinished or self.tracks_masks):
            raise UsbenchError(
                "name what is to be removed: --networks, --checkpoints, --unfinished or --tracks-masks"
            )
