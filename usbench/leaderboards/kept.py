"""Results kept beside the tables that were made of them, so that anyone can check the tables later."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.leaderboards.board import Leaderboard, build
from usbench.leaderboards.cost_plot import USUAL
from usbench.leaderboards.formats import file_names, text_of, write_texts
from usbench.leaderboards.plain import BOARD_SCHEMA_VERSION
from usbench.leaderboards.rows import Row
from usbench.results.tracks import FOLDER as TRACKS
from usbench.storage.files import atomic_path, os_errors
from usbench.storage.regular import read_text
from usbench.storage.tables import MOST_TABLE, number, parse_table
from usbench.storage.texts import parse_json

FOLDER = "results"
FILES = ("result.json", "cases.csv")
"""What of a run is kept: enough for every number of the tables, no image, no mask, no weights."""

TRACK_FILES = ("track.json", "cases.csv")
"""What of a track is kept."""


def keep(board: Leaderboard, runs_dir: Path, folder: Path) -> None:
    """Copy `FILES` of every run of a leaderboard, and `TRACK_FILES` of its tracks, to `folder`/results.

    Args:
        board: The leaderboard.
        runs_dir: What it was built from.
        folder: Where its tables are written.

    Raises:
        UsbenchError: Where results of other runs lie there already, since tables made of both would say what
            no one asked for; and where a file cannot be copied.
    """
    target = folder / FOLDER
    inside = runs_dir.resolve() == target.resolve()
    rows = [row for table in board.tables for row in table.rows]
    behind = [run for row in rows for run in row.runs]
    behind += [run for row in rows for one in row.also for run in one.runs]
    runs = {Path(run["path"]) for run in behind}
    wanted = {target / run.relative_to(runs_dir): run for run in runs}
    tracks = {target / one.relative_to(runs_dir): one for one in tracks_of(board)}
    strays = {file.parent for file in target.rglob(f"{TRACKS}/*/{TRACK_FILES[0]}")} - set(tracks)
    if strays and not inside:
        raise UsbenchError(
            f"{min(strays)}: a track that is not in {runs_dir}; remove {target}, or choose another --out"
        )
    if strange := sorted({file.parent for file in target.rglob("result.json")} - set(wanted)):
        raise UsbenchError(
            f"{strange[0]}: a result that is not in {runs_dir}; remove {target}, or choose another --out"
        )
    if inside:
        return
    for names, folders in ((FILES, wanted), (TRACK_FILES, tracks)):
        for place, source in folders.items():
            for name in names:
                with atomic_path(place / name) as temporary, os_errors(source / name, "copy"):
                    shutil.copyfile(source / name, temporary)


def tracks_of(board: Leaderboard) -> set[Path]:
    """The folders of the tracks that the tables of a leaderboard count."""
    return {Path(path) for table in board.tracks for row in table.rows for path in row.folders}


def board_of(folder: Path, plugins: Sequence[str | Path] = ()) -> Leaderboard:
    """The leaderboard of the results kept in `folder`; the paths of its runs are relative to `folder`.

    Args:
        folder: Where tables lie with their results.
        plugins: As for `build`.

    Raises:
        UsbenchError: Where there are no results, and for the first that is refused.
    """
    results = folder / FOLDER
    if not results.is_dir():
        raise UsbenchError(
            f"{results}: no such folder; tables with their results come from: "
            f"usbench leaderboard --out {folder} --keep-results"
        )
    board = build(results, plugins=plugins)
    if board.problems:
        raise UsbenchError(f"{board.problems[0].path}: {board.problems[0].reason}")
    tables = [replace(t, rows=tuple(_below(row, folder) for row in t.rows)) for t in board.tables]
    tracks = [
        replace(t, rows=tuple(replace(row, standing=_below(row.standing, folder)) for row in t.rows))
        for t in board.tracks
    ]
    return replace(board, tables=tuple(tables), tracks=tuple(tracks))


def _below(row: Row, folder: Path) -> Row:
    """A row whose runs have paths relative to `folder`, and so have those folded under it."""

    def placed(runs: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
        return tuple({**run, "path": Path(run["path"]).relative_to(folder).as_posix()} for run in runs)

    also = tuple(replace(one, runs=placed(one.runs)) for one in row.also)
    return replace(row, runs=placed(row.runs), also=also)


def write_kept(
    board: Leaderboard,
    runs_dir: str | Path,
    folder: str | Path,
    pictures: bool = True,
    plugins: Sequence[str | Path] = (),
    cost_axes: Sequence[str] = USUAL,
) -> list[Path]:
    """As `write`, and keep what the tables were made of in `folder`/results, for `check`.

    Args:
        board: The leaderboard.
        runs_dir: What it was built from.
        folder: Where the files go; the tables name runs by paths relative to it.
        pictures: Whether the page shows slices of cases.
        plugins: What the leaderboard was built with.
        cost_axes: As for `write`.

    Returns:
        The paths of the files and of the folder of results.

    Raises:
        UsbenchError: As `keep`, and where a file cannot be written.
    """
    folder = Path(folder)
    keep(board, Path(runs_dir), folder)
    kept = board_of(folder, plugins)
    return [*write_texts(kept, folder, board if pictures else None, cost_axes), folder / FOLDER]


def check(folder: str | Path, plugins: Sequence[str | Path] = ()) -> None:
    """Compute the tables in `folder` anew from `folder`/results and compare every number.

    `usbench leaderboard --out FOLDER --keep-results` writes both. Markdown and LaTeX must agree to the
    letter; CSV, JSON and the data in the page to a relative 1e-9, since machines add up differently. The
    page's pictures and the version of usbench are not compared.

    Args:
        folder: Where tables lie with their results.
        plugins: As for `build`.

    Raises:
        UsbenchError: Naming the first file that differs, is absent, cannot be read or has the layout of
            another version of usbench, or the first result that is refused.
    """
    folder = Path(folder)
    board = board_of(folder, plugins)
    _check_layout(folder)
    for name in file_names(board):
        path, suffix = folder / name, name.removeprefix("leaderboard").lstrip(".")
        reader = _READERS[name.rpartition(".")[2]]
        try:
            with os_errors(path, "read"):
                found = read_text(path, MOST_TABLE)
            same = _same(reader(found), reader(text_of(board, suffix)))
        except (ValueError, KeyError, TypeError) as error:
            raise UsbenchError(
                f"{path}: cannot be read ({error}); {_REMEDY.format(folder=folder)}"
            ) from error
        if not same:
            raise UsbenchError(
                f"{path}: is not what the results beside it give; {_REMEDY.format(folder=folder)}"
            )


def _check_layout(folder: Path) -> None:
    """Name tables that an older version of usbench wrote; what cannot be read is left to the comparison."""
    path = folder / "leaderboard.json"
    try:
        found = _json(read_text(path, MOST_TABLE))["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if found != BOARD_SCHEMA_VERSION:
        raise UsbenchError(
            f"{path}: has layout {found}, and this version of usbench writes layout {BOARD_SCHEMA_VERSION}; "
            f"{_REMEDY.format(folder=folder)}"
        )


_REMEDY = "make it anew with: usbench leaderboard --runs-dir {folder}/results --out {folder} --keep-results"


def _json(text: str) -> Any:
    data = parse_json(text)
    data.pop("usbench")
    return data


def _page(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    if found is None:
        raise ValueError("it holds no data")
    data = _json(found[1])
    for table in data["tables"]:
        table.pop("pictures")
    for table in data.get("tracks", ()):
        table.pop("picture")
    return data


def _csv(text: str) -> list[list[Any]]:
    header, rows = parse_table(text)
    return [list(header), *([_number(cell) for cell in row] for row in rows)]


def _number(text: str) -> float | str:
    try:
        return number(text)
    except ValueError:
        return text


_READERS: dict[str, Callable[[str], Any]] = {"md": str, "tex": str, "csv": _csv, "json": _json, "html": _page}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and bool(a == b)
