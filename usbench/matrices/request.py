"""What a user asks `usbench matrix` for: lists of methods, fusions, tasks, seeds; and what cells share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.contracts.names import TRACKS
from usbench.contracts.options import Option, Options, option, options_of
from usbench.contracts.request import Request
from usbench.errors import UsbenchError, unknown

if TYPE_CHECKING:
    from usbench.contracts.method import Method

ALL = ("all",)
_NO_NAMES = "names nothing; write all, or names such as a,b"


@dataclass(frozen=True)
class MatrixRequest(Options):
    """What decides which cells a matrix has and where they are computed.

    A field with `instead_of` takes the place of one of `Request`; the others are of the matrix alone.
    `shared` holds the options that every cell has, as `usbench.contracts.request.Request` says them.

    Raises:
        UsbenchError: as for `Request`.
    """

    methods: tuple[str, ...] = option(
        ALL, "all, or names such as unet,zeus.", kind="names", instead_of="method", wrong=_NO_NAMES
    )
    fusions: tuple[str, ...] = option(
        ALL, "all three, or names.", kind="names", instead_of="fusion", wrong=_NO_NAMES
    )
    tasks: tuple[str, ...] | None = option(
        None,
        "all, but for variants such as msd-brain-regions, or names such as chaos,msd-brain "
        "(default: all, or none with --task-dir).",
        kind="names",
        instead_of="task",
        wrong=_NO_NAMES,
    )
    task_dirs: tuple[Path, ...] = option(
        (),
        "A folder in MSD layout; may be repeated.",
        kind="path",
        flag="task-dir",
        repeated=True,
        instead_of="task_dir",
    )
    seeds: tuple[int, ...] = option((0,), "Numbers such as 0,1,2.", kind="wholes", instead_of="seed")
    address: str | None = option(
        None, "A Ray cluster: ray://HOST:10001, HOST:6379, or auto on one of its nodes."
    )
    slurm: str | None = option(
        None,
        "Compute cells as jobs of Slurm: partition=gpu,gpus=1,time=12:00:00 and other options of sbatch, or "
        "default; local tries it on this machine.",
        metavar="KEY=VALUE,...",
    )
    workers: int | None = option(
        None,
        "How many cells at once (default: as many as fit; needs Ray or Slurm).",
        kind="whole",
        least=1,
        most=100_000,
        wrong="is out of range; choose 1 or more",
    )
    cpus_per_run: int | None = option(
        None,
        "Cores of one cell (default: 1; all with one worker).",
        kind="whole",
        least=1,
        most=100_000,
        wrong="is out of range; choose 1 or more",
    )
    gpus_per_run: float | None = option(
        None,
        "GPUs of one cell (default: 0.5).",
        kind="number",
        least=1e-6,
        most=1000,
        wrong="is out of range; choose more than 0",
    )
    tracks: tuple[str, ...] = option(
        (),
        "Then test the network of every finished cell on a track, robustness or external; may be repeated.",
        flag="track",
        repeated=True,
        choices=TRACKS,
    )
    external: str | None = option(
        None,
        "Other data for the track external: a task, a task file or a folder in MSD layout "
        "(default: scanner 2, of phantoms).",
    )
    labels: str | None = option(
        None, "External: class of the cells = class of the data, as in a=b,c=d.", metavar="A=B,..."
    )
    shared: Request = field(default_factory=Request)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slurm is not None and self.address is not None:
            raise UsbenchError("--slurm and --address name two clusters; give one of them")
        for seed in self.seeds:
            self.shared.with_(seed=seed)  # Checks its range.

    @classmethod
    def of(cls, **options: Any) -> MatrixRequest:
        """The request that these options make.

        Args:
            options: values by name of the field, of `MatrixRequest` or of the `Request` that all cells share.

        Raises:
            UsbenchError: for a value that is wrong.
        """
        own = {name: options.pop(name) for name in options_of(cls) if name in options}
        return cls(**own, shared=Request(**options))

    @property
    def every_task(self) -> bool:
        """Whether all tasks of the benchmark and of plugins are asked for."""
        return self.tasks == ALL or (self.tasks is None and not self.task_dirs)

    def settings_for(self, method: Method) -> dict[str, Any]:
        """The settings that a method takes: all but "method.KEY" of others and "volume.KEY" of volumes."""
        theirs = {f"method.{key}" for key in method.settings}
        if method.dims == 3:
            theirs |= {key for key in self.shared.settings if key.startswith("volume.")}
        given = self.shared.settings
        some = ("method.", "volume.")
        return {key: v for key, v in given.items() if not key.startswith(some) or key in theirs}


def matrix_options() -> dict[str, Option]:
    """The options of `usbench matrix`, by name of the field: those of a cell, in order, and then its own."""
    own = options_of(MatrixRequest)
    plural = {one.instead_of: name for name, one in own.items() if one.instead_of}
    found: dict[str, Option] = {}
    for name, one in options_of(Request).items():
        if name in plural:
            found[plural[name]] = own[plural[name]]
        elif "matrix" in one.commands:
            found[name] = one
    return {**found, **own}


def read_file(path: Path, options: Mapping[str, Option]) -> dict[str, Any]:
    """The words in a YAML file, by name of the field, as a command line would give them.

    Args:
        path: a mapping from flags, without dashes, to values. `set` is a mapping of settings, flat or nested,
            or a list of "key=value".
        options: the options that there are, by name of the field.

    Returns:
        Texts, "a,b" where the file has a list; lists of texts where an option may be repeated; flat settings.

    Raises:
        UsbenchError: for a file that cannot be read and for an unknown word, with the nearest one.
    """
    from usbench.config import read_mapping

    content = read_mapping(path, "words", "methods: [unet, zeus]")
    names = {one.flag: name for name, one in options.items()}
    found: dict[str, Any] = {}
    for flag, value in content.items():
        # "yes: true" has a key that YAML takes for a truth value.
        flag = "yes" if flag == "True" else flag
        if flag not in names:
            raise unknown(f"word of {path}", flag, names)
        found[names[flag]] = _given(path, options[names[flag]], value)
    return found


def _given(path: Path, one: Option, value: Any) -> Any:
    """One value of a file, as a command line would give it."""
    from usbench.config import flatten, parse_assignments

    if one.kind == "settings":
        given = parse_assignments([str(inner) for inner in value]) if isinstance(value, list) else value
        if not isinstance(given, dict):
            raise UsbenchError(
                f"{path}: {one.flag} is '{value}', not settings; write 'set: {{train.epochs: 5}}'"
            )
        return flatten(given)
    if isinstance(value, dict) or value is None:
        raise UsbenchError(
            f"{path}: {one.flag} has no value that an option can have; write '{one.flag}: VALUE'"
        )
    if one.repeated:
        return [str(inner) for inner in value] if isinstance(value, list) else [str(value)]
    if isinstance(value, list):
        if one.kind not in ("names", "folds", "wholes", "numbers"):
            raise UsbenchError(
                f"{path}: {one.flag} is a list, but takes one value; write '{one.flag}: VALUE'"
            )
        return ",".join(str(inner) for inner in value)
    return str(value)
