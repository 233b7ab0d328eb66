"""What a program has started, found and ended; also by a small process that waits for the end of usbench.

A program may start others, and those again others, in groups of their own. All of them have the environment
that the program was given, and in it a word that no other process has (`MARK`). Linux shows it in /proc;
elsewhere only the group of the program is known.

Run as a script, `leftovers.py GROUP WORD` waits until its standard input ends. One byte before that says that
all is well. Without it whoever held the other end was killed, and the program is ended with all that it
started. It imports nothing of usbench, so that it takes a few MB and starts at once.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

MARK = "UB_PROGRAM"
"""The variable that holds the word."""

_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 2.0


def marked(word: str) -> list[int]:
    """The processes that have the word in their environment; none where the machine does not tell."""
    wanted = f"{MARK}={word}".encode()
    found = []
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as stream:
                    if wanted in stream.read().split(b"\0"):
                        found.append(int(name))
            except OSError:  # Of somebody else, or gone.
                continue
    return found


def send(group: int, word: str, number: int) -> bool:
    """Send a signal to a group and to all marked processes; whether there was anybody."""
    there = False
    try:
        os.killpg(group, number)
        there = True
    except OSError:
        pass
    for process in marked(word):
        try:
            os.kill(process, number)
            there = True
        except OSError:
            continue
    return there


def end(group: int, word: str) -> None:
    """End a program and all that it started: asked first, and by force after two seconds."""
    if not send(group, word, signal.SIGTERM):
        return
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline and marked(word):
        time.sleep(0.05)
    # One that was just being started has the word too, so somebody may be there again.
    for _ in range(10):
        if not send(group, word, signal.SIGKILL):
            break
        time.sleep(0.05)


def main() -> None:
    """Wait for the end of the process that started this one, see the module."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # It is to outlive who gets them.
    group, word, parent = int(sys.argv[1]), sys.argv[2], os.getppid()
    while os.getppid() == parent:
        if select.select([0], [], [], _LOOK_SECONDS)[0]:
            if os.read(0, 1):
                return
            break
    end(group, word)


if __name__ == "__main__":
    main()
