"""BIDS data sets: sub-*/[ses-*/]anat, with masks among the derivatives or beside the scans."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from usbench.contracts.files import ScanFiles
from usbench.datasets.case_table import read_case_table
from usbench.datasets.imports.proposal import Proposal, safe_part, words_for
from usbench.datasets.readers.patterns import CASE
from usbench.errors import UsbenchError
from usbench.storage.texts import read_description

_MASKS = ("mask", "dseg", "probseg", "seg", "roi", "label", "lesion")


def propose(folder: Path, session: str = "") -> Proposal:
    """The scans and masks of the subjects. A case is a subject: no patient is on two sides of a split.

    Args:
        folder: that of dataset_description.json.
        session: the session to take ("ses-01"), where subjects have several.

    Raises:
        UsbenchError: where there is no subject, or subjects have several sessions and none was chosen.
    """
    subjects = [place for place in sorted(folder.glob("sub-*")) if place.is_dir()]
    if not subjects:
        raise UsbenchError(f"{folder}: holds no folder sub-*; give the folder of a BIDS data set")
    taken = _session(folder, subjects, session)
    seen = _seen(folder, taken)
    for derived in sorted(place for place in folder.glob("derivatives/*") if place.is_dir()):
        at = derived.relative_to(folder).as_posix()
        seen.update({f"{at}/{pattern}": some for pattern, some in _seen(derived, taken).items()})
    for pattern, some in _seen(folder / "derivatives", taken).items():
        seen[f"derivatives/{pattern}"] = some
    proposal = Proposal("bids", folder, prefix=f"{CASE}/{taken}/anat/" if taken else f"{CASE}/anat/")
    masks: dict[str, int] = {}
    for pattern in sorted(seen):
        count, derived_one = len(seen[pattern]), pattern.startswith("derivatives/")
        suffix = pattern.rpartition("_")[2].partition(".")[0]
        if suffix.lower() in _MASKS:
            masks[pattern] = count
        elif derived_one or 2 * count < len(subjects):
            proposal.unused[pattern] = count
        else:
            name = safe_part(_name(pattern), "scan")
            if name in proposal.words:  # another run
                name = safe_part(_name(pattern, runs=True), "scan")
            proposal.scans.append(ScanFiles(name, pattern))
            proposal.words[name] = words_for(suffix) if name == suffix.lower() else name.replace("-", " ")
    most = [pattern for pattern, count in masks.items() if count == max(masks.values())]
    if len(most) == 1:
        proposal.mask = most[0]
    elif most:
        proposal.notes.append(f"several patterns look like masks ({', '.join(most)}); choose with --mask")
    proposal.unused |= {pattern: count for pattern, count in masks.items() if pattern != proposal.mask}
    _describe(proposal)
    return proposal


def _session(folder: Path, subjects: list[Path], chosen: str) -> str:
    """What stands between subject and "anat": "", a session, or "ses-*" where each has one of its own."""
    of = {subject.name: sorted(p.name for p in subject.glob("ses-*") if p.is_dir()) for subject in subjects}
    every = sorted({name for names in of.values() for name in names})
    wanted = chosen if not chosen or chosen.startswith("ses-") else f"ses-{chosen}"
    if wanted and wanted not in every:
        raise UsbenchError(f"{folder}: has no session {wanted}; there are {', '.join(every) or 'none'}")
    if wanted or not every:
        return wanted
    several = [name for name, names in of.items() if len(names) > 1]
    if several:
        raise UsbenchError(
            f"{folder}: {len(several)} subjects have several sessions ({several[0]}: "
            f"{', '.join(of[several[0]])}), and a case is a patient; choose one of them with --session"
        )
    return every[0] if len(every) == 1 else "ses-*"


def _seen(folder: Path, session: str) -> dict[str, set[str]]:
    """By pattern, the subjects that have such a file below their "anat"."""
    seen: dict[str, set[str]] = defaultdict(set)
    inner = f"{session}/anat" if session else "anat"
    for file in sorted(folder.glob(f"sub-*/{inner}/*.nii*")):
        subject = file.relative_to(folder).parts[0]
        if not file.name.startswith(f"{subject}_") or not file.name.endswith((".nii", ".nii.gz")):
            continue
        rest = file.name.removeprefix(subject)
        if session == "ses-*":
            rest = re.sub(r"^_ses-[^_]+", "_ses-*", rest)
        seen[f"{CASE}/{inner}/{CASE}{rest}"].add(subject)
    return dict(seen)


def _name(pattern: str, runs: bool = False) -> str:
    """The suffix of a scan after its entities, "ce-gd-t1w": not subject and session; runs on request."""
    left = ("ses-",) if runs else ("ses-", "run-")
    stem = pattern.rpartition("/")[2].partition(".")[0].replace(CASE, "").strip("_")
    return "-".join(part for part in stem.split("_") if not part.startswith(left)).lower()


def _describe(proposal: Proposal) -> None:
    """Title, licence, reference and groups, from the files at the top of the data set."""
    file = proposal.folder / "dataset_description.json"
    if file.is_file():
        said: Any = read_description(file, "the description of the data set", "correct it")
        said = said if isinstance(said, dict) else {}
        proposal.title = str(said.get("Name") or "")
        proposal.licence = str(said.get("License") or "")
        proposal.citation = str(said.get("HowToAcknowledge") or "")
        proposal.homepage = str(said.get("DatasetDOI") or "")
    people = proposal.folder / "participants.tsv"
    if people.is_file():
        table = read_case_table(people, "participant_id")
        for column in table.columns:
            values = {case: row[column] for case, row in table.rows.items()}
            known = {case: value for case, value in values.items() if value not in ("", "n/a")}
            if known:
                proposal.groups[column] = known
