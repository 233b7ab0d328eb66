"""LoRA in layers of a frozen model, through peft.

Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models (ICLR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from usbench.errors import UsbenchError
from usbench.runtime.torchvision_cpu import make_importable


def add_lora(model: nn.Module, rank: int, targets: Sequence[str], name: str) -> nn.ModuleList:
    """Add LoRA to linear layers of a model, in place; everything else in it is frozen.

    The start of "a" is drawn from torch's generator.

    Args:
        model: The model.
        rank: Of the two matrices, whose product is scaled by 2.
        targets: Names of linear layers in it, such as "q_proj".
        name: What messages call the model.

    Returns:
        All that is trainable. The entry of each layer has "a" (drawn) and "b" (zeros), in 32 bit, so that at
        the start nothing changes. The model uses these very modules: loading a state dict into them changes
        it.

    Raises:
        UsbenchError: For a model without such layers.
    """
    make_importable()
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=list(targets), bias="none"
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise UsbenchError(f"{name} has no {' or '.join(targets)} to put LoRA on; use rank 0") from error
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    return nn.ModuleList(
        nn.ModuleDict({"a": layer.lora_A["default"].float(), "b": layer.lora_B["default"].float()})
        for layer in layers
    )
