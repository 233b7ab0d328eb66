"""What frozen parts of Zeus make of every slice: the features that its network is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from usbench import Feature
from usbench.methods.zeus.instructions import Instructions, remarks
from usbench.methods.zeus.parts import resolve
from usbench.methods.zeus.vision import SamTower, VisionTower
from usbench.tools import weight_digest, weight_path

if TYPE_CHECKING:
    from usbench import Task


def features(task: Task, device: torch.device, **settings: Any) -> Sequence[Feature]:
    """What frozen parts make of every slice.

    Args:
        task: Its modalities and classes.
        device: Where the parts run.
        settings: As `METHOD.settings`.

    Returns:
        The feature `embedding`, [N, M, 256, h, w], of which hybrid fusion takes the mean over modalities,
        unless the image encoder is trained with the network; and `instruction`, [N, M, K, width], or
        `vision`, [N, M, T, width], where the settings ask for one.

    Raises:
        UsbenchError: Naming the setting that is wrong, or the weights that are absent and how to get them.
    """
    parts = resolve(settings)
    for name in parts.needed_weights:
        weight_path(name)
    sam = SamTower(parts, device)

    def embedding(images: Tensor) -> tuple[Tensor, Any]:
        flat = sam(images.flatten(0, 1))
        return flat.unflatten(0, images.shape[:2]), None

    in_bf16 = "" if parts.encoder_precision == "32" else ", bf16"
    made: list[Feature] = []
    if not parts.encoder_lora:
        made.append(
            Feature(
                "embedding",
                f"image embeddings ({parts.image_encoder}{in_bf16})",
                sam.key,
                embedding,
                free=sam.free,
                bits=parts.feature_bits,
                mean_under=("hybrid",),
                per_modality=True,
            )
        )
    if parts.instruction in ("text", "fixed"):
        maker = Instructions(task, parts, device)
        key = [
            parts.instruction,
            parts.per,
            parts.max_tokens,
            [weight_digest(name) for name in parts.needed_weights],
            list(parts.used),
            parts.projection,
            parts.llm_precision,
            [m.words for m in task.modalities],
            maker.targets,
            *parts.later,
        ]
        what = f"instructions ({parts.llm}, {parts.text_encoder})"
        made.append(
            Feature(
                "instruction",
                what,
                key,
                maker.compute,
                per_slice=False,
                free=maker.free,
                remarks=remarks,
                per_modality=True,
            )
        )
    if parts.instruction == "embedding":
        tower = VisionTower(parts, device)

        def vision(images: Tensor) -> tuple[Tensor, Any]:
            rows = tower(images.flatten(0, 1)).unflatten(0, images.shape[:2])
            return (rows.mean(0, keepdim=True).expand_as(rows) if parts.per == "case" else rows), None

        key = [tower.key, parts.per]
        what = f"image features ({parts.vision_encoder})"
        made.append(Feature("vision", what, key, vision, parts.per == "slice", tower.free, per_modality=True))
    return made
