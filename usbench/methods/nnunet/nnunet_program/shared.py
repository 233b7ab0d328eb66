"""What the other parts share: lines for usbench, files that are whole, time spent, the environment, seeds."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DATASET = "Dataset001_usbench"
ENDING = ".nii.gz"
ALIVE_SECONDS = 20


class Fault(Exception):
    """Something that a user can mend, in one line."""


def say(kind: str, **facts: Any) -> None:
    """A line for usbench: `kind`, and what belongs to it."""
    print(json.dumps({"usbench": kind, **facts}), flush=True)


class Alive:
    """Says now and then that work goes on, so that a hang can be told from a long epoch."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, *_: Any) -> None:
        """After any piece of work; a hook of a network."""
        if time.monotonic() - self.last > ALIVE_SECONDS:
            self.last = time.monotonic()
            say("alive")


def write_json(path: Path, content: Any) -> None:
    """A file that is whole or not there."""
    partial = partial_of(path)
    partial.write_text(json.dumps(content, indent=1))
    os.replace(partial, path)


def partial_of(path: Path) -> Path:
    """Where a file is written before it gets its name; one by chance, that nobody knows before."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")


def digest_of(content: Any) -> str:
    """SHA-256, in hex, of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, content: Any) -> None:
    """What JSON can hold, with its digest."""
    write_json(path, {"content": content, "sha256": digest_of(content)})


def read_sealed(path: Path, then: str) -> Any:
    """What `write_sealed` wrote; None where nothing is there, or where it changed, which is said.

    Args:
        path: The file.
        then: What follows from a change, for the message.
    """
    if not path.exists():
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text())
        if kept["sha256"] == digest_of(kept["content"]):
            return kept["content"]
    say("stage", text=f"{path.name} is damaged (its digest does not fit): {then}")
    return None


def digests_of(files: list[Path]) -> dict[str, str]:
    """SHA-256, in hex, of files that are there, by name."""
    found = {}
    for file in files:
        with contextlib.suppress(FileNotFoundError), open(file, "rb") as stream:
            found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


_LINE = b"\nusbench sha256 %s\n"
_LENGTH = len(_LINE % bytes(64))


def seal(path: Path) -> None:
    """Puts a line with the digest behind a checkpoint; torch reads over it."""
    with open(path, "r+b") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0, os.SEEK_END)
        stream.write(_LINE % digest.encode())
        stream.flush()
        os.fsync(stream.fileno())


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is what `seal` left; one that is not is said and removed."""
    digest, left = hashlib.sha256(), path.stat().st_size - _LENGTH
    with open(path, "rb") as stream:
        while left > 0 and (data := stream.read(min(left, 1 << 24))):
            digest.update(data)
            left -= len(data)
        if left == 0 and stream.read() == _LINE % digest.hexdigest().encode():
            return True
    say("stage", text=f"{path.name} is damaged (its digest does not fit): training starts anew")
    path.unlink()
    return False


class Spent:
    """Seconds by stage and the largest memory, over all starts; "lost" where those of some are not known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = read_sealed(path, "times of earlier starts are lost")
        self.values: dict[str, float] = dict(kept or ({"lost": 1.0} if path.exists() else {}))

    def add(self, stage: str, seconds: float, device: str) -> None:
        """More seconds of a stage ("prepare", "train", "predict")."""
        self.values[stage] = self.values.get(stage, 0.0) + seconds
        self.values["memory_mb"] = max(self.values.get("memory_mb", 0.0), peak_memory_mb(device))
        write_sealed(self.path, self.values)


def peak_memory_mb(device: str) -> float:
    """Peak in MB (2^20 bytes): allocated on a GPU, else resident, of the largest process."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated() / 2**20)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / unit


def set_environment(job: Mapping[str, Any]) -> int:
    """What nnU-Net reads of the environment, most of it when it is imported. Returns the worker processes.

    On a CPU, preparation and augmentation run in this process; on a GPU in others, as many as `threads`
    or, of 0, as nnU-Net's own number.
    """
    threads = int(job["threads"])
    work = Path(job["work"])
    # Of the user's own nnU-Net: a log to a service, other folders.
    for name in [name for name in os.environ if name.startswith("nnUNet_") and name != "nnUNet_compile"]:
        del os.environ[name]
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(work / name)
    if threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)
    cpus = threads or os.cpu_count() or 1
    # Prediction uses no more threads than this, whatever torch was told.
    os.environ["nnUNet_def_n_proc"] = str(cpus)
    # Planning wants at least 1 ("set_num_threads expects a positive integer"); training is told anew.
    os.environ["nnUNet_n_proc_DA"] = "1"
    return min(cpus, 8) if job["device"] == "cuda" else 1


def seed_all(*parts: int) -> None:
    """Every source of random numbers, from these whole numbers."""
    import numpy as np
    import torch

    seed = int(np.random.SeedSequence([part % 2**32 for part in parts]).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what nnU-Net draws from)
    torch.manual_seed(seed)
