"""A function over many jobs in processes of their own, through joblib.

joblib's workers are fresh interpreters: forking a program that has threads or holds locks (torch, a
progress bar) is unsafe, and the standard library's other ways run the user's main script again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from usbench.errors import UsbenchError
from usbench.runtime.stopping import end_with


def run_jobs(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[Any]:
    """Call `function(*job)` for every job in up to `workers` processes; yield the results as they come.

    `function` is one at the top level of a module of usbench; jobs and results must pickle. The
    first error of a job stops the others and is raised here as it was; a worker that dies raises
    `UsbenchError`.
    """
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # From its first moment on, not with its first job: it may still wait for one when this process is killed.
    with parallel_config(backend="loky", initializer=_begin, initargs=(os.getpid(),)):
        pool = Parallel(n_jobs=min(workers, len(jobs)), return_as="generator_unordered", batch_size=1)
    try:
        yield from pool(delayed(function)(*job) for job in jobs)
    except TerminatedWorkerError as error:
        raise UsbenchError(
            "a worker process was stopped, most likely for want of memory; use fewer --workers"
        ) from error


def _begin(parent: int) -> None:
    """The first thing that a worker does: it does not outlive the process that has started it."""
    if os.getpid() != parent:
        end_with(parent)


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
