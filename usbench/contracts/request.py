"""What a user asks `usbench run` for: one frozen object for command line, Python, matrix and worker."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from usbench.contracts.names import DATA_MODES
from usbench.contracts.options import Option, Options, command_words, option, options_of
from usbench.errors import UsbenchError
from usbench.runtime.devices import DEVICES, PRECISIONS

LOGGERS = ("tensorboard", "csv", "wandb", "mlflow")
"""The experiment trackers, see `usbench.runs.watchers.loggers`."""

CACHE_GB = 50.0
"""Default bound on stored features of frozen parts, in GB."""


@dataclass(frozen=True)
class Request(Options):
    """What decides which cells `usbench run` computes, on what and where to. Every field is an option.

    A new option is a field here, and what uses it: `--help`, the YAML files of `usbench matrix` and the words
    of `command` follow. The signatures of `usbench.run` and `usbench.matrix` are written out for editors; a
    test names what is missing there.

    Texts are taken for paths and numbers, and "a,b" for several names. Values are checked when the object is
    made, as far as they can be without looking at methods, data and devices. `with_` changes some of them.

    Raises:
        UsbenchError: for a value that is none of the choices or out of range.
    """

    method: str = option("unet", "Name of a method.", commands=("run",), always=True)
    fusion: str = option("late", "early, hybrid, late, or one of a plugin.", commands=("run",), always=True)
    task: str | None = option(
        None,
        "Name of a task: chaos, msd-prostate, msd-brain, msd-brain-regions, of a plugin, or a task file.",
        commands=("run",),
    )
    task_dir: Path | None = option(
        None, "A folder in MSD layout, instead of a task.", kind="path", commands=("run",)
    )
    data_dir: Path | None = option(None, "Where the data sets are (default: $USBENCH_DATA).", kind="path")
    data: Literal["auto", "real", "phantom"] = option(
        "auto",
        "auto: real data where it is found, else the phantom. real: absence is an error. phantom: always.",
        choices=DATA_MODES,
    )
    scanner: int = option(
        1,
        "Which scanner a phantom is of: 1, or 2 for other patients, another coil, more noise, other timing.",
        kind="whole",
        least=1,
        most=2,
    )
    modalities: tuple[str, ...] | None = option(None, "Use only these, comma-separated.", kind="names")
    merge_labels: str | None = option(
        None, "Merge all labels into one foreground of this name.", metavar="NAME"
    )
    folds: str | None = option(
        None, "all, or numbers such as 0,2 (default: 0; with preset paper: all).", kind="folds"
    )
    train_share: tuple[float, ...] = option(
        (),
        "Train on these shares of a fold's training patients, such as 0.1,0.3,1: a cell each (default: all).",
        kind="numbers",
        metavar="SHARES",
        least=1e-6,
        most=1,
        wrong="is no share of the patients; choose more than 0, up to 1 for all of them",
    )
    train_cases: tuple[int, ...] = option(
        (),
        "Train on so many of a fold's training patients, such as 2,5: a cell each (default: all).",
        kind="wholes",
        metavar="NUMBERS",
        least=1,
        wrong="leaves nobody to train on; choose 1 or more",
    )
    seed: int = option(
        0, "Seed of every random draw.", kind="whole", least=0, most=2**31 - 1, commands=("run",)
    )
    preset: str | None = option(
        None, "paper, quick or smoke (default: quick on phantoms and on a CPU, else paper)."
    )
    settings: Mapping[str, Any] = option(
        {}, "Change a setting; may be repeated.", kind="settings", flag="set", metavar="KEY=VALUE"
    )
    config: Path | None = option(None, "YAML file of settings; --set wins over it.", kind="path")
    plugins: tuple[Path, ...] = option(
        (), "Python file with a METHOD, TASK or FUSION.", kind="path", flag="plugin", repeated=True
    )
    device: str = option("auto", "auto, cpu or cuda.", choices=DEVICES, called="device")
    devices: int = option(1, "How many devices train a cell together, on each node.", kind="whole")
    nodes: int = option(
        1, "How many nodes train together; start this on each of them.", kind="whole", commands=("run",)
    )
    precision: str = option("32", "32, bf16 or 16.", choices=tuple(PRECISIONS), called="precision")
    runs_dir: Path = option(Path("runs"), "Where results are written.", kind="path")
    limit: int | None = option(
        None,
        "Use the first N cases only; such a run is never ranked.",
        kind="whole",
        metavar="N",
        least=2,
        wrong="leaves nothing to train on; use at least 2 cases",
    )
    overwrite: bool = option(False, "Compute finished cells again.", kind="switch", commands=("run",))
    keep_weights: bool = option(
        True, "Keep the trained network beside the result, in network.safetensors.", kind="switch"
    )
    loggers: tuple[str, ...] = option(
        (),
        f"Follow the run with {', '.join(LOGGERS[:-1])} or {LOGGERS[-1]}; may be repeated.",
        flag="logger",
        repeated=True,
        choices=LOGGERS,
    )
    cache_gb: float = option(
        CACHE_GB,
        "Bound on stored features of frozen parts; past it they are computed anew in every batch.",
        kind="number",
        least=0,
        most=1e6,
        wrong="is out of range; choose 0 or more GB",
    )
    yes: bool = option(
        False,
        "Compute frozen features without asking, however long they take and whether they fit or not.",
        kind="switch",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_share and self.train_cases:
            raise UsbenchError("--train-share and --train-cases say the same in two ways; give one of them")

    @property
    def all_devices(self) -> int:
        """How many devices train a cell together, over all nodes."""
        return self.devices * self.nodes

    def command(self) -> tuple[str, ...]:
        """The words after `usbench run` that ask for the same; see `command_words`."""
        return command_words(self)

    def __str__(self) -> str:
        """The command line that asks for the same."""
        return shlex.join(("usbench", "run", *self.command()))


def run_options() -> dict[str, Option]:
    """The options of `usbench run`, by name of the field, in order."""
    return {name: one for name, one in options_of(Request).items() if "run" in one.commands}
