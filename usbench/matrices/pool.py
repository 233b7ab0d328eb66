"""Where the cells of a matrix are computed: one after another in this process, or as tasks of Ray.

Ray is its own scheduler, here and on a cluster; nothing is scheduled by usbench.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import socket
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.matrices.failures import Failures
    from usbench.matrices.worker import Job, JobReport

# A worker process that dies, or a node that is lost, costs a cell this many new starts at most.
RETRIES = 2
_INSTALL = "pip install 'usbench[cluster]'"


def ray_is_installed() -> bool:
    """Whether the package ray can be imported; it is not imported for that."""
    return importlib.util.find_spec("ray") is not None


def import_ray() -> Any:
    """Import Ray with the defaults of usbench.

    It sends no statistics, works at the usual priority and starts a task that ran out of memory a few times
    only.

    Returns:
        The module `ray`, not connected to anything.

    Raises:
        UsbenchError: where it cannot be imported.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Cells are the work of this machine, not its leisure: Ray would run them at the lowest priority.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Without a bound Ray starts a task that ran out of memory again for ever.
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
    try:
        import ray
    except ImportError as error:
        raise UsbenchError(f"Ray cannot be imported ({error}); {_INSTALL}") from error
    return ray


def connect(address: str) -> Any:
    """Connect to a Ray cluster.

    Args:
        address: "auto", "host:port" or "ray://host:port".

    Returns:
        The module `ray`, connected.

    Raises:
        UsbenchError: where Ray is not installed or no cluster answers at the address.
    """
    import logging

    if not ray_is_installed():
        raise UsbenchError(f"--address {address}: Ray is not installed; {_INSTALL}")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # Ray would try for a quarter of an hour.
    ray = import_ray()
    try:
        _require_listener(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise UsbenchError(
            f"--address {address}: no connection to a Ray cluster ({type(error).__name__}: {words}); "
            "start one: ray start --head --disable-usage-stats; if it wants a token: RAY_AUTH_MODE=token"
        ) from error
    return ray


def _require_listener(address: str) -> None:
    """Raise `OSError` where nobody listens: Ray would go on trying for minutes."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=10).close()


def start_here(cpus: int) -> Any:
    """Start Ray on this machine alone; it ends with this process.

    Args:
        cpus: how many cores its tasks may take together.

    Returns:
        The module `ray`, connected.

    Raises:
        UsbenchError: where Ray cannot be imported or does not start.
    """
    import logging

    ray = import_ray()
    for last in (False, True):  # A node of Ray now and then hangs while it starts.
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=100_000_000,  # Jobs and reports are small; results go to disk.
            )
            break
        except Exception as error:
            ray.shutdown()
            if last:
                words = " ".join(str(error).split())[:200]
                raise UsbenchError(
                    f"Ray does not start here ({type(error).__name__}: {words}); --workers 1 does without it"
                ) from error
    return ray


def started_here(cpus: int) -> Any:
    """Ray as it runs in this process already, or started by `start_here`."""
    ray = import_ray()
    return ray if ray.is_initialized() else start_here(cpus)


def in_this_process(
    jobs: Sequence[Job], failures: Failures, names: Sequence[str]
) -> Generator[tuple[int, JobReport]]:
    """Compute jobs one after another.

    Args:
        jobs: the cells to compute.
        failures: gets a row for a cell when it starts, since a cell that ends the whole process cannot say
            so afterwards; the row goes when the cell has a result.
        names: the cells in words, one a job.

    Yields:
        The number of a job, from 0, and its report.

    Raises:
        UsbenchError: where the table of failures cannot be written.
        KeyboardInterrupt: where the user interrupts.
    """
    from usbench.matrices.begun import Begun
    from usbench.matrices.worker import compute_job
    from usbench.runtime.console import muted

    for number, job in enumerate(jobs):
        key = failures.key(job.place)
        begun = Begun(failures, key, names[number], str(job.cell.request))
        if job.track or job.cell.devices > 1:
            begun.write()
        try:
            with muted():
                report = compute_job(job, (begun,))
        except KeyboardInterrupt:
            failures.clear([key])
            raise
        if report.kind != "failed":
            failures.clear([key])
        yield number, report


def on_ray(
    ray: Any, jobs: Sequence[Job], cpus: int, gpus: float, most: int | None
) -> Generator[tuple[int, JobReport]]:
    """Compute jobs as tasks of Ray, each in a fresh process.

    Args:
        ray: the module, connected.
        jobs: the cells to compute.
        cpus: cores of each task.
        gpus: GPUs of each task; with less than 1, tasks share a GPU.
        most: at most so many tasks at once; None for as many as Ray finds room for.

    Yields:
        The number of a job, from 0, and its report, in the order in which they end.

    Raises:
        UsbenchError: where no node has so many cores or GPUs.
    """
    from usbench.matrices.worker import compute_packed

    _require_room(ray, cpus, gpus)
    # A fresh process for each: its memory is its own, and what it spoils harms no other cell.
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, max_calls=1)(compute_packed)
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and (most is None or len(running) < most):
                number, job = waiting.pop()
                named = task.options(name=f"usbench {job.cell.folder.parent.name}/{job.cell.folder.name}")
                running[named.remote(pickle.dumps(job), job.folder, dict(job.environment))] = number
            for reference in ray.wait(list(running), timeout=1)[0]:
                yield running.pop(reference), _report(ray, reference)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _report(ray: Any, reference: Any) -> JobReport:
    from usbench.matrices.worker import JobReport

    try:
        report: JobReport = ray.get(reference)
        return report
    except ray.exceptions.OutOfMemoryError as error:
        reason = "out of memory: Ray ended its process; compute fewer at once (--workers, --cpus-per-run)"
        return JobReport("failed", reason=reason, traceback=str(error)[-4000:])
    except ray.exceptions.WorkerCrashedError as error:
        reason = f"its process died {RETRIES + 1} times (killed, out of memory, or it crashed)"
        return JobReport("failed", reason=reason, traceback=str(error)[-4000:])
    except ray.exceptions.RayError as error:
        words = " ".join(str(error).split())[:300]
        return JobReport("failed", reason=f"{type(error).__name__}: {words}", traceback=str(error)[-4000:])


def _require_room(ray: Any, cpus: int, gpus: float) -> None:
    """A task that fits on no node would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for option, name, wanted in (("--cpus-per-run", "CPU", cpus), ("--gpus-per-run", "GPU", gpus)):
        largest = max((node.get(name, 0) for node in nodes), default=0)
        if wanted > largest:
            raise UsbenchError(f"{option} {wanted:g}: no node has more than {largest:g}; ask for less")


def processors(ray: Any) -> tuple[float, float]:
    """(CPU cores, GPUs) of all nodes of a cluster together; `ray` is the module, connected."""
    resources = ray.cluster_resources()
    return float(resources.get("CPU", 0)), float(resources.get("GPU", 0))
