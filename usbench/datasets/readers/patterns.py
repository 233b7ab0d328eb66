"""Patterns of file names, such as "{case}/{case}_flair.nii.gz": what they match, and their faults."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from usbench.contracts.files import MASK, TaskFiles
from usbench.errors import UsbenchError
from usbench.storage.files import os_errors

CASE = "{case}"
"""Stands in a pattern for the name of the case."""

SUFFIXES = (".nii.gz", ".nii")
"""How the files end that can be read."""


def pattern_fault(pattern: str) -> str:
    """What is wrong with a pattern, with its remedy, or "".

    Returns:
        The end of a sentence that begins with the pattern.
    """
    parts = PurePosixPath(pattern).parts
    if fault := file_fault(pattern):
        return fault
    if ".." in parts or PurePosixPath(pattern).is_absolute():
        return "leads out of the folder; write it relative to 'folder', and let that name the right one"
    if CASE not in pattern:
        return "has no {case}; write {case} where the name of the case stands"
    rest = pattern.replace(CASE, "")
    if "{" in rest or "}" in rest:
        return "has braces that are not {case}; write * for what differs otherwise"
    if "**" in pattern or "{case}{case}" in pattern:
        return "has ** or {case}{case}; write one * for each part of a path"
    if re.search(r"\{case\}[*?]|[*?]\{case\}", pattern):
        return "has {case} beside * or ?, so that nobody knows where the name ends; put a fixed text between"
    return ""


def file_fault(name: str) -> str:
    """What is wrong with the name of a file or a pattern, whatever it matches, or ""."""
    if not name.strip():
        return "is empty; name a file"
    if "\\" in name:
        return "has a backslash; write / between folders"
    if not name.endswith(SUFFIXES):
        return "is no NIfTI file; usbench reads .nii.gz and .nii, so convert other files first"
    return ""


def match(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """The files that a pattern matches.

    Hidden files (names that begin with a dot, as those of macOS) are passed over.

    Args:
        folder: where it is looked for.
        pattern: without a fault.

    Returns:
        By name of the case, its files, sorted; several where `*` leaves a choice.

    Raises:
        UsbenchError: where a folder cannot be read.
    """
    expression = re.compile(_expression(pattern))
    found: dict[str, list[Path]] = {}
    with os_errors(folder, "look through"):
        for file in _files(folder, PurePosixPath(pattern).parts):
            fits = expression.fullmatch(file.relative_to(folder).as_posix())
            if fits:
                found.setdefault(fits["case"], []).append(file)
    return {case: sorted(files) for case, files in found.items()}


def _expression(pattern: str) -> str:
    words, seen = "", False
    for part in re.split(r"(\{case\}|\*|\?|/)", pattern):
        if part == CASE:
            words += "(?P=case)" if seen else "(?P<case>[^/]+)"
            seen = True
        else:
            words += {"*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return words


def _files(folder: Path, parts: tuple[str, ...]) -> list[Path]:
    """The files below `folder` that fit `parts` one by one, `{case}` standing for anything."""
    here, rest = parts[0], parts[1:]
    if any(mark in here for mark in (CASE, "*", "?")):
        one = re.compile("".join(_loose(part) for part in re.split(r"(\{case\}|\*|\?)", here)))
        names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        places = [folder / name for name in names if not name.startswith(".") and one.fullmatch(name)]
    else:
        places = [folder / here]
    if not rest:
        return [place for place in places if place.is_file()]
    return [file for place in places if place.is_dir() for file in _files(place, rest)]


def _loose(part: str) -> str:
    return {CASE: ".+", "*": ".*", "?": "."}.get(part, re.escape(part))


def require_pattern(what: str, pattern: str) -> None:
    """Raise `UsbenchError` for a pattern with a fault; `what` says whose it is."""
    if fault := pattern_fault(pattern):
        raise UsbenchError(f"{what}: the pattern '{pattern}' {fault}")


def find_files(spec: TaskFiles, root: Path) -> dict[str, dict[str, list[Path]]]:
    """The files of a task.

    Args:
        spec: which they are.
        root: the folder that their names are relative to.

    Returns:
        By case, then by modality (or `MASK`), the files that are there; excluded cases are left out.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for case, named in spec.cases:
        found[case] = {name: [root / file] for name, file in named if (root / file).is_file()}
    patterns = [(scan.name, scan.pattern) for scan in spec.scans] + [(MASK, spec.mask)]
    for name, pattern in patterns:
        for case, files in match(root, pattern).items() if pattern else ():
            found.setdefault(case, {})[name] = files
    return {case: at for case, at in found.items() if case not in set(spec.exclude)}
