"""The device of a run, and the processes that train together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError, unknown

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric


DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
"""What may be asked for, and what Lightning Fabric calls it."""


def choose_device(device: str) -> str:
    """ "cpu" or "cuda"; "auto" takes a GPU where there is one."""
    import torch

    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise UsbenchError(
            "--device cuda: torch sees no GPU here; use --device cpu, or install torch for CUDA"
        )
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def require_precision(precision: str, device: str) -> None:
    """Raise `UsbenchError` where a device does not compute in a precision.

    On a CPU, Lightning Fabric would take bfloat16 in place of float16, and a result would say what did not
    run.

    Args:
        precision: One of `PRECISIONS`.
        device: "cpu" or "cuda".
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, tuple(PRECISIONS))
    if (device, precision) == ("cpu", "16"):
        raise UsbenchError(
            "--precision 16: a CPU does not train in float16; use --precision 32, or bf16 for a network of "
            "slices"
        )


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; where it has none, torch computes it slowly."""
    import torch

    return (
        bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if torch.backends.mkldnn.is_available() else False
    )


def is_first_process() -> bool:
    """Whether this process is the one that speaks, where several train together."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def require_devices(device: str, devices: int, nodes: int = 1) -> None:
    """Raise `UsbenchError` where this machine has fewer devices, or several nodes cannot find each other."""
    import torch

    if devices < 1 or (device == "cuda" and devices > torch.cuda.device_count()):
        have = torch.cuda.device_count() if device == "cuda" else os.cpu_count()
        raise UsbenchError(f"--devices {devices}: this machine has {have}; choose from 1 to {have}")
    if not 1 <= nodes <= 10_000:
        raise UsbenchError(f"--nodes {nodes} is out of range; choose from 1 to 10000")
    launched = "SLURM_NTASKS" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
    absent = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
    if nodes > 1 and absent and not launched:
        raise UsbenchError(
            f"--nodes {nodes}: {absent[0]} is not set; start the same command on every node with MASTER_ADDR "
            "and MASTER_PORT (of the first node) and NODE_RANK (from 0), or through torchrun or srun"
        )


def make_fabric(device: str, devices: int, precision: str, nodes: int = 1) -> Fabric:
    """Lightning Fabric for a device; with several devices it starts the other processes (DDP).

    Raises:
        UsbenchError: For devices that are not there, and a precision that the device does not compute in.
    """
    import logging
    import warnings

    from usbench.runtime.torchvision_cpu import make_importable

    make_importable()
    import torch
    from lightning_fabric import Fabric

    require_precision(precision, device)
    require_devices(device, devices, nodes)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning_fabric")
    warnings.filterwarnings("ignore", message=".*all_gather is deprecated")
    if device == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
    )
    taken = getattr(fabric.strategy.precision, "precision", None)
    if taken != PRECISIONS[precision]:
        raise UsbenchError(
            f"--precision {precision}: Lightning Fabric would compute in {taken} on {device}; choose another "
            "precision"
        )
    fabric.launch()
    return fabric


@contextlib.contextmanager
def fresh_memory(filled: bool) -> Iterator[None]:
    """Whether memory that torch hands out is filled with NaN before it is written to, within this context.

    Deterministic algorithms fill it, which takes some percent of a training step. Nothing but a network that
    reads what was never written can tell the difference.
    """
    import torch

    # torch makes the attribute at run time, out of sight of mypy.
    flags: Any = torch.utils.deterministic
    before = flags.fill_uninitialized_memory
    flags.fill_uninitialized_memory = filled
    try:
        yield
    finally:
        flags.fill_uninitialized_memory = before


def device_name(device: torch.device) -> str:
    """The name of a GPU, or of the processor."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"CPU {model}".strip() + f", {torch.get_num_threads()} threads"
