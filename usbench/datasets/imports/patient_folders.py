"""Folders of NIfTI files: a folder a patient (as BraTS), a folder a modality, or one folder for all."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

from usbench.contracts.files import ScanFiles
from usbench.datasets.imports.proposal import (
    Proposal,
    is_mask_name,
    is_scan_name,
    safe_part,
    stem_of,
    words_for,
)
from usbench.datasets.readers.patterns import CASE
from usbench.datasets.readers.recognise import nifti_files
from usbench.errors import UsbenchError

Seen = dict[str, set[str]]
"""By pattern, the cases that have such a file."""


def propose(folder: Path) -> Proposal:
    """The patterns that the files of a folder follow.

    Patterns that at least half of the cases have become modalities, the others are listed as unused. The mask
    is the pattern whose name says so.

    Raises:
        UsbenchError: where no NIfTI file is there.
    """
    paths = [file.relative_to(folder).parts for file in nifti_files(folder)]
    if not paths:
        raise UsbenchError(f"{folder}: holds no .nii.gz or .nii file; convert other formats to NIfTI first")
    seen, prefix = _patterns(paths)
    cases = {case for some in seen.values() for case in some}
    taken = {pattern: some for pattern, some in seen.items() if 2 * len(some) >= len(cases)}
    masks = {pattern: len(some) for pattern, some in taken.items() if is_mask_name(_name(pattern))}
    most = sorted(pattern for pattern, count in masks.items() if count == max(masks.values()))
    mask = most[0] if len(most) == 1 else ""
    proposal = Proposal("folders", folder, mask=mask, prefix=prefix)
    others = sum(len(path) != usual_depth(paths) for path in paths)
    if others:
        proposal.notes.append(f"{others} files lie in other folders than most, and are not looked at")
    if len(most) > 1:
        proposal.notes.append(f"several patterns look like masks ({', '.join(most)}); choose with --mask")
    for pattern in sorted(set(taken) - set(masks), key=lambda p: (_name(p), -len(taken[p]), p)):
        name = safe_part(_name(pattern) or "image", "the pattern")
        if name in proposal.words:
            # The same name in another folder, or with another ending: the latter stays unused.
            folder_name = pattern.rpartition("/")[0].rpartition("/")[2].replace(CASE, "")
            name = safe_part(f"{folder_name}-{name}", "the pattern")
        if name in proposal.words:
            continue
        proposal.scans.append(ScanFiles(name, pattern))
        proposal.words[name] = words_for(name)
    used = {mask, *(scan.pattern for scan in proposal.scans)}
    proposal.unused = {pattern: len(some) for pattern, some in seen.items() if pattern not in used}
    return proposal


def usual_depth(paths: list[tuple[str, ...]]) -> int:
    """How many parts most of the paths have; the smaller number of equals."""
    counts = Counter(map(len, paths))
    return min(counts, key=lambda depth: (-counts[depth], depth))


def _name(pattern: str) -> str:
    """What is left of a pattern without the case: "flair" of "{case}/{case}_flair.nii.gz"."""
    parts = [stem_of(part)[0].replace(CASE, "").replace("*", "").strip("_-. ") for part in pattern.split("/")]
    return parts[-1] or next((part for part in reversed(parts) if part), "")


def _patterns(paths: list[tuple[str, ...]]) -> tuple[Seen, str]:
    """The patterns of files given by the parts of their paths, and what stands before a name of a file."""
    depth = usual_depth(paths)
    deepest = [parts for parts in paths if len(parts) == depth]
    if depth == 1:
        return _flat(deepest), ""
    tops = {parts[0] for parts in deepest}
    if depth == 2 and any(map(is_mask_name, tops)) and any(is_scan_name(t) or is_mask_name(t) for t in tops):
        return _by_modality(deepest), ""
    seen: Seen = defaultdict(set)
    column = _case_column(deepest)
    common = ["/".join(parts[:column]) for parts in deepest]
    before = common[0] if len(set(common)) == 1 else "/".join("*" for _ in range(column))
    before = f"{before}/" if before else ""
    files: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for parts in deepest:
        files[parts[column]].append(parts)
    for case, own in files.items():
        for parts in own:
            rest = [part.replace(case, CASE) for part in parts[column + 1 :]]
            seen["/".join([before + CASE, *rest])].add(case)
    return _loosened(seen, len(files)), f"{before}{CASE}/"


def _case_column(paths: list[tuple[str, ...]]) -> int:
    """Which part of the paths is the case: the folder of which there are most, the first of equals."""
    counts = [len({parts[: column + 1] for parts in paths}) for column in range(len(paths[0]) - 1)]
    names = [len({parts[column] for parts in paths}) for column in range(len(paths[0]) - 1)]
    # A folder within each patient ("anat") has one name, although there are as many as patients.
    return max(range(len(counts)), key=lambda column: (names[column], -column))


def _loosened(seen: Seen, cases: int) -> Seen:
    """Patterns with names that only one case has, such as a date, made to fit the others."""
    kept: Seen = defaultdict(set)
    for pattern, some in seen.items():
        folder, _, name = pattern.rpartition("/")
        stem, suffix = stem_of(name)
        last = re.search(r"[_\-. ]([A-Za-z0-9]+)$", stem)
        if len(some) == 1 and cases > 1 and last and CASE not in stem:
            kept[f"{folder}/*{last[0]}{suffix}"] |= some
        else:
            kept[pattern] |= some
    return dict(kept)


def _flat(paths: list[tuple[str, ...]]) -> Seen:
    """All files in one folder, told apart by the last word of their names."""
    seen: Seen = defaultdict(set)
    for (name,) in paths:
        stem, suffix = stem_of(name)
        found = re.fullmatch(r"(.+?)([_\-. ][A-Za-z]\w*?)", stem)
        if found and "_" not in found[2][1:]:
            seen[f"{CASE}{found[2]}{suffix}"].add(found[1])
        else:
            seen[f"{CASE}{suffix}"].add(stem)
    return dict(seen)


def _by_modality(paths: list[tuple[str, ...]]) -> Seen:
    """A folder a modality, in each a file a case."""
    seen: Seen = defaultdict(set)
    for top in sorted({parts[0] for parts in paths}):
        stems = [stem_of(parts[1])[0] for parts in paths if parts[0] == top]
        numbered = [re.search(r"_[0-9]{4}$", stem) for stem in stems]
        if all(numbered) and not is_mask_name(top):  # as nnU-Net numbers its channels
            suffix = stem_of(next(parts[1] for parts in paths if parts[0] == top))[1]
            for stem in stems:
                seen[f"{top}/{CASE}{stem[-5:]}{suffix}"].add(stem[:-5])
            continue
        suffix = stem_of(next(parts[1] for parts in paths if parts[0] == top))[1]
        shared = _shared_end(stems) if len(stems) > 1 else ""
        cut = re.search(r"[_\-. ][A-Za-z].*$", shared)
        end = cut[0] if cut else ""
        seen[f"{top}/{CASE}{end}{suffix}"] = {stem.removesuffix(end) for stem in stems}
    return dict(seen)


def _shared_end(stems: list[str]) -> str:
    """The longest text that all of some texts end with."""
    shortest = min(stems, key=len)
    ends = (shortest[start:] for start in range(len(shortest) + 1))
    return next(end for end in ends if all(stem.endswith(end) for stem in stems))
