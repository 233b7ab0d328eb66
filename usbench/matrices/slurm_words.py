"""The words of `--slurm`: what is asked of the queue for each cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from usbench.errors import UsbenchError

MINUTES = 240
"""Of a job that nobody gave a time: submitit would say five minutes."""

_OWN = ("partition", "account", "qos", "constraint", "exclude", "nodelist", "mem", "gres", "comment")
"""Options of sbatch that submitit has arguments for; it is told others as they are."""

_REFUSED = (
    *("array", "output", "error", "open-mode", "signal", "requeue", "wrap", "job-name", "chdir"),
    *("ntasks", "ntasks-per-node", "nodes", "cpus-per-task", "gpus-per-node", "gpus-per-task"),
)
_EXAMPLE = "write --slurm partition=gpu,gpus=1,time=12:00:00, or --slurm default"
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True)
class SlurmAsked:
    """What `--slurm` asks for.

    Attributes:
        local: computed on this machine, by submitit's executor for trials, without Slurm.
        gpus: of each cell, as Slurm has it ("1", "a100:2"); "" where it is not said.
        minutes: at most, until a cell is stopped and goes on in a new job.
        options: other options of sbatch, by name.
    """

    local: bool = False
    gpus: str = ""
    minutes: int = MINUTES
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def gpu_count(self) -> int:
        """How many GPUs a cell has."""
        return int(self.gpus.rpartition(":")[2]) if self.gpus else 0

    def parameters(self) -> dict[str, object]:
        """The same as arguments of submitit's executor."""
        found: dict[str, object] = {"time": self.minutes}
        if self.gpu_count:
            found["gpus_per_node"] = self.gpus
        found |= {name: value for name, value in self.options.items() if name in _OWN}
        more = {name: value for name, value in self.options.items() if name not in _OWN}
        # Slurm then takes a job up again by itself where a node is lost or somebody else needs it.
        return {**found, "additional_parameters": {"requeue": True, **more}}


def parse_slurm(text: str) -> SlurmAsked:
    """Read the words of `--slurm`.

    Args:
        text: "KEY=VALUE,...", where a value may hold commas of its own; "default" for what the cluster has;
            "local" for a trial on this machine.

    Raises:
        UsbenchError: for words that cannot be read, and for options that usbench sets by itself.
    """
    first, *rest = text.strip().split(",")
    if first.strip() in ("default", "local") and not rest:
        return SlurmAsked(local=first.strip() == "local")
    words: dict[str, str] = {}
    last = ""
    for part in (first, *rest):
        name, sign, value = part.strip().partition("=")
        if not sign and last and name:
            words[last] += f",{name}"  # exclude=node1,node2
            continue
        if not (sign and value and re.fullmatch(r"[a-z][a-z0-9-]*", name)) or re.search(
            r"[\s\x00-\x1f]", value
        ):
            raise UsbenchError(f"--slurm '{text}': '{part}' is no KEY=VALUE; {_EXAMPLE}")
        if name in _REFUSED:
            raise UsbenchError(
                f"--slurm {name}: usbench sets that by itself; cores are --cpus-per-run, cells at once "
                "--workers"
            )
        if name in words:
            raise UsbenchError(f"--slurm {name} stands there twice; give it once")
        words[name] = value
        last = name
    gpus = words.pop("gpus", "")
    if gpus and not re.fullmatch(r"([A-Za-z0-9_.-]+:)?[0-9]{1,4}", gpus):
        raise UsbenchError(f"--slurm gpus={gpus} is no number of GPUs; write gpus=1, or gpus=a100:1")
    time = words.pop("time", "")
    return SlurmAsked(False, gpus, _minutes(time) if time else MINUTES, words)


def _minutes(text: str) -> int:
    """Minutes of a time as sbatch takes it: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS."""
    found = _TIME.fullmatch(text) if text.isascii() else None
    if found is None:
        raise UsbenchError(f"--slurm time={text} is no time of Slurm; write time=90, 12:00:00 or 2-00:00:00")
    days, *clock = found.groups()
    numbers = [int(part) for part in clock if part is not None]
    if days is not None:  # Hours come first.
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    total = (int(days or 0) * 24 + hours) * 60 + minutes + (1 if seconds else 0)
    if not 1 <= total <= 525_600:
        raise UsbenchError(f"--slurm time={text} is out of range; choose a minute up to a year")
    return total
