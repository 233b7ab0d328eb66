"""What must hold within a submission, whatever the data: checked before it is packed and when it is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from usbench.contracts.few import few_of
from usbench.contracts.names import PROTOCOLS, is_name
from usbench.errors import UsbenchError, unknown
from usbench.results.digests import DEFAULTS, LATER, key_of, of_plugins, protocol_of_result
from usbench.results.io import PROTOCOL_VERSION, case_columns, run_folder
from usbench.results.result import Result
from usbench.results.tracks import TrackResult
from usbench.results.usable import Run, cell_key, checked, row_key, table_key
from usbench.storage.tables import parse_table
from usbench.submissions.card import is_plain
from usbench.submissions.numbers import plain_number


@dataclass(frozen=True)
class Submitted:
    """A run of a submission.

    Attributes:
        folder: Its name in the archive.
        data: Its result.json.
        rows: Of its cases.csv.
        run: The same, as the tables of the leaderboard need it.
        tracks: Its tracks, with the folders that they have in the archive.
    """

    folder: str
    data: dict[str, Any]
    rows: list[dict[str, Any]]
    run: Run
    tracks: tuple[TrackResult, ...] = ()

    @property
    def reference(self) -> tuple[Any, ...]:
        """What runs share whose predictions have the same reference masks."""
        task = self.data["task"]
        regions = tuple(sorted(task.get("regions", {}).items()))
        return (
            task["name"],
            tuple(task["modalities"]),
            task["merge_labels"],
            regions,
            task.get("definition"),
            self.data["data"]["kind"],
        )


def archive_folder(data: Mapping[str, Any]) -> str:
    """The folder of a run in the archive, as `usbench run` names it below runs/; `data`: its result.json."""
    cell, kind = data["cell"], data["data"]["kind"]
    folder = run_folder(
        Path("runs"),
        cell["task"],
        kind,
        cell["method"],
        cell["fusion"],
        cell["fold"],
        cell["seed"],
        cell["hash"],
    )
    return folder.as_posix()


def prediction_name(case_id: str) -> str:
    """The name of the predicted mask of a case within the folder of its run."""
    return f"predictions/{case_id}.nii.gz"


def result_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong within a result.json, a line each.

    Args:
        data: What `usbench.results.io.check_result` passed: its keys, types and digest are right.

    Yields:
        What a result of an honest run cannot say.
    """
    if problems := list(_content_problems(data)):
        yield from problems
        return
    yield from _config_problems(data)
    cell, task, method = data["cell"], data["task"], data["method"]
    if cell["task"] != task["name"] or cell["method"] != method["name"]:
        yield (
            f"names the cell {cell['task']}, {cell['method']}, but its task is {task['name']} and its method "
            f"{method['name']}"
        )
    yield from _fusion_problems(cell["fusion"], _plugin_fusion(data))
    if data["data"]["limit"] is not None:
        yield f"was computed with --limit {data['data']['limit']}; run it with all cases"
    yield from _few_problems(data["split"])
    yield from _hash_problems(data)


def _few_problems(split: Mapping[str, Any]) -> Iterator[str]:
    """Whether a run on few patients was trained on as many as it says."""
    few = few_of(split)
    if few is None:
        return
    wanted, found = few.of(split["of"]), len(split["train"])
    if found != wanted:
        yield f"was trained on {found} patients, but {few} are {wanted} of {split['of']}"


def _config_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """Whether settings have the keys and the types that they have in usbench."""
    usual = DEFAULTS[PROTOCOL_VERSION]
    # Masks of other programs have none of either, which the schema holds them to.
    sections = {} if "outside" in data else {part: usual[part] for part in ("data", "train")}
    if "volume" in data["config"]:
        sections["volume"] = usual["volume"]
    fusion = f"fusion.{data['cell']['fusion']}"
    if data.get("protocol_version", 2) < 3:
        # A result of version 2 states the settings of hybrid and of late fusion, whatever its own.
        sections["fusion"] = {**usual["fusion.late"], **usual["fusion.hybrid"]}
    elif _plugin_fusion(data) is None and fusion in usual:
        sections["fusion"] = {} if _elsewhere(data) else usual[fusion]
    for part, defaults in sections.items():
        found = data["config"][part]
        lost = {key for key in defaults if key not in found and f"{part}.{key}" not in LATER}
        if odd := sorted(lost | (set(found) - set(defaults))):
            yield f"lacks the setting {part}.{odd[0][:60]}, or has it without need"
            continue
        for name, value in found.items():
            default = defaults[name]
            number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
            if type(value) is not type(default) and not number:
                yield f"has a setting {part}.{name} of another type than {default!r}"


def _plugin_fusion(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a result says of its fusion where a plugin brings it; None for the three protocols."""
    fusion = data.get("fusion")
    return None if fusion is None or fusion["origin"] == "built in" else fusion


def _fusion_problems(name: str, brought: Mapping[str, Any] | None) -> Iterator[str]:
    if brought is None and name not in PROTOCOLS:
        yield str(unknown("fusion", name, PROTOCOLS))
    if brought is not None and (name in PROTOCOLS or not is_name(name)):
        yield f"has a fusion of a plugin called '{name[:60]}', which no plugin's fusion can be called"


def _hash_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """Whether protocol and hash are what the settings give: another name or setting is another cell."""
    cell, task, cost = data["cell"], data["task"], data["cost"]
    plugin_task = task.get("origin", "folder") not in ("built in", "folder")
    version = data.get("protocol_version", 2)
    protocol = protocol_of_result(data)
    if data["protocol"] != protocol:
        yield (
            "its protocol is not the digest of its settings: they were edited, or are of another version of "
            "usbench's protocol"
        )
        return
    key = key_of(
        protocol,
        data["data"]["fingerprint"],
        data["method"],
        cell["fusion"],
        cell["fold"],
        cell["seed"],
        data["config"],
        cost["devices"],
        of_plugins(_plugin_fusion(data), task["words"] if plugin_task else None, task.get("patterns")),
        version,
    )
    if cell["hash"] != key:
        yield "its hash is not the digest of its settings: method, settings, fold or data were edited"


def _content_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of other people's results has to be kept from, and what no task has."""
    if not data["split"]["train"]:
        yield "'split.train' is empty"
    if data.get("protocol_version", 2) not in (2, *DEFAULTS):
        given = str(data["protocol_version"])[:20]
        yield f"is of version {given} of the protocol, which goes up to {PROTOCOL_VERSION} here"
    for part, name in (("split", "folds"), ("cell", "fold")):
        if data[part][name] >= 10_000:
            yield f"{name} {str(data[part][name])[:20]} is out of range"
    yield from text_problems(data)


def text_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """What texts and numbers of other people's files may not be: no plain text, too long, out of range."""
    values = list(_values(data))
    if not all(is_plain(value) for value in values if isinstance(value, str)):
        yield "holds control characters or a link in Markdown"
    if any(len(value) > 2000 for value in values if isinstance(value, str)):
        yield "holds a text of more than 2000 characters"
    if not all(abs(value) < 2**63 for value in values if isinstance(value, int | float)):
        yield "holds a number that is out of range"


def _values(value: Any) -> Iterator[Any]:
    """Every text and number in a JSON-like value, keys too; texts without their line breaks and tabs."""
    if isinstance(value, str):
        yield value.replace("\n", " ").replace("\t", " ")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _values(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner)
    elif value is not None:
        yield value


def run_of(folder: str, data: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> Submitted:
    """A run whose cases.csv holds every case of its test fold with every class, once.

    Args:
        folder: Its name in the archive.
        data: Its result.json, passed by `result_problems`.
        rows: Of its cases.csv.
        path: What the leaderboard shows.

    Returns:
        The run.

    Raises:
        UsbenchError: For other columns or other rows.
    """
    if rows and tuple(rows[0]) != case_columns():
        raise UsbenchError(
            f"cases.csv: its columns are not {', '.join(case_columns())}; compute the run again"
        )
    return Submitted(folder, data, rows, checked(Result(path, data, rows)))


def run_files(data: Mapping[str, Any]) -> list[str]:
    """The files of a run besides result.json that a submission holds.

    Args:
        data: Its result.json. Masks of other programs have a history.csv where they were trained in epochs.

    Returns:
        Names relative to the folder of the run.
    """
    history = ["history.csv"] if "outside" not in data or "history.csv" in data["files"] else []
    return ["cases.csv", *history, *(prediction_name(case) for case in data["split"]["test"])]


def file_problems(data: Mapping[str, Any], digests: Mapping[str, str]) -> Iterator[str]:
    """What of a run's files is absent, changed or too much.

    Args:
        data: Its result.json.
        digests: SHA-256 (hex) of the files besides result.json, by name relative to the folder of the run.

    Yields:
        A line for each problem.
    """
    wanted = run_files(data)
    for name in wanted:
        what = f"the mask {name}" if name.endswith(".nii.gz") else name
        if name not in digests:
            yield f"{what} is absent"
        elif data["files"].get(name) != digests[name]:
            yield f"{what} is not what the run wrote (its digest does not fit)"
    for name in sorted(set(digests) - set(wanted)):
        yield f"{name} is no file of this run: its fold does not test that case"


def check_history(text: str) -> None:
    """Check that the text of a history.csv is a header and rows of numbers.

    Raises:
        ValueError: Where it is not, with what is wrong.
    """
    header, rows = parse_table(text)
    if not header or not all(cell.isidentifier() for cell in header):
        raise ValueError("its first line names no columns")
    for row in rows:
        if odd := [cell for cell in row if cell and not plain_number(cell)]:
            raise ValueError(f"{odd[0][:40]!a} is no plain number")


def set_problems(runs: Sequence[Submitted]) -> Iterator[str]:
    """What is wrong with the runs of one submission taken together, a line each."""
    methods = sorted({one.data["cell"]["method"] for one in runs})
    if len(methods) > 1:
        yield f"has runs of {len(methods)} methods ({', '.join(methods)}); a card describes one, submit each"
    cells: dict[tuple[Any, ...], Submitted] = {}
    for one in runs:
        other = cells.setdefault(cell_key(one.data), one)
        if other is not one:
            yield f"{one.run.path}: is the same cell as {other.run.path}, with other content; keep one"
    rows: dict[tuple[Any, ...], list[Submitted]] = defaultdict(list)
    for one in runs:
        rows[*table_key(one.data), *row_key(one.data), one.data["cell"]["seed"]].append(one)
    for members in rows.values():
        data = members[0].data
        absent = sorted(set(range(data["split"]["folds"])) - {one.data["cell"]["fold"] for one in members})
        if absent:
            cell = data["cell"]
            yield (
                f"{cell['task']}, {cell['method']}, {cell['fusion']}, seed {cell['seed']}: lacks fold "
                f"{', '.join(map(str, absent[:10]))} of {data['split']['folds']}; "
                f"{'score' if _elsewhere(data) else 'compute'} them with usbench "
                f"{'score' if _elsewhere(data) else 'run'} --folds all"
            )


def _elsewhere(data: Mapping[str, Any]) -> bool:
    """Whether somebody's masks were scored, and no program run."""
    return bool(data.get("outside", {}).get("kind") == "masks")


def weights_problem(card: Mapping[str, Any], runs: Sequence[Submitted]) -> str:
    """Why the card's weights are not those that the runs name, or ""."""
    named = sorted({one.data["method"]["weights"] for one in runs} - {"none", "not known"})
    if named and str(card["weights"]).strip().lower() == "none":
        return f"the card says weights: none, but runs started from {', '.join(named)}"
    return ""


def folder_of(name: str) -> tuple[str, str]:
    """A member of the archive below runs/ as the folder of its run and its name in there."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:4]), "/".join(parts[4:])
