"""Reading pretrained weights from a file without running anything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from usbench.errors import UsbenchError


def read_state(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read a state dict without running anything in its file.

    Args:
        path: A .safetensors file, or one of torch.save.
        remedy: What to do where it cannot be used; ends every error.

    Returns:
        The tensors (of any shape) by name, on the CPU. A state under "state_dict" or "model" is taken out.

    Raises:
        UsbenchError: Naming `path` where it is absent, damaged, or holds something else.
    """
    if not path.is_file():
        raise UsbenchError(f"{path}: no such file; {remedy}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler and its archive reader do
        raise UsbenchError(f"{path}: cannot be read as weights ({type(error).__name__}); {remedy}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsbenchError(f"{path}: holds no tensors by name; {remedy}")
    return dict(state)
