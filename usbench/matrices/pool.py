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
    """Ray, which reports nothing to anyone and keeps its messages to itself."""
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
    """Ray, connected to the cluster at `address` ("auto", "host:port" or "ray://host:port")."""
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
    """Ray on this machine alone, with room for `cpus` cores; it ends with this process."""
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


def in_this_process(
    jobs: Sequence[Job], failures: Failures, names: Sequence[str]
) -> Generator[tuple[int, JobReport]]:
    """Compute jobs one after another; yield the number of each with its report.

    A cell that ends the whole process cannot say so afterwards: it is written down before it starts.
    """
    from usbench.matrices.worker import compute_job
    from usbench.runtime.console import muted

    for number, job in enumerate(jobs):
        key = failures.key(job.cell.folder)
        why = "the process that computed it ended without a word (killed, or out of memory)"
        failures.record(key, names[number], why, "", str(job.cell.request))
        try:
            with muted():
                report = compute_job(job)
        except KeyboardInterrupt:
            failures.clear([key])
            raise
        if report.kind != "failed":
            failures.clear([key])
        yield number, report


def on_ray(
    ray: Any, jobs: Sequence[Job], cpus: int, gpus: float, most: int | None
) -> Generator[tuple[int, JobReport]]:
    """Compute jobs as tasks of Ray, each in a fresh process; yield the number of each with its report.

    cpus, gpus: of each task. most: at most so many at once; None for as many as Ray finds room for.
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
    """(CPU cores, GPUs) of a cluster."""
    resources = ray.cluster_resources()
    return float(resources.get("CPU", 0)), float(resources.get("GPU", 0))
