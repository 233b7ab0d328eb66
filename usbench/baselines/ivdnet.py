"""IVD-Net, a U-Net with a path for each modality whose levels all see each other.

Dolz, Desrosiers, Ben Ayed: IVD-Net: Intervertebral disc localization and segmentation in MRI with a
multi-modal UNet. MICCAI workshop CSI 2018, arXiv:1811.08305. Each modality has an encoder of its own. From
the second level on, what an encoder takes are the pooled maps of all encoders, its own first, beside what it
took one level higher ("hyper-dense" connections); one decoder takes the mean of its own map and those of all
modalities. So the network is its own hybrid fusion, and has no other.

With four modalities, two classes and width 32 it has the tensors of the authors' code. That code takes the
middle of the higher level's input where sizes differ (`dense=crop`), which pairs each place with another
one; `dense=pool` takes the maximum of each 2 x 2 instead, which keeps places together, and has the same
tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import Method, UsbenchError

if TYPE_CHECKING:
    from usbench import Task

LEVELS = 4
DENSE = ("crop", "pool")
_BRANCHES = ((1, 1), (3, 1), (5, 1), (3, 2), (3, 4))
"""Kernel and dilation of the parallel convolutions of a block."""


def _convolution(
    inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, dilation: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size, batch norm and ReLU."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = dilation * (sides[0] - 1) // 2, dilation * (sides[1] - 1) // 2
    convolution = nn.Conv2d(inputs, outputs, sides, padding=padding, dilation=dilation)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Block(nn.Module):
    """A convolution, five parallel ones of different reach, merged and added, and a last convolution.

    Args:
        inputs: Channels C of maps [B, C, H, W].
        outputs: Channels of what it gives, of the same size.
        factored: Whether each parallel convolution is one along H and one along W.
    """

    def __init__(self, inputs: int, outputs: int, factored: bool) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs)
        self.branches = nn.ModuleList(
            nn.Sequential(
                _convolution(outputs, outputs, (kernel, 1), dilation),
                _convolution(outputs, outputs, (1, kernel), dilation),
            )
            if factored
            else _convolution(outputs, outputs, kernel, dilation)
            for kernel, dilation in _BRANCHES
        )
        self.merge = _convolution(len(_BRANCHES) * outputs, outputs, 1)
        self.last = _convolution(outputs, outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H, W]."""
        first = self.first(maps)
        merged = self.merge(torch.cat([branch(first) for branch in self.branches], dim=1))
        result: Tensor = self.last(first + merged)
        return result


class IVDNet(nn.Module):
    """The network.

    Args:
        modalities: M of the images [B, M, H, W]; H and W are multiples of 16.
        classes: K of the logits [B, K, H, W].
        width: Channels of the finest level; each coarser one has twice as many.
        dense: How an input of a finer level is brought to half its size, "crop" or "pool".
    """

    def __init__(self, modalities: int, classes: int, width: int = 32, dense: str = "crop") -> None:
        super().__init__()
        self.dense = dense
        widths = [width * 2**level for level in range(LEVELS)]
        taken = [1]
        for level, channels in enumerate(widths):
            taken.append(modalities * channels + (taken[-1] if level else 0))
        self.paths = nn.ModuleList(
            nn.ModuleList(Block(taken[level], widths[level], True) for level in range(LEVELS))
            for _ in range(modalities)
        )
        self.bridge = Block(taken[-1], 2 * widths[-1], True)
        self.ups = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(2 * channels, channels, 3, stride=2, padding=1, output_padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for channels in reversed(widths)
        )
        self.blocks = nn.ModuleList(Block(channels, channels, False) for channels in reversed(widths))
        self.head = nn.Conv2d(width, classes, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """images [B, M, H, W] -> logits [B, K, H, W]."""
        inputs = list(images.split(1, dim=1))
        found: list[list[Tensor]] = []
        for level in range(LEVELS):
            maps = [path[level](taken) for path, taken in zip(self._paths(), inputs, strict=True)]
            found.append(maps)
            pooled = [functional.max_pool2d(one, 2) for one in maps]
            # Its own map comes first, the others in turn.
            turned = [torch.cat(pooled[own:] + pooled[:own], dim=1) for own in range(len(pooled))]
            if level:
                turned = [
                    torch.cat([one, self._halved(taken)], dim=1)
                    for one, taken in zip(turned, inputs, strict=True)
                ]
            inputs = turned
        result = self.bridge(inputs[0])
        for up, block, maps in zip(self.ups, self.blocks, reversed(found), strict=True):
            result = block((up(result) + sum(maps)) / (1 + len(maps)))
        logits: Tensor = self.head(result)
        return logits

    def _paths(self) -> list[nn.ModuleList]:
        return [path for path in self.paths if isinstance(path, nn.ModuleList)]

    def _halved(self, maps: Tensor) -> Tensor:
        if self.dense == "pool":
            return functional.max_pool2d(maps, 2)
        height, width = maps.shape[-2:]
        top, left = height // 4, width // 4
        return maps[..., top : top + height // 2, left : left + width // 2]


def build(task: Task, fusion: str, width: int = 32, dense: str = "crop") -> IVDNet:
    """IVD-Net for the modalities and classes of a task.

    Args:
        task: Of M modalities and K classes.
        fusion: "hybrid".
        width: Channels of the finest level, 32 in the authors' code.
        dense: "crop" as in the authors' code, or "pool".

    Returns:
        The network, from images [B, M, H, W] to logits [B, K, H, W].

    Raises:
        UsbenchError: For another `dense`, and a width below 1.
    """
    if dense not in DENSE:
        raise UsbenchError(f"method.dense is '{dense}'; choose {' or '.join(DENSE)}")
    if width < 1:
        raise UsbenchError(f"method.width is {width}; give 1 or more")
    return IVDNet(len(task.modalities), len(task.classes), width, dense)


METHOD = Method(
    name="ivdnet",
    paper="Dolz, Desrosiers, Ben Ayed: IVD-Net: Intervertebral disc localization and segmentation in MRI "
    "with a multi-modal UNet. MICCAI workshop CSI 2018.",
    build_segmenter=build,
    fusions=("hybrid",),
    settings={"width": 32, "dense": "crop"},
    presets={"quick": {"width": 8}, "smoke": {"width": 4}},
    size_multiple=16,
)
