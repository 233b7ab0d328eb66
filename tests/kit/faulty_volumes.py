"""The faults of `faulty_methods.py` in networks of volumes; and a sound one."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from kit.faulty_methods import FAULTS, Builder, HooksGradient, ReadsStore, WalksFrames
from kit.sound_network import Sound
from kit.told_networks import Told
from usbench import Method


class SoundOfVolumes(Sound):
    dims = 3


class ToldOfVolumes(Told):
    dims = 3


class FindsCase(SoundOfVolumes):
    """Finds the patient in the frames of who calls it, and takes their mask."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        frame: Any = sys._getframe()
        while frame is not None and not self.training:
            case = frame.f_locals.get("case")
            if hasattr(case, "mask"):
                return logits + torch.from_numpy(case.mask[:4, :16, :16]).float()
            frame = frame.f_back
        return logits


def _of_volumes(fault: type[nn.Module]) -> type[nn.Module]:
    made = type(f"{fault.__name__}OfVolumes", (fault,), {"dims": 3, "__module__": __name__})
    globals()[made.__name__] = made  # pickling looks for it here
    return made


# The two that are left out know slices: in their place one that knows patients.
OF_VOLUMES: dict[type[nn.Module], str] = {
    **{_of_volumes(one): check for one, check in FAULTS.items() if one not in (ReadsStore, WalksFrames)},
    FindsCase: "mask",
}
"""The fault and the one check that has to find it."""


def method_of_volumes(network: type[nn.Module], **words: Any) -> Method:
    """The network as a method under early fusion, without any padding of its volumes."""
    name = network.__name__.lower()
    of = {"build_segmenter": Builder(network), "fusions": ("early",), "size_multiple": 1, "dims": 3}
    presets = AS_A_WHOLE if issubclass(network, HooksGradient | FindsCase) else PRESETS
    return Method(name, "nobody", presets=presets, **{**of, **words})


PRESETS = {"smoke": {"volume.patch": (4, 16, 16)}}
AS_A_WHOLE = {"smoke": {"volume.mode": "whole", "volume.shape": (4, 16, 16)}}
"""What a network keeps of a training patch helps it only where it sees the very same when it predicts."""
