"""From a folder or a table to a task file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from usbench.contracts.data import Task
from usbench.contracts.files import MASK, ScanFiles, TaskFiles
from usbench.contracts.names import natural_key, safe_name
from usbench.contracts.problem import fail
from usbench.datasets.imports import bids, msd, nnunet, patient_folders, table
from usbench.datasets.imports.labels import proposed, values_in
from usbench.datasets.imports.proposal import Part, Proposal, safe_part, whole_pattern, words_for
from usbench.datasets.imports.write import task_text
from usbench.datasets.readers.nifti import nifti_errors, open_nifti
from usbench.datasets.readers.patterns import find_files, require_pattern
from usbench.datasets.readers.recognise import KINDS, recognise
from usbench.datasets.tasks import task_names
from usbench.datasets.tasks.task_file import load_task_file
from usbench.datasets.voxel_grid import grid_difference
from usbench.errors import UsbenchError, unknown
from usbench.storage.files import at_home, atomic_path


@dataclass(frozen=True)
class Asked:
    """What a user says of the data, in place of what is found.

    Attributes:
        kind: one of the layouts, "" for that which is recognised.
        name: of the task; by default that of the folder.
        modalities: by name, the pattern (of a table: the column).
        mask: the pattern (of a table: the column).
        classes: by name, the values; they are regions where they overlap.
        session: of BIDS.
    """

    kind: str = ""
    name: str = ""
    modalities: Mapping[str, str] = field(default_factory=dict)
    mask: str = ""
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    session: str = ""


@dataclass(frozen=True)
class Imported:
    """A task file that was written.

    Attributes:
        task: as the file describes it.
        proposal: what was found.
        cases: by case that has a file, the modalities (or `MASK`) that are there.
        exclude: by case that is left out, what it lacks or has twice.
        values: in how many masks each value stands; empty where names are known.
    """

    task: Task
    proposal: Proposal
    cases: dict[str, list[str]]
    exclude: dict[str, str]
    values: Counter[int]

    def table(self) -> list[tuple[str, str, str]]:
        """A row a modality and the mask: its name, its pattern, how many cases have it and who lacks it."""
        rows = []
        patterns = [(scan.name, _place(scan)) for scan in self.proposal.scans] + [(MASK, self.proposal.mask)]
        for name, pattern in patterns:
            lacking = [case for case, there in self.cases.items() if name not in there]
            count = f"{len(self.cases) - len(lacking)} of {len(self.cases)} cases"
            some = ", ".join(lacking[:6]) + (", ..." if len(lacking) > 6 else "")
            rows.append((name, pattern or "case by case", f"{count}, not {some}" if lacking else count))
        return rows


def _place(scan: ScanFiles) -> str:
    if scan.channel is None:
        return scan.pattern
    return f"{scan.pattern or 'case by case'}, channel {scan.channel}"


def make_task_file(place: Path, out: Path, asked: Asked, overwrite: bool = False) -> Imported:
    """Write the task file of a folder or a table; nothing else is written, and the data stays as it is.

    Args:
        place: the folder, or a CSV file.
        out: the file to write.
        asked: what the user says.
        overwrite: whether `out` may be there already.

    Raises:
        UsbenchError: one line that names what is missing and the option that gives it.
    """
    place, out = at_home(place).resolve(), at_home(out)
    if out.exists() and not overwrite:
        raise UsbenchError(f"{out}: is there already; name another file with --out, or add --overwrite")
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise UsbenchError(f"{out}: a task file ends in .yaml; name it so with --out")
    if not place.exists():
        raise UsbenchError(f"{place}: there is no such folder or table; check the path")
    proposal = _proposal(place, asked)
    _override(proposal, asked)
    found, exclude = _matched(proposal)
    values: Counter[int] = Counter()
    whole = [case for case in found if case not in exclude]
    _choose_reference(proposal, whole[0], {part: files[0] for part, files in found[whole[0]].items()})
    if not proposal.classes:
        values = values_in({case: found[case][MASK][0] for case in whole})
        proposal.classes = proposed(values)
    name = _name(place, asked)
    text = task_text(proposal, name, list(exclude), out)
    # Read as any other before it gets its name, so that a wrong file is never there.
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
        try:
            load_task_file(temporary, task_names())
        except UsbenchError as error:
            raise UsbenchError(str(error).replace(str(temporary), str(out))) from error
    there = {case: [part for part, files in at.items() if files] for case, at in found.items()}
    return Imported(load_task_file(out, task_names()), proposal, there, exclude, values)


def _proposal(place: Path, asked: Asked) -> Proposal:
    kind = asked.kind or recognise(place)
    if kind is None:
        raise UsbenchError(
            f"{place}: neither it nor its folders hold a .nii.gz or .nii file; convert other formats first"
        )
    if kind not in KINDS:
        raise unknown("kind of data", kind, KINDS)
    if (kind == "csv") != place.is_file():
        raise UsbenchError(f"{place}: --as {kind} takes {'a CSV file' if kind == 'csv' else 'a folder'}")
    if kind == "csv":
        return table.propose(place, dict(asked.modalities), asked.mask)
    if kind == "bids":
        return bids.propose(place, asked.session)
    if kind == "nnunet":
        return nnunet.propose(place)
    return msd.propose(place) if kind == "msd" else patient_folders.propose(place)


def _override(proposal: Proposal, asked: Asked) -> None:
    if asked.classes:
        several = [label for labels in asked.classes.values() for label in labels]
        proposal.classes = {
            safe_part(name, "class"): Part(tuple(labels), name.replace("-", " "))
            for name, labels in asked.classes.items()
        }
        proposal.regions = len(set(several)) < len(several)
    if proposal.kind != "csv":
        if asked.modalities:
            _refuse_named(proposal)
            proposal.scans = []
            for name, pattern in asked.modalities.items():
                whole = whole_pattern(pattern, proposal.prefix)
                require_pattern(f"--modality {name}", whole)
                proposal.scans.append(ScanFiles(safe_part(name, "modality"), whole))
                proposal.words[proposal.scans[-1].name] = words_for(name)
        if asked.mask:
            _refuse_named(proposal)
            proposal.mask = whole_pattern(asked.mask, proposal.prefix)
            require_pattern("--mask", proposal.mask)
        used = {proposal.mask, *(scan.pattern for scan in proposal.scans)}
        proposal.unused = {key: count for key, count in proposal.unused.items() if key not in used}
    shown = ", ".join([*(s.pattern for s in proposal.scans), *proposal.unused][:8])
    if not proposal.scans:
        raise UsbenchError(
            f"{proposal.folder}: no scan is recognised (seen: {shown}); give --modality NAME=PATTERN"
        )
    if not proposal.mask and not proposal.cases:
        note = f" ({proposal.notes[0]})" if proposal.notes else ""
        raise UsbenchError(
            f"{proposal.folder}: which files are the masks is not clear{note}; give --mask PATTERN "
            f"(seen: {shown})"
        )


def _refuse_named(proposal: Proposal) -> None:
    if proposal.cases:
        raise UsbenchError(
            f"{proposal.folder}: dataset.json names the files case by case; take --modality and --mask away, "
            "or read the folder by patterns with --as folders"
        )


def _matched(proposal: Proposal) -> tuple[dict[str, dict[str, list[Path]]], dict[str, str]]:
    """The files of every case, and by case that cannot be used, why."""
    spec = TaskFiles(
        folder=proposal.folder,
        scans=tuple(proposal.scans),
        mask=proposal.mask,
        cases=tuple((case, tuple(files.items())) for case, files in proposal.cases.items()),
    )
    found = find_files(spec, proposal.folder)
    found = {case: found[case] for case in sorted(found, key=natural_key)}
    parts = [*(scan.name for scan in proposal.scans), MASK]
    exclude = {}
    for case, at in found.items():
        lacking = [part for part in parts if not at.get(part)]
        twice = [f"{len(at[part])} files for {part}" for part in parts if len(at.get(part, [])) > 1]
        if lacking or twice:
            exclude[case] = "; ".join([*([f"lacks {', '.join(lacking)}"] if lacking else []), *twice])
    if len(exclude) == len(found):
        why = f" ({next(iter(exclude))}: {next(iter(exclude.values()))})" if exclude else ""
        shown = ", ".join([*(scan.pattern for scan in proposal.scans), proposal.mask])
        raise UsbenchError(
            f"{proposal.folder}: no case has a file for each of {shown}{why}; give --modality and --mask"
        )
    return found, exclude


def _choose_reference(proposal: Proposal, case: str, files: Mapping[str, Path]) -> None:
    """Let the first modality whose grid is that of the mask be the reference, going by one case."""
    grids = {}
    for part, file in files.items():
        with nifti_errors(case, file, fail), open_nifti(file) as (proxy, affine):
            grids[part] = tuple(proxy.shape[:3]), affine
    shape, affine = grids[MASK]
    for scan in proposal.scans:
        if grid_difference(*grids[scan.name], shape, affine, 0.5) is None:
            proposal.reference = scan.name
            return
    proposal.notes.append(f"the mask of case {case} lies on the grid of no modality; see usbench data check")


def _name(place: Path, asked: Asked) -> str:
    name = asked.name or safe_name(place.stem if place.is_file() else place.name)
    if asked.name and safe_name(name) != name:
        raise UsbenchError(f"--name '{name}': use lower-case letters, digits and hyphens")
    if not name:
        raise UsbenchError(f"{place}: its name cannot name a task; give --name")
    return f"{name}-own" if not asked.name and name in task_names() else name


def parse_pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE words of an option, by name.

    Raises:
        UsbenchError: for a word without "=", an empty side, or a name that is given twice.
    """
    pairs: dict[str, str] = {}
    for word in given:
        name, sign, value = word.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise UsbenchError(f"{option} '{word}': write NAME=VALUE")
        if name.strip() in pairs:
            raise UsbenchError(f"{option} {name.strip()} is given twice; keep one of the two")
        pairs[name.strip()] = value.strip()
    return pairs


def parse_labels(given: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """--classes NAME=1,2 words as the values of each class. Raises `UsbenchError` for what is no number."""
    classes = {}
    for name, value in parse_pairs("--classes", given).items():
        try:
            classes[name] = tuple(int(part) for part in value.split(","))
        except ValueError as error:
            raise UsbenchError(
                f"--classes {name}={value}: write whole numbers, such as {name}=1,2"
            ) from error
    return classes
