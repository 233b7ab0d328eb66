"""Tamper with a submission in a hundred ways, and see that none moves a rank, a test or an average.

    python tests/campaigns/tamper.py --out FOLDER [--only WORD]

The honest submission is the worked example of the repository, a small network on phantoms; a rival of it is
made with slightly worse masks. Each tampering is verified; where it is accepted, a leaderboard of the two is
held against the honest one. What was done is in FOLDER/tampered.jsonl, and is not done again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from campaigns.tamperings import APART, NOTHING, REFUSED, SAID, TAMPERINGS, Tampering
from kit.tampered_tracks import store, with_tracks
from kit.tampering import Members, change_mask, folder_of_fold, image, put_together, seal, taken_apart

from usbench.errors import UsbenchError
from usbench.leaderboards.board import build
from usbench.leaderboards.plain import as_dict
from usbench.results.io import cases_csv, scores_of
from usbench.scores.case import score_case
from usbench.scores.summary import summarise
from usbench.submissions.verify import record_path, verify, write_record

LONGEST = 60.0
"""Seconds that an answer may take on a busy machine."""

_FREE = ("label", "runs", "settings", "device", "entry", "verified", "also", "fusion", "claimed", "weights")
_COSTS = (
    "parameters",
    "trainable",
    "frozen_elsewhere",
    "gflops",
    "ms_per_slice",
    "memory_mb",
    "train_seconds",
)


def worse(members: Members) -> Members:
    """Masks that lose a slab in every fold, and claims that fit."""
    import gzip

    import nibabel

    prepared = store()
    for fold in range(5):

        def cut(labels: np.ndarray, affine: np.ndarray, header: Any) -> Any:
            labels[: labels.shape[0] // 2 + 2] = 0
            return image(labels, affine)

        change_mask(members, cut, fold)
        folder = folder_of_fold(members, fold)
        data = json.loads(members[f"{folder}/result.json"])
        scores = {}
        for case_id in data["split"]["test"]:
            case = prepared.case(case_id)
            content = gzip.decompress(members[f"{folder}/predictions/{case_id}.nii.gz"])
            labels = np.asarray(nibabel.Nifti1Image.from_bytes(content).dataobj)
            scores[case_id] = score_case(labels, case.truth(), ("prostate",), case.spacing, 2.0, False)
        known = scores_of(data)
        members[f"{folder}/cases.csv"] = cases_csv(scores, known).encode()
        data["scores"] = summarise(scores.values(), known)
        seal(members, folder, data)
    members["card.yaml"] = members["card.yaml"].replace(b"unext-small, worked example", b"rival")
    return members


def numbers(folder: Path) -> dict[str, Any]:
    """Every rank, test and average of a leaderboard of submissions, without names, costs and provenance."""
    board = build(folder / "none", submissions=folder)
    data = as_dict(board)
    for table in (*data["tables"], *data.get("tracks", ())):
        for key in ("cost_fronts", "said", "fingerprint", "protocol", "title", "config"):
            table.pop(key, None)
        tests = table.get("tests", {})
        tests.pop("leader", None)
        for row in table["rows"]:
            for key in (*_FREE, *_COSTS, "told", "folders"):
                row.pop(key, None)
    return {"tables": data["tables"], "tracks": data.get("tracks", []), "overall": data["overall"]}


def notes(folder: Path) -> list[tuple[str, ...]]:
    return [table.notes for table in build(folder / "none", submissions=folder).tables]


class Ground:
    """The folder of submissions that tamperings are tried in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = folder / "honest"
        self.members = {False: taken_apart(), True: {}}
        self.honest: dict[bool, dict[str, Any]] = {}

    def prepare(self, tracks: bool) -> None:
        """Make and verify the honest entry and its rival, once."""
        if tracks and not self.members[True]:
            self.members[True] = with_tracks(store())
        if tracks in self.honest:
            return
        place = self.kept / ("tracks" if tracks else "plain")
        place.mkdir(parents=True, exist_ok=True)
        for name, members in (("entry", self.members[tracks]), ("rival", self.members[False])):
            path = place / f"{name}.zip"
            if not record_path(path).exists():
                put_together(path, members if name == "entry" else worse(dict(members)))
                write_record(verify(path))
        self.honest[tracks] = numbers(place)
        alone = self.folder / "alone"
        shutil.rmtree(alone, ignore_errors=True)
        alone.mkdir()
        for file in place.glob("rival*"):
            shutil.copy(file, alone)
        self.alone = numbers(alone)

    def tried(self, name: str, one: Tampering) -> dict[str, Any]:
        """What came of a tampering."""
        self.prepare(one.tracks)
        place = self.folder / "now"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.kept / ("tracks" if one.tracks else "plain"), place)
        path = place / "entry.zip"
        members = dict(self.members[one.tracks])
        if one.members is not None:
            one.members(members)
        if one.write is not None:
            one.write(path, members)
        elif one.record is None:
            put_together(path, members)
        if one.raw is not None:
            path.write_bytes(one.raw(path.read_bytes()))
        start = time.monotonic()
        came, why = self._judged(place, path, one)
        seconds = time.monotonic() - start
        ok = came == one.wanted and seconds < LONGEST
        return {
            "name": name,
            "wanted": one.wanted,
            "came": came,
            "why": why,
            "seconds": round(seconds, 2),
            "ok": ok,
        }

    def _judged(self, place: Path, path: Path, one: Tampering) -> tuple[str, str]:
        if one.record is not None:
            one.record(path)
        else:
            # The record of the honest archive lies beside the tampered one until it is verified.
            try:
                write_record(verify(path))
            except UsbenchError as error:
                if "\n" in str(error) or len(str(error)) > 900:
                    return "more than a line", str(error)
                if numbers(place) != self.alone:
                    return "counted though refused", str(error)
                return REFUSED, str(error).removeprefix(f"{path}: ")
        found = numbers(place)
        if found == self.honest[one.tracks]:
            return NOTHING, ""
        if found == self.alone:
            claims = build(place / "none", submissions=place).claims or ()
            return REFUSED, "; ".join(claim.reason for claim in claims)
        said = [note for some in notes(place) for note in some]
        ranks = [[row["rank"] for row in table["rows"]] for table in found["tables"]]
        if ranks == [[1], [1]]:
            near = [note for note in said if "Differs in nothing but" in note]
            return (SAID, near[0]) if near else (APART, "")
        return "an effect", json.dumps(found)[:300]


def main() -> int:
    """Try what was not tried yet, and print what came of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    log = asked.out / "tampered.jsonl"
    done = {}
    if log.exists():
        done = {one["name"]: one for one in map(json.loads, log.read_text().splitlines())}
    ground = Ground(asked.out)
    for name, one in TAMPERINGS.items():
        if name in done or asked.only not in name:
            continue
        try:
            done[name] = ground.tried(name, one)
        except Exception as error:  # What escapes is what the campaign looks for.
            done[name] = {
                "name": name, "wanted": one.wanted, "came": type(error).__name__, "why": str(error)[:300],
                "seconds": 0.0, "ok": False,
            }  # fmt: skip
        with log.open("a") as stream:
            stream.write(json.dumps(done[name]) + "\n")
        print(
            f"{'ok ' if done[name]['ok'] else 'BAD'} {name}: {done[name]['came']} {done[name]['why'][:99]}",
            flush=True,
        )
    counts = Counter((one["wanted"], one["came"]) for one in done.values())
    for (wanted, came), count in sorted(counts.items()):
        print(f"{count:4d} wanted {wanted}, came {came}")
    bad = [name for name, one in done.items() if not one["ok"]]
    print(f"{len(done)} tamperings, {len(bad)} not as wanted: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
