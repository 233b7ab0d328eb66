"""What there is to compute on, and what each cell gets of it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError
from usbench.matrices import pool

if TYPE_CHECKING:
    from usbench.matrices.request import MatrixRequest
    from usbench.matrices.slurm import Queue


@dataclass(frozen=True)
class Place:
    """Where the cells of a matrix are computed.

    Attributes:
        device: "cpu" or "cuda".
        ray: the module `ray`, connected to a cluster; None for this machine.
        cpus: cores of one cell.
        gpus: GPUs of one cell; with less than 1, cells share a GPU.
        workers: how many cells at once.
        bound: whether `workers` is what the user asked for.
        threads: of torch in a cell; None for its own choice.
        queue: of Slurm, None where cells are computed without one.
    """

    device: str
    ray: Any
    cpus: int
    gpus: float
    workers: int
    bound: bool
    threads: int | None
    queue: Queue | None = None

    @property
    def parallel(self) -> bool:
        """Whether Ray is needed."""
        if self.queue is not None:
            return False
        return self.ray is not None or (self.workers > 1 and pool.ray_is_installed())


def find_place(stack: ExitStack, request: MatrixRequest) -> Place:
    """Where to compute what is asked for.

    Args:
        stack: a connection to a cluster ends when this closes.
        request: what was asked for.

    Raises:
        UsbenchError: for a number of devices or GPUs that is not possible, and for a device or a cluster that
            is not there.
    """
    from usbench.datasets.workers import usable_cores
    from usbench.runtime.devices import choose_device, require_devices, require_precision

    device, devices, workers = request.shared.device, request.shared.devices, request.workers
    if not 1 <= devices <= 100_000:
        raise UsbenchError(f"--devices {devices} is out of range; choose 1 or more")
    if request.slurm is not None:
        return _queue_place(request, request.slurm)
    ray = None
    if request.address is not None:
        ray = pool.connect(request.address)
        stack.callback(ray.shutdown)
        cores, cards = pool.processors(ray)
        chosen = _cluster_device(device, cards)
    else:
        chosen = choose_device(device)
        require_devices(chosen, devices)
        cores, cards = usable_cores(), _cards(chosen)
    require_precision(request.shared.precision, chosen)
    cpus = request.cpus_per_run or (devices if chosen == "cpu" else 1)
    gpus = _gpus(chosen, devices, request.gpus_per_run)
    fits = cores // cpus if chosen == "cpu" else cards / gpus
    number = workers or max(1, int(fits))
    # One cell at a time takes the cores that there are, as `usbench run` does, unless it was told how many.
    alone = ray is None and (number == 1 or not pool.ray_is_installed())
    threads = request.cpus_per_run if alone else cpus
    return Place(chosen, ray, cpus, gpus, number, workers is not None, threads)


def _queue_place(request: MatrixRequest, words: str) -> Place:
    """Where cells are computed that go into a queue: this machine need not have what they need."""
    from usbench.datasets.workers import usable_cores
    from usbench.matrices.slurm import Queue, require_queue
    from usbench.matrices.slurm_words import parse_slurm
    from usbench.runtime.devices import choose_device

    asked, shared = parse_slurm(words), request.shared
    require_queue(asked)
    if request.gpus_per_run is not None:
        raise UsbenchError("--gpus-per-run is of Ray; with Slurm write --slurm gpus=1")
    if asked.local:
        device = choose_device(shared.device)
    else:
        device = ("cuda" if asked.gpu_count else "cpu") if shared.device == "auto" else shared.device
        if device == "cuda" and asked.gpu_count < shared.devices:
            raise UsbenchError(f"--device cuda: a job needs GPUs; write --slurm gpus={shared.devices}")
        if device == "cpu" and asked.gpu_count:
            raise UsbenchError(f"--slurm gpus={asked.gpus} with --device cpu: leave one of them out")
    cpus = request.cpus_per_run or (shared.devices if device == "cpu" else 1)
    workers = request.workers or (max(1, usable_cores() // cpus) if asked.local else 0)
    queue = Queue(asked, shared.runs_dir, cpus, workers)
    return Place(device, None, cpus, 0, workers or 256, request.workers is not None, cpus, queue)


def _cluster_device(device: str, cards: float) -> str:
    """ "auto" is a GPU where a node of the cluster has one; this machine need not have any."""
    if device == "cuda" and not cards:
        raise UsbenchError("--device cuda: no node of the cluster has a GPU; use --device cpu")
    return ("cuda" if cards else "cpu") if device == "auto" else device


def _cards(device: str) -> int:
    if device == "cpu":
        return 0
    import torch

    return torch.cuda.device_count()


def _gpus(device: str, devices: int, gpus_per_run: float | None) -> float:
    """GPUs of one cell: half a one by default, so that two share it."""
    if device == "cpu":
        return 0
    gpus = gpus_per_run if gpus_per_run is not None else 0.5 if devices == 1 else float(devices)
    if gpus > 1 and gpus != int(gpus):
        raise UsbenchError(f"--gpus-per-run {gpus:g}: above 1, Ray gives whole GPUs; choose {int(gpus) + 1}")
    if devices > 1 and gpus < devices:
        raise UsbenchError(f"--devices {devices} needs as many GPUs a run; use --gpus-per-run {devices}")
    return gpus
