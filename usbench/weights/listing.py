"""What there is of pretrained weights: a row for each, verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usbench.errors import UsbenchError
from usbench.weights.store import (
    SETS,
    files_of,
    find_weight,
    how_to_get,
    names_of_set,
    present,
    verified,
    weights_dir,
)
from usbench.weights.table import Weight


@dataclass(frozen=True)
class WeightStatus:
    """One line of `list_weights`.

    Attributes:
        name: As in the table of weights; likewise set, licence, what and file.
        set: "bundled", "paper" or "more".
        bytes: Of what is here, else as the table says; None where nobody states it.
        megabytes: The same in 10^6 bytes, or about what their number of parameters takes; None where nothing
            is known.
        licence: Of the weights.
        what: In words.
        state: "here", "absent" or "damaged".
        path: Where they are; None where they are absent.
        problem: Why they are damaged, else "".
        file: Name in the folder.
        folder: Where absent weights belong.
        address: The page, the file or the repository that they come from.
        accept: Whether a licence must be accepted there first.
        how: What to do for absent weights: a command, or what a person does by hand; else "".
    """

    name: str
    set: str
    bytes: int | None
    megabytes: float | None
    licence: str
    what: str
    state: str
    path: Path | None
    problem: str
    file: str
    folder: Path
    address: str
    accept: bool
    how: str


def check_weights(names: Sequence[str] = (), of_set: str | None = None) -> list[WeightStatus]:
    """Verify the named weights, or those of a set, or all of the table where nothing is named.

    Raises:
        UsbenchError: For an unknown name or set.
    """
    chosen = [*names, *(names_of_set(of_set) if of_set else ())]
    return [_row(find_weight(name)) for name in dict.fromkeys(chosen)] if chosen else list_weights()


def list_weights() -> list[WeightStatus]:
    """A row for every entry of the table; what is here is verified."""
    return [_row(find_weight(name)) for of_set in SETS for name in names_of_set(of_set)]


def _row(weight: Weight) -> WeightStatus:
    path, size, problem = present(weight), weight.bytes, ""
    if path is not None:
        try:
            verified(weight, path)
            size = sum(file.stat().st_size for file in files_of(weight, path).values())
        except UsbenchError as error:
            problem = str(error)
    state = "absent" if path is None else "damaged" if problem else "here"
    return WeightStatus(
        name=weight.name,
        set=weight.set,
        bytes=size,
        megabytes=weight.about_mb if size is None else round(size / 1e6, 3),
        licence=weight.licence,
        what=weight.what,
        state=state,
        path=path,
        problem=problem,
        file=weight.file,
        folder=weights_dir(),
        address=weight.address,
        accept=weight.gated,
        how=how_to_get(weight) if path is None else "",
    )


def render(rows: Sequence[WeightStatus]) -> str:
    """The rows as a table for people."""
    from tabulate import tabulate

    table = []
    for row in rows:
        size = f"{row.bytes:,} bytes" if row.bytes is not None else "not stated"
        if row.bytes is None and row.megabytes is not None:
            size = f"about {row.megabytes:,} MB"
        table.append([row.name, row.set, size, row.licence, row.state, str(row.path or "-")])
    headers = ["name", "set", "size", "licence", "state", "path"]
    text: str = tabulate(table, headers=headers, disable_numparse=True)
    return text
