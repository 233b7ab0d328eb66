"""What the program of a pipeline says of itself: lines of JSON among the others that it prints."""

from __future__ import annotations

import json
import time
from pathlib import Path

from usbench.contracts.pipeline import PipelineWatcher
from usbench.errors import UsbenchError

START = '{"usbench"'
"""How such a line begins; its key "usbench" says which kind it is."""

_COUNT_SECONDS = 60


class PipelineWords:
    """Hands on to the watcher of a run what a program says; give it to `run_program` as `on_line`.

    The kinds, each a line such as `{"usbench": "epoch", "epoch": 3, "loss": 0.5, "seconds": 2.0}`:
    "train" (`epochs`, and `done` of them at an earlier start), "epoch", "stage" (`text`: what it does now),
    "case" (`text`, `number`, `total`: counted, a line a minute) and "fault" (`text`: what a user can mend, as
    the last one). Other kinds show that it is alive; every other line is for the log alone.

    Args:
        program: Its name, in messages.
        watcher: That of the run.
        log: Where its output is, for the message of a fault; None where that says nothing more.
    """

    def __init__(self, program: str, watcher: PipelineWatcher, log: Path | None = None) -> None:
        self.program, self.watcher, self.log = program, watcher, log
        self._counted = time.monotonic()

    def __call__(self, line: str) -> None:
        """Take a line of output.

        Raises:
            UsbenchError: For a fault, in one line.
        """
        if not line.startswith(START):
            return
        facts = json.loads(line)
        kind = facts.pop("usbench")
        if kind == "train":
            self.watcher.on_start(facts["epochs"])
            if facts["done"]:
                self.watcher.say(f"{self.program} goes on after epoch {facts['done']} of {facts['epochs']}")
        elif kind == "epoch":
            self.watcher.on_epoch(facts)
        elif kind == "stage":
            self.watcher.say(facts["text"])
        elif kind == "case":
            # Of hundreds of cases not every one is worth a line.
            if facts["number"] == facts["total"] or time.monotonic() - self._counted > _COUNT_SECONDS:
                self._counted = time.monotonic()
                self.watcher.say(f"{facts['text']}, {facts['number']} of {facts['total']}")
        elif kind == "fault":
            where = f"; its output is in {self.log}" if self.log else ""
            raise UsbenchError(f"{self.program}: {facts['text']}{where}")
