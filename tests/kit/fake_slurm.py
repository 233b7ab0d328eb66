"""A Slurm of one machine for tests: sbatch, srun, squeue, sacct, scontrol and scancel that do what they say.

`install(folder)` writes the six programs. Each is this file under another name; the state of a task is a file
in the folder. A supervisor runs the tasks of a job, starts those that are queued again, and ends with them.
It knows of Slurm what usbench and submitit ask of it and no more: no partitions, no limits of time, no users.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAMS = ("sbatch", "srun", "squeue", "sacct", "scontrol", "scancel")


def install(folder: Path) -> Path:
    """Write the programs into FOLDER/bin; FAKE_SLURM in the environment names FOLDER to them."""
    (folder / "bin").mkdir(parents=True)
    for name in PROGRAMS:
        path = folder / "bin" / name
        path.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {name} "$@"\n'
        )
        path.chmod(0o755)
    return folder / "bin"


def tasks(folder: Path) -> dict[str, dict[str, Any]]:
    """By name of a task its state."""
    found = {}
    for path in sorted(folder.glob("*.task")):
        with suppress(ValueError, OSError):  # It is written in this moment.
            found[path.stem] = json.loads(path.read_text())
    return found


def change(folder: Path, name: str, **facts: Any) -> None:
    path = folder / f"{name}.task"
    row = json.loads(path.read_text()) if path.exists() else {}
    half = path.with_suffix(".half")
    half.write_text(json.dumps({**row, **facts}))
    os.replace(half, path)


def preempt(folder: Path, name: str, grace: float) -> None:
    """As Slurm with PreemptMode=REQUEUE and GraceTime: TERM, then KILL, then into the queue again."""
    started = tasks(folder)[name]["starts"]
    kill(folder, name, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and tasks(folder)[name]["starts"] == started:
        time.sleep(0.05)
    if tasks(folder)[name]["starts"] == started:
        change(folder, name, requeue=True)
        kill(folder, name, signal.SIGKILL)


def kill(folder: Path, name: str, number: int) -> None:
    """A signal to the steps of a job, as slurmstepd sends it: not to the script of the batch."""
    for pid in tasks(folder)[name].get("steps", []):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _options(script: str) -> dict[str, str]:
    found = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH --"):
            key, _, value = shlex.split(line)[1].removeprefix("--").partition("=")
            found[key] = value
    return found


def _sbatch(folder: Path, words: list[str]) -> None:
    script = Path(words[-1])
    options = _options(script.read_text())
    if options.get("partition") == "none":
        sys.exit("sbatch: error: invalid partition specified: none")
    number = 100 + len(list(folder.glob("*.sbatch")))
    (folder / f"{number}.sbatch").write_text(script.read_text())
    count, _, most = options.get("array", "").removeprefix("0-").partition("%")
    names = [f"{number}_{i}" for i in range(int(count) + 1)] if count else [str(number)]
    for name in names:
        change(folder, name, state="PENDING", starts=0)
    held = os.environ.get("FAKE_SLURM_HOLD", "")
    if not held:
        words = [sys.executable, __file__, "supervise", str(number), most or "9", *names]
        log = open(folder / "supervisor.log", "a")  # noqa: SIM115
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    print(f"Submitted batch job {number}")


def _supervise(folder: Path, words: list[str]) -> None:
    number, most, *names = words
    running: dict[str, subprocess.Popen[bytes]] = {}
    while True:
        known = tasks(folder)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                row = known[name]
                if row.get("requeue"):
                    change(folder, name, state="PENDING", requeue=False, steps=[])
                elif row["state"] == "RUNNING":
                    change(folder, name, state="FAILED" if process.returncode else "COMPLETED", steps=[])
        known = tasks(folder)
        for name in names:
            if known[name]["state"] == "PENDING" and len(running) < int(most):
                change(folder, name, state="RUNNING", starts=known[name]["starts"] + 1, steps=[])
                array = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": name.partition("_")[2]}
                environment = {
                    **os.environ,
                    **(array if "_" in name else {}),
                    **{"SLURM_JOB_ID": name, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"},
                    **{"SLURM_JOB_NODELIST": "node1", "SLURM_JOB_NAME": "usbench"},
                }
                words = ["bash", str(folder / f"{number}.sbatch")]
                running[name] = subprocess.Popen(words, env=environment, start_new_session=True)
        if not running and not any(tasks(folder)[name]["state"] == "PENDING" for name in names):
            return
        time.sleep(0.05)


def _srun(folder: Path, words: list[str]) -> None:
    name = os.environ["SLURM_JOB_ID"]
    array, _, index = name.partition("_")
    files = {}
    while words[0].startswith("--"):
        flag = words.pop(0)
        if flag in ("--output", "--error"):
            text = words.pop(0)
            for mark, value in (("%A", array), ("%a", index), ("%j", name), ("%t", "0")):
                text = text.replace(mark, value)
            files[flag] = open(text, "ab")  # noqa: SIM115
    environment = {**os.environ, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    process = subprocess.Popen(words, stdout=files["--output"], stderr=files["--error"], env=environment)
    change(folder, name, steps=[process.pid])
    sys.exit(process.wait())


def _squeue(folder: Path, words: list[str]) -> None:
    for name, row in tasks(folder).items():
        if row["state"] in ("PENDING", "RUNNING"):
            print(f"{name}|{row['state']}")


def _sacct(folder: Path, words: list[str]) -> None:
    asked = next(word for word in words if word.startswith("--jobs=")).removeprefix("--jobs=")
    for name, row in tasks(folder).items():
        if name == asked:
            print(row["state"])


def _scontrol(folder: Path, words: list[str]) -> None:
    name = words[-1]
    if words[0] == "show":
        print(f"JobId={name} JobName=usbench\n   JobState={tasks(folder)[name]['state']} Reason=None")
    elif words[0] == "requeue":
        change(folder, name, requeue=True, state="RUNNING")
        kill(folder, name, signal.SIGTERM)


def _scancel(folder: Path, words: list[str]) -> None:
    for name, row in tasks(folder).items():
        if re.fullmatch(rf"{words[-1]}(_\d+)?", name) and row["state"] in ("PENDING", "RUNNING"):
            change(folder, name, state="CANCELLED")
            kill(folder, name, signal.SIGTERM)


if __name__ == "__main__":
    globals()[f"_{sys.argv[1]}"](Path(os.environ["FAKE_SLURM"]), sys.argv[2:])
