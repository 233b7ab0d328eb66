"""Settings that every run has: of the data and of the training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from usbench.errors import UsbenchError, unknown

Plane = Literal["axial", "coronal", "sagittal"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "resize": ("area", "nearest"),
    "normalise": ("zscore", "minmax", "none"),
    "plane": ("axial", "coronal", "sagittal"),
}


@dataclass(frozen=True)
class DataSettings:
    """How slices are made.

    Attributes:
        size: Side of a prepared slice in pixels, 16 to 4096.
        resize: How images are resized; masks always go by the nearest pixel. "area" averages over what a new
            pixel covers (bilinear, antialiased when shrinking), "nearest" picks one pixel.
        normalise: "zscore" brings each volume to mean 0 and deviation 1 over its foreground and clips to
            -5..5; "minmax" brings its 0.5th and 99.5th percentile to 0 and 1 and clips; "none" leaves it.
        plane: The plane of the slices.
    """

    size: int = 256
    resize: Literal["area", "nearest"] = "area"
    normalise: Literal["zscore", "minmax", "none"] = "zscore"
    plane: Plane = "axial"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 16 <= self.size <= 4096:
            raise UsbenchError(f"size {self.size!r} is not a slice size; use a whole number from 16 to 4096")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(name, str(getattr(self, name)), choices)

    def to_json(self) -> dict[str, Any]:
        """These settings as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained. Nothing here ever sees a test case.

    Attributes:
        epochs: At most so many passes.
        batch: Slices a step, over all devices together; of a method of volumes, volumes or patches of them.
        lr: Learning rate of Adam at the start.
        weight_decay: Of Adam.
        poly_power: The learning rate of epoch e is lr * (1 - e / epochs) ** poly_power.
        warmup: Epochs over which the learning rate rises to that, in equal steps; 0 for none.
        patience: Stop after so many epochs without a lower training loss.
        empty: The largest share of slices without foreground in an epoch (drawn anew in each; 1.0 takes every
            slice).
        min_batches: With few slices, an epoch goes over them as often as so many batches need.
        augment: "none" or "light" (rotation, scale, shift, contrast).
        mirror: With "light", left and right are exchanged in half of the slices; a task says whether its
            classes allow that.
        views: Where frozen parts see each slice only once, how many augmented views of it there are.
        clip: Largest norm of the gradient, 0 for no limit.
        modality_dropout: The chance that a modality of a training slice is left out: its image is 0, and a
            network with `takes_present` is told. At least one modality of a slice always stays.
    """

    epochs: int = 300
    batch: int = 10
    lr: float = 1e-3
    weight_decay: float = 5e-4
    poly_power: float = 0.9
    patience: int = 75
    empty: float = 1.0
    min_batches: int = 1
    augment: str = "none"
    mirror: bool = False
    views: int = 4
    clip: float = 0.0
    modality_dropout: float = 0.0
    warmup: int = 0


@dataclass(frozen=True)
class VolumeSettings:
    """What a network of volumes sees of a patient; only methods with `dims` 3 have these.

    A volume is the stack of prepared slices, [M, D, S, S], where D counts slices.

    Attributes:
        mode: "whole": the volume is resized to `shape`. "patch": the network is trained on patches of it, and
            its prediction is put together from overlapping ones (a sliding window with Gaussian weights).
        shape: With "whole", (D, H, W) of what the network sees.
        patch: With "patch", likewise.
        spacing: With "patch", the distance of slices in mm that volumes are brought to; 0 leaves it.
        overlap: With "patch", the share of its side by which neighbouring patches of a prediction overlap.
        foreground: With "patch", the share of training patches whose centre is foreground, of a class drawn
            evenly among those that the patient has; the others lie anywhere.
        patches: With "patch", how many patches of each volume an epoch takes.
    """

    mode: Literal["whole", "patch"] = "patch"
    shape: tuple[int, int, int] = (128, 128, 128)
    patch: tuple[int, int, int] = (32, 96, 96)
    spacing: float = 0.0
    overlap: float = 0.5
    foreground: float = 0.5
    patches: int = 4

    def __post_init__(self) -> None:
        for name in ("shape", "patch"):  # JSON has lists.
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def network_shape(self) -> tuple[int, int, int]:
        """(D, H, W) of what the network sees in training."""
        return self.shape if self.mode == "whole" else self.patch
