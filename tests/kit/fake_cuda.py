"""A GPU that is not there: tensors that have a device, a shape and a type, and no values.

torch's `FakeTensorMode` computes what shape, type and device every operation gives, and refuses operations on
tensors of two devices, as a GPU does. It needs a torch that was built for CUDA, neither a driver nor a GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)

TYPES = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}
"""What matrix products are computed in, by precision."""

aten = torch.ops.aten
ACROSS = {aten.copy_, aten._to_copy, aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""What takes tensors of two devices on a GPU as well."""

REASON = (
    "torch was not built for CUDA: pip install torch==VERSION from the package index, without +cpu; a GPU "
    "and its driver are not needed"
)

needs_cuda_build = pytest.mark.skipif(torch.version.cuda is None, reason=REASON)


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, where `FakeTensorMode` lets them pass (convolutions).

    A number, a tensor without axes, may lie on the CPU, and so may indices; copies go from one to the other.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor) and t.ndim]
        devices = {str(t.device) for t in tensors}
        if len(devices) > 1 and func.overloadpacket not in ACROSS:
            raise RuntimeError(f"{func}: tensors on the device {' and on '.join(sorted(devices))}")
        return func(*args, **(kwargs or {}))


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch, precision: str = "32") -> Iterator[None]:
    """Within it tensors are made up, also those on "cuda", and networks move there.

    Args:
        monkeypatch: Undoes what is changed of torch.
        precision: "32", or "bf16" or "16" for the autocast that Fabric would enter on a GPU.
    """
    dtype = TYPES[precision]
    with (
        monkeypatch.context() as patch,
        warnings.catch_warnings(),
        FakeTensorMode(allow_non_fake_inputs=True),
        OneDevice(),
    ):
        # torch turns autocast off where it sees no GPU.
        warnings.filterwarnings("ignore", message="CUDA is not available")
        patch.setattr(nn.Module, "to", moved)
        patch.setattr(FakeTensor, "numpy", numbers, raising=False)
        patch.setattr(FakeTensor, "tolist", lambda self: numbers(self.cpu()).tolist(), raising=False)
        patch.setattr(FakeTensor, "item", lambda self: numbers(self.cpu()).item(), raising=False)
        patch.setattr(FakeTensor, "__bool__", lambda self: bool(numbers(self.cpu())), raising=False)
        patch.setattr(Tensor, "pin_memory", lambda self: self)
        patch.setattr(torch.cuda, "synchronize", lambda *_: None)
        patch.setattr(torch.cuda, "mem_get_info", lambda *_: (2**40, 2**40))
        was = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        if dtype is not None:
            torch.set_autocast_dtype("cuda", dtype)
        torch.set_autocast_enabled("cuda", dtype is not None)
        try:
            yield
        finally:
            torch.set_autocast_enabled("cuda", was[0])
            torch.set_autocast_dtype("cuda", was[1])
            torch.clear_autocast_cache()


def moved(network: nn.Module, *words: Any, **named: Any) -> nn.Module:
    """`nn.Module.to` in place: parameters and buffers, and nothing else, go to a device or a type."""
    device, dtype, *_ = torch._C._nn._parse_to(*words, **named)
    for module in network.modules():
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is None:
                    continue
                kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
                made = torch.empty_like(tensor, device=device or tensor.device, dtype=kind)
                trained = tensor.requires_grad
                own[name] = nn.Parameter(made, trained) if isinstance(tensor, nn.Parameter) else made
    return network


def numbers(tensor: Tensor) -> np.ndarray:
    """`Tensor.numpy`: ones, of a tensor on the CPU alone."""
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy")
    return np.ones(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
