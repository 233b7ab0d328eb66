"""Kills: every command that takes time, killed at random moments and started again with the same words.

    python tests/campaigns/kills.py --state FOLDER [--only run,matrix] [--kills 300] [--seed 19]

A trial is one folder: the command is started, killed (SIGKILL; now and then SIGTERM) after a delay drawn over
the whole life of an unbroken one, and started again at once, up to a few times; the last start goes to the
end. Then every file must be what the unbroken command leaves but for what a clock measured, nothing may be
there besides (half-written files, temporary ones in TMPDIR), and no process may be alive. Trials are kept in
the state folder, so that a campaign that is stopped goes on.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from kill_scenes import SCENES, Scene, build_stage, picture, put_weights, serve
from preloaded import preload

ROOT = Path(__file__).resolve().parents[2]
MARK = "USBENCH_CAMPAIGN"
GONE_S = 30
"""Seconds within which the children of a command that ended must have ended."""


def main() -> None:
    words = argparse.ArgumentParser(description="Kills of every command, at random moments.")
    words.add_argument(
        "--state", type=Path, required=True, help="folder of the campaign, outside the checkout"
    )
    words.add_argument("--kills", type=int, default=300)
    words.add_argument("--seed", type=int, default=19)
    words.add_argument("--only", help="names of scenes, with commas")
    words.add_argument("--table", action="store_true", help="only print what is known")
    words.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.serve:
        serve(asked.serve)
    state = asked.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    scenes = [s for s in SCENES if not asked.only or s.name in asked.only.split(",")]
    if not asked.table:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = "1"
        preload()
        with_server = _served(state)
        try:
            _campaign(state, scenes, asked.kills, asked.seed)
        finally:
            with_server.kill()
    _print(state)


def _served(state: Path) -> subprocess.Popen[bytes]:
    port = state / "port"
    port.unlink(missing_ok=True)
    server = subprocess.Popen([sys.executable, __file__, "--state", str(state), "--serve", str(port)])
    while not port.exists() or not port.read_text():
        time.sleep(0.05)
    return server


def _campaign(state: Path, scenes: list[Scene], kills: int, seed: int) -> None:
    if not (state / "staged").exists():
        shutil.rmtree(state / "stage", ignore_errors=True)
        (state / "stage").mkdir()
        build_stage(state / "stage", lambda words, more: _whole(state, words, more))
        (state / "staged").touch()
    every = sum(scene.share for scene in SCENES)
    wanted = {scene.name: max(1, round(kills * scene.share / every)) for scene in scenes}
    while True:
        trials = _trials(state)
        counts = {s.name: sum(len(t["kills"]) for t in trials if t["scene"] == s.name) for s in scenes}
        left = [s for s in scenes if counts[s.name] < wanted[s.name]]
        if not left:
            return
        # The scene that is least far.
        scene = min(left, key=lambda s: counts[s.name] / wanted[s.name])
        number = sum(t["scene"] == scene.name for t in trials)
        _trial(state, scene, number, seed, wanted[scene.name] - counts[scene.name])


# Starting commands.


def _environment(state: Path, folder: Path, scene: Scene | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("USBENCH_")}
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "USBENCH_CACHE": str(folder / "cache"),
        "USBENCH_WEIGHTS": str(folder / "weights"),
        "TMPDIR": str(folder / "tmp"),
        "RAY_TMPDIR": "/tmp",
        MARK: str(folder),
        **(scene.environment if scene else {}),
    }


def _start(state: Path, words: list[str], environment: dict[str, str], cold: bool) -> int:
    """Start `usbench ...` in a session of its own; the id of its process."""
    said = os.open(state / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(said, f"\n$ usbench {' '.join(words)}\n".encode())
    child = os.fork()
    if child:
        os.close(said)
        return child
    code = 99
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.chdir(environment["TMPDIR"] + "/..")
        if cold:
            os.execve(sys.executable, [sys.executable, "-m", "usbench", *words], environment)
        os.environ.clear()
        os.environ.update(environment)
        code = _become(words, state)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become(words: list[str], state: Path) -> int:
    """Run a command in this process as `python -m usbench` does; its exit code."""
    sys.argv = ["usbench", *words]
    sys.path[:] = [
        str(ROOT),
        *(p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent),
    ]
    if words[0] == "weights":
        put_weights(int((state / "port").read_text()))
    code = 0
    try:
        runpy.run_module("usbench", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    # As the interpreter ends: threads first, then what is registered.
    threading._shutdown()
    atexit._run_exitfuncs()
    return code


def _ended(child: int, seconds: float) -> int | None:
    """The status of a process that ends within some seconds, else None."""
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(min(0.01, max(0.0, deadline - time.monotonic())))


def _whole(state: Path, words: list[str], more: dict[str, str]) -> None:
    """Run a command to its end; the campaign ends where it fails."""
    child = _start(state, words, {**_environment(state, state / "staging", None), **more}, cold=False)
    if _ended(child, 1800) != 0:
        sys.exit(f"usbench {' '.join(words)} failed, see {state / 'said.txt'}")


# Trials.


def _set_up(state: Path, scene: Scene, name: str) -> Path:
    """The folder of a trial as it is before the command; its name stays, since paths are in files."""
    folder = state / scene.name.replace(" ", "-") / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for entry in scene.brings:
        shutil.copytree(state / "stage" / entry, folder / entry, symlinks=True)
    return folder


def _unbroken(state: Path, scene: Scene) -> dict[str, Any]:
    """What the command leaves when nobody kills it, and the seconds it takes; run twice, which must agree."""
    kept = state / f"{scene.name.replace(' ', '-')}.unbroken.json"
    if not kept.exists():
        pictures, seconds = [], []
        for _ in range(2):
            folder = _set_up(state, scene, "unbroken")
            start = time.monotonic()
            words = scene.words(state / "stage", folder)
            child = _start(state, words, _environment(state, folder, scene), scene.cold)
            if (code := _ended(child, 1800)) != 0:
                sys.exit(f"{scene.name} ended with {code} unbroken, see {state / 'said.txt'}")
            seconds.append(time.monotonic() - start)
            pictures.append(picture(folder))
        if differs := _differences(*pictures):
            sys.exit(f"{scene.name}: two unbroken ones differ: {differs}")
        kept.write_text(json.dumps({"seconds": min(seconds), "picture": pictures[0]}))
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def _differences(whole: dict[str, str], other: dict[str, str]) -> list[str]:
    """What differs, as "missing NAME", "besides NAME", "other NAME"."""
    missing = [f"missing {name}" for name in sorted(whole.keys() - other.keys())]
    besides = [f"besides {name}" for name in sorted(other.keys() - whole.keys())]
    return [
        *missing,
        *besides,
        *(f"other {n}" for n in sorted(whole.keys() & other.keys()) if whole[n] != other[n]),
    ]


def _trial(state: Path, scene: Scene, number: int, seed: int, most: int) -> None:
    """Kill and start again, until the command was killed as often as drawn; compare; write down."""
    draw = random.Random(f"{seed} {scene.name} {number}")
    unbroken = _unbroken(state, scene)
    folder = _set_up(state, scene, "killed")
    words, environment = scene.words(state / "stage", folder), _environment(state, folder, scene)
    planned = min(draw.randint(2, scene.most), most)
    kills: list[list[Any]] = []
    code = None
    while code is None:
        child = _start(state, words, environment, scene.cold)
        if len(kills) == planned:
            code = _ended(child, 900)
            if code is None:
                os.killpg(child, signal.SIGKILL)
                code = "hangs"
            break
        # A later start goes on where the one before it was killed, so that together they reach every moment.
        delay = draw.uniform(0.02, 0.8) * unbroken["seconds"]
        how = draw.choice(["KILL", "KILL", "KILL", "TERM", "WORKER" if scene.workers else "KILL"])
        code = _ended(child, delay)
        if code is None:
            code = _kill(child, how, draw)
            kills.append([round(delay, 2), how])
    alive = _alive(folder)
    differs = _differences(unbroken["picture"], picture(folder))
    line = {
        "scene": scene.name,
        "trial": number,
        "kills": kills,
        "code": code,
        "differs": differs,
        "alive": alive,
    }
    with open(state / "trials.jsonl", "a") as stream:
        stream.write(json.dumps(line) + "\n")
    fine = not differs and not alive and code == 0
    print(f"{scene.name} {number}: {len(kills)} kills, {'fine' if fine else line}", flush=True)
    if not fine:
        shutil.copytree(
            folder, state / "faults" / f"{scene.name.replace(' ', '-')}-{number}", dirs_exist_ok=True
        )


def _kill(child: int, how: str, draw: random.Random) -> Any:
    """Kill a command, or a worker of it, which then goes on; the exit code of one that ended by itself."""
    if how == "WORKER":
        of_ray = [p for p in psutil.Process(child).children(recursive=True) if _name(p).startswith("ray::")]
        if of_ray:
            chosen = draw.choice(of_ray)
            agent = "Agent" in _name(chosen)
            chosen.kill()
            code = _ended(child, 900)
            # With an agent Ray itself ends, and the driver with it at any point: then it is started again.
            return None if agent and code else code
    os.kill(child, signal.SIGTERM if how == "TERM" else signal.SIGKILL)
    # A machine that is busy takes its time to end what was killed.
    if _ended(child, 120 if how == "TERM" else 900) is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"does not end on {how}"
    return None


def _processes() -> Iterator[psutil.Process]:
    yield from psutil.process_iter()


def _name(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""


def _alive(folder: Path) -> list[str]:
    """Processes of a trial that are still alive half a minute after its end; they are ended then."""
    deadline = time.monotonic() + GONE_S
    while True:
        found = [p for p in _processes() if _of(p, folder)]
        if not found or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    said = [" ".join([str(p.pid), *_words(p)])[:160] for p in found]
    for process in found:
        process.kill()
    return said


def _of(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(folder)
    except psutil.Error:
        return False


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


# The table.


def _trials(state: Path) -> list[dict[str, Any]]:
    file = state / "trials.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _print(state: Path) -> None:
    print("\n| command | trials | kills (KILL, TERM, of a worker) | equal | something left behind |")
    print("|---" * 5 + "|")
    trials = _trials(state)
    for name in [*(scene.name for scene in SCENES), "all"]:
        ones = [t for t in trials if name in (t["scene"], "all")]
        hows = [how for t in ones for _, how in t["kills"]]
        split = ", ".join(str(hows.count(how)) for how in ("KILL", "TERM", "WORKER"))
        equal = sum(len(t["kills"]) for t in ones if t["code"] == 0 and not _wrong(t))
        left = sum(1 for t in ones if t["alive"] or any(d.startswith("besides") for d in t["differs"]))
        print(f"| {name} | {len(ones)} | {len(hows)} ({split}) | {equal} | {left} |")
    for t in trials:
        if t["code"] != 0 or t["differs"] or t["alive"]:
            print(f"\n{t}")


def _wrong(trial: dict[str, Any]) -> list[str]:
    return [d for d in trial["differs"] if not d.startswith("besides")]


if __name__ == "__main__":
    main()
