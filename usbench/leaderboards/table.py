"""Tables of comparable results: one for each task, kind of data, data and protocol."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from usbench.contracts.few import FewPatients, few_of
from usbench.contracts.names import DATA_KINDS, DataKind
from usbench.leaderboards.averaging import make_rows
from usbench.leaderboards.compare import Difference, FusionEffect, SplitHalf, Tests, compare
from usbench.leaderboards.rows import Row, differences
from usbench.leaderboards.said import near_tables, same_masks
from usbench.leaderboards.stats import Schemes
from usbench.results.digests import OF_ROWS, protocol_of_result, without_later
from usbench.results.usable import Run, frame_key, table_key, volumes_key
from usbench.results.words import task_words
from usbench.runtime.console import count

__all__ = ["Row", "Table", "make_tables"]

Key = TypeVar("Key", bound=Hashable)
Member = TypeVar("Member")


_OF_OTHERS = {
    "pipeline": "outside pipelines have the folds and the scores of the others, and a recipe of their own",
    "volumes": "networks of volumes have the data, the folds and the scores of the others, and a training of "
    "their own",
    "masks": "of masks from elsewhere, on whom their program was trained is its author's claim",
}


@dataclass(frozen=True)
class Table:
    """Rows that may be compared: one task, kind of data, data, protocol, modalities and classes.

    Attributes:
        title: Tells it from the other tables.
        base_title: The title without the part of the training patients.
        task: Name of the task.
        kind: Of the data.
        preset: The preset of settings.
        modalities: Names, in order.
        classes: Names of the foreground classes, in order.
        cases: How many the data has.
        limit: How many of them were used, None for all.
        folds: How many folds the cases are split into.
        rule: "fixed" for the folds of the task, "derived" for folds that follow from the case ids.
        fingerprint: SHA-256 (hex) over the content of all cases.
        protocol: Digest of all that rows must share to be compared.
        few: What part of the training patients its rows were trained on, None for all.
        trained_on: The fewest and the most patients that one of its runs was trained on.
        of_all_patients: The protocol of the same table of all training patients; its own where it is that.
        config: The settings of data and training that all rows share, but for networks of volumes, which
            share no training.
        rows: The ranked ones first, in order of rank.
        tests: How the rows were tested against the best one.
        fusion_effects: Differences between the fusions of a method.
        split_half: Whether other patients would give the same order.
        schemes: Whether another way of ranking would.
        pairs: Every pair of ranked rows, None where there are too many.
        baseline: Each other ranked row less a named one; empty without one.
        notes: What must be said of it: the same masks under two names or seeds, and another table that
            differs in nothing but the fingerprint of the data or in settings equal within rounding.
    """

    title: str
    base_title: str
    task: str
    kind: DataKind
    preset: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    cases: int
    limit: int | None
    folds: int
    rule: str
    fingerprint: str
    protocol: str
    few: FewPatients | None
    trained_on: tuple[int, int]
    of_all_patients: str
    config: dict[str, Any] = field(repr=False)
    rows: tuple[Row, ...]
    tests: Tests
    fusion_effects: tuple[FusionEffect, ...]
    split_half: SplitHalf | None
    schemes: Schemes | None
    pairs: tuple[Difference, ...] | None
    baseline: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> str:
        """One line on what the rows share."""
        low, high = self.trained_on
        patients = f"{low}" if low == high else f"{low} to {high}"
        trained = "" if self.few is None else f"trained on {self.few}, {patients} in a fold; "
        return (
            f"modalities {', '.join(self.modalities)}; classes {', '.join(self.classes)}; "
            f"{count(self.cases, 'case')}, {count(self.folds, 'fold')} ({self.rule}); {trained}"
            f"data {self.fingerprint[:10]}, protocol {self.protocol}{self._of_others}"
        )

    @property
    def _of_others(self) -> str:
        """What a reader must know of rows that do not share all with the others."""
        marked = {row.outside for row in self.rows}
        marked |= {"volumes" for row in self.rows if "volume.mode" in row.settings}
        said = [sentence for kind, sentence in _OF_OTHERS.items() if kind in marked]
        return "".join(f"; {sentence}" for sentence in said)

    @property
    def ranked(self) -> tuple[Row, ...]:
        """The complete rows, in order of rank."""
        return tuple(row for row in self.rows if row.rank is not None)


def make_tables(runs: Sequence[Run], baseline: str | None = None) -> tuple[Table, ...]:
    """One table for each group of comparable runs, sorted by task, kind of data and title.

    Args:
        runs: Of a leaderboard.
        baseline: As for `usbench.leaderboards.compare.compare`.
    """
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    frames: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    others = [run for run in runs if "outside" in run.data]
    for run in runs:
        if "outside" not in run.data:
            groups[table_key(run.data)].append(run)
    groups = volumes_beside_slices(groups, lambda run: run.data, lambda run: volumes_key(run.data))
    for key, members in groups.items():
        if others:
            frames[frame_key(members[0].data)].append(key)
    # Masks of other programs stand beside all that they share the frame with, else in a table of their own.
    for run in others:
        for key in frames.get(frame_key(run.data)) or [table_key(run.data)]:
            groups.setdefault(key, []).append(run)
    found = list(groups.values())
    firsts = [group[0].data for group in found]
    titles = titles_of(firsts)
    shared = [{**_details(data), **_frame(data)} for data in firsts]
    near = near_tables(shared, [title for title, _ in titles])
    tables = [
        _make_table(*title, group, baseline, said)
        for title, group, said in zip(titles, found, near, strict=True)
    ]
    return tuple(sorted(tables, key=lambda t: (t.task, DATA_KINDS.index(t.kind), t.title, t.protocol)))


def volumes_beside_slices(
    groups: Mapping[Key, list[Member]],
    result: Callable[[Member], Mapping[str, Any]],
    shared: Callable[[Member], Hashable],
) -> dict[Key, list[Member]]:
    """Groups in which networks of volumes stand beside all slices that they share the data with.

    Args:
        groups: By what the members of a group share, members of slices or of volumes.
        result: The result.json of a member.
        shared: What a member shares with networks of volumes.

    Returns:
        The groups of slices, each with the volumes that belong there after its own members, and groups of
        volumes that belong nowhere.
    """
    found = {key: list(some) for key, some in groups.items() if not of_volumes(result(some[0]))}
    beside: dict[Hashable, list[Key]] = defaultdict(list)
    for key, some in found.items():
        beside[shared(some[0])].append(key)
    for key, some in groups.items():
        if of_volumes(result(some[0])):
            for place in beside.get(shared(some[0])) or [key]:
                found.setdefault(place, []).extend(some)
    return found


def of_volumes(data: Mapping[str, Any]) -> bool:
    """Whether a result is of a network of volumes."""
    return "volume" in data["config"]


def _shared_config(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of data and training that a result shares with the others of its table."""
    config = {part: dict(data["config"][part]) for part in ("data", "train")}
    return {**config, "train": {}} if of_volumes(data) else config


def _make_table(
    title: str, base_title: str, runs: Sequence[Run], baseline: str | None, near: Sequence[str]
) -> Table:
    data = runs[0].data
    few = few_of(data["split"])
    trained = [len(run.data["split"]["train"]) for run in runs]
    compared = compare(make_rows(runs), baseline=baseline)
    return Table(
        title=title,
        base_title=base_title,
        task=data["cell"]["task"],
        kind=data["data"]["kind"],
        preset=str(data["preset"]),
        modalities=tuple(data["task"]["modalities"]),
        classes=tuple(data["task"]["classes"]),
        cases=int(data["data"]["cases"]),
        limit=data["data"]["limit"],
        folds=int(data["split"]["folds"]),
        rule=str(data["split"]["rule"]),
        fingerprint=str(data["data"]["fingerprint"]),
        protocol=str(data["protocol"]),
        few=few,
        trained_on=(min(trained), max(trained)),
        of_all_patients=str(data["protocol"]) if few is None else protocol_of_result(data, all_patients=True),
        config=_shared_config(data),
        rows=compared.rows,
        tests=compared.tests,
        fusion_effects=compared.fusion_effects,
        split_half=compared.split_half,
        schemes=compared.schemes,
        pairs=compared.pairs,
        baseline=compared.baseline,
        notes=(*same_masks(compared.rows), *near),
    )


def _frame(data: Mapping[str, Any]) -> dict[str, Any]:
    """What two tables must have in common, besides settings, to be near each other."""
    few = few_of(data["split"])
    return {
        "task": data["cell"]["task"],
        "kind": data["data"]["kind"],
        "limit": data["data"]["limit"],
        "outside": "outside" in data,
        "volumes": of_volumes(data),
        **({} if few is None else few.facts),
    }


def _details(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the rows of a table share, by name."""
    config = without_later(_shared_config(data), data["cell"]["fusion"])
    shared = {f"{part}.{key}": v for part in ("data", "train") for key, v in config[part].items()}
    flat = {name: value for name, value in shared.items() if name not in OF_ROWS}
    flat["protocol version"] = str(data.get("protocol_version", 2))
    flat["modalities"] = "+".join(data["task"]["modalities"])
    flat["classes"] = "+".join(data["task"]["classes"])
    regions = data["task"].get("regions", {})
    flat["thresholds"] = " ".join(f"{name}={value:g}" for name, value in regions.items()) or "none"
    flat["precision"] = data["cost"].get("precision", "")
    flat["split"] = str(data["split"]["digest"])[:10]
    flat["content"] = str(data["data"]["fingerprint"])[:10]
    return flat


def titles_of(groups: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """A title for each group, with and without the part of the training patients, by its first result.

    Namesakes also show the settings in which they differ.
    """
    names, details = [], []
    for data in groups:
        name = task_words(data)
        name += ", masks of other programs" if "outside" in data else f", preset {data['preset']}"
        if data["data"]["limit"] is not None:
            name += f", limit {data['data']['limit']}"
        names.append(name)
        details.append(_details(data))
    bases = [
        name + differences(flat, [d for n, d in zip(names, details, strict=True) if n == name])
        for name, flat in zip(names, details, strict=True)
    ]
    parts = [few_of(data["split"]) for data in groups]
    titles = [base if few is None else f"{base}, {few}" for base, few in zip(bases, parts, strict=True)]
    # Another version of the protocol shows in its digest alone.
    titles = [
        title if titles.count(title) == 1 else f"{title}, protocol {data['protocol']}"
        for title, data in zip(titles, groups, strict=True)
    ]
    return list(zip(titles, bases, strict=True))
