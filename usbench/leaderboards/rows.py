"""What a row of a table is, and what it is called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from usbench.leaderboards.stats import Noise
from usbench.results.usable import Entry, Run, settings_key

OUTSIDE_WORDS = {"pipeline": "outside pipeline", "masks": "masks from elsewhere"}
"""How a row is marked whose masks another program made."""

Patients = Mapping[str, Mapping[str, float]]
"""Scores by patient, then by name of the score; NaN where it is undefined."""


@dataclass(frozen=True)
class Folded:
    """A row that stands under another one and takes no part in ranks and tests.

    Attributes:
        name: What it is: the submission, or the digest of its code.
        dsc: Its mean DSC.
        why: "the same scores" or "older code".
        runs: What is behind it, a mapping a run.
    """

    name: str
    dsc: float | None
    why: str
    runs: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Row:
    """One method under one fusion protocol, over all its folds and seeds.

    Of cost, parameters and memory_mb are the largest of its runs, the others medians; None where no run
    states them, as those of other programs may not.

    Attributes:
        rank: Its place by DSC, None if it is not ranked.
        status: Why it is not ranked ("incomplete: ...").
        scores: Mean over patients by name, None if undefined or if not all of its runs have it.
        interval: Of DSC, 95 %, see `usbench.leaderboards.stats.score_interval`; None where there is none.
        interval_note: Why there is none ("too few patients", "no spread"), or that it is of few patients.
        noise: Variance of the mean DSC from training, None below three seeds in every fold.
        seed_sd: Standard deviation of the mean DSC of its seeds, None below two seeds that have all of its
            folds.
        cases: How many patients the mean DSC is over.
        seeds: The fewest and the most seeds of a fold.
        patients: What the means are over.
        runs: What is behind it, a mapping a run.
        fusion_stated: What the first of them says of its fusion.
        entry: The submission that it comes from, None for a row of one's own runs.
        outside: "pipeline" or "masks" where another program made its masks, else "".
        program: What that program's result calls it, else "".
        empty_cases: Patients with a class that the truth does not have; it is scored for no row.
        false_cases: Those of them in whom it was predicted in any of its runs.
        hd95_penalised: Patients whose HD95 counts a diagonal, since a mask of a class is empty or missing.
        hd95_found: Mean HD95 over the patients and classes where both masks hold something.
        finished: When the last of its runs was, as its result says.
        also: Rows that are folded under it.
        standing: See `usbench.leaderboards.standing`; "" for a row that is not ranked.
        best: Whether it cannot be ruled out as best; None where that cannot be tested.
        p_leader: Corrected p against the leader, None for the leader.
        rank_set: First and last rank that it may have.
        members: Its runs as they were read.
        claimed: Names of costs that are a submitter's word; they are shown, and never compared.
    """

    rank: int | None
    status: str
    method: str
    label: str
    fusion: str
    scores: dict[str, float | None]
    interval: tuple[float, float] | None
    interval_note: str
    noise: Noise | None
    seed_sd: float | None
    parameters: int | None
    trainable: int | None
    frozen_elsewhere: int | None
    gflops: float | None
    ms_per_slice: float | None
    memory_mb: float | None
    train_seconds: float | None
    device: str
    cases: int
    folds_done: int
    folds: int
    seeds: tuple[int, int]
    weights: str
    data: str
    settings: dict[str, Any] = field(repr=False)
    patients: Patients = field(repr=False)
    runs: tuple[dict[str, Any], ...] = field(repr=False)
    fusion_stated: dict[str, Any] = field(repr=False)
    empty_cases: int = 0
    false_cases: int = 0
    hd95_penalised: int = 0
    hd95_found: float | None = None
    finished: str = ""
    also: tuple[Folded, ...] = ()
    standing: str = ""
    best: bool | None = None
    p_leader: float | None = None
    rank_set: tuple[int, int] | None = None
    entry: Entry | None = None
    outside: str = ""
    program: str = ""
    members: tuple[Run, ...] = field(default=(), repr=False, compare=False)
    claimed: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Label and fusion: what tells the row from the others of its table."""
        return f"{self.label}, {self.fusion}"

    @property
    def short_name(self) -> str:
        """METHOD-FUSION, as folders and commands have it; several rows of a table may share it."""
        return f"{self.method}-{self.fusion}"


def entry_key(row: Row) -> str:
    """What keeps the rows of a submission apart from one's own; submissions have names of their own."""
    return row.entry.name if row.entry else ""


def identity_key(row: Row) -> tuple[Any, ...]:
    """What is one row in several tables: of other tasks, or of fewer training patients."""
    return row.method, row.fusion, row.weights, settings_key(row.settings), entry_key(row)


def differences(own: Mapping[str, Any], namesakes: Sequence[Mapping[str, Any]]) -> str:
    """The entries of `own` that are not the same in all `namesakes`, as text to append to a name."""
    keys = sorted({key for one in namesakes for key in one})
    unlike = [key for key in keys if len({repr(one.get(key)) for one in namesakes}) > 1]
    return "".join(f", {key.split('.', 1)[-1]} {own[key]}" for key in unlike if key in own)


def label_rows(rows: Sequence[Row]) -> list[Row]:
    """Name each row by method and weights, and by the settings in which it differs from its namesakes."""
    namesakes: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    named = []
    trainings = [_training(row) for row in rows if "volume.mode" in row.settings]
    for row in rows:
        called = row.program or row.method
        label = called if row.weights in ("none", "not known") else f"{called} [{row.weights}]"
        if dropout := row.settings.get("train.modality_dropout"):
            label += f", modality dropout {dropout:g}"
        if warmup := row.settings.get("train.warmup"):
            label += f", warm-up {warmup}"
        if "volume.mode" in row.settings:
            # Such rows share no training, so each says in what its own is another one.
            label += _seen(row) + differences(_training(row), trainings)
        if row.outside:
            label += f" ({OUTSIDE_WORDS[row.outside]})"
        if row.entry is not None:
            label = f"{row.entry.name}: {label}"
        named.append(replace(row, label=label))
        namesakes[label, row.fusion].append(row.settings)
    return [
        replace(row, label=row.label + differences(_unsaid(row), namesakes[row.label, row.fusion]))
        for row in named
    ]


def _seen(row: Row) -> str:
    """What a network of volumes sees, as text to append to a name."""
    whole = row.settings["volume.mode"] == "whole"
    sizes = row.settings["volume.shape" if whole else "volume.patch"]
    return f", {'whole volumes' if whole else 'patches'} {'x'.join(map(str, sizes))}"


def _training(row: Row) -> dict[str, Any]:
    """The settings of training of a row of a network of volumes, but for what its label says anyway."""
    said = ("train.modality_dropout", "train.warmup")
    return {k: v for k, v in row.settings.items() if k.startswith("train.") and k not in said}


def _unsaid(row: Row) -> dict[str, Any]:
    """The settings of a row that its label does not say yet."""
    said = _training(row) if "volume.mode" in row.settings else {}
    return {key: value for key, value in row.settings.items() if key not in said}
