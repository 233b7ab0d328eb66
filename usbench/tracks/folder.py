"""The folder of a track while it is computed: one process at a time, a case at a time, and it can go on."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.results.tracks import FILE, FOLDER, MASKS, TRACK_VERSION, TrackResult, load_track
from usbench.runtime.console import progress, say
from usbench.storage.files import digest_of, locked, os_errors, sha256_file, write_json
from usbench.storage.sealed import read_sealed, write_sealed
from usbench.storage.texts import read_json

_PARTS = ".parts"

Make = Callable[[Sequence[str]], Iterable[tuple[str, dict[str, Any]]]]
"""Computes cases by id, one after the other: what is kept of each."""


@dataclass(frozen=True)
class TrackFolder:
    """Where a track of a run goes.

    Attributes:
        path: `tracks/NAME` in the folder of the run.
        of: The digest of the run's result.json.
        settings: All that decides the scores besides the network; JSON-like.
    """

    path: Path
    of: str
    settings: Mapping[str, Any]

    @staticmethod
    def of_run(run: Path, name: str, of: str, settings: Mapping[str, Any]) -> TrackFolder:
        """The folder of the track called `name` of a run."""
        return TrackFolder(run / FOLDER / name, of, settings)

    def finished(self) -> TrackResult | None:
        """The track, if it is finished, belongs to this result and is of the present definition; else None.

        Raises:
            UsbenchError: Where it was edited.
        """
        if not (self.path / FILE).exists():
            return None
        data = read_json(self.path / FILE, "a track", "evaluate the run again with --overwrite")
        if not isinstance(data, dict) or data.get("of") != self.of or data.get("version") != TRACK_VERSION:
            return None
        return load_track(self.path, self.of)

    @contextmanager
    def held(self, overwrite: bool) -> Iterator[None]:
        """Hold the folder; what is there of another result or other settings, or is to be overwritten, goes.

        Raises:
            UsbenchError: Where another process computes the track.
        """
        busy = UsbenchError(f"{self.path}: another process is computing this track; wait for it")
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / ".lock", busy=busy, remove=True):
            mark = {"of": self.of, "settings": digest_of(self.settings), "version": TRACK_VERSION}
            file = self.path / _PARTS / "mark.json"
            known = False
            with suppress(UsbenchError):  # One that cannot be read is of nothing that is known.
                known = file.is_file() and read_json(file, "a mark", "remove the folder") == mark
            if overwrite or not known:
                self._clear()
            write_json(file, mark, durable=False)
            for leftover in self.path.rglob(".*.part*"):
                leftover.unlink(missing_ok=True)
            yield

    def _clear(self) -> None:
        with os_errors(self.path, "remove the old track in"):
            for entry in self.path.iterdir():
                if entry.name != ".lock":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def computed(self, case_ids: Sequence[str], words: str, make: Make) -> list[dict[str, Any]]:
        """What every case gives: as it was kept, or computed now and kept.

        Args:
            case_ids: In order.
            words: For the progress bar.
            make: Gives the case id and the part of each of some cases, their masks written; it is not called
                where all are there.
        """
        known = {case_id: self._kept(case_id) for case_id in case_ids}
        todo = [case_id for case_id in case_ids if known[case_id] is None]
        with progress() as bar:
            line = bar.add_task(words, total=len(case_ids), completed=len(case_ids) - len(todo))
            for case_id, part in make(todo) if todo else ():
                self.keep(case_id, part)
                known[case_id] = part
                bar.advance(line)
        return [part for part in known.values() if part is not None]

    def _kept(self, case_id: str) -> dict[str, Any] | None:
        file = self._part(case_id)
        if not file.is_file():
            return None
        try:
            found = read_sealed(file, "a part of a track", f"case {case_id} is computed again")
        except UsbenchError as error:
            say(str(error))
            return None
        for name, digest in found["masks"].items():
            mask = self.path / name
            if not mask.is_file() or sha256_file(mask) != digest:
                say(f"{mask}: not what was written; case {case_id} is computed again")
                return None
        part: dict[str, Any] = found["part"]
        return part

    def keep(self, case_id: str, part: Mapping[str, Any]) -> None:
        """Keep what a finished case gave; its masks are there already."""
        masks = sorted((self.path / MASKS).rglob(f"{glob.escape(case_id)}.nii.gz"))
        digests = {mask.relative_to(self.path).as_posix(): sha256_file(mask) for mask in masks}
        write_sealed(self._part(case_id), {"part": part, "masks": digests}, durable=False)

    def _part(self, case_id: str) -> Path:
        return self.path / _PARTS / f"case-{case_id}.json"

    def mask(self, condition: str, case_id: str) -> Path:
        """The file of a mask."""
        return self.path / MASKS / condition / f"{case_id}.nii.gz"

    def done(self) -> None:
        """Remove the parts, once the track is written."""
        shutil.rmtree(self.path / _PARTS, ignore_errors=True)


def rows_of(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all cases, the undefined scores NaN again."""
    return [
        {name: float("nan") if value is None else value for name, value in row.items()}
        for part in parts
        for row in part["rows"]
    ]


def part_row(condition: str, case_id: str, score: Any, names: Sequence[str]) -> dict[str, Any]:
    """A row of cases.csv of a track as JSON: `None` where a score is undefined.

    Args:
        condition: Its name.
        case_id: The case.
        score: A `usbench.scores.case.ClassScore`.
        names: Of the scores.
    """
    values = {
        name: None if score.scores[name] != score.scores[name] else score.scores[name] for name in names
    }
    counts = {name: getattr(score, name) for name in ("tp", "fp", "fn", "tn")}
    return {
        "condition": condition,
        "case": case_id,
        "class": score.name,
        **values,
        **counts,
        "edge": score.edge,
    }
