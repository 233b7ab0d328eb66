"""Frozen features of a method, made once for every case and kept.

They depend on the method's code and settings and on the prepared case, so they are shared by
folds, seeds and fusions. Floating-point tensors are stored at half precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from usbench.errors import UsbenchError
from usbench.files import atomic_path, cache_dir, digest_of

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.datasets.base import Task
    from usbench.datasets.store import Store
    from usbench.methods.contract import Method


def precomputed(
    method: Method,
    source_hash: str,
    task: Task,
    store: Store,
    case_id: str,
    config: Config,
    device: torch.device,
) -> dict[str, Tensor]:
    """What `method.precompute` gives for a case: tensors [Z, ...], from the cache or made now."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    assert method.precompute is not None
    key = digest_of(
        [
            method.name,
            source_hash,
            dict(config.method),
            task.modality_names,
            task.class_names,
            store.fingerprint,
        ]
    )
    path = cache_dir() / "precomputed" / f"{method.name}-{key[:16]}" / f"{case_id}.safetensors"
    if path.exists():
        try:
            return load_file(path)
        except (SafetensorError, OSError):
            path.unlink()
    case = store.case(case_id)
    images = torch.from_numpy(case.images[:].astype("float32")).to(device)
    with torch.inference_mode():
        tensors = method.precompute(task, images, **config.method)
    for name, tensor in tensors.items():
        if tensor.shape[0] != len(images):
            raise UsbenchError(
                f"method '{method.name}': precomputed '{name}' has {tensor.shape[0]} rows for "
                f"{len(images)} slices of case {case_id}; return one row a slice"
            )
    halves = {n: (t.half() if t.is_floating_point() else t).cpu().contiguous() for n, t in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(halves, temporary)
    return halves
