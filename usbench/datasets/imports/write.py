"""A proposal as a task file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from usbench.datasets.imports.proposal import Proposal

_HEAD = """\
# A task, as 'usbench data import' found it in
#   {folder}
# Correct what is not right, then:
#   usbench data check {file}
#   usbench run --task {file}
"""


def task_text(proposal: Proposal, name: str, exclude: list[str], out: Path) -> str:
    """The YAML of a task file.

    Args:
        proposal: what was found.
        name: of the task.
        exclude: cases that are left out.
        out: the file that it is meant for.
    """
    import yaml

    blocks = [_HEAD.format(folder=proposal.folder, file=out.name)]
    for some in _content(proposal, name, exclude, out):
        blocks.append(yaml.safe_dump(some, sort_keys=False, allow_unicode=True, width=1000))
    return "\n".join(blocks)


def _content(proposal: Proposal, name: str, exclude: list[str], out: Path) -> list[dict[str, Any]]:
    classes = {
        key: {"labels": list(part.labels), **({"words": part.words} if part.words else {})}
        for key, part in proposal.classes.items()
    }
    first: dict[str, Any] = {"name": name}
    if proposal.title:
        first["title"] = " ".join(proposal.title.split())
    first["folder"] = _relative(proposal.folder, out)
    scans: dict[str, Any] = {}
    for scan in proposal.scans:
        scans[scan.name] = {"words": proposal.words.get(scan.name, scan.name)}
        if scan.pattern:
            scans[scan.name]["pattern"] = scan.pattern
        if scan.channel is not None:
            scans[scan.name]["channel"] = scan.channel
    blocks: list[dict[str, Any]] = [first, {"modalities": scans}]
    if proposal.mask:
        blocks.append({"mask": proposal.mask})
    blocks.append({"regions" if proposal.regions else "classes": classes})
    blocks.append({"reference": proposal.reference or proposal.scans[0].name, "other-grids": "resample"})
    if exclude:
        blocks.append({"exclude": exclude})
    if proposal.groups:
        blocks.append({"groups": proposal.groups})
    stated = {
        "nsd-tolerance-mm": 2.0,
        "licence": proposal.licence or "not stated",
        "citation": " ".join(proposal.citation.split()) or "not stated",
    }
    if proposal.homepage:
        stated["homepage"] = proposal.homepage
    blocks.append(stated)
    if proposal.cases:
        blocks.append({"cases": proposal.cases})
    return blocks


def _relative(folder: Path, out: Path) -> str:
    """The folder as the file names it: relative where it lies beside or below the file, else absolute."""
    here = out.parent.resolve()
    return folder.relative_to(here).as_posix() if folder.is_relative_to(here) else str(folder)
