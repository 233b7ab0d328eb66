"""Configurations and images for networks of volumes, and the comparison of one with MONAI's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from usbench.config import Config
from usbench.contracts.method import EncoderDecoder, Method
from usbench.contracts.settings import VolumeSettings

Shape = tuple[int, int, int]


def volume_config(method: Method, shape: Shape, **changed: Any) -> Config:
    """The configuration for volumes of one shape (D, H, W), with the method's settings of preset "smoke"."""
    own = {key: value for key, value in method.presets["smoke"].items() if "." not in key}
    settings = {**method.settings, **own, **changed}
    return Config("smoke", method=settings, volume=VolumeSettings(mode="whole", shape=shape))


def volumes(modalities: int, shape: Shape, batch: int = 1, seed: int = 1) -> Tensor:
    """A batch [B, M, D, H, W] of noise, always the same."""
    return torch.randn(batch, modalities, *shape, generator=torch.Generator().manual_seed(seed))


def assert_is_monais(ours: EncoderDecoder, theirs: nn.Module, shapes: list[Shape], channels: int) -> None:
    """Two halves are MONAI's network, made from the same seed: tensors by name, and logits to the bit.

    Args:
        ours: The halves.
        theirs: MONAI's network.
        shapes: (D, H, W) of volumes tried.
        channels: Input channels.
    """
    halves = [dict(half.state_dict()) for half in (ours.encoder, ours.decoder)]
    assert not halves[0].keys() & halves[1].keys()
    own = {**halves[0], **halves[1]}
    # DynUNet has its blocks a second time, as "skip_layers"; UNETR norms of an attention that it lacks.
    twice = ("skip_layers.", "norm_cross_attn", ".cross_attn")
    wanted = {k: v for k, v in theirs.state_dict().items() if not any(word in k for word in twice)}
    assert own.keys() == wanted.keys()
    assert all(torch.equal(own[name], wanted[name]) for name in wanted)
    shared = {id(p) for p in ours.encoder.parameters()} & {id(p) for p in ours.decoder.parameters()}
    assert shared == set()
    used = {id(p): p.numel() for n, p in theirs.named_parameters() if "cross_attn" not in n}
    assert sum(p.numel() for p in ours.parameters()) == sum(used.values())
    for seed, shape in enumerate(shapes):
        x = volumes(channels, shape, seed=seed)
        for training in (False, True):
            outcomes = []
            for network in (ours.train(training), theirs.train(training)):
                torch.manual_seed(seed)  # For dropout.
                outcomes.append(network(x))
            assert torch.equal(*outcomes)
