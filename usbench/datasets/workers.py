"""Runs a function over many jobs in fresh processes.

Not `multiprocessing`: forking a program that has threads or holds locks (torch, a progress bar, a
lock on the store) is unsafe, and its other ways run the user's main script again in every worker.
Here a worker is a new interpreter that imports only what the function needs, ends at once when its
parent does, and is known to be dead when it dies.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, BinaryIO

from usbench.errors import UsbenchError


def run_jobs(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], names: Sequence[str], workers: int
) -> Iterator[tuple[int, Any]]:
    """Call `function(*job)` for every job in up to `workers` processes; yield (index, result) as they end.

    `function` is one at the top level of a module of usbench; jobs and results must pickle. `names`
    are words for the jobs, for messages. The first error of a job stops the others and is raised
    here as it was; a worker that dies raises `UsbenchError`.
    """
    waiting = deque(range(len(jobs)))
    results: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
    processes = [_start() for _ in range(min(workers, len(jobs)))]

    def feed(process: subprocess.Popen[bytes]) -> None:
        while True:
            try:
                index = waiting.popleft()
            except IndexError:
                return
            results.put((index, *_ask(process, (function, jobs[index]), names[index])))

    threads = [threading.Thread(target=feed, args=(process,), daemon=True) for process in processes]
    try:
        for thread in threads:
            thread.start()
        for _ in jobs:
            index, result, error = results.get()
            if error is not None:
                raise error
            yield index, result
    finally:
        waiting.clear()
        for process in processes:
            process.kill()
            process.wait()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        for process in processes:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def serve() -> None:
    """The main function of a worker: jobs come in on standard input, results go out on standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    jobs: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, jobs), daemon=True).start()
    while True:
        function, job = jobs.get()
        answer: tuple[Any, BaseException | None]
        try:
            answer = (function(*job), None)
        except Exception as error:
            answer = (None, _portable(error))
        pickle.dump(answer, answers)
        answers.flush()


def _listen(stream: BinaryIO, jobs: SimpleQueue[Any]) -> None:
    while True:
        try:
            jobs.put(pickle.load(stream))
        except BaseException:
            # The parent is gone or done: whatever is under way here is wanted by nobody.
            os._exit(0)


def _portable(error: Exception) -> Exception:
    if isinstance(error, UsbenchError):
        return error
    import traceback

    return RuntimeError("in a worker process:\n" + "".join(traceback.format_exception(error)))


def _start() -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(os.path.abspath(p) for p in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", "from usbench.datasets.workers import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C is the parent's to handle
    )


def _ask(process: subprocess.Popen[bytes], job: Any, name: str) -> tuple[Any, BaseException | None]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(job, process.stdin)
        process.stdin.flush()
        answer: tuple[Any, BaseException | None] = pickle.load(process.stdout)
        return answer
    except (OSError, EOFError, pickle.UnpicklingError):
        return None, UsbenchError(
            f"the worker process at {name} was stopped (exit status {process.wait()}), most likely for want "
            "of memory; use fewer --workers"
        )
    except Exception as error:
        return None, error
